//! Certificates that can be exchanged while the process runs.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use batoff_types::UnixMillis;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// The certificates of one listener, exchangeable while it runs. Connections that are open keep what they began with.
pub struct Tls {
    files: TlsFiles,
    config: ArcSwap<ServerConfig>,
    /// When the certificate in use ends, in milliseconds of Unix time; 0 when that cannot be read.
    ends: AtomicU64,
}

/// Where the certificates are, and what the listener speaks.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// Our chain (PEM).
    pub cert: PathBuf,
    /// Its private key (PEM).
    pub key: PathBuf,
    /// Whether clients come with certificates, too.
    pub clients: ClientCertificates,
    /// The protocols offered by ALPN, the preferred first.
    pub alpn: Vec<Vec<u8>>,
}

/// Whether clients are asked for a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientCertificates {
    /// They are not.
    None,
    /// For one of this authority (PEM); who has none is not let in.
    Required(PathBuf),
    /// For one of this authority (PEM); who has none is let in without. One of another authority ends the handshake.
    Optional(PathBuf),
}

/// The certificate that the other end of a connection has shown: of the authority that its listener asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerCertificate {
    /// Its DNS names, in small letters, and its URIs: what stands in its subject alternative names.
    names: Arc<[String]>,
    ends: UnixMillis,
}

impl PeerCertificate {
    /// What a certificate (DER) says; `None` for what is none.
    pub fn read(der: &[u8]) -> Option<Self> {
        let ends = end_of(der)?;
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let alternative = certificate.subject_alternative_name().ok()?;
        let names = alternative.iter().flat_map(|names| &names.value.general_names);
        let names = names.filter_map(|name| match name {
            GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
            GeneralName::URI(uri) => Some((*uri).to_owned()),
            _ => None,
        });
        Some(Self { names: names.collect(), ends })
    }

    /// Whether it has exactly this name, no pattern that fits it, and has not ended.
    pub fn is_of(&self, name: &str, now: UnixMillis) -> bool {
        now < self.ends && self.names.iter().any(|known| known == name)
    }
}

/// The certificates of this process's own listeners.
#[derive(Default)]
pub struct OwnCertificates(parking_lot::Mutex<Vec<(&'static str, Arc<Tls>)>>);

impl OwnCertificates {
    /// A listener has that name, and these.
    pub fn add(&self, listener: &'static str, tls: Arc<Tls>) {
        self.0.lock().push((listener, tls));
    }

    /// When each ends: that of the listener itself, as it is in use now, and the file that it came from.
    pub fn ends(&self) -> Vec<(String, UnixMillis)> {
        let end = |(listener, tls): &(&str, Arc<Tls>)| {
            Some((format!("{listener}, {}", tls.files.cert.display()), tls.ends()?))
        };
        self.0.lock().iter().filter_map(end).collect()
    }
}

/// When a certificate ends; `None` for what is none.
pub(crate) fn end_of(der: &[u8]) -> Option<UnixMillis> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let seconds = u64::try_from(certificate.validity().not_after.timestamp()).unwrap_or_default();
    Some(UnixMillis(seconds.saturating_mul(1_000)))
}

/// The certificates cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read, or holds no PEM of the right kind.
    #[error("{}: {problem}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        problem: String,
    },
    /// Certificate and key do not go together, or are not usable.
    #[error("{} and its key: {error}", cert.display())]
    Unusable {
        /// The certificate's file.
        cert: PathBuf,
        /// Why.
        error: rustls::Error,
    },
}

impl Tls {
    /// Reads the files.
    pub fn load(files: TlsFiles) -> Result<Arc<Self>, TlsError> {
        let (config, ends) = files.read()?;
        Ok(Arc::new(Self { files, config: ArcSwap::from(config), ends: AtomicU64::new(ends) }))
    }

    /// Reads the files again, for handshakes from now on. When they cannot be used, the old ones stay in use.
    pub fn reload(&self) -> Result<(), TlsError> {
        let (config, ends) = self.files.read()?;
        self.config.store(config);
        self.ends.store(ends, Ordering::Relaxed);
        Ok(())
    }

    /// When the certificate in use ends.
    pub fn ends(&self) -> Option<UnixMillis> {
        Some(UnixMillis(self.ends.load(Ordering::Relaxed))).filter(|end| end.0 > 0)
    }

    /// For the next handshake.
    pub fn config(&self) -> Arc<ServerConfig> {
        self.config.load_full()
    }
}

impl TlsFiles {
    /// What the listener speaks, and when its certificate ends, in milliseconds of Unix time.
    fn read(&self) -> Result<(Arc<ServerConfig>, u64), TlsError> {
        let chain = certificates(&self.cert)?;
        let ends = chain.first().and_then(|leaf| end_of(leaf)).unwrap_or_default();
        let key = PrivateKeyDer::from_pem_file(&self.key).map_err(|error| file(&self.key, error))?;
        let builder = ServerConfig::builder();
        let builder = match &self.clients {
            ClientCertificates::None => builder.with_no_client_auth(),
            ClientCertificates::Required(ca) => {
                let verifier = WebPkiClientVerifier::builder(authority(ca)?);
                builder.with_client_cert_verifier(verifier.build().map_err(|error| file(ca, error))?)
            }
            ClientCertificates::Optional(ca) => {
                let verifier = WebPkiClientVerifier::builder(authority(ca)?).allow_unauthenticated();
                builder.with_client_cert_verifier(verifier.build().map_err(|error| file(ca, error))?)
            }
        };
        let mut config = builder
            .with_single_cert(chain, key)
            .map_err(|error| TlsError::Unusable { cert: self.cert.clone(), error })?;
        config.alpn_protocols.clone_from(&self.alpn);
        Ok((Arc::new(config), ends.0))
    }
}

fn authority(ca: &Path) -> Result<Arc<RootCertStore>, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(ca)? {
        roots.add(certificate).map_err(|error| file(ca, error))?;
    }
    Ok(Arc::new(roots))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let all: Result<Vec<_>, _> =
        CertificateDer::pem_file_iter(path).map_err(|error| file(path, error))?.collect();
    let all = all.map_err(|error| file(path, error))?;
    if all.is_empty() {
        return Err(file(path, "holds no certificate in PEM"));
    }
    Ok(all)
}

fn file(path: &Path, problem: impl ToString) -> TlsError {
    TlsError::File { path: path.to_owned(), problem: problem.to_string() }
}
