//! From `Hello` to `Welcome`: whom to believe, and what has to be durable before a node is told that it is known.
//!
//! A node that is welcomed takes it that the control plane counts it as what it said it is, now and after every later
//! start. An available node serves without a lease on that ground; so a `Welcome` that came too early would let it serve
//! what was completed because it counted as fenced.

use batoff_types::message::{Hello, LeasePolicy};
use batoff_types::{Cursor, Moment, NodeName, Parent};

use super::paths::Behind;
use super::{Roster, RosterEvent};
use crate::Resume;
use crate::rules::Rule;

/// What a node says of itself that every later start of a control plane has to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word {
    /// What it does without a lease.
    pub policy: LeasePolicy,
    /// The caches between its own and the origins.
    pub parents: Vec<Parent>,
}

impl Word {
    /// As in this `Hello`.
    pub fn said_by(hello: &Hello) -> Self {
        Self { policy: hello.policy, parents: hello.parents.clone() }
    }

    pub(super) fn of((policy, parents): (LeasePolicy, Vec<Parent>)) -> Self {
        Self { policy, parents }
    }
}

/// The answer to a `Hello`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Greeting {
    /// The older connection of the same node, to be ended with `GoAwayReason::Replaced`.
    pub replaced: Option<u64>,
}

/// Why a `Hello` is not taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HelloRefused {
    /// The node must be registered first: append the record, then call [`Roster::handle_registered`].
    #[error("the node is not registered; it has to be admitted first")]
    Unregistered,
    /// The node is being decommissioned.
    #[error("the node has been removed; admit it again to let it connect")]
    Removed,
    /// A stream of the node that was opened later is known: this `Hello` was long on its way, and its daemon is gone. Taken
    /// at its word it could turn the node's policy back.
    #[error("a stream that this node opened later is known")]
    Late,
    /// What the node says of itself is not durable yet: make it so ([`Roster::unsaved_word`]), and ask again.
    #[error("what the node says of itself is not durable yet")]
    Unsaved,
    /// This process stood still, and does not know yet whether another has started with the log meanwhile.
    #[error(
        "this control plane stood still and is finding out whether it was replaced; ask again, or another one"
    )]
    Unsure,
}

impl Roster {
    /// A node connected, and resumes at `resume`. Connections are numbered in the order in which they were opened. It is
    /// welcomed only when [`Roster::may_welcome`] says so.
    pub fn handle_hello(
        &mut self,
        now: Moment,
        hello: &Hello,
        resume: &Resume,
        connection: u64,
    ) -> Result<Greeting, HelloRefused> {
        self.advance(now);
        if self.stood_still.is_some() {
            // A Welcome tells the node that its policy is known, durably; a successor would know nothing of it.
            return Err(HelloRefused::Unsure);
        }
        let &index = self.by_name.get(&hello.node).ok_or(HelloRefused::Unregistered)?;
        let judge = self.judge();
        let late_counts = self.rules.in_force(Rule::LateHello);
        let outcome = self.change(now, index, |node, durable| {
            if node.removal.is_some() {
                return Err(HelloRefused::Removed);
            }
            if connection < node.newest && late_counts {
                return Err(HelloRefused::Late);
            }
            node.newest = connection;
            let back = judge.take_instance(node, hello.instance, durable.tail());
            let alert = back && !node.alerted;
            node.alerted |= back;
            node.cursor = Cursor::START;
            if let Resume::At(cursor) = resume {
                debug_assert!(*cursor <= durable.tail(), "I3: resumed at {cursor}, beyond the tail");
                node.acknowledge(*cursor);
            }
            node.policy = Some(hello.policy);
            node.word = Some(Word::said_by(hello));
            node.refusal = None;
            judge.hear(now, node, durable);
            let replaced = node.connection.replace(connection).filter(|old| *old != connection);
            Ok((Greeting { replaced }, alert))
        });
        self.raise_watermark();
        let (greeting, alert) = outcome.unwrap_or(Err(HelloRefused::Unregistered))?;
        self.set_behind(index, Behind::of(&hello.parents));
        if alert {
            self.push_event(RosterEvent::TwoInstances { node: hello.node.clone() });
        }
        Ok(greeting)
    }

    /// What the node has said of itself and must be made durable before it is welcomed; `None` when it is, or nothing was
    /// said.
    pub fn unsaved_word(&self, node: &NodeName) -> Option<&Word> {
        let node = self.node_of(node)?;
        node.word.as_ref().filter(|word| node.durable_word.as_ref() != Some(word))
    }

    /// This is durable as what the node has said of itself.
    pub fn handle_word_saved(&mut self, node: &NodeName, word: Word) {
        if let Some(node) =
            self.by_name.get(node).and_then(|index| self.nodes.get_mut(*index)).and_then(Option::as_mut)
        {
            node.durable_word = Some(word);
        }
    }

    /// Whether the node is to be welcomed on this connection, now. To be asked after whatever took time: this process may
    /// have stood still meanwhile, and what it made durable came too late for a successor.
    pub fn may_welcome(&mut self, now: Moment, node: &NodeName, connection: u64) -> Result<(), HelloRefused> {
        self.advance(now);
        if self.stood_still.is_some() {
            return Err(HelloRefused::Unsure);
        }
        let known = self.node_of(node).ok_or(HelloRefused::Unregistered)?;
        if known.removal.is_some() {
            Err(HelloRefused::Removed)
        } else if known.connection != Some(connection) {
            Err(HelloRefused::Late)
        } else if self.unsaved_word(node).is_some() && self.rules.in_force(Rule::WordDurable) {
            Err(HelloRefused::Unsaved)
        } else {
            Ok(())
        }
    }
}
