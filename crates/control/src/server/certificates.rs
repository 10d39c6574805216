//! Which certificates has each listener, and whom does it ask for one?

use std::path::PathBuf;
use std::sync::Arc;

use super::start_error::StartError;
use crate::config::{AdminConfig, ApiConfig, Config, ConsoleConfig, GrpcConfig};
use crate::tls::{ClientCertificates, Tls, TlsFiles};

/// Those of each listener; `None` for one that speaks without TLS.
pub(super) struct Certificates {
    pub(super) api: Option<Arc<Tls>>,
    pub(super) admin: Option<Arc<Tls>>,
    pub(super) console: Option<Arc<Tls>>,
    pub(super) grpc: Option<Arc<Tls>>,
}

impl Certificates {
    /// Reads those that the configuration names.
    pub(super) fn read(config: &Config) -> Result<Self, StartError> {
        let load = |key, files: Option<TlsFiles>| {
            files
                .map(|files| Tls::load(key, files))
                .transpose()
                .map_err(|error| StartError::Tls { key, error })
        };
        Ok(Self {
            api: load("api", config.api.tls())?,
            admin: load("admin", config.admin.tls())?,
            console: load("console", config.console.tls())?,
            grpc: load("grpc", config.grpc.tls())?,
        })
    }

    /// Each of them.
    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<Tls>> {
        [&self.api, &self.admin, &self.console, &self.grpc].into_iter().flatten()
    }
}

/// The files of each listener; `None` for one that speaks without TLS.
pub(crate) fn tls_files(config: &Config) -> [(&'static str, Option<TlsFiles>); 4] {
    [
        ("api", config.api.tls()),
        ("admin", config.admin.tls()),
        ("console", config.console.tls()),
        ("grpc", config.grpc.tls()),
    ]
}

impl ApiConfig {
    pub(super) fn tls(&self) -> Option<TlsFiles> {
        let (cert, key) = (self.cert.clone()?, self.key.clone()?);
        Some(TlsFiles { cert, key, clients: ClientCertificates::None, alpn: http_alpn() })
    }
}

impl AdminConfig {
    pub(super) fn tls(&self) -> Option<TlsFiles> {
        let (cert, key) = (self.cert.clone()?, self.key.clone()?);
        Some(TlsFiles { cert, key, clients: required(self.ca.clone()), alpn: http_alpn() })
    }
}

impl ConsoleConfig {
    pub(super) fn tls(&self) -> Option<TlsFiles> {
        let (cert, key) = (self.cert.clone()?, self.key.clone()?);
        let clients = match &self.proxy {
            Some(proxy) => ClientCertificates::Optional(proxy.ca.clone()),
            None => ClientCertificates::None,
        };
        Some(TlsFiles { cert, key, clients, alpn: http_alpn() })
    }
}

impl GrpcConfig {
    pub(super) fn tls(&self) -> Option<TlsFiles> {
        let (cert, key) = (self.cert.clone()?, self.key.clone()?);
        Some(TlsFiles { cert, key, clients: required(self.ca.clone()), alpn: vec![b"h2".to_vec()] })
    }
}

fn required(ca: Option<PathBuf>) -> ClientCertificates {
    ca.map_or(ClientCertificates::None, ClientCertificates::Required)
}

fn http_alpn() -> Vec<Vec<u8>> {
    vec![b"h2".to_vec(), b"http/1.1".to_vec()]
}
