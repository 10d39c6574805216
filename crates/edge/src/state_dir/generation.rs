//! The generation, kept in the *name* of an empty file: a name has no content that could be torn or rot, and the highest
//! one counts, so the generation cannot go back by a half-done write.

use std::fs;
use std::io;
use std::path::Path;

use batoff_program::durable;
use batoff_types::Generation;

const PREFIX: &str = "generation-";

/// The highest generation marked, if any is.
pub(super) fn read(dir: &Path) -> io::Result<Option<Generation>> {
    Ok(marks(dir)?.into_iter().max())
}

/// Marks `generation`; durable when this returns. Lower marks are removed afterwards.
pub(super) fn write(dir: &Path, generation: Generation) -> io::Result<()> {
    super::private::create(&dir.join(format!("{PREFIX}{}", generation.0)))?.sync_all()?;
    durable::flush(dir)?;
    for old in marks(dir)?.into_iter().filter(|mark| *mark < generation) {
        fs::remove_file(dir.join(format!("{PREFIX}{}", old.0)))?;
    }
    Ok(())
}

fn marks(dir: &Path) -> io::Result<Vec<Generation>> {
    let mut marks = Vec::new();
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix(PREFIX)).and_then(|n| n.parse().ok());
        marks.extend(number.map(Generation));
    }
    Ok(marks)
}
