//! A certificate authority in a folder, and what it issues.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use batoff_program::durable;
use batoff_types::NodeName;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};

use super::CertFiles;
use crate::private_file::{self, Readers};

/// How long an authority is good: longer than any machine that trusts it.
const AUTHORITY_DAYS: u32 = 3_650;

/// Certificates begin this long before they are made: a node's clock may be behind ours.
const CLOCK_SKEW: Duration = Duration::from_secs(3_600);

const DAY: Duration = Duration::from_secs(86_400);

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum CertsError {
    /// A file is there already; keys are never overwritten.
    #[error("{} exists; remove it first if it is really to be replaced", .0.display())]
    Exists(PathBuf),
    /// A file or folder cannot be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The folder's files are no authority.
    #[error("{} and ca.key beside it are no authority ({reason}); make one with `batoff certs init`", path.display())]
    NoAuthority {
        /// Its certificate.
        path: PathBuf,
        /// Why.
        reason: rcgen::Error,
    },
    /// The file holds no certificate.
    #[error("{} holds no certificate in PEM; name the file that `batoff certs issue` has written", .0.display())]
    NotACertificate(PathBuf),
    /// A certificate that this command did not issue.
    #[error(
        "{} is for no node, control plane, operator or proxy of ours; renew it where it was issued",
        .0.display()
    )]
    NotOurs(PathBuf),
    /// An authority is not renewed: what it has issued would be believed no more.
    #[error(
        "{} is an authority; make another one in another folder, let every program trust both (append its ca.pem to \
         theirs), and issue anew",
        .0.display()
    )]
    IsAuthority(PathBuf),
    /// Key or certificate could not be made.
    #[error("cannot make a certificate: {source}")]
    Crypto {
        /// Why.
        #[from]
        source: rcgen::Error,
    },
}

/// To whom a certificate is issued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holder {
    /// A node: its name stands in the certificate as a SPIFFE URI, and the control plane believes no other.
    Node(NodeName),
    /// The control plane, under these hostnames and addresses.
    Control(Vec<String>),
    /// A person who uses the admin API.
    Operator(String),
    /// The proxy that signs people in to the console: `console.proxy.name` is this DNS name.
    ConsoleProxy(String),
}

/// A certificate authority in a folder.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate with its key, not yet on disk.
pub struct Issued {
    name: String,
    cert: String,
    key: String,
}

impl Authority {
    /// Makes an authority; the folder is made if need be, its files must not exist.
    pub fn create(dir: &Path) -> Result<Self, CertsError> {
        make_folder(dir)?;
        let files = CertFiles::named(dir, "ca");
        refuse_existing(&files)?;
        let key = KeyPair::generate()?;
        let mut params = params("Batoff Purge authority", AUTHORITY_DAYS);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let cert = params.self_signed(&key)?;
        save(&files, &cert.pem(), &key.serialize_pem())?;
        Ok(Self { issuer: Issuer::new(params, key) })
    }

    /// Opens the authority that [`Authority::create`] made, or any other in the same files.
    pub fn open(dir: &Path) -> Result<Self, CertsError> {
        let files = CertFiles::named(dir, "ca");
        let read = |path: &Path| {
            std::fs::read_to_string(path).map_err(|source| CertsError::File { path: path.to_owned(), source })
        };
        let (cert, key) = (read(&files.cert)?, read(&files.key)?);
        let issuer = KeyPair::from_pem(&key).and_then(|key| Issuer::from_ca_cert_pem(&cert, key));
        let issuer = issuer.map_err(|reason| CertsError::NoAuthority { path: files.cert, reason })?;
        Ok(Self { issuer })
    }

    /// Issues a certificate that is good for so many days.
    pub fn issue(&self, holder: &Holder, days: u32) -> Result<Issued, CertsError> {
        let (name, mut params) = match holder {
            Holder::Node(node) => {
                let mut params = params(&node.to_string(), days);
                params.subject_alt_names = vec![SanType::URI(node.spiffe_uri().try_into()?)];
                params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
                (format!("{}-{}", node.pop(), node.node()), params)
            }
            Holder::Control(hosts) => {
                let mut params = params("Batoff Purge control plane", days);
                params.subject_alt_names = CertificateParams::new(hosts.clone())?.subject_alt_names;
                params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
                ("control".to_owned(), params)
            }
            Holder::Operator(person) => {
                let mut params = params(person, days);
                params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
                (format!("operator-{person}"), params)
            }
            Holder::ConsoleProxy(host) => {
                let mut params = params("Batoff Purge console proxy", days);
                params.subject_alt_names = vec![SanType::DnsName(host.clone().try_into()?)];
                params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
                ("console-proxy".to_owned(), params)
            }
        };
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        let cert = params.signed_by(&key, &self.issuer)?;
        Ok(Issued { name, cert: cert.pem(), key: key.serialize_pem() })
    }
}

impl Issued {
    /// Writes both files, which must not exist.
    pub fn save(self, dir: &Path) -> Result<CertFiles, CertsError> {
        let files = CertFiles::named(dir, &self.name);
        refuse_existing(&files)?;
        save(&files, &self.cert, &self.key)?;
        Ok(files)
    }

    /// Takes the place of a certificate and its key; what was there is kept as `….old`. The key goes first: a program that
    /// reads both in between finds that they do not go together, keeps what it has, and looks again.
    pub fn renew(self, files: &CertFiles) -> Result<(), CertsError> {
        for (path, content) in [(&files.key, &self.key), (&files.cert, &self.cert)] {
            replace_and_keep(path, content)
                .map_err(|source| CertsError::File { path: path.clone(), source })?;
        }
        Ok(())
    }

    /// The same, over whatever is there: for throw-away certificates.
    pub fn save_over(self, dir: &Path) -> Result<CertFiles, CertsError> {
        let files = CertFiles::named(dir, &self.name);
        for (path, content) in [(&files.key, &self.key), (&files.cert, &self.cert)] {
            private_file::replace(path, content.as_bytes())
                .map_err(|source| CertsError::File { path: path.clone(), source })?;
        }
        Ok(files)
    }
}

/// What a file that was replaced is kept as.
fn kept(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".old");
    name.into()
}

/// Replaces a file in one step by one of the same owner and mode, and keeps the old one beside it.
fn replace_and_keep(path: &Path, content: &str) -> io::Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let beside = PathBuf::from(beside);
    remove_if_there(&beside)?;
    let old = fs::metadata(path)?;
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
    let mut write = || -> io::Result<()> {
        file.write_all(content.as_bytes())?;
        // Whoever renews may be root, and whoever reads it is not.
        let new = file.metadata()?;
        if (new.uid(), new.gid()) != (old.uid(), old.gid()) {
            fchown(&file, Some(old.uid()), Some(old.gid()))?;
        }
        file.set_permissions(old.permissions())?;
        file.sync_all()?;
        remove_if_there(&kept(path))?;
        fs::hard_link(path, kept(path))?;
        fs::rename(&beside, path)
    };
    if let Err(error) = write() {
        let _ = fs::remove_file(&beside);
        return Err(error);
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    durable::flush(folder.unwrap_or(Path::new(".")))
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

fn params(common_name: &str, days: u32) -> CertificateParams {
    let now = SystemTime::now();
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "Batoff Purge");
    // X.520 allows a common name 64 characters; a long node's full name stands in its URI.
    params.distinguished_name.push(DnType::CommonName, common_name.chars().take(64).collect::<String>());
    params.not_before = (now - CLOCK_SKEW).into();
    params.not_after = (now + DAY * days).into();
    params
}

fn make_folder(dir: &Path) -> Result<(), CertsError> {
    std::fs::create_dir_all(dir).map_err(|source| CertsError::File { path: dir.to_owned(), source })
}

fn refuse_existing(files: &CertFiles) -> Result<(), CertsError> {
    match [&files.cert, &files.key].into_iter().find(|path| path.symlink_metadata().is_ok()) {
        Some(path) => Err(CertsError::Exists(path.clone())),
        None => Ok(()),
    }
}

fn save(files: &CertFiles, cert: &str, key: &str) -> Result<(), CertsError> {
    for (path, content, readers) in
        [(&files.key, key, Readers::Owner), (&files.cert, cert, Readers::Everyone)]
    {
        private_file::create_new(path, content.as_bytes(), readers).map_err(|source| {
            match source.kind() {
                io::ErrorKind::AlreadyExists => CertsError::Exists(path.clone()),
                _ => CertsError::File { path: path.clone(), source },
            }
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use x509_parser::extensions::GeneralName;
    use x509_parser::prelude::*;

    use super::super::read::{self, IssuedBy, KeyBeside};
    use super::*;

    fn sans(pem: &[u8]) -> Vec<String> {
        let (_, pem) = parse_x509_pem(pem).unwrap();
        let cert = pem.parse_x509().unwrap();
        let names = cert.subject_alternative_name().unwrap().map(|san| san.value.general_names.clone());
        let text = |name: &GeneralName<'_>| match name {
            GeneralName::URI(uri) => format!("uri {uri}"),
            GeneralName::DNSName(name) => format!("dns {name}"),
            GeneralName::IPAddress(bytes) => format!("ip {bytes:?}"),
            other => format!("{other:?}"),
        };
        names.unwrap_or_default().iter().map(text).collect()
    }

    #[test]
    fn a_nodes_certificate_names_it_and_is_signed_by_the_authority_that_was_opened_again() {
        let folder = tempfile::tempdir().unwrap();
        Authority::create(folder.path()).unwrap();
        let node: NodeName = "fra1/edge-03".parse().unwrap();
        let authority = Authority::open(folder.path()).unwrap();
        let files = authority.issue(&Holder::Node(node.clone()), 30).unwrap().save(folder.path()).unwrap();
        let cert = std::fs::read(&files.cert).unwrap();
        assert_eq!(sans(&cert), [format!("uri {}", node.spiffe_uri())]);
        assert_eq!(files.cert.file_name().unwrap(), "fra1-edge-03.pem");

        let (_, ca) = parse_x509_pem(&std::fs::read(folder.path().join("ca.pem")).unwrap()).unwrap();
        let (_, leaf) = parse_x509_pem(&cert).unwrap();
        let (ca, leaf) = (ca.parse_x509().unwrap(), leaf.parse_x509().unwrap());
        assert!(ca.is_ca() && !leaf.is_ca());
        leaf.verify_signature(Some(ca.public_key())).unwrap();
        assert_eq!(leaf.issuer(), ca.subject());
        assert!(leaf.validity().is_valid());
    }

    #[test]
    fn the_control_planes_certificate_has_its_hosts_and_addresses() {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::create(folder.path()).unwrap();
        let hosts = vec!["purge.example.net".to_owned(), "127.0.0.1".to_owned()];
        let issued = authority.issue(&Holder::Control(hosts), 30).unwrap();
        assert_eq!(sans(issued.cert.as_bytes()), ["dns purge.example.net", "ip [127, 0, 0, 1]"]);
    }

    #[test]
    fn the_certificate_of_the_console_s_proxy_has_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::create(folder.path()).unwrap();
        let issued = authority.issue(&Holder::ConsoleProxy("sso.example.net".to_owned()), 30).unwrap();
        assert_eq!(sans(issued.cert.as_bytes()), ["dns sso.example.net"]);
        assert_eq!(issued.name, "console-proxy");
    }

    #[test]
    fn keys_are_their_owners_and_are_never_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::create(folder.path()).unwrap();
        assert!(matches!(Authority::create(folder.path()), Err(CertsError::Exists(_))));
        let holder = Holder::Operator("anna".into());
        let files = authority.issue(&holder, 30).unwrap().save(folder.path()).unwrap();
        for key in [folder.path().join("ca.key"), files.key] {
            assert_eq!(std::fs::metadata(key).unwrap().permissions().mode() & 0o777, 0o600);
        }
        assert!(matches!(
            authority.issue(&holder, 30).unwrap().save(folder.path()),
            Err(CertsError::Exists(_))
        ));
        authority.issue(&holder, 30).unwrap().save_over(folder.path()).unwrap();
    }

    #[test]
    fn without_an_authority_the_remedy_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let error = Authority::open(folder.path()).err().unwrap();
        assert!(error.to_string().contains("ca.pem"), "{error}");
        std::fs::write(folder.path().join("ca.pem"), "x").unwrap();
        std::fs::write(folder.path().join("ca.key"), "x").unwrap();
        let error = Authority::open(folder.path()).err().unwrap();
        assert!(error.to_string().contains("batoff certs init"), "{error}");
    }

    #[test]
    fn a_renewed_certificate_has_the_same_holder_another_serial_and_its_key() {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::create(folder.path()).unwrap();
        let ca = folder.path().join("ca.pem");
        let holders = [
            Holder::Node("fra1/edge-03".parse().unwrap()),
            Holder::Control(vec![
                "purge.example.net".to_owned(),
                "192.0.2.1".to_owned(),
                "2001:db8::1".to_owned(),
            ]),
            Holder::Operator("anna".to_owned()),
            Holder::ConsoleProxy("sso.example.net".to_owned()),
        ];
        for holder in holders {
            let files = authority.issue(&holder, 30).unwrap().save(folder.path()).unwrap();
            let before = read::show(&files.cert, &ca).unwrap().remove(0);
            std::fs::set_permissions(&files.key, std::fs::Permissions::from_mode(0o640)).unwrap();
            let found = read::holder(&files.cert).unwrap();
            assert_eq!(found, holder);
            authority.issue(&found, 90).unwrap().renew(&files).unwrap();
            let after = read::show(&files.cert, &ca).unwrap().remove(0);
            assert_eq!((&before.names, &before.subject), (&after.names, &after.subject));
            assert_ne!(before.serial, after.serial);
            // Whole days, of which the first may have begun meanwhile.
            assert!(
                (29..=30).contains(&before.days_left) && (89..=90).contains(&after.days_left),
                "{after:?}"
            );
            assert_eq!((&after.authority, after.key), (&IssuedBy::Ours, KeyBeside::Matches));
            assert_eq!(after.problems, Vec::<String>::new());
            assert_eq!(std::fs::metadata(&files.key).unwrap().permissions().mode() & 0o777, 0o640);
            let old = folder.path().join(format!("{}.old", files.cert.file_name().unwrap().display()));
            assert_eq!(read::show(&old, &ca).unwrap()[0].serial, before.serial);
        }
        assert!(matches!(read::holder(&ca), Err(CertsError::IsAuthority(_))));
    }

    #[test]
    fn what_is_wrong_with_a_certificate_is_told() {
        let (ours, theirs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let authority = Authority::create(ours.path()).unwrap();
        Authority::create(theirs.path()).unwrap();
        let holder = Holder::Operator("anna".into());
        let files = authority.issue(&holder, 30).unwrap().save(ours.path()).unwrap();
        let show = |ca: &Path| read::show(&files.cert, ca).unwrap().remove(0);
        assert_eq!(show(&ours.path().join("ca.pem")).authority, IssuedBy::Ours);
        // Of the same name, with another key.
        let another = show(&theirs.path().join("ca.pem"));
        assert!(
            matches!(another.authority, IssuedBy::Another(_)) && another.problems.len() == 1,
            "{another:?}"
        );
        assert!(matches!(show(&ours.path().join("nowhere.pem")).authority, IssuedBy::Unchecked(_)));
        std::fs::copy(theirs.path().join("ca.key"), &files.key).unwrap();
        let shown = show(&ours.path().join("ca.pem"));
        assert_eq!((shown.key, shown.problems.len()), (KeyBeside::Other, 1));
        std::fs::write(&files.key, "no key").unwrap();
        assert_eq!(show(&ours.path().join("ca.pem")).key, KeyBeside::Unreadable);
        std::fs::write(&files.cert, "no certificate").unwrap();
        let error = read::show(&files.cert, &ours.path().join("ca.pem")).unwrap_err();
        assert!(matches!(error, CertsError::NotACertificate(_)), "{error}");
        // Ended an hour ago, as its beginning lies that long before it was issued.
        std::fs::remove_file(&files.key).unwrap();
        std::fs::remove_file(&files.cert).unwrap();
        let files = authority.issue(&holder, 0).unwrap().save(ours.path()).unwrap();
        std::thread::sleep(Duration::from_millis(1_100));
        let ended = read::show(&files.cert, &ours.path().join("ca.pem")).unwrap().remove(0);
        assert!(ended.problems[0].starts_with("ended "), "{ended:?}");
        assert_eq!(ended.days_left, -1);
    }
}
