//! When the fetches of what nginx stores began, as far as that can be said for certain.

use std::sync::Arc;
use std::time::Duration;

use batoff_edge::{Path, boottime};
use batoff_index::Index;
use batoff_types::{Cursor, FillToken, Moment};

use super::header::{FileHeader, Stamp};
use super::past::{History, VOID};
use super::trust::{Scan, Seen, Trust};
use crate::{Locator, Surroundings};

/// Gives the tokens of fetches that begin, and tells those of what is there: by the stamp that the fill hop has put on it, or
/// as old as it can be.
pub(super) struct FillTokens {
    index: Arc<Index<Locator>>,
    /// How far what lies between here and the origins is.
    path: Arc<Path>,
    /// Whose stamps can be believed.
    daemon: u64,
    /// This run of it.
    run: u32,
    /// What was applied when this run began: its predecessors cannot have stamped anything with more.
    opened: FillToken,
    past: History,
}

impl FillTokens {
    pub(super) fn new(around: &Surroundings, daemon: u64) -> Self {
        Self {
            index: Arc::clone(&around.index),
            path: Arc::clone(&around.path),
            daemon,
            run: rand::random_range(1..=u32::MAX),
            opened: around.index.begin_fill(),
            past: History::default(),
        }
    }

    /// What nginx is to write into what it fetches from now on.
    pub(super) fn stamp(&self) -> Stamp {
        Stamp { daemon: self.daemon, token: self.of_now(), run: self.run }
    }

    /// Of what is fetched from now on: the least position on its path.
    pub(super) fn of_now(&self) -> FillToken {
        self.path.token(self.index.begin_fill())
    }

    /// Through where the parents are; `None` without parents.
    pub(super) fn parents_through(&self) -> Option<Cursor> {
        self.path.through(self.index.generation())
    }

    /// Of what is as old as anything can be that no rule is remembered for.
    pub(super) fn of_the_forgotten(&self) -> FillToken {
        FillToken { generation: self.index.generation(), applied: self.index.forgotten_through() }
    }

    /// Notes what is applied now, for files without stamps.
    pub(super) fn note(&self, now: Moment, window: Duration) {
        self.past.note(now, self.of_now(), window);
    }

    /// Everything was dropped.
    pub(super) fn cut_past(&self) {
        self.past.cut();
    }

    /// Of what lies there whole.
    pub(super) fn of_file(&self, header: &FileHeader, seen: Seen) -> FillToken {
        let ours = header.stamp.and_then(|stamp| self.of_stamp(&stamp));
        match (seen, header.stamp, ours) {
            (_, _, Some(token)) => token,
            // Of another daemon, or of this one before it lost its state or was given an older one.
            (_, Some(_), None) | (Seen::Scan(Scan { trust: Trust::Stamped, .. }), None, None) => VOID,
            (Seen::Event | Seen::Scan(Scan { trust: Trust::Running, .. }), None, None) => {
                self.past.before(boottime()).unwrap_or_else(|| self.of_the_forgotten())
            }
            (Seen::Scan(Scan { trust: Trust::Restarted | Trust::All, .. }), None, None) => {
                self.of_the_forgotten()
            }
        }
    }

    /// Of what is being received; `None`: nobody knows.
    pub(super) fn of_fill(&self, header: &FileHeader) -> Option<FillToken> {
        match header.stamp {
            Some(stamp) => self.of_stamp(&stamp),
            None => Some(self.past.before(boottime()).unwrap_or_else(|| self.of_the_forgotten())),
        }
    }

    /// The token of a stamp, if this daemon has given it out. One beyond what it has applied, or of another generation, is
    /// from a past that was undone when its state was put back: nobody knows what it counted.
    fn of_stamp(&self, stamp: &Stamp) -> Option<FillToken> {
        let now = self.index.begin_fill();
        let last = if stamp.run == self.run { now } else { self.opened };
        let token = stamp.token;
        let given_out = stamp.daemon == self.daemon
            && token.generation == now.generation
            && token.generation == last.generation
            && token.applied <= last.applied;
        given_out.then_some(token)
    }
}
