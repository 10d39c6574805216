//! The files of mutual TLS, looked at before anybody connects: for `--check`.

use std::path::Path;

use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::DaemonConfig;
use crate::config::{ConfigError, ControlSection};

/// The lines of `--check` that every daemon has: what was looked at, and is fine.
///
/// # Errors
/// The certificates.
pub fn checked(daemon: &DaemonConfig) -> Result<Vec<String>, ConfigError> {
    let control = &daemon.control;
    check(control)?;
    let tls = match (control.plaintext, &control.cert) {
        (true, _) => "plaintext".to_owned(),
        (false, cert) => {
            let cert = cert.as_ref().map_or_else(String::new, |cert| format!(" {}", cert.display()));
            format!("certificate{cert}, its key and the authority are there and fit")
        }
    };
    Ok(vec![
        format!("node    {}", daemon.node),
        format!("control {}; {tls}", control.endpoints.join(", ")),
        format!("state   {}", daemon.state_dir.display()),
    ])
}

/// Whether authority, certificate and key are there, can be read, and go together. The connection itself reads them anew
/// each time, so that they may be exchanged while the daemon runs.
fn check(control: &ControlSection) -> Result<(), ConfigError> {
    if control.plaintext {
        return Ok(());
    }
    let mut roots = RootCertStore::empty();
    let ca = named("control.ca", control.ca.as_deref())?;
    for certificate in certificates("control.ca", ca)? {
        roots.add(certificate).map_err(|error| wrong("control.ca", ca, error))?;
    }
    let cert = named("control.cert", control.cert.as_deref())?;
    let chain = certificates("control.cert", cert)?;
    let key = named("control.key", control.key.as_deref())?;
    let private = PrivateKeyDer::from_pem_file(key).map_err(|error| wrong("control.key", key, error))?;
    rustls::ClientConfig::builder()
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, private)
        .map_err(|error| wrong("control.cert", cert, format!("with its key {}: {error}", key.display())))?;
    Ok(())
}

fn named<'a>(key: &str, path: Option<&'a Path>) -> Result<&'a Path, ConfigError> {
    path.ok_or_else(|| ConfigError::invalid(key, "is not set, and is needed unless control.plaintext = true"))
}

fn certificates(key: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
    let all = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match all {
        Ok(all) if all.is_empty() => Err(wrong(key, path, "holds no certificate in PEM")),
        Ok(all) => Ok(all),
        Err(error) => Err(wrong(key, path, error)),
    }
}

fn wrong(key: &str, path: &Path, problem: impl std::fmt::Display) -> ConfigError {
    ConfigError::invalid(key, format!("{}: {problem}", path.display()))
}
