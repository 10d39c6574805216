//! Which replicas bring this node its records at once. The others fill in: they bring what the node still has not confirmed
//! [`FILL_IN_AFTER`] and a round trip after they came to know of it.
//!
//! The node chooses, since it knows which of its streams work, and says so in each heartbeat. Nothing that is completed rests
//! on the choice: each replica brings everything sooner or later, and counts what is confirmed, whoever brought it.
//!
//! First come those that are not late, then those that count, then those that are not much farther away than the nearest;
//! among equals each node has an order of its own, so that not all nodes ask the same two.

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::num::NonZeroU8;
use std::str::FromStr;
use std::time::Duration;

use batoff_types::message::LeaseGrant;
use batoff_types::{Cursor, Moment, Replica};

use super::Feeds;
use crate::FILL_IN_MAX;
use crate::inbox::feed::ReplicaFeed;

/// How long a record that is under way may take before others bring it, too, beside the round trip of their streams. More
/// than a lost packet costs on a short way, and a small part of what a purge has.
const FILL_IN_AFTER: Duration = Duration::from_millis(150);

/// By so much an answer, or word of a record that another replica has brought, may be later than a heartbeat's interval.
const LATE_AFTER: Duration = Duration::from_millis(250);

/// A replica that was late is not chosen for so long, unless there is no other.
const SLOW_FOR: Duration = Duration::from_secs(10);

/// How often it is looked whether one is late, at most.
const REVIEW_EVERY: Duration = Duration::from_millis(50);

/// Round trips that differ by less are no reason to prefer one: to begin with it, and to go on with it.
const NEAR: Duration = Duration::from_millis(10);
const NEAR_ENOUGH: Duration = Duration::from_millis(40);

/// Of how many replicas the streams bring records at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PromptFeeds {
    /// Of so many, as long as there are.
    Count(NonZeroU8),
    /// Of all.
    All,
}

/// Neither a number from 1 to 255 nor "all".
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the number of feeds is \"all\" or from 1 to 255")]
pub struct InvalidPromptFeeds;

impl PromptFeeds {
    /// So many; `None` for 0.
    pub fn count(count: u8) -> Option<Self> {
        NonZeroU8::new(count).map(Self::Count)
    }

    fn most(self) -> usize {
        match self {
            Self::Count(count) => usize::from(count.get()),
            Self::All => usize::MAX,
        }
    }
}

impl Default for PromptFeeds {
    /// Two: one packet that is lost, or one replica that stops, delays nothing.
    fn default() -> Self {
        Self::Count(NonZeroU8::MIN.saturating_add(1))
    }
}

impl FromStr for PromptFeeds {
    type Err = InvalidPromptFeeds;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "all" => Ok(Self::All),
            number => number.parse().map(Self::Count).map_err(|_| InvalidPromptFeeds),
        }
    }
}

impl fmt::Display for PromptFeeds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(count) => write!(f, "{count}"),
            Self::All => f.write_str("all"),
        }
    }
}

/// When the choice was made last, and among whom.
#[derive(Debug, Default)]
pub(super) struct Review {
    again_at: Moment,
    among: Vec<Replica>,
}

/// Why one replica is chosen before another: the least first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Preference {
    is_slow: bool,
    counts_not: bool,
    is_far: bool,
    /// The node's own order.
    order: u64,
}

impl ReplicaFeed {
    /// The answer to a heartbeat, in the log that is followed.
    pub(super) fn handle_answer(&mut self, now: Moment, grant: &LeaseGrant) {
        let took = now.since(grant.echo);
        self.round_trip = Some(self.round_trip.map_or(took, |before| (before * 7 + took) / 8));
        if let Some(tail) = grant.tail {
            self.knows = self.knows.max(tail);
            self.tells_tail = true;
        }
    }

    /// What the next heartbeat says of it.
    pub(super) fn fill_in_after(&self) -> Option<Duration> {
        let after = FILL_IN_AFTER + self.round_trip.unwrap_or_default();
        self.fills_in_since.map(|_| after.min(FILL_IN_MAX))
    }

    /// Whether what it brings now it brings because others did not: it has been told to, and understands that.
    pub(super) fn is_filling_in(&self, now: Moment) -> bool {
        self.tells_tail && self.fills_in_since.is_some_and(|since| now.since(since) >= FILL_IN_AFTER)
    }

    /// Whether it owes an answer for longer than it should, or word of a record that came at `others` from another one.
    fn is_late(&self, now: Moment, others: Option<Moment>) -> bool {
        let may_take = self.heartbeat_interval + LATE_AFTER;
        let is_silent = self.heard.is_some_and(|heard| now.since(heard) > may_take);
        is_silent || others.is_some_and(|at| now.since(at.max(self.since)) > may_take)
    }

    fn set_prompt(&mut self, now: Moment, is_prompt: bool) {
        if self.fills_in_since.is_none() == is_prompt {
            return;
        }
        self.fills_in_since = (!is_prompt).then_some(now);
        self.arrivals.behind = Duration::ZERO;
        // It is to know at once.
        self.next_heartbeat = self.next_heartbeat.map(|at| at.min(now));
    }
}

impl Feeds {
    /// Whether that replica is only to fill in, as it is told by the next heartbeat at the latest.
    pub fn fills_in(&self, replica: Replica) -> bool {
        self.replicas.get(&replica).is_some_and(|feed| feed.fills_in_since.is_some())
    }

    /// Chooses anew when a stream has begun or ended, or it is time to look who is late.
    pub(super) fn choose_prompt(&mut self, now: Moment) {
        let sending = self.replicas.iter().filter(|(_, feed)| feed.sends()).map(|(replica, _)| *replica);
        if now < self.review.again_at && sending.clone().eq(self.review.among.iter().copied()) {
            return;
        }
        self.review = Review { again_at: now + REVIEW_EVERY, among: sending.collect() };
        for replica in self.review.among.clone() {
            let knows = self.replicas.get(&replica).map_or(Cursor::START, |feed| feed.knows);
            let others = self.came_after(knows);
            if let Some(feed) = self.replicas.get_mut(&replica).filter(|feed| feed.is_late(now, others)) {
                feed.slow_until = now + SLOW_FOR;
            }
        }
        let most = self.config.prompt_feeds.most();
        let nearest = self.nearest(now);
        let mut chosen = self.review.among.clone();
        chosen.sort_by_cached_key(|replica| self.preference(now, *replica, nearest));
        chosen.truncate(most);
        for (replica, feed) in &mut self.replicas {
            feed.set_prompt(now, chosen.contains(replica) || chosen.len() < most);
        }
    }

    fn nearest(&self, now: Moment) -> Option<Duration> {
        let well = self.replicas.values().filter(|feed| feed.sends() && feed.slow_until <= now);
        well.filter_map(|feed| feed.round_trip).min()
    }

    fn preference(&self, now: Moment, replica: Replica, nearest: Option<Duration>) -> Option<Preference> {
        let feed = self.replicas.get(&replica)?;
        let is_prompt = feed.fills_in_since.is_none();
        let is_far = nearest.is_some_and(|nearest| match feed.round_trip {
            Some(took) if is_prompt => took > nearest * 2 + NEAR_ENOUGH,
            Some(took) => took > nearest * 5 / 4 + NEAR,
            None => !is_prompt,
        });
        let mut order = DefaultHasher::new();
        (self.config.node.to_string(), replica.0).hash(&mut order);
        Some(Preference {
            is_slow: feed.slow_until > now,
            counts_not: !self.set().contains(replica),
            is_far,
            order: order.finish(),
        })
    }
}
