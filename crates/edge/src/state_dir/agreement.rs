//! Whether the control plane knows that this node goes on serving without a lease: an empty file that is there, or not.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;

use batoff_program::durable;

const MARK: &str = "serves-without-lease";

/// Whether it has been told.
pub(super) fn read(dir: &Path) -> io::Result<bool> {
    dir.join(MARK).try_exists()
}

/// Sets or removes the mark; durable when this returns.
pub(super) fn write(dir: &Path, agreed: bool) -> io::Result<()> {
    let mark = dir.join(MARK);
    if agreed {
        super::private::create(&mark)?.sync_all()?;
    } else {
        match fs::remove_file(&mark) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
    }
    durable::flush(dir)
}
