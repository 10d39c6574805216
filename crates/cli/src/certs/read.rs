//! What stands in a certificate's file, and whether it goes with the key beside it and with the authority.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use batoff_program::certificates::{ValidTime, unix_now};
use batoff_types::NodeName;
use rcgen::{KeyPair, PublicKeyData};
use serde::Serialize;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, Pem, X509Certificate};

use super::authority::{CertsError, Holder};
use crate::when;

/// A certificate as `batoff certs show` tells of it.
#[derive(Debug, Serialize)]
pub struct ShownCertificate {
    /// Its file.
    pub file: PathBuf,
    /// Its subject, as X.500 writes it.
    pub subject: String,
    /// The subject alternative names: `node fra1/edge-03`, `dns control.example.net`, `ip 192.0.2.1`.
    pub names: Vec<String>,
    /// In hex, with colons.
    pub serial: String,
    /// RFC 3339.
    pub not_before: String,
    /// RFC 3339.
    pub not_after: String,
    /// Whole days that are left; negative once it has ended.
    pub days_left: i64,
    /// Who issued it, and whether that is the authority that was looked at.
    pub authority: IssuedBy,
    /// Whether the key beside it is its own.
    pub key: KeyBeside,
    /// What is wrong with it; empty when nothing is.
    pub problems: Vec<String>,
}

/// Who issued a certificate.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum IssuedBy {
    /// The authority in the file that was looked at.
    Ours,
    /// It is an authority, and signed by itself.
    Itself,
    /// Another one, of this name.
    Another(String),
    /// There was no authority to compare it with; it says so of itself.
    Unchecked(String),
}

/// The key beside a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyBeside {
    /// It is the certificate's.
    Matches,
    /// It is another one's.
    Other,
    /// It cannot be read as a key.
    Unreadable,
    /// There is none.
    Absent,
}

/// The file with the key of a certificate.
pub fn key_of(cert: &Path) -> PathBuf {
    cert.with_extension("key")
}

/// Reads the certificates of a file (PEM), of which there is at least one.
fn read_der(path: &Path) -> Result<Vec<Vec<u8>>, CertsError> {
    let bytes = std::fs::read(path).map_err(|source| CertsError::File { path: path.to_owned(), source })?;
    let not_one = || CertsError::NotACertificate(path.to_owned());
    let blocks: Result<Vec<Pem>, _> = Pem::iter_from_buffer(&bytes).collect();
    let blocks = blocks.map_err(|_| not_one())?;
    let ders: Vec<Vec<u8>> =
        blocks.into_iter().filter(|block| block.label == "CERTIFICATE").map(|block| block.contents).collect();
    if ders.is_empty() || ders.iter().any(|der| X509Certificate::from_der(der).is_err()) {
        return Err(not_one());
    }
    Ok(ders)
}

/// The certificates of a file, compared with the authorities in `ca`, if that is there.
pub fn show(path: &Path, ca: &Path) -> Result<Vec<ShownCertificate>, CertsError> {
    let authorities = match read_der(ca) {
        Ok(authorities) => Some(authorities),
        Err(CertsError::File { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    let ders = read_der(path)?;
    let shown = ders.iter().enumerate().filter_map(|(place, der)| {
        // Behind the first one stand those that issued it.
        let key = if place == 0 { key_beside(path, der) } else { KeyBeside::Absent };
        show_der(path, der, authorities.as_deref(), key)
    });
    Ok(shown.collect())
}

fn show_der(
    path: &Path,
    der: &[u8],
    authorities: Option<&[Vec<u8>]>,
    key: KeyBeside,
) -> Option<ShownCertificate> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let valid = ValidTime::of(der)?;
    let now = unix_now();
    let authority = issued_by(&certificate, authorities);
    let mut problems = Vec::new();
    problems.extend(valid.check(now).err());
    if let IssuedBy::Another(name) = &authority {
        problems.push(format!("was issued by another authority ({name}) than the one in ca.pem"));
    }
    match key {
        KeyBeside::Other => {
            problems.push(format!("{} is the key of another certificate", key_of(path).display()))
        }
        KeyBeside::Unreadable => {
            problems.push(format!("{} cannot be read as a private key", key_of(path).display()))
        }
        KeyBeside::Matches | KeyBeside::Absent => {}
    }
    let day = 86_400;
    let days_left = match valid.until.checked_sub(now) {
        Some(left) => i64::try_from(left / day).unwrap_or(i64::MAX),
        None => -i64::try_from((now - valid.until).div_ceil(day)).unwrap_or(i64::MAX),
    };
    Some(ShownCertificate {
        file: path.to_owned(),
        subject: certificate.subject().to_string(),
        names: names(&certificate).iter().map(CertName::to_string).collect(),
        serial: certificate.raw_serial_as_string(),
        not_before: when::rfc3339(valid.from),
        not_after: when::rfc3339(valid.until),
        days_left,
        authority,
        key,
        problems,
    })
}

/// To whom a certificate of ours was issued, so that another one can be issued to the same.
pub fn holder(path: &Path) -> Result<Holder, CertsError> {
    let ders = read_der(path)?;
    let other = || CertsError::NotOurs(path.to_owned());
    let (_, certificate) =
        ders.first().and_then(|der| X509Certificate::from_der(der).ok()).ok_or_else(other)?;
    if certificate.is_ca() {
        return Err(CertsError::IsAuthority(path.to_owned()));
    }
    let usage = certificate.extended_key_usage().ok().flatten().map(|usage| usage.value);
    let (serves, calls) = usage.map_or((false, false), |usage| (usage.server_auth, usage.client_auth));
    let names = names(&certificate);
    if let [CertName::Node(node)] = names.as_slice() {
        return Ok(Holder::Node(node.clone()));
    }
    let hosts: Option<Vec<String>> = names.iter().map(CertName::host).collect();
    match hosts {
        Some(hosts) if serves && !hosts.is_empty() => Ok(Holder::Control(hosts)),
        Some(hosts) if calls && hosts.is_empty() => {
            let name = certificate.subject().iter_common_name().next();
            let name = name.and_then(|name| name.as_str().ok()).ok_or_else(other)?;
            Ok(Holder::Operator(name.to_owned()))
        }
        Some(hosts) if calls && !serves => match <[String; 1]>::try_from(hosts) {
            Ok([name]) => Ok(Holder::ConsoleProxy(name)),
            Err(_) => Err(other()),
        },
        _ => Err(other()),
    }
}

/// A subject alternative name.
enum CertName {
    Node(NodeName),
    Host(String),
    Address(IpAddr),
    Else(String),
}

impl CertName {
    fn host(&self) -> Option<String> {
        match self {
            Self::Host(host) => Some(host.clone()),
            Self::Address(address) => Some(address.to_string()),
            Self::Node(_) | Self::Else(_) => None,
        }
    }
}

impl std::fmt::Display for CertName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Node(node) => write!(f, "node {node}"),
            Self::Host(host) => write!(f, "dns {host}"),
            Self::Address(address) => write!(f, "ip {address}"),
            Self::Else(text) => f.write_str(text),
        }
    }
}

fn names(certificate: &X509Certificate<'_>) -> Vec<CertName> {
    let Ok(Some(names)) = certificate.subject_alternative_name() else { return Vec::new() };
    let name = |name: &GeneralName<'_>| match name {
        GeneralName::URI(uri) => NodeName::from_spiffe_uri(uri)
            .map_or_else(|| CertName::Else(format!("uri {uri}")), CertName::Node),
        GeneralName::DNSName(host) => CertName::Host((*host).to_owned()),
        GeneralName::IPAddress(bytes) => match (<[u8; 4]>::try_from(*bytes), <[u8; 16]>::try_from(*bytes)) {
            (Ok(four), _) => CertName::Address(IpAddr::from(four)),
            (_, Ok(sixteen)) => CertName::Address(IpAddr::from(sixteen)),
            _ => CertName::Else(name.to_string()),
        },
        other => CertName::Else(other.to_string()),
    };
    names.value.general_names.iter().map(name).collect()
}

fn issued_by(certificate: &X509Certificate<'_>, authorities: Option<&[Vec<u8>]>) -> IssuedBy {
    if certificate.is_ca() && certificate.verify_signature(None).is_ok() {
        return IssuedBy::Itself;
    }
    let issuer = certificate.issuer().to_string();
    let Some(authorities) = authorities else { return IssuedBy::Unchecked(issuer) };
    let is_of = |der: &Vec<u8>| {
        X509Certificate::from_der(der).is_ok_and(|(_, authority)| {
            authority.subject() == certificate.issuer()
                && certificate.verify_signature(Some(authority.public_key())).is_ok()
        })
    };
    if authorities.iter().any(is_of) { IssuedBy::Ours } else { IssuedBy::Another(issuer) }
}

fn key_beside(cert: &Path, der: &[u8]) -> KeyBeside {
    let pem = match std::fs::read_to_string(key_of(cert)) {
        Ok(pem) => pem,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return KeyBeside::Absent,
        Err(_) => return KeyBeside::Unreadable,
    };
    let Ok(key) = KeyPair::from_pem(&pem) else { return KeyBeside::Unreadable };
    let is_its = X509Certificate::from_der(der).is_ok_and(|(_, certificate)| {
        certificate.public_key().raw == key.subject_public_key_info().as_slice()
    });
    if is_its { KeyBeside::Matches } else { KeyBeside::Other }
}
