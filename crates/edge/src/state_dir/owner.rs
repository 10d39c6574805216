//! Whose a state directory is: the node's name, and an identity that the node's caches bear too.

use std::io;
use std::path::Path;

use batoff_program::durable;
use batoff_types::NodeName;

use crate::provenance::Identity;

use super::codec::{Stored, Untrusted};

const FILE: &str = "owner";

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Owner {
    pub(super) node: String,
    pub(super) identity: Identity,
}

/// What the directory says; `None` when it does not, or not so that it can be read.
pub(super) fn read(dir: &Path) -> io::Result<Option<Owner>> {
    let text = match std::fs::read(dir.join(FILE)) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let line = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    let owner = line("node").zip(line("identity").and_then(|identity| identity.parse().ok()));
    Ok(owner.map(|(node, identity)| Owner { node: node.to_owned(), identity }))
}

/// Durable when this returns.
pub(super) fn write(dir: &Path, node: &NodeName, identity: Identity) -> io::Result<()> {
    durable::replace(dir, FILE, format!("node={node}\nidentity={identity}\n").as_bytes())
}

/// What was read, if this node's.
pub(super) fn owned(stored: Stored, is_ours: bool, owner: Option<&Owner>) -> Result<Stored, Untrusted> {
    match owner {
        Some(_) if is_ours => Ok(stored),
        Some(other) => Err(Untrusted::Foreign(other.node.clone())),
        None => Err(Untrusted::Nobodys),
    }
}
