//! Certificates of nodes that are not believed any more, though they have not ended: a file with a line for each.
//!
//! ```text
//!  # the laptop that was stolen
//!  serial 57:36:db:21:f7:bf:c6:b0:96:f5:f0:eb:89:28:32:90:c7:a2:c0:8d
//!  node fra1/edge-03
//! ```
//!
//! The file is looked at every few seconds. A stream whose certificate comes to stand there is ended, and none is opened
//! with it. A node that loses its stream so is as good as cut off: a strict one is fenced, an available one may go on
//! serving, and keeps purges `partial` until it is removed.
//!
//! The file is this machine's: of several control planes each has its own, and all must say the same. A node whose
//! certificate is revoked at one of three goes on with the other two.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use batoff_program::certificates::{LOOK_EVERY, WatchedFiles};
use batoff_types::NodeName;
use parking_lot::Mutex;
use tokio::sync::watch;

/// The longest serial, in hex digits (RFC 5280, 4.1.2.2).
const SERIAL_DIGITS_MAX: usize = 40;

/// What the file says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RevokedList {
    serials: HashSet<Vec<u8>>,
    nodes: HashSet<NodeName>,
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
            let wrong =
                |what: &str| format!("line {number}: {what}; write `serial aa:bb:…` or `node pop/name`");
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
                _ => return Err(wrong("this is neither a serial nor a node")),
            }
        }
        Ok(list)
    }

    /// Whether a certificate with that serial, for that node, is not believed any more: the line that says so.
    pub fn revokes(&self, node: &NodeName, serial: &[u8]) -> Option<String> {
        if self.nodes.contains(node) {
            return Some(format!("node {node}"));
        }
        let serial = without_zeros(serial);
        self.serials.contains(serial).then(|| format!("serial {}", with_colons(serial)))
    }

    fn len(&self) -> usize {
        self.serials.len() + self.nodes.len()
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
    pub fn open(&self, path: Option<PathBuf>) -> Result<(), RevokedError> {
        let Some(path) = path else { return Ok(()) };
        // Looked at first: what changes while it is read is read again.
        let watched = WatchedFiles::new(vec![path.clone()]);
        self.list.send_replace(Arc::new(read(&path)?));
        *self.file.lock() = Some((path, watched));
        Ok(())
    }

    /// The list as it is now, and to be told when it changes.
    pub fn subscribe(&self) -> watch::Receiver<Arc<RevokedList>> {
        self.list.subscribe()
    }

    /// Reads the file again whenever it has changed, until it is dropped. One that cannot be read leaves the list as it is.
    pub async fn follow_file(self: Arc<Self>) {
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
                    self.list.send_replace(Arc::new(list));
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
