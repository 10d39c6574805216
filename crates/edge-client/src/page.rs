//! The page that the daemon keeps for one cache, mapped into its memory: fill tokens and the right to serve, without a call.

use std::io;
use std::path::{Path, PathBuf};

use batoff_types::{FillToken, InstanceId};
use batoff_wire::local::page::{self as layout, PageProblem};

use self::mapping::Mapping;

mod mapping;

pub use batoff_wire::local::page::Page as PageState;

/// Copies that are made of a page before its daemon counts as dead in the middle of a change.
const ATTEMPTS_MAX: usize = 1_000;

/// The page that the daemon keeps for one cache, mapped: fill tokens and the right to serve, without a call.
///
/// Reading it costs a copy of 104 bytes and their checksum, and no call; it never waits.
#[derive(Debug)]
pub struct Page {
    mapping: Mapping,
}

/// A page cannot be used; the text names it and the remedy.
#[derive(Debug, thiserror::Error)]
pub enum PageError {
    /// It cannot be opened or mapped.
    #[error("cannot map {}: {source}; the daemon makes it at its start, readable for the group of its socket", path.display())]
    Access {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// What is in it cannot be used.
    #[error("{}: {problem}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// Why.
        problem: PageProblem,
    },
    /// It is left over from before the machine was started; the daemon has not come yet.
    #[error("{} is left over from an earlier boot; start the daemon", .0.display())]
    EarlierBoot(PathBuf),
}

impl Page {
    /// Maps the page at `path`, which the daemon has made.
    pub fn open(path: &Path) -> Result<Self, PageError> {
        let access = |source| PageError::Access { path: path.to_owned(), source };
        let page = Self { mapping: Mapping::open(path).map_err(access)? };
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").map_err(access)?;
        match page.attempt() {
            Ok(state) if Some(state.boot_id) != layout::boot_id(&boot) => {
                Err(PageError::EarlierBoot(path.to_owned()))
            }
            // One that is being written is whole in a moment.
            Ok(_) | Err(PageProblem::Torn) => Ok(page),
            Err(problem) => Err(PageError::Content { path: path.to_owned(), problem }),
        }
    }

    /// What it says now; `None` when the daemon died in the middle of a change: fail closed.
    pub fn read(&self) -> Option<PageState> {
        for _ in 0..ATTEMPTS_MAX {
            if let Ok(state) = self.attempt() {
                return Some(state);
            }
            std::hint::spin_loop();
        }
        None
    }

    /// The token of a fill that begins now; to be asked for **before** the request goes to the origin. `None`: what is
    /// fetched must not be stored.
    pub fn fill_token(&self) -> Option<FillToken> {
        self.read().map(|state| state.token)
    }

    /// The daemon's process.
    pub fn instance(&self) -> Option<InstanceId> {
        self.read().map(|state| state.instance)
    }

    /// Whether a cached object may be served now. **The last step of a hit**: it
    /// reads the page and the clock itself.
    ///
    /// `session` is the number of the last Welcome; the page shows it only while that session is in sync. `been_in_sync`
    /// says whether any session of this process was: until then, a page that shows none allows nothing.
    pub fn may_serve(&self, session: u64, been_in_sync: bool) -> bool {
        let Some(state) = self.read() else { return false };
        let is_ours = if state.session == 0 { been_in_sync } else { state.session == session };
        is_ours && nanos_since_boot() < state.serve_until
    }

    fn attempt(&self) -> Result<PageState, PageProblem> {
        let (bytes, sequence_after) = self.mapping.copy();
        let state = PageState::decode(&bytes)?;
        if state.sequence == sequence_after { Ok(state) } else { Err(PageProblem::Torn) }
    }
}

/// `CLOCK_BOOTTIME`: it runs on while the machine is suspended, and is never stepped.
pub(crate) fn nanos_since_boot() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let (secs, nanos) = (u64::try_from(now.tv_sec), u64::try_from(now.tv_nsec));
    secs.unwrap_or(u64::MAX).saturating_mul(1_000_000_000).saturating_add(nanos.unwrap_or(0))
}

#[cfg(test)]
mod tests;
