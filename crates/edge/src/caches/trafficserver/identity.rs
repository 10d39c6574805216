//! Whose the stamps in Traffic Server's cache are.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

/// Lies in the state directory: lost with it, so that no stamp of a position that nobody remembers is believed.
const FILE: &str = "trafficserver-stamps";

/// The identity; a new one when there is none. Durable when this returns.
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
    let draft = path.with_extension("new");
    let mut file = fs::File::create(&draft)?;
    file.write_all(format!("{made:016x}\n").as_bytes())?;
    file.sync_all()?;
    fs::rename(&draft, &path)?;
    fs::File::open(state)?.sync_all()?;
    Ok(made)
}
