//! Whose the stamps are in nginx's files.

use std::io;
use std::path::Path;

use crate::shared::state_file;

/// In the state directory.
pub(super) const FILE: &str = "nginx-stamps";

/// The identity, if there is one that can be read.
pub(super) fn read(state: &Path) -> io::Result<Option<u64>> {
    let text = state_file::read(state, FILE)?;
    Ok(text.and_then(|text| u64::from_str_radix(text.trim(), 16).ok()))
}

/// The identity; a new one, durable, when there is none.
pub(super) fn read_or_make(state: &Path) -> io::Result<u64> {
    if let Some(known) = read(state)? {
        return Ok(known);
    }
    let made: u64 = rand::random();
    state_file::replace(state, FILE, &format!("{made:016x}\n"))?;
    Ok(made)
}
