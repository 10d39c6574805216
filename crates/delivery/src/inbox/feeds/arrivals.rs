//! Which replica brings records first, and how far the others are behind it. Figures for people.

use std::collections::VecDeque;
use std::time::Duration;

use batoff_types::{Cursor, Moment, Replica, Seq};

use super::Feeds;

/// Records of which it is remembered when they came. One that another replica brings later than so many is not measured.
const RECENT_MAX: usize = 1_024;

/// What became of the records that a replica sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Arrivals {
    /// Records that it was the first to bring.
    pub first: u64,
    /// Of those, how many it brought although it was only to fill in: others were too late.
    pub filled_in: u64,
    /// How long before it the last record that it brought had come from another one; zero when it was the first.
    pub behind: Duration,
}

/// When the newest records came, and whose they were.
#[derive(Debug, Default)]
pub(super) struct RecentArrivals {
    recent: VecDeque<(Seq, Moment, Replica)>,
}

impl Feeds {
    /// Which records a replica was the first to bring, over all its streams.
    pub fn arrivals(&self, replica: Replica) -> Arrivals {
        self.replicas.get(&replica).map_or(Arrivals::default(), |feed| feed.arrivals)
    }

    pub(super) fn came_first(&mut self, now: Moment, from: Replica, seq: Seq) {
        let is_alone = self.replicas.len() == 1;
        let Some(feed) = self.replicas.get_mut(&from) else { return };
        feed.arrivals.first += 1;
        feed.arrivals.behind = Duration::ZERO;
        feed.arrivals.filled_in += u64::from(feed.is_filling_in(now));
        if is_alone {
            return;
        }
        let recent = &mut self.arrivals.recent;
        if recent.len() == RECENT_MAX {
            recent.pop_front();
        }
        recent.push_back((seq, now, from));
    }

    pub(super) fn came_later(&mut self, now: Moment, from: Replica, seq: Seq) {
        let recent = &self.arrivals.recent;
        // They are consecutive, from the oldest on, but for a reset.
        let known = recent.binary_search_by_key(&seq, |(seq, _, _)| *seq).ok().and_then(|at| recent.get(at));
        if let (Some((_, at, first)), Some(feed)) = (known, self.replicas.get_mut(&from))
            && *first != from
        {
            feed.arrivals.behind = now.since(*at);
        }
    }

    /// The first of the newest records after `place`: when whoever was first brought it.
    pub(super) fn came_after(&self, place: Cursor) -> Option<Moment> {
        let recent = &self.arrivals.recent;
        let next = recent.partition_point(|(seq, _, _)| place.covers(*seq));
        recent.get(next).map(|(_, at, _)| *at)
    }

    pub(super) fn forget_arrivals(&mut self) {
        self.arrivals.recent.clear();
    }
}
