//! A file of an adapter's own in the state directory. Lost with it, so that nothing is believed that depends on a position
//! which nobody remembers.

use std::fs;
use std::io;
use std::path::Path;

use batoff_program::durable;

/// What was written last; `None` when nothing was.
pub(crate) fn read(state: &Path, name: &str) -> io::Result<Option<String>> {
    match fs::read_to_string(state.join(name)) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Replaces the whole file. Durable when this returns; after an error the old text is there or the new one.
pub(crate) fn replace(state: &Path, name: &str, text: &str) -> io::Result<()> {
    durable::replace(state, name, text.as_bytes())
}
