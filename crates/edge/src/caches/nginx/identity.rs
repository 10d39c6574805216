//! Whose the stamps are in nginx's files.

use std::fs;
use std::io;
use std::path::Path;

/// Lies in the state directory: lost with it, so that no stamp of a position that nobody remembers is believed.
pub(super) const FILE: &str = "nginx-stamps";

pub(super) fn read_or_make(state: &Path) -> io::Result<u64> {
    let path = state.join(FILE);
    match fs::read_to_string(&path) {
        Ok(text) => {
            if let Ok(known) = u64::from_str_radix(text.trim(), 16) {
                return Ok(known);
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let made: u64 = rand::random();
    let new = state.join(format!("{FILE}.new"));
    fs::write(&new, format!("{made:016x}\n"))?;
    fs::File::open(&new)?.sync_all()?;
    fs::rename(&new, &path)?;
    Ok(made)
}
