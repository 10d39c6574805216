//! Several replicas of the control plane in one process: real trackers over one store, and nodes that are played.

mod changing;
mod completing;
mod over_etcd;
mod reading;
mod taking_over;

use std::sync::Arc;
use std::time::Duration;

use batoff_delivery::{LeaseTimes, Resume};
use batoff_log::embedded::{EmbeddedConfig, EmbeddedStore};
use batoff_log::{Store, system_clock};
use batoff_log_etcd::EtcdStore;
use batoff_log_etcd::testing::EtcdServers;
use batoff_program::traces::Traces;
use batoff_program::vital::Vital;
use batoff_types::message::{Ack, Heartbeat, Hello, LeasePolicy, PROTOCOL_VERSION, RecordReport};
use batoff_types::{
    Body, Cursor, NodeName, Purge, Replica, ReplicaSet, SEMANTICS_VERSION, Selector, SiteChange, SiteLimits,
};
use parking_lot::Mutex;
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::plane::{PATIENCE, shop};
use crate::catalog::Catalog;
use crate::clock::Clock;
use crate::commit::{Accepted, Commit, CommitError, Submission};
use crate::feed::Feed;
use crate::hub::Hub;
use crate::ids::{TaskIds, random_instance};
use crate::seat::Tenure;
use crate::tracker::{MAILBOX, NodeLink, SentTimes, TaskState, TaskView, Tracker, TrackerOptions};

/// What a replica does beside answering.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Doing {
    /// Records what is done, and hears of it.
    done: bool,
    /// Writes down what became of tasks.
    rows: bool,
}

const ALL: Doing = Doing { done: true, rows: true };

/// One replica's process.
struct One {
    replica: Replica,
    tracker: Arc<Tracker>,
    commit: Commit,
    stopping: CancellationToken,
    running: JoinSet<()>,
}

/// Replicas over one store, and the strict node `fra1/edge-1`, which speaks to all that are up.
struct Several {
    store: Arc<dyn Store>,
    /// The cluster, in which each replica opens a store of its own; `None`: all use the one there is.
    etcd: Option<EtcdServers>,
    first: ReplicaSet,
    up: Arc<Mutex<Vec<Arc<Tracker>>>>,
    ones: Vec<One>,
    nodes: JoinSet<()>,
    _dir: TempDir,
}

impl One {
    async fn start(store: &Arc<dyn Store>, first: &ReplicaSet, replica: u8, doing: Doing) -> Self {
        let clock = Clock::system();
        let replica = Replica(replica);
        let ids = Arc::new(TaskIds::of(clock.clone(), replica));
        let log = store.log().state().await.unwrap();
        let secrets = {
            let dir = tempfile::tempdir().unwrap();
            crate::init::init(dir.path()).unwrap();
            crate::init::load(dir.path()).unwrap()
        };
        let catalog = Catalog::load(Arc::clone(store), clock.clone(), Arc::clone(&ids), secrets.master).await;
        let catalog = Arc::new(catalog.unwrap());
        let (draining, stopping) = (CancellationToken::new(), CancellationToken::new());
        let options = TrackerOptions {
            traces: Traces::default(),
            times: LeaseTimes::default(),
            several: Some(crate::tracker::Several {
                own: replica,
                first: first.clone(),
                settings: Arc::default(),
            }),
            tenure: Tenure::alone(),
            live_max: 10_000,
            draining: draining.clone(),
            stopping: stopping.clone(),
            vital: Vital::new(),
        };
        let tracker = Tracker::recover(Arc::clone(store), Arc::clone(&catalog), &log, clock.clone(), options);
        let tracker = tracker.await.unwrap();
        let hub = Hub::new(log.tail, 1_000, 1 << 20);
        let feed = Feed {
            store: Arc::clone(store),
            catalog: Arc::clone(&catalog),
            tracker: Arc::clone(&tracker),
            hub,
        };
        let commit = Commit::new(Arc::clone(store), catalog, ids, clock, 100, draining);
        let mut one = Self { replica, tracker, commit, stopping: stopping.clone(), running: JoinSet::new() };
        one.running.spawn(async move { feed.run(log.tail, stopping).await.unwrap() });
        one.running.spawn(Arc::clone(&one.tracker).run_clock());
        one.running.spawn(Arc::clone(&one.tracker).run_statements());
        one.running.spawn(Arc::clone(&one.tracker).run_listener());
        if doing.done {
            one.keep_done();
        }
        if doing.rows {
            one.running.spawn(Arc::clone(&one.tracker).run_resolver());
        }
        one
    }

    fn keep_done(&mut self) {
        self.running.spawn(Arc::clone(&self.tracker).run_done());
    }

    async fn task(&self, accepted: &Accepted) -> TaskView {
        self.tracker.task(&shop(), accepted.task).await.unwrap().unwrap()
    }

    async fn completed(&self, accepted: &Accepted) -> TaskView {
        let view = self.tracker.wait(&shop(), accepted.task, PATIENCE).await.unwrap().unwrap();
        assert_eq!(view.state, TaskState::Completed, "{}: {view:?}", self.replica);
        view
    }

    /// The task once `fits` is true of it.
    async fn until(&self, accepted: &Accepted, fits: impl Fn(&TaskView) -> bool) -> TaskView {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let view = self.task(accepted).await;
            if fits(&view) {
                return view;
            }
            assert!(tokio::time::Instant::now() < deadline, "{}: {view:?}", self.replica);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn purge(&self, path: &str) -> Accepted {
        let url = format!("https://www.example.com{path}").parse().unwrap();
        let purge = Purge { site: shop(), selectors: vec![Selector::Url(url)], soft: false };
        let submission =
            Submission { purge, request_id: "r".into(), requester: None, dedupe: Vec::new(), trace: None };
        self.commit.submit(submission).await.unwrap()
    }
}

impl Several {
    /// These replicas, of the set `first`, over a store of this process.
    async fn start(first: &[u8], replicas: &[(u8, Doing)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = EmbeddedStore::open(EmbeddedConfig::new(dir.path(), system_clock())).unwrap();
        Self::start_over(store, None, dir, first, replicas).await
    }

    /// The same over an etcd cluster of so many members.
    async fn start_over_etcd(members: usize, first: &[u8], replicas: &[(u8, Doing)]) -> Self {
        let servers = EtcdServers::start(members).await;
        let store = EtcdStore::open(servers.config(system_clock())).await.unwrap();
        Self::start_over(store, Some(servers), tempfile::tempdir().unwrap(), first, replicas).await
    }

    async fn start_over(
        store: Arc<dyn Store>,
        etcd: Option<EtcdServers>,
        dir: TempDir,
        first: &[u8],
        replicas: &[(u8, Doing)],
    ) -> Self {
        let first = ReplicaSet::new(first.iter().copied().map(Replica)).unwrap();
        let mut several = Self {
            store,
            etcd,
            first,
            up: Arc::default(),
            ones: Vec::new(),
            nodes: JoinSet::new(),
            _dir: dir,
        };
        for (replica, doing) in replicas {
            several.add(*replica, *doing).await;
        }
        let change = SiteChange {
            site: shop(),
            hostnames: Some(vec!["www.example.com".parse().unwrap()]),
            affected: Vec::new(),
            limits: SiteLimits::default(),
        };
        let first = &several.ones[0];
        first.commit.change_sites("test", |_| Ok::<_, CommitError>(vec![change])).await.unwrap();
        several.node("fra1/edge-1").await;
        several
    }

    async fn three() -> Self {
        Self::start(&[1, 2, 3], &[(1, ALL), (2, ALL), (3, ALL)]).await
    }

    async fn add(&mut self, replica: u8, doing: Doing) -> &mut One {
        let store = match &self.etcd {
            Some(servers) => EtcdStore::open(servers.config(system_clock())).await.unwrap(),
            None => Arc::clone(&self.store),
        };
        self.add_over(replica, doing, store).await
    }

    /// The same over this store.
    async fn add_over(&mut self, replica: u8, doing: Doing, store: Arc<dyn Store>) -> &mut One {
        let one = One::start(&store, &self.first, replica, doing).await;
        self.up.lock().push(Arc::clone(&one.tracker));
        self.ones.push(one);
        self.ones.last_mut().unwrap()
    }

    /// Dies without a word.
    fn kill(&mut self, replica: u8) {
        let place = self.ones.iter().position(|one| one.replica == Replica(replica)).unwrap();
        let mut one = self.ones.remove(place);
        one.running.abort_all();
        self.up.lock().retain(|tracker| !Arc::ptr_eq(tracker, &one.tracker));
    }

    fn one(&mut self, replica: u8) -> &mut One {
        self.ones.iter_mut().find(|one| one.replica == Replica(replica)).unwrap()
    }

    /// What all replicas tell of a task, once that is final and the same.
    async fn agree(&mut self, accepted: &Accepted) -> TaskView {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let mut told = Vec::new();
            for one in &self.ones {
                told.push(one.task(accepted).await);
            }
            if told.iter().all(|view| *view == told[0] && view.objects_final) {
                return told.swap_remove(0);
            }
            assert!(tokio::time::Instant::now() < deadline, "{told:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// A strict node that acknowledges everything at once to all replicas that are up, with one object a record.
    async fn node(&mut self, name: &str) {
        let name: NodeName = name.parse().unwrap();
        let seq = self.ones[0].commit.append_body(Body::NodeRegistered(name.clone()), "test").await.unwrap();
        for one in &self.ones {
            one.tracker.knows(seq).await;
        }
        let up = Arc::clone(&self.up);
        self.nodes.spawn(async move {
            let mut node = Played::new(name, Cursor::after(seq));
            loop {
                let up = up.lock().clone();
                node.speak(&up).await;
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
    }
}

impl Drop for Several {
    fn drop(&mut self) {
        self.ones.iter().for_each(|one| one.stopping.cancel());
    }
}

/// A node without a stream.
struct Played {
    hello: Hello,
    cursor: Cursor,
    connected: Vec<(Arc<Tracker>, u64, mpsc::Receiver<crate::tracker::Directive>)>,
    connections: u64,
    beats: u64,
}

impl Played {
    fn new(node: NodeName, cursor: Cursor) -> Self {
        let hello = Hello {
            node,
            instance: random_instance(),
            position: None,
            protocol: PROTOCOL_VERSION,
            semantics: SEMANTICS_VERSION,
            version: "test".into(),
            caches: Vec::new(),
            policy: LeasePolicy::Revalidate,
            parents: Vec::new(),
            connection: None,
        };
        Self { hello, cursor, connected: Vec::new(), connections: 0, beats: 0 }
    }

    async fn speak(&mut self, up: &[Arc<Tracker>]) {
        self.connected.retain(|(tracker, ..)| up.iter().any(|other| Arc::ptr_eq(other, tracker)));
        for tracker in up {
            if self.connected.iter().any(|(other, ..)| Arc::ptr_eq(other, tracker)) {
                continue;
            }
            self.connections += 1;
            let (mailbox, read) = mpsc::channel(MAILBOX);
            let sent = Arc::new(SentTimes::new(self.cursor));
            let link = NodeLink { mailbox, sent, certificate_until: None };
            let greeted =
                tracker.handle_hello(&self.hello, &Resume::At(self.cursor), self.connections, link).await;
            // Its registration may not be known there yet.
            if let Ok(Ok(())) = greeted {
                self.connected.push((Arc::clone(tracker), self.connections, read));
            }
        }
        let before = self.cursor;
        let known = self.connected.iter().map(|(tracker, ..)| tracker.tail());
        self.cursor = known.fold(before, Cursor::max);
        let reports: Vec<_> = (before.get() + 1..=self.cursor.get())
            .filter_map(batoff_types::Seq::new)
            .map(|seq| RecordReport {
                seq,
                objects: 1,
                last: true,
                in_force_after: Duration::from_micros(5),
                evicted_after: Duration::from_micros(50),
            })
            .collect();
        self.beats += 1;
        let sent_at = batoff_types::Moment::from_micros(self.beats);
        for (tracker, connection, _) in &self.connected {
            let ack = Ack { cursor: self.cursor, reports: reports.clone(), overflowed: Vec::new() };
            tracker.handle_ack(&self.hello.node, *connection, &ack);
            tracker.handle_heartbeat(
                &self.hello.node,
                *connection,
                &Heartbeat { sent_at, cursor: self.cursor, index: None, fill_in_after: None },
            );
        }
    }
}
