//! Certificates that can be exchanged while the process runs.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use batoff_program::certificates::{LOOK_EVERY, ValidTime, WatchedFiles, unix_now};
use batoff_types::UnixMillis;
use parking_lot::Mutex;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::metrics;

/// The certificates of one listener, exchangeable while it runs. Connections that are open keep what they began with.
pub struct Tls {
    listener: &'static str,
    files: TlsFiles,
    watched: Mutex<WatchedFiles>,
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
    serial: Arc<[u8]>,
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
        Some(Self { names: names.collect(), serial: certificate.raw_serial().into(), ends })
    }

    /// Its DNS names, in small letters, and its URIs.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Its serial, as it is encoded (RFC 5280, 4.1.2.2).
    pub fn serial(&self) -> &[u8] {
        &self.serial
    }

    /// Whether it has exactly this name, no pattern that fits it, and has not ended.
    pub fn is_of(&self, name: &str, now: UnixMillis) -> bool {
        now < self.ends && self.names.iter().any(|known| known == name)
    }
}

/// The certificates of this process's own listeners.
#[derive(Default)]
pub struct OwnCertificates(Mutex<Vec<Arc<Tls>>>);

impl OwnCertificates {
    /// A listener has these.
    pub fn add(&self, tls: Arc<Tls>) {
        self.0.lock().push(tls);
    }

    /// When each ends: that of the listener itself, as it is in use now, and the file that it came from.
    pub fn ends(&self) -> Vec<(String, UnixMillis)> {
        let end =
            |tls: &Arc<Tls>| Some((format!("{}, {}", tls.listener, tls.files.cert.display()), tls.ends()?));
        self.0.lock().iter().filter_map(end).collect()
    }

    /// Reads all of them again. Those that cannot be used stay as they are.
    pub fn reload(&self) {
        self.0.lock().iter().for_each(|tls| tls.reload_and_tell());
    }

    /// Reads those again whose files have changed, now and then, until it is dropped.
    pub async fn follow_files(self: Arc<Self>) {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            if self.0.lock().is_empty() {
                continue;
            }
            let own = Arc::clone(&self);
            // A disk may take its time.
            let looking = tokio::task::spawn_blocking(move || {
                let all = own.0.lock().clone();
                all.iter()
                    .filter(|tls| tls.watched.lock().have_changed())
                    .for_each(|tls| tls.reload_and_tell());
            });
            if let Err(error) = looking.await {
                tracing::error!(%error, "defect: the certificates' files are not looked at any more");
                return;
            }
        }
    }
}

/// When a certificate ends; `None` for what is none.
pub(crate) fn end_of(der: &[u8]) -> Option<UnixMillis> {
    Some(UnixMillis(ValidTime::of(der)?.until.saturating_mul(1_000)))
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
    /// Reads the files of the listener of that name.
    pub fn load(listener: &'static str, files: TlsFiles) -> Result<Arc<Self>, TlsError> {
        // Looked at first: what changes while it is read is read again.
        let watched = Mutex::new(WatchedFiles::new(files.paths()));
        let read = files.read()?;
        if let Err(problem) = read.valid.map_or(Ok(()), |valid| valid.check(unix_now())) {
            tracing::error!(listener, cert = %files.cert.display(), problem, "nobody will believe this certificate");
        }
        let tls =
            Self { listener, files, watched, config: ArcSwap::from(read.config), ends: AtomicU64::new(0) };
        metrics::tls_listener(listener);
        tls.note(read.valid, read.authority_ends);
        Ok(Arc::new(tls))
    }

    /// Reads the files again, for handshakes from now on. When they cannot be used, the old ones stay in use.
    ///
    /// # Errors
    /// What is wrong with the files.
    pub fn reload(&self) -> Result<(), TlsError> {
        let reloaded =
            self.files.read().and_then(|read| match read.valid.map(|valid| valid.check(unix_now())) {
                Some(Err(problem)) => Err(file(&self.files.cert, problem)),
                _ => Ok(read),
            });
        metrics::certificate_refused(self.listener, reloaded.is_err());
        let read = reloaded?;
        self.config.store(read.config);
        self.note(read.valid, read.authority_ends);
        Ok(())
    }

    fn reload_and_tell(&self) {
        let listener = self.listener;
        match self.reload() {
            Ok(()) => tracing::info!(listener, "certificates reloaded"),
            Err(error) => {
                tracing::error!(listener, %error, "certificates not reloaded; the old ones stay in use");
            }
        }
    }

    fn note(&self, valid: Option<ValidTime>, authority_ends: Option<u64>) {
        let cert_ends = valid.map(|valid| valid.until);
        self.ends.store(cert_ends.unwrap_or_default().saturating_mul(1_000), Ordering::Relaxed);
        for (file, ends) in [("cert", cert_ends), ("ca", authority_ends)] {
            ends.into_iter().for_each(|ends| metrics::certificate_ends(self.listener, file, ends));
        }
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

/// What was read from the files.
struct ReadTls {
    config: Arc<ServerConfig>,
    valid: Option<ValidTime>,
    /// When the last of the authorities ends that clients may come with a certificate of, in seconds of Unix time.
    authority_ends: Option<u64>,
}

impl TlsFiles {
    fn paths(&self) -> Vec<PathBuf> {
        let authority = match &self.clients {
            ClientCertificates::None => None,
            ClientCertificates::Required(ca) | ClientCertificates::Optional(ca) => Some(ca),
        };
        [Some(&self.cert), Some(&self.key), authority].into_iter().flatten().cloned().collect()
    }

    /// Whether they can be used; when the certificate is good, and when the last of the clients' authorities ends.
    pub(crate) fn examine(&self) -> Result<(Option<ValidTime>, Option<u64>), TlsError> {
        self.read().map(|read| (read.valid, read.authority_ends))
    }

    fn read(&self) -> Result<ReadTls, TlsError> {
        let chain = certificates(&self.cert)?;
        let valid = chain.first().and_then(|leaf| ValidTime::of(leaf));
        let key = PrivateKeyDer::from_pem_file(&self.key).map_err(|error| file(&self.key, error))?;
        let builder = ServerConfig::builder();
        let mut authority_ends = None;
        let mut authority = |ca: &Path| -> Result<Arc<RootCertStore>, TlsError> {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(ca)? {
                authority_ends = authority_ends.max(ValidTime::of(&certificate).map(|valid| valid.until));
                roots.add(certificate).map_err(|error| file(ca, error))?;
            }
            Ok(Arc::new(roots))
        };
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
        Ok(ReadTls { config: Arc::new(config), valid, authority_ends })
    }
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
