//! One node's stream: its `Hello`, the answer to it, and everything until the end.

use std::sync::Arc;
use std::time::Duration;

use batoff_delivery::{HelloRefused, LogView, Resume, judge_hello};
use batoff_types::message::{
    FromNode, GoAway, GoAwayReason, Hello, PROTOCOL_VERSION, PROTOCOL_VERSION_ALONE, ResetReason, ToNode,
    Welcome,
};
use batoff_types::{Body, Cursor, NodeName, PARENTS_MAX, TaskId};
use bytes::Bytes;
use tokio::sync::mpsc;
use tonic::{Status, Streaming};

use super::identity::PeerIdentity;
use super::outgoing::Outgoing;
use super::parents::ParentsFeed;
use super::replicas::ReplicasFeed;
use crate::metrics;
use crate::service::Services;
use crate::store::records::{RecordError, record_at};
use crate::tracker::{Directive, MAILBOX, Membership, NodeLink, SentTimes};

/// How long a node is to wait before it connects again after a `GoAway` that another control plane, or a later try, can
/// mend.
const RECONNECT_SOON: Duration = Duration::from_millis(200);

/// The same after one that only a person can mend.
const RECONNECT_LATE: Duration = Duration::from_secs(60);

/// One node's stream, from its `Hello` to its end.
pub(super) struct Connection {
    services: Arc<Services>,
    id: u64,
    out: mpsc::Sender<Result<Bytes, Status>>,
}

/// What a stream has to go on with after its `Hello`.
struct Greeted {
    node: NodeName,
    outgoing: Outgoing,
    mailbox: mpsc::Receiver<Directive>,
    sent: Arc<SentTimes>,
    replicas: ReplicasFeed,
}

/// Why a stream ends.
enum StreamEnd {
    /// The node went, or its connection broke.
    Gone,
    /// We send it away.
    GoAway(GoAwayReason),
    /// With this status.
    Failed(Status),
}

impl From<Status> for StreamEnd {
    fn from(status: Status) -> Self {
        Self::Failed(status)
    }
}

impl Connection {
    pub(super) fn new(services: Arc<Services>, id: u64, out: mpsc::Sender<Result<Bytes, Status>>) -> Self {
        Self { services, id, out }
    }

    pub(super) async fn run(self, identity: PeerIdentity, mut inbound: Streaming<FromNode>) {
        match self.greet(&identity, &mut inbound).await {
            Ok(mut greeted) => {
                let end = self.follow(&identity, &mut greeted, &mut inbound).await;
                self.services.tracker.handle_disconnected(&greeted.node, self.id);
                self.close(&greeted.node, end, greeted.outgoing.sent()).await;
            }
            Err(status) => {
                if status.code() == tonic::Code::InvalidArgument {
                    metrics::protocol_error();
                }
                tracing::warn!(?identity, connection = self.id, %status, "a node's stream was refused");
                let _ = self.out.send(Err(status)).await;
            }
        }
    }

    /// From `Hello` to `Welcome`.
    async fn greet(
        &self,
        identity: &PeerIdentity,
        inbound: &mut Streaming<FromNode>,
    ) -> Result<Greeted, Status> {
        let patience = Duration::from_millis(self.services.config.grpc.hello_timeout_ms);
        let first = tokio::time::timeout(patience, inbound.message()).await;
        let hello = match first.map_err(|_| Status::deadline_exceeded("no Hello came in time"))?? {
            Some(FromNode::Hello(hello)) => hello,
            Some(_) => return Err(Status::invalid_argument("the first message must be a Hello")),
            None => return Err(Status::cancelled("the stream ended before a Hello")),
        };
        identity.admit(&hello.node)?;
        identity.check(&self.services.revoked.subscribe().borrow())?;
        if !(PROTOCOL_VERSION_ALONE..=PROTOCOL_VERSION).contains(&hello.protocol) {
            return Err(Status::failed_precondition(format!(
                "the node speaks version {} of the protocol, this control plane {PROTOCOL_VERSION_ALONE} to \
                 {PROTOCOL_VERSION}; bring the older one up to date",
                hello.protocol
            )));
        }
        let set = self.services.tracker.newest_set();
        if hello.protocol < PROTOCOL_VERSION && !set.is_only() {
            return Err(Status::failed_precondition(format!(
                "the node speaks version {} of the protocol and knows nothing of several control planes ({set}); bring it up \
                 to date",
                hello.protocol
            )));
        }
        if hello.parents.len() > PARENTS_MAX {
            return Err(Status::invalid_argument(format!(
                "the node names {} parents, and may name {PARENTS_MAX}; name their PoPs instead",
                hello.parents.len()
            )));
        }
        self.register(&hello.node).await?;
        let resume = self.judge(&hello).await?;
        let (sender, mailbox) = mpsc::channel(MAILBOX);
        let tracker = &self.services.tracker;
        let sent = Arc::new(SentTimes::new(resume.cursor()));
        let link = NodeLink { mailbox: sender, sent: Arc::clone(&sent), certificate_until: identity.until() };
        match tracker.handle_hello(&hello, &resume, self.id, link).await {
            Ok(Ok(_)) => {}
            Ok(Err(refused)) => return Err(refusal(refused)),
            Err(error) => {
                tracker.handle_disconnected(&hello.node, self.id);
                return Err(Status::unavailable(format!(
                    "the node's policy cannot be made durable: {error}"
                )));
            }
        }
        let mut replicas = ReplicasFeed::new(&hello, self.services.places.subscribe());
        let mut outgoing =
            Outgoing::new(Arc::clone(&self.services.hub), Arc::clone(&self.services.store), &resume);
        outgoing.push_message(&ToNode::Welcome(self.welcome(resume.cursor())));
        match resume {
            Resume::At(cursor) => {
                tracing::info!(node = %hello.node, connection = self.id, %cursor, "node connected")
            }
            Resume::Reset(reset) => {
                let reason = reset.reason.as_str();
                // A node that stands nowhere yet has nothing to lose; any other loses its whole cache.
                if reset.reason == ResetReason::New {
                    tracing::info!(node = %hello.node, connection = self.id, cursor = %reset.cursor, "node begins");
                } else {
                    tracing::warn!(node = %hello.node, connection = self.id, cursor = %reset.cursor, reason, "node reset");
                }
                metrics::node_reset(reset.reason);
                outgoing.push_message(&ToNode::Reset(reset));
            }
        }
        if let Some(first) = replicas.first() {
            outgoing.push_replicas(first);
        }
        Ok(Greeted { node: hello.node, outgoing, mailbox, sent, replicas })
    }

    /// A node that is new here is registered by a record of the log, before anything is decided about it.
    async fn register(&self, node: &NodeName) -> Result<(), Status> {
        let mut membership = self.services.tracker.membership(node);
        if membership == Membership::Blocked {
            let admitted = self.services.tracker.is_admitted(node).await.map_err(|error| {
                Status::unavailable(format!("whether the node was admitted cannot be read: {error}"))
            })?;
            if admitted {
                membership = self.services.tracker.membership(node);
            }
        }
        match membership {
            Membership::Registered => Ok(()),
            Membership::Blocked => Err(refusal(HelloRefused::Removed)),
            Membership::Unknown => {
                let body = Body::NodeRegistered(node.clone());
                let seq = self.services.commit.append_body(body, &format!("register-{node}")).await.map_err(
                    |error| Status::unavailable(format!("the node cannot be registered: {error}")),
                )?;
                self.services.tracker.knows(seq).await;
                tracing::info!(%node, %seq, "node registered");
                Ok(())
            }
        }
    }

    async fn judge(&self, hello: &Hello) -> Result<Resume, Status> {
        let unreadable = |error: &dyn std::fmt::Display| {
            Status::unavailable(format!("the purge log cannot be read: {error}"))
        };
        let state = self.services.store.log().state().await.map_err(|error| unreadable(&error))?;
        let view =
            || LogView { log_id: self.services.log_id, first: state.first, tail: self.services.hub.tail() };
        if view().is_behind(hello) {
            // Another replica may have sent it what this one has not seen. What lies beyond the log's end is judged as that.
            self.read_through(state.tail).await?;
        }
        let log = view();
        let task = match &hello.position {
            Some(position) if position.cursor <= log.tail => {
                self.task_at(position.cursor).await.map_err(|error| unreadable(&error))?
            }
            _ => None,
        };
        Ok(judge_hello(hello, &log, task))
    }

    /// Waits until everything before this place of the log has been read.
    async fn read_through(&self, tail: Cursor) -> Result<(), Status> {
        let patience = Duration::from_millis(self.services.config.grpc.hello_timeout_ms);
        let mut known = self.services.hub.watch_tail();
        match tokio::time::timeout(patience, known.wait_for(|known| *known >= tail)).await {
            // The sender lives as long as the services.
            Ok(_) => Ok(()),
            Err(_) => Err(Status::unavailable(
                "this control plane has not read as far in the purge log as the node; ask again, or another one",
            )),
        }
    }

    /// The task of the record right before a place, if the log still has it.
    async fn task_at(&self, cursor: Cursor) -> Result<Option<TaskId>, batoff_log::StoreError> {
        let Some(seq) = cursor.last() else { return Ok(None) };
        match record_at(self.services.store.log(), seq).await {
            Ok(record) => Ok(record.map(|record| record.task)),
            // Nobody can say that it is the one which the node has applied: the node drops everything.
            Err(RecordError::Unreadable(_)) => Ok(None),
            Err(RecordError::Store(error)) => Err(error),
        }
    }

    fn welcome(&self, from: Cursor) -> Welcome {
        let (tracker, config) = (&self.services.tracker, &self.services.config.grpc);
        let sites = self.services.catalog.table_at(from);
        Welcome {
            log_id: self.services.log_id,
            term: tracker.term(),
            tail: self.services.hub.tail(),
            lease: tracker.times().lease,
            heartbeat_interval: tracker.times().heartbeat,
            reconnect_min: Duration::from_millis(config.reconnect_min_ms),
            reconnect_max: Duration::from_millis(config.reconnect_max_ms),
            sites,
            replica: self.services.tenure.replica(),
            set: tracker.set_at(from),
        }
    }

    /// Chooses an event, and applies it. Nothing that is awaited here holds up what the node says: while its stream is
    /// full, or its records are read from the log, heartbeats go on.
    async fn follow(
        &self,
        identity: &PeerIdentity,
        greeted: &mut Greeted,
        inbound: &mut Streaming<FromNode>,
    ) -> StreamEnd {
        let Greeted { node, outgoing, mailbox, sent, replicas } = greeted;
        let mut round = self.services.hub.subscribe();
        let mut parents = ParentsFeed::new(self.services.tracker.watch_parents(node));
        let mut revoked = self.services.revoked.subscribe();
        // Between the greeting and now it may have changed.
        revoked.mark_changed();
        loop {
            round.borrow_and_update();
            let ready = outgoing.is_ready();
            let room = outgoing.has_room();
            let fills_in = outgoing.fills_in();
            tokio::select! {
                message = inbound.message() => match message {
                    Ok(Some(message)) => {
                        if let Err(end) = self.apply(node, message, outgoing) {
                            return end;
                        }
                    }
                    Ok(None) => return StreamEnd::Gone,
                    Err(status) => return broken(status),
                },
                permit = self.out.reserve(), if ready => {
                    let Ok(permit) = permit else { return StreamEnd::Gone };
                    if let Some(item) = outgoing.take() {
                        permit.send(Ok(item.bytes));
                        if let Some(through) = item.through {
                            self.services.tracker.handle_sent(sent, through);
                        }
                    }
                }
                fetched = outgoing.fetched() => if let Err(status) = fetched {
                    return StreamEnd::Failed(status);
                },
                _ = round.changed() => {}
                () = tokio::time::sleep(fills_in.unwrap_or_default()), if fills_in.is_some() => {}
                Ok(()) = revoked.changed() => if let Err(status) = identity.check(&revoked.borrow_and_update()) {
                    return StreamEnd::Failed(status);
                },
                parents = parents.next() => outgoing.push_parents(parents),
                replicas = replicas.next() => outgoing.push_replicas(replicas),
                directive = mailbox.recv(), if room => match directive {
                    Some(Directive::Count(count)) => outgoing.push_message(&ToNode::Count((*count).clone())),
                    Some(Directive::GoAway(reason)) => return StreamEnd::GoAway(reason),
                    // Only a newer connection of the node takes the other end away.
                    None => return StreamEnd::GoAway(GoAwayReason::Replaced),
                },
                () = self.services.draining.cancelled() => return StreamEnd::GoAway(GoAwayReason::Draining),
            }
        }
    }

    fn apply(&self, node: &NodeName, message: FromNode, outgoing: &mut Outgoing) -> Result<(), StreamEnd> {
        let tracker = &self.services.tracker;
        let several = self.services.tenure.has_seat();
        let acked = |outgoing: &mut Outgoing, cursor| {
            if several {
                // From others, perhaps.
                outgoing.outbox.handle_known(cursor);
            }
            outgoing.outbox.handle_ack(cursor).map_err(|error| {
                metrics::protocol_error();
                StreamEnd::Failed(Status::invalid_argument(error.to_string()))
            })
        };
        match message {
            FromNode::Heartbeat(heartbeat) => {
                acked(outgoing, heartbeat.cursor)?;
                let grant = tracker.handle_heartbeat(node, self.id, &heartbeat);
                let mut grant = grant.ok_or(StreamEnd::GoAway(GoAwayReason::Replaced))?;
                if several {
                    outgoing.outbox.handle_pace(heartbeat.fill_in_after);
                    grant.tail = Some(self.services.hub.round());
                }
                outgoing.push_grant(grant);
            }
            FromNode::Ack(ack) => {
                acked(outgoing, ack.cursor)?;
                if !tracker.handle_ack(node, self.id, &ack) {
                    return Err(StreamEnd::GoAway(GoAwayReason::Replaced));
                }
            }
            FromNode::Counted(counted) => tracker.handle_counted(node, &counted),
            FromNode::Trouble(trouble) => tracker.handle_trouble(node, &trouble),
            FromNode::Hello(_) => {
                metrics::protocol_error();
                return Err(StreamEnd::Failed(Status::invalid_argument("a second Hello on one stream")));
            }
        }
        Ok(())
    }

    async fn close(&self, node: &NodeName, end: StreamEnd, sent: Cursor) {
        match end {
            StreamEnd::Gone => tracing::info!(%node, connection = self.id, %sent, "node disconnected"),
            StreamEnd::GoAway(reason) => {
                tracing::info!(%node, connection = self.id, %sent, ?reason, "node sent away");
                let reconnect_after = match reason {
                    GoAwayReason::Draining | GoAwayReason::Protocol => RECONNECT_SOON,
                    GoAwayReason::Replaced | GoAwayReason::Removed => RECONNECT_LATE,
                };
                // Where else it may go, should this one not come back. Whom the others refuse as well goes nowhere.
                let endpoints = match reason {
                    GoAwayReason::Draining | GoAwayReason::Protocol => self.others(),
                    GoAwayReason::Replaced | GoAwayReason::Removed => Vec::new(),
                };
                let message = ToNode::GoAway(GoAway { reason, reconnect_after, endpoints });
                self.say_last(Ok(batoff_wire::encode_to_node(&message))).await;
            }
            StreamEnd::Failed(status) => {
                tracing::warn!(%node, connection = self.id, %sent, %status, "a node's stream was ended");
                self.say_last(Err(status)).await;
            }
        }
    }

    /// Where the other control planes beside this log are.
    fn others(&self) -> Vec<Arc<str>> {
        let (places, own) = (self.services.places.subscribe(), self.services.tenure.replica());
        let known = places.borrow();
        let others = known.replicas.iter().filter(|at| at.replica != own);
        others.map(|at| Arc::clone(&at.endpoint)).collect()
    }

    /// A node that does not read is not waited for.
    async fn say_last(&self, last: Result<Bytes, Status>) {
        let patience =
            Duration::from_millis(self.services.config.grpc.hello_timeout_ms).min(Duration::from_secs(1));
        let _ = tokio::time::timeout(patience, self.out.send(last)).await;
    }
}

/// A message that cannot be decoded is the node's fault, and is told to it; a broken connection is nobody's.
fn broken(status: Status) -> StreamEnd {
    match status.code() {
        tonic::Code::InvalidArgument | tonic::Code::OutOfRange => {
            metrics::protocol_error();
            StreamEnd::Failed(status)
        }
        _ => StreamEnd::Gone,
    }
}

fn refusal(refused: HelloRefused) -> Status {
    match refused {
        HelloRefused::Unregistered | HelloRefused::Unsaved | HelloRefused::Unsure => {
            Status::unavailable(refused.to_string())
        }
        HelloRefused::Removed => Status::permission_denied(refused.to_string()),
        HelloRefused::Late => Status::aborted(refused.to_string()),
    }
}
