use std::time::Duration;

use batoff_types::message::{
    Ack, FromNode, Heartbeat, Hello, IndexSize, LeaseGrant, LeasePolicy, PROTOCOL_VERSION, Position,
    RecordReport, Reset, ToNode, Welcome,
};
use batoff_types::{Cursor, InstanceId, Moment, NodeName, Parent, SEMANTICS_VERSION, Seq, TaskId};
use batoff_wire::grpc::client::PurgeStreamClient;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::transport::Channel;
use tonic::{Status, Streaming};

use super::plane::{PATIENCE, Plane};
use crate::ids::random_instance;

/// A node played by hand: one stream.
pub(super) struct Node {
    pub(super) name: NodeName,
    pub(super) instance: InstanceId,
    out: mpsc::UnboundedSender<FromNode>,
    inbound: Streaming<ToNode>,
    /// Where it stands, and the task of the record there.
    pub(super) cursor: Cursor,
    pub(super) task: Option<TaskId>,
    pub(super) welcome: Option<Welcome>,
    beats: u64,
}

/// How a node introduces itself.
#[derive(Clone)]
pub(super) struct Intro {
    pub(super) name: NodeName,
    pub(super) instance: InstanceId,
    pub(super) position: Option<Position>,
    pub(super) policy: LeasePolicy,
    pub(super) parents: Vec<Parent>,
}

impl Intro {
    pub(super) fn new(name: &str, policy: LeasePolicy) -> Self {
        Self {
            name: name.parse().unwrap(),
            instance: random_instance(),
            position: None,
            policy,
            parents: Vec::new(),
        }
    }

    pub(super) fn hello(&self) -> Hello {
        Hello {
            node: self.name.clone(),
            instance: self.instance,
            position: self.position,
            protocol: PROTOCOL_VERSION,
            semantics: SEMANTICS_VERSION,
            version: "test".into(),
            caches: vec!["nginx".into()],
            policy: self.policy,
            parents: self.parents.clone(),
            connection: None,
        }
    }
}

impl Node {
    /// Opens a stream and says nothing.
    pub(super) async fn open(plane: &Plane, intro: &Intro) -> Self {
        let address = plane.running().addresses.grpc;
        let channel = Channel::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
        Self::open_over(channel, intro).await.unwrap()
    }

    /// The same over a connection that is there.
    pub(super) async fn open_over(channel: Channel, intro: &Intro) -> Result<Self, Status> {
        let (out, messages) = mpsc::unbounded_channel();
        let mut client = PurgeStreamClient::new(channel);
        let inbound = client.connect(UnboundedReceiverStream::new(messages)).await?.into_inner();
        Ok(Self {
            name: intro.name.clone(),
            instance: intro.instance,
            out,
            inbound,
            cursor: intro.position.map(|position| position.cursor).unwrap_or_default(),
            task: intro.position.and_then(|position| position.task),
            welcome: None,
            beats: 0,
        })
    }

    /// Connects, says `Hello`, and takes in `Welcome` and, if it comes, the reset.
    pub(super) async fn connect(plane: &Plane, intro: Intro) -> Self {
        let mut node = Self::open(plane, &intro).await;
        node.say(FromNode::Hello(intro.hello()));
        match node.next().await {
            ToNode::Welcome(welcome) => node.welcome = Some(welcome),
            other => panic!("expected Welcome, not {other:?}"),
        }
        if intro.position.is_none() {
            node.reset().await;
        }
        node
    }

    /// A strict node that stands nowhere yet, with a lease.
    pub(super) async fn strict(plane: &Plane, name: &str) -> Self {
        let mut node = Self::connect(plane, Intro::new(name, LeasePolicy::Revalidate)).await;
        node.lease().await;
        node
    }

    /// An available node that stands nowhere yet, with a lease.
    pub(super) async fn available(plane: &Plane, name: &str) -> Self {
        let mut node = Self::connect(plane, Intro::new(name, LeasePolicy::Serve)).await;
        node.lease().await;
        node
    }

    /// The same node, as it would say `Hello` again.
    pub(super) fn intro(&self, policy: LeasePolicy) -> Intro {
        let log_id = self.welcome.as_ref().unwrap().log_id;
        let position = Position { log_id, cursor: self.cursor, task: self.task };
        Intro {
            name: self.name.clone(),
            instance: self.instance,
            position: Some(position),
            policy,
            parents: Vec::new(),
        }
    }

    pub(super) fn say(&self, message: FromNode) {
        // The stream may have ended meanwhile; the test will see.
        let _ = self.out.send(message);
    }

    /// The next message, whatever it is.
    pub(super) async fn next(&mut self) -> ToNode {
        self.receive().await.unwrap().expect("the stream ended")
    }

    /// The next message, the end, or the error.
    pub(super) async fn receive(&mut self) -> Result<Option<ToNode>, Status> {
        tokio::time::timeout(PATIENCE, self.inbound.message()).await.expect("nothing came")
    }

    /// Waits for the end of the stream.
    pub(super) async fn end(&mut self) -> Result<(), Status> {
        while self.receive().await?.is_some() {}
        Ok(())
    }

    /// Takes in the reset that comes next.
    pub(super) async fn reset(&mut self) -> Reset {
        match self.next().await {
            ToNode::Reset(reset) => {
                (self.cursor, self.task) = (reset.cursor, None);
                reset
            }
            other => panic!("expected a reset, not {other:?}"),
        }
    }

    /// Takes in records until `seq` is among them, without acknowledging.
    pub(super) async fn receive_through(&mut self, seq: Seq) {
        while !self.cursor.covers(seq) {
            if let ToNode::Records(records) = self.next().await {
                for record in records {
                    assert_eq!(record.seq, self.cursor.next(), "records without a gap");
                    self.cursor = Cursor::after(record.seq);
                    self.task = Some(record.task);
                }
            }
        }
    }

    /// Acknowledges where it stands, with a report for each record given.
    pub(super) fn ack(&self, reports: &[(Seq, u64, bool)]) {
        let report = |(seq, objects, last): &(Seq, u64, bool)| RecordReport {
            seq: *seq,
            objects: *objects,
            last: *last,
            in_force_after: Duration::from_micros(5),
            evicted_after: Duration::from_micros(50),
        };
        let reports = reports.iter().map(report).collect();
        self.say(FromNode::Ack(Ack { cursor: self.cursor, reports, overflowed: Vec::new() }));
    }

    pub(super) fn beat(&mut self) {
        self.beat_with(None);
    }

    /// A heartbeat that also says how large the index is.
    pub(super) fn beat_with(&mut self, index: Option<IndexSize>) {
        self.beat_that_says(index, None);
    }

    /// A heartbeat by which this stream is to bring only what is not confirmed so long after it was there.
    pub(super) fn beat_filling_in(&mut self, after: Duration) {
        self.beat_that_says(None, Some(after));
    }

    fn beat_that_says(&mut self, index: Option<IndexSize>, fill_in_after: Option<Duration>) {
        self.beats += 1;
        let sent_at = Moment::from_micros(self.beats);
        self.say(FromNode::Heartbeat(Heartbeat { sent_at, cursor: self.cursor, index, fill_in_after }));
    }

    /// Takes in what comes until a heartbeat is answered.
    pub(super) async fn answer(&mut self) -> LeaseGrant {
        loop {
            if let ToNode::LeaseGrant(grant) = self.next().await {
                return grant;
            }
        }
    }

    /// Sends heartbeats, and takes in what comes, until it has a lease.
    pub(super) async fn lease(&mut self) {
        loop {
            self.beat();
            loop {
                match self.next().await {
                    ToNode::LeaseGrant(grant) if grant.duration.is_zero() => break,
                    ToNode::LeaseGrant(_) => return,
                    ToNode::Records(records) => {
                        for record in records {
                            self.cursor = Cursor::after(record.seq);
                            self.task = Some(record.task);
                        }
                        self.beat();
                    }
                    _ => {}
                }
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Goes on by itself: acknowledges everything at once, with one object a record, and keeps its lease.
    pub(super) fn follow(mut self) -> tokio::task::JoinHandle<()> {
        tokio::spawn(async move {
            let mut beat = tokio::time::interval(Duration::from_millis(100));
            loop {
                tokio::select! {
                    _ = beat.tick() => self.beat(),
                    message = self.inbound.message() => match message {
                        Ok(Some(ToNode::Records(records))) => {
                            let mut reports = Vec::new();
                            for record in records {
                                self.cursor = Cursor::after(record.seq);
                                reports.push((record.seq, 1, true));
                            }
                            self.ack(&reports);
                        }
                        Ok(Some(ToNode::Count(count))) => {
                            let objects = vec![7; count.selectors.len()];
                            self.say(FromNode::Counted(batoff_types::message::Counted {
                                id: count.id,
                                objects,
                                uncounted: Vec::new(),
                            }));
                        }
                        Ok(Some(_)) => {}
                        Ok(None) | Err(_) => return,
                    },
                }
            }
        })
    }
}
