//! A state directory as it is, for whoever diagnoses a node: nothing in it is locked, raised or set aside.

use std::fs;
use std::io;
use std::path::Path;

use batoff_types::message::Position;
use batoff_types::{Generation, NodeName};

use super::codec::{self, STATE};
use super::generation;
use super::owner::{self, owned};

/// What a state directory says, and what a start would make of it.
#[derive(Clone, Debug)]
pub struct StateSeen {
    /// The node that it says it is of.
    pub owner: Option<String>,
    /// The generation that is marked.
    pub generation: Option<Generation>,
    /// Where a start would go on, `None` if nowhere; or why it would believe nothing of what is stored.
    pub position: Result<Option<Position>, String>,
    /// Files that earlier starts did not believe.
    pub set_aside: usize,
}

impl StateSeen {
    /// Reads the directory of `node`; `None` where there is none yet.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn read(dir: &Path, node: &NodeName) -> io::Result<Option<Self>> {
        let generation = match generation::read(dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            generation => generation?,
        };
        let owner = owner::read(dir)?;
        let is_ours = owner.as_ref().is_some_and(|owner| owner.node == node.to_string());
        let position = match fs::read(dir.join(STATE)) {
            Ok(bytes) => codec::decode(&bytes)
                .and_then(|stored| owned(stored, is_ours, owner.as_ref()))
                .map(|stored| stored.position)
                .map_err(|why| why.to_string()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => match generation {
                Some(_) => Err("it is missing, and the generation says that there was one".to_owned()),
                None => Ok(None),
            },
            Err(error) => return Err(error),
        };
        let aside = format!("{STATE}.corrupt-");
        let entries = fs::read_dir(dir)?.flatten();
        let set_aside =
            entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(&aside)).count();
        Ok(Some(Self { owner: owner.map(|owner| owner.node), generation, position, set_aside }))
    }
}
