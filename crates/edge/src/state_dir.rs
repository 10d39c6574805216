//! What a node must still know after it has been killed: where it stands, its rules, and its generation.
//!
//! A directory says whose it is. Another node's (a golden image, a swapped volume) says nothing about the caches here and
//! is not believed either. Its owner alone can read it: what customers purge is nobody else's business.
//!
//! One file, replaced as a whole (written beside, flushed, renamed, folder flushed), with a checksum. A file that cannot
//! be trusted is set aside, never guessed at: the node then stands nowhere, in a new generation, and is reset.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use batoff_program::durable;
use batoff_types::{Generation, NodeName, ReplicaSet};
use parking_lot::Mutex;

use self::codec::STATE;
use self::owner::owned;
use crate::provenance::Identity;

mod agreement;
mod codec;
mod generation;
mod owner;
mod private;
mod rules;
mod runs;
mod seen;
#[cfg(test)]
mod tests;

pub use self::codec::{KnownReplicas, Stored};
pub use self::seen::StateSeen;

/// Held while a daemon runs on the directory.
const LOCK: &str = "lock";

/// The directory of one node's daemon.
#[derive(Debug)]
pub struct StateDir {
    dir: PathBuf,
    /// Serialises writers, and holds the generation that is durable.
    generation: Mutex<Generation>,
    /// Keeps a second daemon out until this process ends.
    _lock: File,
}

/// A directory that was opened, and what it held.
#[derive(Debug)]
pub struct Opened {
    /// The directory.
    pub state: StateDir,
    /// The generation in force.
    pub generation: Generation,
    /// The name of this state, which the node's caches have to bear too. Another one whenever the node stands nowhere.
    pub identity: Identity,
    /// What was stored last; `None`: the node stands nowhere.
    pub stored: Option<Stored>,
    /// Streams of this run have higher numbers than this, and those of all runs before lower ones.
    pub first_number: u64,
}

/// The directory cannot be used; the text names it and the remedy.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// It is in use.
    #[error("{} is in use by another daemon; give each node a state directory of its own", .0.display())]
    Locked(PathBuf),
    /// It cannot be made, read or written.
    #[error("cannot use {}: {source}; [state] dir must be a directory that this user can write to", path.display())]
    Access {
        /// What was to be accessed.
        path: PathBuf,
        /// Why it cannot be.
        source: io::Error,
    },
}

impl StateError {
    fn access(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Access { path, source }
    }

    /// Whether the operator has to change something, as opposed to waiting.
    pub fn is_usage(&self) -> bool {
        match self {
            Self::Locked(_) => false,
            // What is missing, read-only or not ours may be a volume that is mounted late.
            Self::Access { source, .. } => source.kind() == io::ErrorKind::NotADirectory,
        }
    }
}

impl StateDir {
    /// Opens the directory of `node`, makes it when it is missing, and reads what it holds.
    ///
    /// The generation is raised here when what was stored cannot be trusted: nothing filled before may pass as newer.
    pub fn open(dir: &Path, node: &NodeName) -> Result<Opened, StateError> {
        private::make(dir).map_err(StateError::access(dir))?;
        let lock_path = dir.join(LOCK);
        let lock = private::create(&lock_path).map_err(StateError::access(&lock_path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(StateError::Locked(dir.to_owned())),
            Err(TryLockError::Error(source)) => return Err(StateError::access(&lock_path)(source)),
        }
        if let Err(error) = private::tighten(dir) {
            tracing::warn!(dir = %dir.display(), %error, "cannot be made this user's alone");
        }

        let owner = owner::read(dir).map_err(StateError::access(dir))?;
        let is_ours = owner.as_ref().is_some_and(|owner| owner.node == node.to_string());
        if !is_ours {
            // What another node has told the control plane, this one has not.
            agreement::write(dir, None).map_err(StateError::access(dir))?;
        }
        let marked = generation::read(dir).map_err(StateError::access(dir))?;
        let path = dir.join(STATE);
        let (stored, trusted) = match fs::read(&path) {
            Ok(bytes) => {
                match codec::decode(&bytes).and_then(|stored| owned(stored, is_ours, owner.as_ref())) {
                    Ok(stored) => (Some(stored), true),
                    Err(why) => {
                        let aside = set_aside(dir, &path).map_err(StateError::access(&path))?;
                        tracing::error!(
                            file = %path.display(),
                            set_aside_as = %aside.display(),
                            %why,
                            "the stored state cannot be trusted; this node starts without a position and will be reset"
                        );
                        (None, false)
                    }
                }
            }
            // With a generation and no state the file was lost, not never written.
            Err(error) if error.kind() == io::ErrorKind::NotFound => (None, marked.is_none()),
            Err(source) => return Err(StateError::access(&path)(source)),
        };

        let known = marked.max(stored.as_ref().map(|stored| stored.snapshot.generation));
        let generation = match known {
            Some(generation) if trusted => generation,
            Some(generation) => Generation(generation.0 + 1),
            None => Generation(1),
        };
        let state = Self { dir: dir.to_owned(), generation: Mutex::new(generation), _lock: lock };
        // Written at every start: that is also how an unwritable directory is found out now and not at the first purge.
        generation::write(dir, generation).map_err(StateError::access(dir))?;
        let identity = match owner {
            Some(owner) if is_ours && stored.is_some() => owner.identity,
            // No cache can bear a name that has never been: whatever it holds, this state knows nothing of it.
            _ => {
                let identity = Identity::random();
                owner::write(dir, node, identity).map_err(StateError::access(dir))?;
                identity
            }
        };
        let first_number = runs::begin(dir).map_err(StateError::access(dir))?;
        Ok(Opened { state, generation, identity, stored, first_number })
    }

    /// The next generation, durable when this returns.
    pub fn raise_generation(&self) -> io::Result<Generation> {
        let mut generation = self.generation.lock();
        let next = Generation(generation.0 + 1);
        generation::write(&self.dir, next)?;
        *generation = next;
        Ok(next)
    }

    /// The control planes that have been told that this node goes on serving without a lease.
    pub fn serves_without_lease(&self) -> io::Result<Option<ReplicaSet>> {
        agreement::read(&self.dir)
    }

    /// Remembers who has been told, or that they will have to be told anew; durable when this returns.
    pub fn set_serves_without_lease(&self, told: Option<&ReplicaSet>) -> io::Result<()> {
        agreement::write(&self.dir, told)
    }

    /// Where it is, for messages.
    pub fn path(&self) -> &Path {
        &self.dir
    }

    /// Replaces what is stored; durable when this returns. After an error the old state is still there, whole.
    pub fn save(&self, stored: &Stored) -> io::Result<()> {
        let bytes = codec::encode(stored);
        let _writers = self.generation.lock();
        durable::replace(&self.dir, STATE, &bytes)
    }
}

/// Renames `path` to the first free `<path>.corrupt-<n>`.
fn set_aside(dir: &Path, path: &Path) -> io::Result<PathBuf> {
    let mut n = 1_u64;
    loop {
        let aside = dir.join(format!("{STATE}.corrupt-{n}"));
        if !aside.try_exists()? {
            fs::rename(path, &aside)?;
            durable::flush(dir)?;
            return Ok(aside);
        }
        n += 1;
    }
}
