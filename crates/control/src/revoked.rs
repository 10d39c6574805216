//! Certificates that are not believed any more, though they have not ended: a file with a line for each.
//!
//! ```text
//!  # the laptop that was stolen
//!  serial 57:36:db:21:f7:bf:c6:b0:96:f5:f0:eb:89:28:32:90:c7:a2:c0:8d
//!  node fra1/edge-03
//!  name console-proxy.example
//! ```
//!
//! | listener | whose | what becomes of it |
//! | --- | --- | --- |
//! | gRPC | a node's | its stream is ended, and none is opened |
//! | admin API | an operator's | its connections are ended; on a new one each request is answered with 403 |
//! | console | that of the proxy that signs people in | the same, whatever its headers say |
//!
//! `serial` means one certificate, `node` every one of that node, `name` every one with that DNS name or URI among its
//! subject alternative names (RFC 5280, 4.2.1.6). The file is looked at every few seconds; each change has an entry in the
//! audit log, and so has what is in force at a start. A node that loses its stream so is as good as cut off: a strict one is fenced, an available one may go on
//! serving, and keeps purges `partial` until it is removed.
//!
//! The file is this machine's: of several control planes each has its own, and all must say the same. A node whose
//! certificate is revoked at one of three goes on with the other two.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use batoff_program::certificates::{LOOK_EVERY, WatchedFiles};
use batoff_types::NodeName;
use parking_lot::Mutex;
use serde_json::json;
use tokio::sync::watch;

use crate::audit::{Audit, AuditAction, AuditEntry, ITSELF};
use crate::clock::Clock;
use crate::metrics;
use crate::tls::PeerCertificate;

/// The longest serial, in hex digits (RFC 5280, 4.1.2.2).
const SERIAL_DIGITS_MAX: usize = 40;

/// What the file says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RevokedList {
    serials: BTreeSet<Vec<u8>>,
    nodes: BTreeSet<NodeName>,
    names: BTreeSet<String>,
}

/// The list as it is in force, and its file. At first nothing is revoked.
#[derive(Default)]
pub struct Revoked {
    file: Mutex<Option<(PathBuf, WatchedFiles)>>,
    list: watch::Sender<Arc<RevokedList>>,
}

/// The file cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("grpc.revoked: {}: {problem}", path.display())]
pub struct RevokedError {
    path: PathBuf,
    problem: String,
}

impl RevokedList {
    /// Reads a text of lines.
    ///
    /// # Errors
    /// Which line cannot be read.
    fn parse(text: &str) -> Result<Self, String> {
        let mut list = Self::default();
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.split('#').next().unwrap_or_default().trim();
            let wrong = |what: &str| {
                format!("line {number}: {what}; write `serial aa:bb:…`, `node pop/name` or `name …`")
            };
            match line.split_once(char::is_whitespace).map(|(kind, rest)| (kind, rest.trim())) {
                None if line.is_empty() => {}
                Some(("serial", serial)) => {
                    let serial = serial_of(serial).ok_or_else(|| wrong("this is no serial in hex"))?;
                    list.serials.insert(serial);
                }
                Some(("node", name)) => {
                    let node = name.parse().map_err(|error| wrong(&format!("{error}")))?;
                    list.nodes.insert(node);
                }
                Some(("name", name)) if !name.is_empty() && !name.contains(char::is_whitespace) => {
                    list.names.insert(as_certificates_have(name));
                }
                _ => return Err(wrong("this is neither a serial nor a node nor a name")),
            }
        }
        Ok(list)
    }

    /// Whether a certificate with that serial, for that node, is not believed any more: the line that says so.
    pub fn revokes(&self, node: &NodeName, serial: &[u8]) -> Option<String> {
        if self.nodes.contains(node) {
            return Some(format!("node {node}"));
        }
        let uri = node.spiffe_uri();
        self.revokes_serial(serial).or_else(|| self.revokes_name(&uri))
    }

    /// The same of a client of an HTTP listener.
    pub fn revokes_client(&self, certificate: &PeerCertificate) -> Option<String> {
        let by_name = || certificate.names().iter().find_map(|name| self.revokes_name(name));
        let by_node = || {
            let mut nodes = certificate.names().iter().filter_map(|name| NodeName::from_spiffe_uri(name));
            nodes.find(|node| self.nodes.contains(node)).map(|node| format!("node {node}"))
        };
        self.revokes_serial(certificate.serial()).or_else(by_name).or_else(by_node)
    }

    fn revokes_serial(&self, serial: &[u8]) -> Option<String> {
        let serial = without_zeros(serial);
        self.serials.contains(serial).then(|| format!("serial {}", with_colons(serial)))
    }

    fn revokes_name(&self, name: &str) -> Option<String> {
        self.names.contains(name).then(|| format!("name {name}"))
    }

    fn len(&self) -> usize {
        self.serials.len() + self.nodes.len() + self.names.len()
    }

    /// A line for each entry.
    fn lines(&self) -> BTreeSet<String> {
        let serials = self.serials.iter().map(|serial| format!("serial {}", with_colons(serial)));
        let nodes = self.nodes.iter().map(|node| format!("node {node}"));
        let names = self.names.iter().map(|name| format!("name {name}"));
        serials.chain(nodes).chain(names).collect()
    }
}

impl Revoked {
    /// Whether the file at `path` can be read.
    ///
    /// # Errors
    /// It cannot, and why.
    pub fn check(path: Option<&Path>) -> Result<(), RevokedError> {
        path.map_or(Ok(()), |path| read(path).map(drop))
    }

    /// Goes by the file at `path` from now on.
    ///
    /// # Errors
    /// It cannot be read: whom it would turn away must not be let in meanwhile.
    pub fn open(&self, path: Option<PathBuf>, audit: &Audit, clock: &Clock) -> Result<(), RevokedError> {
        let Some(path) = path else { return Ok(()) };
        // Looked at first: what changes while it is read is read again.
        let watched = WatchedFiles::new(vec![path.clone()]);
        self.replace(read(&path)?, audit, clock);
        *self.file.lock() = Some((path, watched));
        Ok(())
    }

    /// From now on this is the list, and the audit log says what is new and what is gone.
    fn replace(&self, list: RevokedList, audit: &Audit, clock: &Clock) {
        metrics::revoked_entries(list.len());
        let (before, now) = (self.list.borrow().lines(), list.lines());
        self.list.send_replace(Arc::new(list));
        let added: Vec<_> = now.difference(&before).collect();
        let removed: Vec<_> = before.difference(&now).collect();
        if added.is_empty() && removed.is_empty() {
            return;
        }
        let change = json!({"added": added, "removed": removed}).to_string();
        let entry = AuditEntry::new(clock.wall(), ITSELF, AuditAction::CertificatesRevoked);
        audit.note(entry.with_change(change.as_bytes()));
    }

    /// The list as it is now, and to be told when it changes.
    pub fn subscribe(&self) -> watch::Receiver<Arc<RevokedList>> {
        self.list.subscribe()
    }

    /// Reads the file again whenever it has changed, until it is dropped. One that cannot be read leaves the list as it is.
    pub async fn follow_file(self: Arc<Self>, audit: Arc<Audit>, clock: Clock) {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            if self.file.lock().is_none() {
                continue;
            }
            let revoked = Arc::clone(&self);
            // A disk may take its time.
            let looked = tokio::task::spawn_blocking(move || {
                let mut file = revoked.file.lock();
                let (path, watched) = file.as_mut()?;
                watched.have_changed().then(|| read(path))
            });
            match looked.await {
                Ok(None) => {}
                Ok(Some(Ok(list))) => {
                    tracing::info!(entries = list.len(), "the list of revoked certificates was read again");
                    self.replace(list, &audit, &clock);
                }
                Ok(Some(Err(error))) => {
                    tracing::error!(%error, "the list of revoked certificates stays as it was");
                }
                Err(error) => {
                    tracing::error!(%error, "defect: the list of revoked certificates is not looked at any more");
                    return;
                }
            }
        }
    }
}

fn read(path: &Path) -> Result<RevokedList, RevokedError> {
    let failed = |problem: String| RevokedError { path: path.to_owned(), problem };
    let text = std::fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
    RevokedList::parse(&text).map_err(failed)
}

/// The bytes of a serial in hex, with or without colons.
fn serial_of(text: &str) -> Option<Vec<u8>> {
    let digits: String = text.chars().filter(|c| *c != ':').collect();
    if digits.is_empty() || digits.len() > SERIAL_DIGITS_MAX + 2 {
        return None;
    }
    let even = if digits.len().is_multiple_of(2) { digits } else { format!("0{digits}") };
    Some(without_zeros(&hex::decode(even).ok()?).to_vec())
}

/// A serial is a number: one that begins with a set bit has a zero byte before it in the certificate.
fn without_zeros(serial: &[u8]) -> &[u8] {
    let zeros = serial.iter().take_while(|byte| **byte == 0).count();
    &serial[zeros..]
}

/// DNS names are compared in small letters (RFC 4343); a URI stays as it is.
fn as_certificates_have(name: &str) -> String {
    if name.contains("://") { name.to_owned() } else { name.to_ascii_lowercase() }
}

fn with_colons(serial: &[u8]) -> String {
    serial.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_serial_is_found_however_it_is_written_and_a_node_by_its_name() {
        let list = "# stolen\nserial 00:9A:bc:01 # with a zero\n\nnode fra1/edge-03\nserial abc\n";
        let list = RevokedList::parse(list).unwrap();
        let (edge, other): (NodeName, NodeName) =
            ("fra1/edge-03".parse().unwrap(), "fra1/edge-04".parse().unwrap());
        assert_eq!(list.revokes(&other, &[0x9a, 0xbc, 1]).as_deref(), Some("serial 9a:bc:01"));
        assert_eq!(list.revokes(&other, &[0, 0x9a, 0xbc, 1]).as_deref(), Some("serial 9a:bc:01"));
        assert_eq!(list.revokes(&other, &[0x0a, 0xbc]).as_deref(), Some("serial 0a:bc"));
        assert_eq!(list.revokes(&edge, &[1]).as_deref(), Some("node fra1/edge-03"));
        assert_eq!(list.revokes(&other, &[0x9a, 0xbc]), None);
        let named =
            RevokedList::parse("name spiffe://batoff/pop/fra1/node/edge-03\nname Proxy.Example").unwrap();
        let line = named.revokes(&edge, &[1]);
        assert_eq!(line.as_deref(), Some("name spiffe://batoff/pop/fra1/node/edge-03"));
        assert_eq!(named.revokes(&other, &[1]), None);
        assert_eq!(named.revokes_name("proxy.example").as_deref(), Some("name proxy.example"));
    }

    #[test]
    fn a_line_that_cannot_be_read_is_named() {
        for (text, line) in [("serial xyz", 1), ("\nnode edge", 2), ("serial", 1), ("# fine\n\nrevoke 1", 3)]
        {
            let error = RevokedList::parse(text).unwrap_err();
            assert!(error.starts_with(&format!("line {line}: ")), "{error}");
        }
    }
}
