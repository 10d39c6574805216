//! What is to be sent to one node next. A position, and never a queue of records.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use batoff_delivery::{Outbox, OutboxLimits, Resume, ToSend};
use batoff_log::{ReadError, Store};
use batoff_types::message::{LeaseGrant, Parents, ToNode, Whereabouts};
use batoff_types::{Cursor, Seq};
use bytes::Bytes;
use tonic::Status;

use crate::hub::{Frame, Hub, fitting};

type FrameFetch = Pin<Box<dyn Future<Output = Result<Frame, ReadError>> + Send>>;

/// What is to be sent to one node next: a position, the newest lease, and a few questions. Never a queue of records.
pub(super) struct Outgoing {
    hub: Arc<Hub>,
    store: Arc<dyn Store>,
    pub outbox: Outbox,
    /// Only the newest counts: a lease is counted from the heartbeat that it answers.
    grant: Option<LeaseGrant>,
    /// Only the newest counts.
    parents: Option<Parents>,
    /// Only the newest counts.
    replicas: Option<Whereabouts>,
    messages: VecDeque<Bytes>,
    fetching: Option<FrameFetch>,
    fetched: Option<Frame>,
}

/// Something to hand to the stream.
pub(super) struct OutMessage {
    pub bytes: Bytes,
    /// The last record in it, if it holds records.
    pub through: Option<Seq>,
}

impl Outgoing {
    pub(super) fn new(hub: Arc<Hub>, store: Arc<dyn Store>, resume: &Resume) -> Self {
        Self {
            hub,
            store,
            outbox: Outbox::new(resume, OutboxLimits::default()),
            grant: None,
            parents: None,
            replicas: None,
            messages: VecDeque::new(),
            fetching: None,
            fetched: None,
        }
    }

    pub(super) fn push_grant(&mut self, grant: LeaseGrant) {
        // It says something newer of the parents, and goes out first.
        if let (Some(parents), Some(through)) = (&mut self.parents, grant.parents_through) {
            parents.through = through;
        }
        self.grant = Some(grant);
    }

    pub(super) fn push_parents(&mut self, parents: Parents) {
        self.parents = Some(parents);
    }

    pub(super) fn push_replicas(&mut self, replicas: Whereabouts) {
        self.replicas = Some(replicas);
    }

    pub(super) fn push_message(&mut self, message: &ToNode) {
        self.messages.push_back(batoff_wire::encode_to_node(message));
    }

    /// Whether another question may be taken in.
    pub(super) fn has_room(&self) -> bool {
        self.messages.len() < 2
    }

    /// Whether the stream would be given something now.
    pub(super) fn is_ready(&self) -> bool {
        self.grant.is_some()
            || self.parents.is_some()
            || self.replicas.is_some()
            || !self.messages.is_empty()
            || (self.fetching.is_none() && self.waiting().is_some())
    }

    /// How long until something becomes ready by itself, for the node's other streams have not brought it; `None`: nothing
    /// is held back for them.
    pub(super) fn fills_in(&self) -> Option<Duration> {
        self.hub.fills_in(&self.outbox)
    }

    fn waiting(&self) -> Option<ToSend> {
        self.outbox.poll_range(self.hub.reach(&self.outbox))
    }

    /// What to hand to the stream now. Starts to read from the log when the records have left the tail.
    pub(super) fn take(&mut self) -> Option<OutMessage> {
        if let Some(bytes) = self.messages.pop_front() {
            return Some(OutMessage { bytes, through: None });
        }
        // Behind Welcome and a reset, and before what the node may serve by.
        if let Some(replicas) = self.replicas.take() {
            let bytes = batoff_wire::encode_to_node(&ToNode::Replicas(replicas));
            return Some(OutMessage { bytes, through: None });
        }
        if let Some(grant) = self.grant.take() {
            return Some(OutMessage {
                bytes: batoff_wire::encode_to_node(&ToNode::LeaseGrant(grant)),
                through: None,
            });
        }
        if let Some(parents) = self.parents.take() {
            let bytes = batoff_wire::encode_to_node(&ToNode::Parents(parents));
            return Some(OutMessage { bytes, through: None });
        }
        let next = self.waiting()?;
        let bytes_max = self.outbox.limits().bytes;
        let frame = match self.fetched.take().filter(|frame| frame.first == next.first) {
            Some(frame) => frame,
            None => match self.hub.frame(next.first, next.last, bytes_max) {
                Some(frame) => frame,
                None => {
                    self.fetching = Some(fetch(Arc::clone(&self.store), next, bytes_max));
                    return None;
                }
            },
        };
        self.outbox.handle_sent(frame.last);
        Some(OutMessage { bytes: frame.bytes, through: Some(frame.last) })
    }

    /// Waits for records that are being read from the log; for ever when none are.
    pub(super) async fn fetched(&mut self) -> Result<(), Status> {
        let Some(fetching) = &mut self.fetching else { return std::future::pending().await };
        let outcome = fetching.await;
        self.fetching = None;
        match outcome {
            Ok(frame) => {
                self.fetched = Some(frame);
                Ok(())
            }
            Err(ReadError::Trimmed { .. }) => Err(Status::aborted(
                "the records that this node needs next were trimmed meanwhile; connect again",
            )),
            Err(error) => Err(Status::unavailable(format!("the purge log cannot be read: {error}"))),
        }
    }

    /// Through where records were handed to the stream.
    pub(super) fn sent(&self) -> Cursor {
        self.outbox.sent()
    }
}

fn fetch(store: Arc<dyn Store>, next: ToSend, bytes_max: usize) -> FrameFetch {
    Box::pin(async move {
        let count = usize::try_from(next.last.get() - next.first.get() + 1).unwrap_or(usize::MAX);
        let mut records = store.log().read(next.first, count, bytes_max).await?;
        records.truncate(count);
        records.truncate(fitting(records.iter().map(|record| record.body.len()), bytes_max));
        let last = records.last().map(|record| record.seq).ok_or(ReadError::Trimmed { first: next.last })?;
        let bytes = batoff_wire::records_frame(next.first, records.iter().map(|record| &record.body));
        Ok(Frame { first: next.first, last, bytes })
    })
}
