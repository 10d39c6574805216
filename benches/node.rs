use std::time::{Duration, Instant};

use anyhow::Context;
use batoff_delivery::{Inbox, InboxConfig};
use batoff_types::message::{FromNode, LeasePolicy, RecordReport};
use batoff_types::{InstanceId, Moment, NodeName, Seq, Term};
use batoff_wire::grpc::client::PurgeStreamClient;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Endpoint;
use ulid::Ulid;

/// Follows the log as a node that applies everything at once: what is measured is everything but the caches. Tells
/// `arrived` the number of each record when it arrives. Returns when the stream ends.
pub async fn follow(
    grpc: String,
    number: usize,
    arrived: mpsc::UnboundedSender<(Seq, Instant)>,
) -> anyhow::Result<()> {
    let started = Instant::now();
    let now = || Moment::from_micros(u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX));
    let node = NodeName::new(&format!("pop{}", number % 10), &format!("edge-{number}"))?;
    let instance = InstanceId::from_ulid(Ulid::generate());
    let mut inbox = Inbox::new(InboxConfig::new(node, LeasePolicy::Revalidate), instance, None, Term(0));

    let channel = Endpoint::from_shared(grpc)?.connect().await.context("connecting")?;
    let (out, outgoing) = mpsc::channel(64);
    out.send(FromNode::Hello(inbox.hello())).await?;
    let mut incoming =
        PurgeStreamClient::new(channel).connect(ReceiverStream::new(outgoing)).await?.into_inner();
    loop {
        let heartbeat_in = inbox.next_heartbeat_at().map_or(Duration::from_millis(250), |at| at.since(now()));
        tokio::select! {
            message = incoming.message() => match message? {
                Some(message) => inbox.handle(now(), message)?,
                None => return Ok(()),
            },
            () = tokio::time::sleep(heartbeat_in) => {}
        }
        inbox.poll_welcome();
        if let Some(reset) = inbox.poll_reset() {
            inbox.handle_reset_applied(&reset);
        }
        while let Some(received) = inbox.poll_record() {
            let seq = received.record.seq;
            arrived.send((seq, Instant::now()))?;
            let zero = Duration::ZERO;
            let report =
                RecordReport { seq, objects: 0, last: true, in_force_after: zero, evicted_after: zero };
            inbox.handle_applied(seq, received.record.task, report)?;
        }
        if let Some(ack) = inbox.poll_ack() {
            out.send(FromNode::Ack(ack)).await?;
        }
        if let Some(heartbeat) = inbox.poll_heartbeat(now()) {
            out.send(FromNode::Heartbeat(heartbeat)).await?;
        }
    }
}
