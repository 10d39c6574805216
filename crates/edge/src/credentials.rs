//! What the node shows the control plane, and what it believes: authority, certificate and key, from three files that may
//! be exchanged while the daemon runs. Files that cannot be used never take the place of those that can.

use std::path::{Path, PathBuf};

use batoff_program::certificates::{ValidTime, WatchedFiles, unix_now, uris};
use batoff_program::config::ConfigError;
use parking_lot::Mutex;
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tonic::transport::{Certificate, ClientTlsConfig, Identity};

use crate::config::ControlSection;
use crate::metrics;

/// The node's credentials, read when they are first needed and again when their files change.
pub(crate) struct NodeCredentials {
    control: ControlSection,
    held: Mutex<HeldPem>,
}

struct HeldPem {
    watched: WatchedFiles,
    good: Option<Pem>,
    /// Why the files are not what is in use, as it was logged last.
    refused: String,
}

/// The content of the three files.
#[derive(Clone, PartialEq, Eq)]
struct Pem {
    ca: Vec<u8>,
    cert: Vec<u8>,
    key: Vec<u8>,
}

/// Until when files that go together are good, in seconds of Unix time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PemEnds {
    /// The node's certificate; `None` when it cannot be read, though TLS takes it.
    pub(crate) cert: Option<ValidTime>,
    /// The last of the authorities.
    pub(crate) ca: Option<u64>,
}

impl NodeCredentials {
    /// Of the files that `control` names; nothing is read yet.
    pub(crate) fn new(control: ControlSection) -> Self {
        let paths = [&control.ca, &control.cert, &control.key];
        let paths: Vec<PathBuf> = paths.into_iter().flatten().cloned().collect();
        let held = HeldPem { watched: WatchedFiles::new(paths), good: None, refused: String::new() };
        Self { control, held: Mutex::new(held) }
    }

    /// Reads the files; whether they are others than those in use. When they cannot be used, the old ones stay in use.
    ///
    /// # Errors
    /// What is wrong with them.
    pub(crate) fn reload(&self) -> Result<bool, ConfigError> {
        let mut held = self.held.lock();
        let outcome = self.read(&mut held);
        metrics::certificate_refused(outcome.is_err());
        match &outcome {
            Ok(_) => held.refused.clear(),
            Err(error) => {
                let told = error.to_string();
                if held.refused != told {
                    let in_use = if held.good.is_some() {
                        "those of before stay in use"
                    } else {
                        "there are no others"
                    };
                    tracing::error!(error = told, in_use, "the certificates cannot be used");
                    held.refused = told;
                }
            }
        }
        outcome
    }

    fn read(&self, held: &mut HeldPem) -> Result<bool, ConfigError> {
        let pem = Pem::read(&self.control)?;
        if held.good.as_ref() == Some(&pem) {
            return Ok(false);
        }
        let ends = pem.check(&self.control)?;
        // At the start there is nothing better: what is wrong the control plane will say.
        if held.good.is_some() {
            ends.check_now(&self.control)?;
        }
        metrics::certificate_ends(ends.cert.map(|valid| valid.until), ends.ca);
        let is_other = held.good.is_some();
        held.good = Some(pem);
        Ok(is_other)
    }

    /// Whether the files have changed since they were looked at last, and others are in use now.
    pub(crate) fn look(&self) -> bool {
        self.held.lock().watched.have_changed() && self.reload().unwrap_or(false)
    }

    /// For a connection that begins now.
    ///
    /// # Errors
    /// There never were files that could be used.
    pub(crate) fn tls(&self) -> Result<ClientTlsConfig, ConfigError> {
        let read = self.reload();
        let Some(pem) = self.held.lock().good.clone() else {
            return Err(read.err().unwrap_or_else(|| ConfigError::invalid("control.cert", "was not read")));
        };
        let config = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(pem.ca))
            .identity(Identity::from_pem(pem.cert, pem.key));
        Ok(match &self.control.server_name {
            Some(name) => config.domain_name(name),
            None => config,
        })
    }
}

/// Whether the three files are there, can be read, and go together; until when they are good.
///
/// # Errors
/// What is wrong with which of them.
pub(crate) fn examine(control: &ControlSection) -> Result<PemEnds, ConfigError> {
    let ends = Pem::read(control)?.check(control)?;
    ends.check_now(control)?;
    Ok(ends)
}

/// The same of files that may have ended, and the URIs that the node's certificate names.
///
/// # Errors
/// What is wrong with which of them.
pub(crate) fn read(control: &ControlSection) -> Result<(PemEnds, Vec<String>), ConfigError> {
    let pem = Pem::read(control)?;
    let ends = pem.check(control)?;
    let leaf = CertificateDer::from_pem_slice(&pem.cert).ok();
    Ok((ends, leaf.map_or_else(Vec::new, |leaf| uris(&leaf))))
}

impl PemEnds {
    fn check_now(&self, control: &ControlSection) -> Result<(), ConfigError> {
        let cert = named("control.cert", control.cert.as_deref())?;
        let checked = self.cert.map_or(Ok(()), |valid| valid.check(unix_now()));
        checked.map_err(|problem| wrong("control.cert", cert, problem))
    }
}

impl Pem {
    fn read(control: &ControlSection) -> Result<Self, ConfigError> {
        let read = |key: &str, path: Option<&Path>| {
            let path = named(key, path)?;
            std::fs::read(path).map_err(|error| wrong(key, path, error))
        };
        Ok(Self {
            ca: read("control.ca", control.ca.as_deref())?,
            cert: read("control.cert", control.cert.as_deref())?,
            key: read("control.key", control.key.as_deref())?,
        })
    }

    fn check(&self, control: &ControlSection) -> Result<PemEnds, ConfigError> {
        let ca = named("control.ca", control.ca.as_deref())?;
        let cert = named("control.cert", control.cert.as_deref())?;
        let key = named("control.key", control.key.as_deref())?;
        let mut roots = RootCertStore::empty();
        let mut ends = PemEnds { cert: None, ca: None };
        for certificate in certificates("control.ca", ca, &self.ca)? {
            ends.ca = ends.ca.max(ValidTime::of(&certificate).map(|valid| valid.until));
            roots.add(certificate).map_err(|error| wrong("control.ca", ca, error))?;
        }
        let chain = certificates("control.cert", cert, &self.cert)?;
        ends.cert = chain.first().and_then(|leaf| ValidTime::of(leaf));
        let private =
            PrivateKeyDer::from_pem_slice(&self.key).map_err(|error| wrong("control.key", key, error))?;
        rustls::ClientConfig::builder()
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, private)
            .map_err(|error| {
                wrong("control.cert", cert, format!("with its key {}: {error}", key.display()))
            })?;
        Ok(ends)
    }
}

fn named<'a>(key: &str, path: Option<&'a Path>) -> Result<&'a Path, ConfigError> {
    path.ok_or_else(|| ConfigError::invalid(key, "is not set, and is needed unless control.plaintext = true"))
}

fn certificates(key: &str, path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match all {
        Ok(all) if all.is_empty() => Err(wrong(key, path, "holds no certificate in PEM")),
        Ok(all) => Ok(all),
        Err(error) => Err(wrong(key, path, error)),
    }
}

fn wrong(key: &str, path: &Path, problem: impl std::fmt::Display) -> ConfigError {
    ConfigError::invalid(key, format!("{}: {problem}", path.display()))
}
