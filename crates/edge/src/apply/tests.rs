//! Acks against caches that do what they are told, or fail, or take their time.

use std::collections::VecDeque;
use std::time::Duration;

use async_trait::async_trait;
use batoff_delivery::Received;
use batoff_index::{Entry, IndexConfig, Match, Variant};
use batoff_types::message::ResetReason;
use batoff_types::{
    CacheTags, Cursor, Generation, LogId, Purge, Selector, Seq, SiteTable, TaskId, UnixMillis,
};
use parking_lot::Mutex;
use tempfile::TempDir;
use tokio::sync::Notify;

use super::*;
use crate::cache::{CacheTrouble, Needs, Proof};

/// A cache that does what it is told, or fails, or takes its time.
struct Fake {
    name: &'static str,
    needs: Needs,
    proof: Proof,
    failing: Mutex<bool>,
    holds_back: Mutex<bool>,
    /// Holding back takes until somebody lets it be over.
    hesitates: Mutex<Option<Arc<Notify>>>,
    done: Mutex<Vec<String>>,
}

#[derive(Clone)]
struct Shared(Arc<Fake>);

impl Shared {
    fn new(name: &'static str, needs: Needs, proof: Proof) -> Self {
        let (failing, holds_back, hesitates) = (Mutex::new(false), Mutex::new(false), Mutex::default());
        Self(Arc::new(Fake { name, needs, proof, failing, holds_back, hesitates, done: Mutex::default() }))
    }

    fn set_failing(&self, failing: bool) {
        *self.0.failing.lock() = failing;
    }

    fn done(&self) -> Vec<String> {
        self.0.done.lock().clone()
    }

    fn act(&self, what: String) -> Result<(), CacheTrouble> {
        if *self.0.failing.lock() {
            return Err(CacheTrouble("connection refused".to_owned()));
        }
        self.0.done.lock().push(what);
        Ok(())
    }
}

#[async_trait]
impl Cache<u32> for Shared {
    fn name(&self) -> &str {
        self.0.name
    }

    fn needs(&self) -> Needs {
        self.0.needs
    }

    fn proof(&self) -> Proof {
        self.0.proof
    }

    async fn evict(&self, objects: &[Match<u32>]) -> Result<(), CacheTrouble> {
        self.act(format!("evict {}", objects.len()))
    }

    async fn purge(&self, records: &[Arc<Record>]) -> Result<(), CacheTrouble> {
        records.iter().try_for_each(|record| self.act(format!("purge {}", record.seq)))
    }

    async fn flush(&self) -> Result<(), CacheTrouble> {
        self.act("flush".to_owned())
    }

    async fn hold_back(&self, records: &[Arc<Record>]) -> bool {
        let holds_back = *self.0.holds_back.lock();
        if holds_back {
            self.0.done.lock().extend(records.iter().map(|record| format!("hold {}", record.seq)));
            let hesitates = self.0.hesitates.lock().clone();
            if let Some(over) = hesitates {
                over.notified().await;
            }
        }
        holds_back
    }

    fn held_in_vain(&self) {
        self.0.done.lock().push("held in vain".to_owned());
    }

    fn let_go(&self, through: Seq) {
        if *self.0.holds_back.lock() {
            self.0.done.lock().push(format!("let go {through}"));
        }
    }
}

fn sites() -> SiteTable {
    let mut sites = SiteTable::default();
    sites.set(&"a".parse().unwrap(), Some(&["a.test".parse().unwrap()]));
    sites
}

struct Rig {
    index: Arc<Index<u32>>,
    apply: ApplyHandle,
    seen: VecDeque<Outcome>,
    stop: CancellationToken,
    dir: TempDir,
}

impl Rig {
    fn start(caches: &[&Shared]) -> Self {
        let dir = TempDir::new().unwrap();
        let index = Arc::new(Index::new(IndexConfig::default()));
        index.reset(Generation::default(), Cursor::START, sites());
        let state = Arc::new(StateDir::open(dir.path(), &"pop/node".parse().unwrap()).unwrap().state);
        let stop = CancellationToken::new();
        let caches = caches.iter().map(|&cache| Arc::new(cache.clone()) as Arc<dyn Cache<u32>>).collect();
        let apply = Applier::spawn(index.clone(), caches, state, &stop, &Vital::new());
        Self { index, apply, seen: VecDeque::new(), stop, dir }
    }

    fn fill(&self, range: std::ops::Range<u32>) {
        for n in range {
            let url = format!("https://a.test/{n}").parse().unwrap();
            let token = self.index.begin_fill();
            let entry = Entry { url, variant: Variant::MAIN, tags: CacheTags::default(), token, locator: n };
            self.index.insert(entry).unwrap();
        }
    }

    async fn order(&self, seq: u64, selector: Selector) {
        let record = Record {
            seq: Seq::new(seq).unwrap(),
            accepted_at: UnixMillis(0),
            task: TaskId::from_bytes([1; 16]),
            request_id: "test".into(),
            semantics: 1,
            trace: None,
            body: Body::Purge(Purge { site: "a".parse().unwrap(), selectors: vec![selector], soft: false }),
        };
        self.apply.orders.send(Order::Record(Received { record, at: boottime() })).await.unwrap();
    }

    async fn reset(&self, cursor: u64) {
        let reset = Reset {
            log_id: LogId::from_bytes([3; 16]),
            cursor: Cursor::new(cursor),
            reason: ResetReason::Trimmed,
        };
        self.apply.orders.send(Order::Reset { reset, sites: sites() }).await.unwrap();
    }

    /// The next outcome, which must come.
    async fn next(&mut self) -> Outcome {
        if let Some(outcome) = self.seen.pop_front() {
            return outcome;
        }
        tokio::time::timeout(Duration::from_secs(20), self.apply.outcomes.recv()).await.unwrap().unwrap()
    }

    async fn next_applied(&mut self) -> RecordReport {
        match self.next().await {
            Outcome::Applied { seq, report, .. } => {
                assert_eq!(seq, report.seq);
                report
            }
            other => panic!("{other:?}"),
        }
    }

    /// Nothing is to be told, however long the applier is given.
    async fn assert_silent(&mut self) {
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(self.apply.outcomes.try_recv().is_err());
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn url(n: u32) -> Selector {
    Selector::Url(format!("https://a.test/{n}").parse().unwrap())
}

fn everything_under_a() -> Selector {
    Selector::Prefix("https://a.test/".parse().unwrap())
}

#[tokio::test]
async fn without_caches_the_rule_is_all() {
    let mut rig = Rig::start(&[]);
    rig.fill(0..3);
    rig.order(1, url(1)).await;
    rig.order(2, url(7)).await;
    let report = rig.next_applied().await;
    assert_eq!((report.seq.get(), report.objects, report.last), (1, 1, true));
    let report = rig.next_applied().await;
    assert_eq!((report.seq.get(), report.objects, report.last), (2, 0, true));
    assert_eq!(rig.index.applied(), Cursor::new(2));
}

#[tokio::test]
async fn a_large_purge_is_acked_by_its_rule_and_reported_to_the_end_later() {
    let cache = Shared::new("memory", Needs::Objects, Proof::Rule);
    let mut rig = Rig::start(&[&cache]);
    rig.fill(0..5_000);
    rig.order(1, everything_under_a()).await;
    let report = rig.next_applied().await;
    assert!(!report.last && report.objects >= 1_000 && report.objects < 5_000, "{report:?}");
    let Outcome::Report(rest) = rig.next().await else { panic!("a report on the rest") };
    assert_eq!((rest.objects + report.objects, rest.last), (5_000, true));
    assert_eq!(rig.index.stats().entries, 0);
}

#[tokio::test]
async fn a_cache_that_serves_by_itself_is_waited_for() {
    let cache = Shared::new("files", Needs::Objects, Proof::Eviction);
    let mut rig = Rig::start(&[&cache]);
    rig.fill(0..2_500);
    cache.set_failing(true);
    rig.order(1, everything_under_a()).await;
    rig.order(2, url(1)).await;
    let Outcome::Trouble(trouble) = rig.next().await else { panic!("trouble first") };
    assert_eq!((trouble.cache.as_str(), trouble.message.as_str()), ("files", "connection refused"));
    assert_eq!(trouble.stuck, Seq::new(1));
    rig.assert_silent().await;
    assert_eq!(rig.index.applied(), Cursor::new(2), "the rules do not wait");
    cache.set_failing(false);
    let mut applied = Vec::new();
    while applied.len() < 2 {
        match rig.next().await {
            Outcome::Applied { seq, report, .. } => applied.push((seq.get(), report.objects, report.last)),
            Outcome::Trouble(trouble) => assert_eq!(trouble.message, "", "it works again"),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(applied, [(1, 2_500, true), (2, 0, true)]);
    assert_eq!(cache.done(), ["evict 1000", "evict 1000", "evict 500"]);
}

#[tokio::test]
async fn what_a_late_cache_holds_back_is_acknowledged_and_reported_when_it_is_removed() {
    let cache = Shared::new("files", Needs::Objects, Proof::Eviction);
    let mut rig = Rig::start(&[&cache]);
    rig.fill(0..30);
    *cache.0.holds_back.lock() = true;
    cache.set_failing(true);
    rig.order(1, everything_under_a()).await;
    assert!(matches!(rig.next().await, Outcome::Trouble(_)));
    let report = rig.next_applied().await;
    assert_eq!((report.seq.get(), report.objects, report.last), (1, 0, false), "not removed yet");
    assert_eq!(cache.done(), ["hold 1"]);
    cache.set_failing(false);
    let report = loop {
        match rig.next().await {
            Outcome::Report(report) => break report,
            Outcome::Trouble(trouble) => assert_eq!(trouble.message, ""),
            other => panic!("acknowledged once: {other:?}"),
        }
    };
    assert_eq!((report.seq.get(), report.objects, report.last), (1, 30, true));
    assert_eq!(cache.done(), ["hold 1", "evict 30", "let go 1"]);
}

#[tokio::test]
async fn what_is_held_back_while_a_reset_comes_is_let_go() {
    let cache = Shared::new("files", Needs::Objects, Proof::Eviction);
    let mut rig = Rig::start(&[&cache]);
    rig.fill(0..30);
    let over = Arc::new(Notify::new());
    *cache.0.holds_back.lock() = true;
    *cache.0.hesitates.lock() = Some(Arc::clone(&over));
    cache.set_failing(true);
    rig.order(7, everything_under_a()).await;
    assert!(matches!(rig.next().await, Outcome::Trouble(_)));
    while cache.done() != ["hold 7"] {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    rig.reset(3).await;
    cache.set_failing(false);
    while !matches!(rig.next().await, Outcome::Reset(_)) {}
    assert_eq!(cache.done(), ["hold 7", "flush"], "the flush is over, and the cache is not");
    over.notify_one();
    while cache.done().len() < 3 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(cache.done(), ["hold 7", "flush", "held in vain"]);
    rig.order(4, url(1)).await;
    assert_eq!(rig.next_applied().await.seq.get(), 4, "nothing after the reset counts as held back");
}

#[tokio::test]
async fn a_cache_in_trouble_does_not_delay_another() {
    let (bad, good) = (
        Shared::new("bad", Needs::Selectors, Proof::Eviction),
        Shared::new("good", Needs::Selectors, Proof::Eviction),
    );
    let mut rig = Rig::start(&[&bad, &good]);
    bad.set_failing(true);
    for seq in 1..=3 {
        rig.order(seq, url(1)).await;
    }
    assert!(matches!(rig.next().await, Outcome::Trouble(_)));
    rig.assert_silent().await;
    assert_eq!(good.done(), ["purge 1", "purge 2", "purge 3"]);
    bad.set_failing(false);
    let mut seqs = Vec::new();
    while seqs.len() < 3 {
        if let Outcome::Applied { seq, .. } = rig.next().await {
            seqs.push(seq.get());
        }
    }
    assert_eq!(seqs, [1, 2, 3]);
    assert_eq!(bad.done(), ["purge 1", "purge 2", "purge 3"], "in order, each once");
}

#[tokio::test]
async fn a_reset_raises_the_generation_on_disk_first_and_waits_for_the_flush() {
    let cache = Shared::new("files", Needs::Objects, Proof::Eviction);
    let mut rig = Rig::start(&[&cache]);
    rig.fill(0..10);
    let before = rig.index.begin_fill();
    cache.set_failing(true);
    rig.order(1, url(1)).await;
    assert!(matches!(rig.next().await, Outcome::Trouble(_)));
    rig.reset(100).await;
    rig.assert_silent().await;
    assert!(rig.dir.path().join("generation-2").exists());
    assert_eq!((rig.index.generation(), rig.index.applied()), (Generation(2), Cursor::new(100)));
    cache.set_failing(false);
    let mut over = false;
    let mut reset = None;
    while !over || reset.is_none() {
        match rig.next().await {
            Outcome::Reset(applied) => reset = Some(applied.cursor),
            Outcome::Trouble(trouble) => over = trouble.message.is_empty(),
            other => panic!("what was under way before is void: {other:?}"),
        }
    }
    assert_eq!(reset, Some(Cursor::new(100)));
    assert_eq!(cache.done()[0], "flush", "a flush covers what was stuck");
    assert!(!cache.done().contains(&"evict 1".to_owned()), "{:?}", cache.done());
    let url = "https://a.test/1".parse().unwrap();
    assert_eq!(rig.index.check(&url, &CacheTags::default(), before), batoff_index::Verdict::Gone);
    rig.order(101, Selector::Everything).await;
    assert_eq!(rig.next_applied().await.seq.get(), 101);
}

#[tokio::test]
async fn a_cache_that_is_away_for_long_is_flushed_and_not_remembered_for() {
    let cache = Shared::new("varnish", Needs::Selectors, Proof::Eviction);
    let mut rig = Rig::start(&[&cache]);
    cache.set_failing(true);
    const RECORDS: u64 = 15_000;
    for seq in 1..=RECORDS {
        rig.order(seq, url(1)).await;
    }
    assert!(matches!(rig.next().await, Outcome::Trouble(_)));
    while rig.index.applied() < Cursor::new(RECORDS) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    cache.set_failing(false);
    let mut acked = 0;
    while acked < RECORDS {
        if let Outcome::Applied { seq, .. } = rig.next().await {
            assert_eq!(seq.get(), acked + 1, "every record is acked, in order");
            acked = seq.get();
        }
    }
    assert!(cache.done().contains(&"flush".to_owned()), "{:?}", cache.done().len());
}
