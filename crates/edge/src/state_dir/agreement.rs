//! Which control planes know that this node goes on serving without a lease: a file with their numbers, or none. In an empty
//! one, as an earlier build wrote it, it is the one that is alone.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;

use batoff_program::durable;
use batoff_types::{Replica, ReplicaSet};

const MARK: &str = "serves-without-lease";

/// Those that have been told. A file that cannot be understood says nothing.
pub(super) fn read(dir: &Path) -> io::Result<Option<ReplicaSet>> {
    let text = match fs::read(dir.join(MARK)) {
        Ok(bytes) if bytes.is_empty() => return Ok(Some(ReplicaSet::only())),
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let members: Result<Vec<_>, _> = text.split_whitespace().map(|word| word.parse().map(Replica)).collect();
    Ok(members.ok().and_then(|members| ReplicaSet::new(members).ok()))
}

/// Sets or removes the mark; durable when this returns.
pub(super) fn write(dir: &Path, agreed: Option<&ReplicaSet>) -> io::Result<()> {
    let mark = dir.join(MARK);
    match agreed {
        Some(set) if set.is_only() => super::private::create(&mark)?.sync_all()?,
        Some(set) => {
            let members: Vec<_> = set.members().iter().map(|replica| replica.0.to_string()).collect();
            durable::replace(dir, MARK, members.join(" ").as_bytes())?;
        }
        None => match fs::remove_file(&mark) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        },
    }
    durable::flush(dir)
}
