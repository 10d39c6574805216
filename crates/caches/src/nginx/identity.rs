//! Whose the stamps are in nginx's files.

use std::fs;
use std::io;
use std::path::Path;

/// Lies in the state directory: lost with it, so that no stamp of a position that nobody remembers is believed.
pub(super) const FILE: &str = "nginx-stamps";

/// The identity, if there is one that can be read.
pub(super) fn read(state: &Path) -> io::Result<Option<u64>> {
    match fs::read_to_string(state.join(FILE)) {
        Ok(text) => Ok(u64::from_str_radix(text.trim(), 16).ok()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The identity; a new one when there is none.
pub(super) fn read_or_make(state: &Path) -> io::Result<u64> {
    if let Some(known) = read(state)? {
        return Ok(known);
    }
    let made: u64 = rand::random();
    let new = state.join(format!("{FILE}.new"));
    fs::write(&new, format!("{made:016x}\n"))?;
    fs::File::open(&new)?.sync_all()?;
    fs::rename(&new, state.join(FILE))?;
    Ok(made)
}
