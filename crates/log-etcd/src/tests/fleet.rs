//! Three stores over a cluster of three, with appenders and followers that keep a tally: what a fault must not change.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use batoff_log::conformance::ManualClock;
use batoff_log::{Appended, Store, StoreError, StoredRecord};
use batoff_types::{Seq, UnixMillis};
use bytes::Bytes;
use futures_util::StreamExt;
use parking_lot::Mutex;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::{everything, keyed_record, open_at};
use crate::EtcdStore;
use crate::shared::StoreCore;
use crate::testing::EtcdServers;

/// Appenders at each store. Each waits a little between its appends, so that a fault meets many of them.
const APPENDERS: u64 = 8;

const THINK_TIME: Duration = Duration::from_millis(5);

/// How long followers may need for what is in the log, on a machine that has more to do.
const PATIENCE: Duration = Duration::from_secs(60);

/// Stores, appenders, followers.
pub(super) struct Fleet {
    pub(super) servers: EtcdServers,
    pub(super) stores: Vec<Arc<EtcdStore>>,
    appenders: Vec<JoinHandle<()>>,
    followers: Vec<JoinHandle<()>>,
    notes: Arc<Notes>,
}

#[derive(Default)]
struct Notes {
    is_over: AtomicBool,
    next: AtomicU64,
    /// What was acknowledged: the body, and the number it was given.
    acknowledged: Mutex<BTreeMap<String, Seq>>,
    by_store: Mutex<Vec<u64>>,
    /// Answers that said that the outcome is unknown.
    unknown: AtomicU64,
    /// The longest that an appender waited until its purge was in the log, refusals included.
    slowest: Mutex<Duration>,
    followed: Mutex<Vec<Vec<(Seq, Bytes)>>>,
}

impl Notes {
    fn acknowledged(&self, at: usize, body: String, seq: Seq, took: Duration) {
        let mut slowest = self.slowest.lock();
        *slowest = (*slowest).max(took);
        self.by_store.lock()[at] += 1;
        self.acknowledged.lock().insert(body, seq);
    }
}

/// What came of it.
#[derive(Debug)]
pub(super) struct FleetTally {
    /// Records that no appender was told of.
    strangers: usize,
    pub(super) by_store: Vec<u64>,
}

impl Fleet {
    pub(super) async fn start() -> Self {
        Self::in_cluster(EtcdServers::start(3).await).await
    }

    pub(super) async fn in_cluster(servers: EtcdServers) -> Self {
        let clock = ManualClock::default();
        let mut stores = Vec::new();
        for member in 0..servers.endpoints().len() {
            stores.push(open_at(&servers, member, &clock).await);
        }
        let notes = Arc::new(Notes {
            by_store: Mutex::new(vec![0; stores.len()]),
            followed: Mutex::new(vec![Vec::new(); stores.len()]),
            ..Notes::default()
        });
        let mut appenders = Vec::new();
        let mut followers = Vec::new();
        for (at, store) in stores.iter().enumerate() {
            for _ in 0..APPENDERS {
                appenders.push(tokio::spawn(append(Arc::clone(store), at, Arc::clone(&notes))));
            }
            followers.push(tokio::spawn(follow(Arc::clone(store), at, Arc::clone(&notes))));
        }
        Self { servers, stores, appenders, followers, notes }
    }

    /// Waits until so many more were acknowledged.
    pub(super) async fn acknowledge(&self, more: usize) {
        let goal = self.acknowledged() + more;
        let begin = Instant::now();
        while self.acknowledged() < goal {
            assert!(begin.elapsed() < PATIENCE, "appends do not go on: {}", self.acknowledged());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub(super) fn acknowledged(&self) -> usize {
        self.notes.acknowledged.lock().len()
    }

    /// Ends the appenders, and compares what they were told with the log and with what each follower saw.
    pub(super) async fn check(self) -> FleetTally {
        let tally = self.compare().await;
        assert_eq!(tally.strangers, 0, "what no appender has written");
        tally
    }

    /// The same, where at most so many records may be there that no appender has written.
    pub(super) async fn check_but_for(self, strangers: usize) -> FleetTally {
        let tally = self.compare().await;
        assert!(tally.strangers <= strangers, "{tally:?}");
        tally
    }

    async fn compare(self) -> FleetTally {
        self.notes.is_over.store(true, Ordering::Relaxed);
        for appender in self.appenders {
            appender.await.unwrap();
        }
        let log = everything(self.stores[0].log()).await;
        for store in &self.stores[1..] {
            assert!(everything(store.log()).await == log, "all stores read the same log");
        }
        let mut places: BTreeMap<&[u8], Seq> = BTreeMap::new();
        for record in &log {
            assert_eq!(places.insert(&record.body, record.seq), None, "{record:?} is there twice");
        }
        let acknowledged = self.notes.acknowledged.lock().clone();
        for (body, seq) in &acknowledged {
            assert_eq!(places.get(body.as_bytes()), Some(seq), "{body} was acknowledged as {seq}");
        }
        let expected: Vec<_> = log.iter().map(place).collect();
        for at in 0..self.stores.len() {
            let begin = Instant::now();
            loop {
                let seen = self.notes.followed.lock()[at].clone();
                if seen.len() >= expected.len() {
                    assert!(seen == expected, "the follower of store {at} saw another log");
                    break;
                }
                assert!(begin.elapsed() < PATIENCE, "follower {at} saw {} of {}", seen.len(), expected.len());
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        self.followers.iter().for_each(JoinHandle::abort);
        let by_store = self.notes.by_store.lock().clone();
        let slowest = *self.notes.slowest.lock();
        let strangers = log.len() - acknowledged.len();
        let unknown = self.notes.unknown.load(Ordering::Relaxed);
        println!(
            "{} acknowledged, by store {by_store:?}; {unknown} told that it is unknown, {strangers} unasked for; \
             slowest {slowest:?}",
            acknowledged.len()
        );
        FleetTally { strangers, by_store }
    }
}

/// Appends one purge after the other, each until it is in the log.
async fn append(store: Arc<EtcdStore>, at: usize, notes: Arc<Notes>) {
    while !notes.is_over.load(Ordering::Relaxed) {
        let task = notes.next.fetch_add(1, Ordering::Relaxed) + 1;
        let body = format!("{at}/{task}");
        let begin = Instant::now();
        let seq = loop {
            match store.log().append(vec![keyed_record(body.clone(), task, UnixMillis(u64::MAX))]).await {
                Ok(answers) => match answers[0] {
                    Appended::New { seq } | Appended::Duplicate { seq, .. } => break seq,
                    Appended::Conflict => panic!("{body} is no conflict"),
                },
                Err(StoreError::Unknown { .. }) => _ = notes.unknown.fetch_add(1, Ordering::Relaxed),
                Err(StoreError::Unavailable { .. }) => {}
                Err(error) => panic!("{error}"),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        notes.acknowledged(at, body, seq, begin.elapsed());
        tokio::time::sleep(THINK_TIME).await;
    }
}

async fn follow(store: Arc<EtcdStore>, at: usize, notes: Arc<Notes>) {
    let mut tail = store.log().tail(Seq::FIRST);
    while let Some(records) = tail.next().await {
        let records = records.unwrap();
        notes.followed.lock()[at].extend(records.iter().map(place));
    }
}

fn place(record: &StoredRecord) -> (Seq, Bytes) {
    (record.seq, record.body.clone())
}

/// What a store is without the tasks that follow the log.
pub(super) async fn stop_following(store: Arc<EtcdStore>) -> StoreCore {
    let shared = store.shared();
    let loaded = crate::load::load(&shared.client, &shared.names, shared.now(), None).await.unwrap();
    let clients = (shared.client.twin(), shared.watcher.twin());
    let (names, clock, identity) = (shared.names.clone(), Arc::clone(&shared.clock), shared.identity);
    let quiet = StoreCore::new(clients, names, clock, identity, shared.write_time_max, loaded);
    store.close().await;
    quiet
}
