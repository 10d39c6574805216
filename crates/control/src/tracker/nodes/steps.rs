//! What a node's messages do to what is known of it; the roster hears them first.

use std::time::Duration;

use batoff_delivery::{Greeting, HelloRefused, Resume, Roster};
use batoff_types::message::{Ack, GoAwayReason, Heartbeat, Hello, LeaseGrant};
use batoff_types::{Cursor, Moment, NodeName, UnixMillis};

use super::mailbox::Directive;
use super::sent::NodeLink;
use crate::metrics;
use crate::tracker::state::State;

impl State {
    /// A node connected; the older of two connections is told to go.
    pub(in crate::tracker) fn handle_hello(
        &mut self,
        now: Moment,
        hello: &Hello,
        resume: &Resume,
        connection: u64,
        NodeLink { mailbox, sent, certificate_until }: NodeLink,
    ) -> Result<Greeting, HelloRefused> {
        // Its later streams may be known from another way: this one was long under way.
        if let Some((instance, known)) = self.roll.get(&hello.node).and_then(|entry| entry.stream)
            && instance == hello.instance
            && hello.connection.is_some_and(|number| number <= known)
        {
            return Err(HelloRefused::Late);
        }
        let greeting =
            self.hear(now, &hello.node, |roster| roster.handle_hello(now, hello, resume, connection))?;
        if let Some(until) = certificate_until {
            metrics::node_certificate_ends(&hello.node, until.as_secs());
        }
        let replaced = self.roll.get_mut(&hello.node).and_then(|entry| {
            entry.handle_hello(hello);
            entry.stream = hello.connection.map(|number| (hello.instance, number));
            entry.sent = Some(sent);
            entry.certificate_until = certificate_until;
            entry.mailbox.replace((connection, mailbox))
        });
        if let (Some(_), Some((_, old))) = (greeting.replaced, replaced) {
            let _ = old.try_send(Directive::GoAway(GoAwayReason::Replaced));
        }
        Ok(greeting)
    }

    /// How far each node has confirmed, as far as it may be made durable. One that counts no longer stays where it was.
    pub(in crate::tracker) fn confirmed_to_save(&mut self, now: Moment) -> Vec<(NodeName, Cursor)> {
        let Self { roster, roll, .. } = self;
        let gone = roll.iter().filter_map(|(name, entry)| Some((name, entry.left_at?)));
        let counted = roster.confirmed_to_save(now).filter(|(name, _)| roll.get(name).is_some());
        gone.chain(counted).map(|(name, cursor)| (name.clone(), cursor)).collect()
    }

    /// The answer to a heartbeat; `None` when the connection is not the node's present one.
    pub(in crate::tracker) fn handle_heartbeat(
        &mut self,
        now: Moment,
        wall: UnixMillis,
        node: &NodeName,
        connection: u64,
        heartbeat: &Heartbeat,
    ) -> Option<LeaseGrant> {
        let grant =
            self.hear(now, node, |roster| roster.handle_heartbeat(now, node, connection, heartbeat))?;
        if let Some(entry) = self.roll.get_mut(node) {
            entry.heard_at = Some(wall);
            entry.index_size = heartbeat.index.or(entry.index_size);
        }
        Some(grant)
    }

    /// An ack. False when the connection is not the node's present one.
    pub(in crate::tracker) fn handle_ack(
        &mut self,
        now: Moment,
        node: &NodeName,
        connection: u64,
        ack: &Ack,
    ) -> bool {
        if !self.hear(now, node, |roster| roster.handle_ack(now, node, connection, ack.cursor)) {
            return false;
        }
        for report in &ack.reports {
            self.report(now, node, report);
        }
        true
    }

    pub(in crate::tracker) fn handle_disconnected(&mut self, now: Moment, node: &NodeName, connection: u64) {
        self.roster.handle_disconnected(now, node, connection);
        if let Some(entry) = self.roll.get_mut(node)
            && entry.mailbox.as_ref().is_some_and(|(id, _)| *id == connection)
        {
            entry.mailbox = None;
        }
    }

    /// Lets the roster hear something of a node, and tells tasks what the node has confirmed by it.
    fn hear<T>(&mut self, now: Moment, node: &NodeName, hear: impl FnOnce(&mut Roster) -> T) -> T {
        let before = self.roster.confirmed(node);
        let outcome = hear(&mut self.roster);
        if let (Some(before), Some(after)) = (before, self.roster.confirmed(node))
            && before < after
        {
            self.confirm(now, node, before, after);
        }
        outcome
    }

    /// The removal of the node, which had confirmed so much, has taken effect.
    pub(in crate::tracker) fn drop_node(&mut self, node: &NodeName, confirmed: Cursor) {
        // Nobody is to be alerted by the lag of a node that is no more.
        metrics::node_lag(node, Duration::ZERO, 0);
        if self.roll.get(node).is_some_and(|entry| entry.certificate_until.is_some()) {
            metrics::node_certificate_ends(node, 0);
        }
        let Some(index) = self.roll.handle_gone(node, confirmed) else { return };
        self.tasks.handle_gone(index);
    }

    /// The node's stream is to say good-bye and end.
    pub(in crate::tracker) fn send_away(&self, node: &NodeName, reason: GoAwayReason) {
        if let Some((_, mailbox)) = self.roll.get(node).and_then(|entry| entry.mailbox.as_ref()) {
            let _ = mailbox.try_send(Directive::GoAway(reason));
        }
    }
}
