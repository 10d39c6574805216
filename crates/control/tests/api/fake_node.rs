//! A node that holds as many objects as it is told to, and acknowledges when it is allowed to.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use batoff_types::message::{
    Ack, Counted, FromNode, Heartbeat, Hello, LeasePolicy, PROTOCOL_VERSION, RecordReport, ToNode,
};
use batoff_types::{Cursor, InstanceId, Moment, SEMANTICS_VERSION};
use batoff_wire::grpc::client::PurgeStreamClient;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;

/// How often it says that it is there; under half of what the control plane expects.
const HEARTBEAT: Duration = Duration::from_millis(100);

pub struct FakeNode {
    acking: watch::Sender<bool>,
    counting: watch::Sender<bool>,
    uncounted: watch::Sender<Vec<String>>,
    task: tokio::task::JoinHandle<()>,
}

impl FakeNode {
    /// Connects; each selector of a count hits `objects`, and so does each record.
    pub async fn connect(grpc: SocketAddr, name: &str, objects: u64) -> Self {
        let channel = tonic::transport::Endpoint::from_shared(format!("http://{grpc}"))
            .unwrap()
            .connect()
            .await
            .unwrap();
        let (to_control, messages) = mpsc::channel(64);
        let hello = Hello {
            node: name.parse().unwrap(),
            instance: InstanceId::from_bytes([7; 16]),
            position: None,
            protocol: PROTOCOL_VERSION,
            semantics: SEMANTICS_VERSION,
            version: "test".into(),
            caches: vec!["fake".into()],
            policy: LeasePolicy::Revalidate,
            parents: Vec::new(),
            connection: None,
        };
        to_control.send(FromNode::Hello(hello)).await.unwrap();
        let mut client = PurgeStreamClient::new(channel);
        let inbound = client.connect(ReceiverStream::new(messages)).await.unwrap().into_inner();
        let (acking, allowed) = watch::channel(true);
        let (counting, counts) = watch::channel(true);
        let (uncounted, cannot) = watch::channel(Vec::new());
        let run = Run {
            inbound,
            to_control,
            allowed,
            counts,
            uncounted: cannot,
            objects,
            received: Cursor::START,
            acked: Cursor::START,
        };
        Self { acking, counting, uncounted, task: tokio::spawn(run.run()) }
    }

    /// Receives, and acknowledges nothing more until allowed again.
    pub fn hold_acks(&self) {
        self.acking.send_replace(false);
    }

    /// Answers no more questions of how much a purge would hit.
    pub fn stop_counting(&self) {
        self.counting.send_replace(false);
    }

    /// From now on it drives this cache, which finds its objects by its own means.
    pub fn drive_uncounted(&self, cache: &str) {
        self.uncounted.send_replace(vec![cache.to_owned()]);
    }

    pub fn release_acks(&self) {
        self.acking.send_replace(true);
    }
}

impl Drop for FakeNode {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Run {
    inbound: tonic::Streaming<ToNode>,
    to_control: mpsc::Sender<FromNode>,
    allowed: watch::Receiver<bool>,
    counts: watch::Receiver<bool>,
    uncounted: watch::Receiver<Vec<String>>,
    objects: u64,
    received: Cursor,
    acked: Cursor,
}

impl Run {
    async fn run(mut self) {
        let start = Instant::now();
        let mut heartbeat = tokio::time::interval(HEARTBEAT);
        loop {
            tokio::select! {
                message = self.inbound.message() => match message {
                    Ok(Some(message)) => self.handle(message).await,
                    _ => return,
                },
                _ = heartbeat.tick() => {
                    let micros = u64::try_from(start.elapsed().as_micros()).unwrap() + 1;
                    let beat = Heartbeat { sent_at: Moment::from_micros(micros), cursor: self.acked, index: None, fill_in_after: None };
                    let _ = self.to_control.send(FromNode::Heartbeat(beat)).await;
                }
                _ = self.allowed.changed() => self.ack().await,
            }
        }
    }

    async fn handle(&mut self, message: ToNode) {
        match message {
            ToNode::Records(records) => {
                if let Some(last) = records.last() {
                    self.received = Cursor::after(last.seq);
                }
                self.ack().await;
            }
            ToNode::Reset(reset) => {
                self.received = reset.cursor;
                self.acked = reset.cursor;
                let ack = Ack { cursor: reset.cursor, reports: Vec::new(), overflowed: Vec::new() };
                let _ = self.to_control.send(FromNode::Ack(ack)).await;
            }
            ToNode::Count(count) if *self.counts.borrow() => {
                let uncounted = self.uncounted.borrow().clone();
                let selectors = if uncounted.is_empty() { count.selectors.len() } else { 0 };
                let objects = vec![self.objects; selectors];
                let counted = Counted { id: count.id, objects, uncounted };
                let _ = self.to_control.send(FromNode::Counted(counted)).await;
            }
            _ => {}
        }
    }

    async fn ack(&mut self) {
        if !*self.allowed.borrow_and_update() || self.acked == self.received {
            return;
        }
        let report = |number| RecordReport {
            seq: batoff_types::Seq::new(number).unwrap(),
            objects: self.objects,
            last: true,
            in_force_after: Duration::from_micros(50),
            evicted_after: Duration::from_micros(80),
        };
        let reports = (self.acked.get() + 1..=self.received.get()).map(report).collect();
        self.acked = self.received;
        let ack = Ack { cursor: self.acked, reports, overflowed: Vec::new() };
        let _ = self.to_control.send(FromNode::Ack(ack)).await;
    }
}
