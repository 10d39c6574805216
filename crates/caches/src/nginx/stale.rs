//! Files that were made stale by a soft purge, and whether the origin has confirmed them since.

use std::collections::HashMap;

use batoff_types::FillToken;
use parking_lot::Mutex;

use super::header::{STALE, Times};
use super::name::FileName;

/// By file, what is known of those that were made stale.
#[derive(Debug, Default)]
pub(super) struct StaleFiles(Mutex<HashMap<FileName, Stale>>);

#[derive(Clone, Copy, Debug)]
struct Stale {
    /// What had been applied before.
    through: FillToken,
    mark: i64,
    /// The origin has confirmed it since.
    refreshed: bool,
}

impl StaleFiles {
    /// This file was marked, after `through` had been applied.
    pub(super) fn add(&self, name: FileName, through: FillToken, mark: i64) {
        self.0.lock().insert(name, Stale { through, mark, refreshed: false });
    }

    /// What had been applied when the file was made stale, if nginx has had it confirmed by the origin since: with our
    /// mark in it, so by a request that began after that.
    pub(super) fn refreshed_since(&self, name: FileName, times: &Times) -> Option<FillToken> {
        let mut all = self.0.lock();
        let stale = all.get_mut(&name)?;
        if stale.mark != times.last_modified {
            // Another file, or one that was refreshed while it was being made stale.
            all.remove(&name);
            return None;
        }
        stale.refreshed |= times.valid != STALE;
        stale.refreshed.then_some(stale.through)
    }

    /// Whether the file is stale already, and was not confirmed since.
    pub(super) fn is_settled(&self, name: FileName, times: &Times) -> bool {
        self.0.lock().get(&name).is_some_and(|stale| !stale.refreshed) && times.valid == STALE
    }

    /// It is gone.
    pub(super) fn forget(&self, name: FileName) {
        self.0.lock().remove(&name);
    }
}
