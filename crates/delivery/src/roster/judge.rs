//! Who gets a lease, who is waited for, and when a node is looked at again: G1 to G4 on one node.

use batoff_types::{Cursor, InstanceId, Moment};

use super::durable::DurableTimes;
use super::node::{Event, Hold, Node};
use super::{NodeState, Refusal, STEP};
use crate::LeaseTimes;
use crate::rules::{Rule, RuleSet};

/// The rules on one node: who gets a lease, and when it is over.
#[derive(Clone, Copy)]
pub(super) struct Judge {
    pub(super) times: LeaseTimes,
    pub(super) rules: RuleSet,
}

impl Judge {
    /// A message came on the node's present stream.
    pub(super) fn hear(self, now: Moment, node: &mut Node, durable: &DurableTimes) {
        node.heard = now;
        // It would join and fall behind in the same instant (G3).
        let stuck = node.state == NodeState::Away && self.is_behind(now, node, durable);
        if !stuck || !self.rules.in_force(Rule::JoiningStuck) {
            node.step(Event::Heard, durable.tail());
        }
    }

    /// Answers a heartbeat. True: with a lease.
    pub(super) fn grant(self, now: Moment, node: &mut Node, durable: &DurableTimes) -> bool {
        let behind = self.is_behind(now, node, durable);
        node.refusal = self.refusal(node, behind, durable.tail());
        if node.refusal.is_some() {
            if behind && self.rules.in_force(Rule::JoiningStuck) {
                node.step(Event::FellBehind, durable.tail());
            }
            return false;
        }
        debug_assert!(
            node.cursor >= node.confirmed.max(node.floor_at(durable.tail())) || !self.rules.all_in_force(),
            "I1, G1: {} gets a lease at {}, confirmed {}, floor {}",
            node.name,
            node.cursor,
            node.confirmed,
            node.floor
        );
        node.step(Event::Granted, durable.tail());
        node.until = node.until.max(now + self.times.held_for(self.times.lease));
        true
    }

    fn refusal(self, node: &Node, behind: bool, tail: Cursor) -> Option<Refusal> {
        if node.removal.is_some() {
            Some(Refusal::Removed)
        } else if node.cursor < node.floor_at(tail) && self.rules.in_force(Rule::Floor) {
            Some(Refusal::BehindFloor)
        } else if node.cursor < node.confirmed && self.rules.in_force(Rule::Confirmed) {
            Some(Refusal::BehindConfirmed)
        } else if behind && self.rules.in_force(Rule::Progress) {
            Some(Refusal::TooSlow)
        } else if node.holds.iter().any(|hold| hold.is_of_an_incarnation)
            && self.rules.in_force(Rule::OneLease)
        {
            Some(Refusal::OtherInstance)
        } else {
            None
        }
    }

    /// Whether the oldest record that the node's present stream has not acknowledged is older than `grace`.
    fn is_behind(self, now: Moment, node: &Node, durable: &DurableTimes) -> bool {
        durable.oldest_after(node.cursor).is_some_and(|at| now.since(at) > self.times.grace)
    }

    /// The `Hello` of a process. What another one may serve by its lease is kept as a hold (G4). True when the process
    /// is one that was replaced before, so that two are alive.
    pub(super) fn take_instance(self, node: &mut Node, instance: InstanceId, tail: Cursor) -> bool {
        if node.instance == Some(instance) {
            return false;
        }
        if node.instance.is_some() && self.rules.in_force(Rule::OneIncarnation) {
            if node.state == NodeState::Leased {
                node.holds.push(Hold { safe: node.confirmed, until: node.until, is_of_an_incarnation: true });
            }
            node.step(Event::NewInstance, tail);
        }
        node.take_instance(instance)
    }

    pub(super) fn pass_time(self, now: Moment, node: &mut Node, durable: &DurableTimes) {
        node.holds.retain(|hold| now <= hold.until);
        if now > node.until {
            node.step(Event::LeaseOver, durable.tail());
        }
        if self.is_behind(now, node, durable) && self.rules.in_force(Rule::JoiningStuck) {
            node.step(Event::FellBehind, durable.tail());
        }
        if now > self.silent_at(node) {
            node.step(Event::Silent, durable.tail());
        }
    }

    /// When to look at the node again: when its state may change by time alone, or a little before.
    pub(super) fn deadline(self, now: Moment, node: &Node, durable: &DurableTimes) -> Option<Moment> {
        let state = match node.state {
            NodeState::Away => None,
            NodeState::Unknown | NodeState::Leased => Some(node.until + STEP),
            NodeState::Joining => {
                let oldest = durable.oldest_after(node.cursor).unwrap_or(now);
                Some((oldest + self.times.grace).min(self.silent_at(node)) + STEP)
            }
        };
        let held = node.holds.iter().map(|hold| hold.until + STEP).min();
        [state, held, node.removal].into_iter().flatten().min()
    }

    /// The last moment at which a node that has no lease may stay silent and still count as joining.
    fn silent_at(self, node: &Node) -> Moment {
        node.heard + self.times.held_for(self.times.lease)
    }
}
