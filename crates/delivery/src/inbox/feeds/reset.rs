//! When a node drops everything: a replica cannot give it what lies between its cursor and some place, or has another log.
//! Of one that is alone that is an order. Of several it is a vote, for one of them may have another log than the rest, or
//! may have read less of it than it should.

use batoff_types::message::{Parents, Position, Reset, ResetReason};
use batoff_types::{Cursor, LogId, Replica};

use super::Feeds;
use crate::SetHistory;
use crate::inbox::catch_up::CatchUp;
use crate::inbox::feed::{Phase, ReplicaFeed};
use crate::rules::Rule;

impl Feeds {
    /// A replica wants everything to be dropped. One alone is not believed: it may have another log, or have read less of
    /// it than it should.
    pub(super) fn handle_reset(&mut self, from: Replica, reset: Reset) {
        let log_id = reset.log_id;
        let Some(feed) = self.replicas.get_mut(&from) else { return };
        if let Some(under_way) = &self.resetting {
            if under_way.log_id == log_id && reset.cursor <= under_way.cursor {
                feed.phase = Phase::Resetting;
                feed.catch_up.handle_reset(under_way);
            } else {
                feed.end();
            }
            return;
        }
        let said = feed.said.map(|said| said.log_id);
        if self.position.is_some() && said != self.position.map(|position| position.log_id) {
            // The Hello said what is no longer so; the next one says where the node stands.
            return feed.end();
        }
        feed.asks = Some(reset);
        feed.phase = Phase::Asking;
        // Whatever its lease was granted on lies before the reset.
        feed.granted.void();
        self.weigh(log_id);
        self.settle();
    }

    /// Drops everything, to go on in that log, if enough replicas want so.
    pub(super) fn weigh(&mut self, log_id: LogId) {
        let asks = |replica| self.replicas.get(replica).and_then(|feed| feed.asks.as_ref());
        let mut set = self.sets.as_of(self.cursor());
        if !self.sets_are_known {
            // Nobody else says who has a vote.
            let asking = self
                .replicas
                .values()
                .filter(|feed| feed.asks.as_ref().is_some_and(|it| it.log_id == log_id));
            set = asking.filter_map(|feed| feed.set.as_ref()).next().unwrap_or(set);
        }
        let votes = set.members().iter().filter_map(asks).filter(|asks| asks.log_id == log_id).count();
        let enough = self.position.is_none()
            || votes >= set.majority()
            || self.is_lost_to_trimming(log_id)
            || !self.config.rules.in_force(Rule::ResetMajority);
        if enough {
            self.obey(log_id);
        }
    }

    /// Somebody has gone; what the others want may be all that is left.
    pub(super) fn weigh_again(&mut self) {
        let asked = self.replicas.values().find_map(|feed| Some(feed.asks.as_ref()?.log_id));
        if let Some(log_id) = asked {
            self.weigh(log_id);
            self.settle();
        }
    }

    /// Whether the log has been trimmed over the node's head, and nobody is left who may have what is missing. That is a fact
    /// of the log, so those who say it need not be a majority: the set where the node stands may be gone for good.
    fn is_lost_to_trimming(&self, log_id: LogId) -> bool {
        let trimmed = |asks: &Reset| asks.reason == ResetReason::Trimmed && asks.log_id == log_id;
        self.position.is_some_and(|position| position.log_id == log_id)
            && self.awaited == 0
            && self.replicas.values().any(|feed| feed.asks.as_ref().is_some_and(trimmed))
            && self.replicas.values().all(|feed| match feed.phase {
                Phase::Silent => true,
                Phase::Asking => feed.asks.as_ref().is_some_and(trimmed),
                Phase::Greeting | Phase::Welcomed { .. } | Phase::Following | Phase::Resetting => false,
            })
    }

    /// Everything is dropped, to go on in that log from the furthest place that anybody names who wants so, and from which
    /// nothing was missed since.
    fn obey(&mut self, log_id: LogId) {
        let agrees =
            |feed: &ReplicaFeed| feed.asks.clone().filter(|reset| reset.log_id == log_id && !feed.skipped);
        let asked = self.replicas.iter().filter_map(|(replica, feed)| Some((*replica, agrees(feed)?)));
        let Some((from, reset)) = asked.max_by_key(|(_, reset)| reset.cursor) else {
            // They ask again on a new connection.
            let asking = self.replicas.values_mut().filter(|feed| feed.phase == Phase::Asking);
            return asking.for_each(ReplicaFeed::end);
        };
        if let Some(set) = self.replicas.get(&from).and_then(|feed| feed.set.clone()) {
            self.sets = SetHistory::new(reset.cursor, set);
            self.sets_are_known = true;
        }
        self.resets += 1;
        self.forget_arrivals();
        for feed in self.replicas.values_mut() {
            // Whatever the leases were granted on lies before the reset.
            feed.granted.void();
            // That was a place in another order.
            feed.parents = Parents::default();
            feed.knows = Cursor::START;
            feed.acked = None;
            let agreed = agrees(feed).is_some();
            feed.asks = None;
            let is_new =
                matches!(feed.phase, Phase::Greeting | Phase::Welcomed { .. }) && feed.said.is_none();
            if agreed {
                feed.phase = Phase::Resetting;
                feed.catch_up.handle_reset(&reset);
            } else {
                feed.catch_up = CatchUp::default();
                // Who was told that the node stands nowhere will say so, too; others have to be told anew.
                if !is_new {
                    feed.end();
                }
            }
        }
        self.position = None;
        self.queue.clear();
        self.replicas.values_mut().for_each(|feed| feed.reports.clear());
        self.handed = reset.cursor;
        self.received = reset.cursor;
        self.resetting = Some(reset.clone());
        self.reset = Some(reset);
        self.reset_from = Some(from);
    }

    /// Everything cached has to go. To be polled before records; none are given out until
    /// [`Feeds::handle_reset_applied`].
    pub const fn poll_reset(&mut self) -> Option<Reset> {
        self.reset.take()
    }

    /// Whether everything is being dropped.
    pub const fn is_resetting(&self) -> bool {
        self.resetting.is_some()
    }

    /// The reset that was polled cannot be carried out. Whoever wanted it is to be asked anew, on new streams.
    pub fn handle_reset_refused(&mut self) {
        self.reset = None;
        self.resetting = None;
        self.replicas.values_mut().filter(|feed| feed.phase == Phase::Resetting).for_each(ReplicaFeed::end);
    }

    /// Whose reset was obeyed last: the `Welcome` of that replica has the table of sites that counts where it puts the node.
    pub const fn reset_from(&self) -> Option<Replica> {
        self.reset_from
    }

    /// Everything cached is gone, or can no longer be served, and the node stands where `reset` says. Of no effect
    /// when another connection has begun since: that one brings a reset of its own. Records polled before the reset
    /// must not be reported after this.
    pub fn handle_reset_applied(&mut self, reset: &Reset) {
        if self.resetting.as_ref() != Some(reset) {
            return;
        }
        self.resetting = None;
        self.position = Some(Position { log_id: reset.log_id, cursor: reset.cursor, task: None });
        for feed in self.replicas.values_mut().filter(|feed| feed.phase == Phase::Resetting) {
            feed.phase = Phase::Following;
            feed.said = self.position;
        }
        self.moved();
        self.replicas.values_mut().for_each(ReplicaFeed::ask_sooner);
    }
}
