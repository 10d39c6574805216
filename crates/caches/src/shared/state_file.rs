//! A file of an adapter's own in the state directory. Lost with it, so that nothing is believed that depends on a position
//! which nobody remembers.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

/// What was written last; `None` when nothing was.
pub(crate) fn read(state: &Path, name: &str) -> io::Result<Option<String>> {
    match fs::read_to_string(state.join(name)) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Replaces the whole file. Durable when this returns; after an error the old text is still there.
pub(crate) fn replace(state: &Path, name: &str, text: &str) -> io::Result<()> {
    let draft = state.join(format!("{name}.new"));
    let mut file = File::create(&draft)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&draft, state.join(name))?;
    // The name is the folder's: without this a power cut could bring the old text back.
    File::open(state)?.sync_all()
}
