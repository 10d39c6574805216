//! Chains in a real store: written, tampered with, cut, put back, forgotten.

use std::sync::Arc;
use std::time::Duration;

use batoff_log::embedded::{EmbeddedConfig, EmbeddedStore};
use batoff_log::{Expect, Key, NewRecord, Store, Version, Write, system_clock};
use batoff_types::{Body, LogId, Purge, Record, Replica, Selector, Seq, TaskId, UnixMillis};
use batoff_wire::{Requester, RequesterIdentity};
use bytes::Bytes;
use tempfile::TempDir;

use super::block::AuditBlock;
use super::blocks::Blocks;
use super::*;
use crate::clock::Clock;
use crate::store::SharedStore;

const TOKEN: [u8; 16] = [7; 16];

struct Rig {
    dir: TempDir,
    store: Arc<EmbeddedStore>,
    audit: Audit,
}

fn open_store(dir: &TempDir) -> Arc<EmbeddedStore> {
    EmbeddedStore::open(EmbeddedConfig::new(dir.path(), system_clock())).unwrap()
}

async fn open_audit(store: &Arc<EmbeddedStore>) -> Audit {
    let log_id = store.log().state().await.unwrap().log_id;
    Audit::open(store.clone(), Clock::system(), log_id, Replica::ONLY).await.unwrap()
}

impl Rig {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = open_store(&dir);
        let audit = open_audit(&store).await;
        Self { dir, store, audit }
    }

    /// A chain of several blocks.
    async fn long() -> Self {
        let rig = Self::new().await;
        rig.purges(2_500).await;
        rig.audit.flush().await.unwrap();
        assert!(rig.blocks().await.len() >= 4);
        rig
    }

    async fn purges(&self, count: u128) {
        let purge =
            Purge { site: "shop".parse().unwrap(), selectors: vec![Selector::Everything], soft: false };
        let record = |number: u128| Record {
            seq: Seq::FIRST,
            accepted_at: UnixMillis(1_776_672_751_000),
            task: TaskId::from_bytes(number.to_be_bytes()),
            request_id: "request".into(),
            semantics: 1,
            trace: None,
            body: Body::Purge(purge.clone()),
        };
        let identity = RequesterIdentity::Token(TOKEN);
        let requester = Requester { identity, address: "192.0.2.7".parse().unwrap() };
        let new = |record: Record| NewRecord {
            body: batoff_wire::encode_requested(&record, &requester),
            accepted_at: record.accepted_at,
            task: None,
            dedupe: Vec::new(),
        };
        self.store.log().append((0..count).map(record).map(new).collect()).await.unwrap();
    }

    /// As after the end of the process: only what is in the store is known.
    async fn restarted(self) -> Self {
        self.store.close().await;
        drop(self.audit);
        drop(self.store);
        let store = open_store(&self.dir);
        let audit = open_audit(&store).await;
        Self { dir: self.dir, store, audit }
    }

    async fn blocks(&self) -> Vec<(Key, Bytes)> {
        let rows = self.store.kv().scan(&Key::from("audit/1/"), None, 1_000).await.unwrap();
        rows.into_iter().map(|(key, row)| (key, row.value)).collect()
    }

    async fn put(&self, key: &Key, value: impl Into<Bytes>) -> Version {
        let write = Write::Put { value: value.into(), ttl: None };
        self.store.kv().cas(key, Expect::Any, write).await.unwrap()
    }

    async fn delete(&self, key: &Key) {
        self.store.kv().cas(key, Expect::Any, Write::Delete).await.unwrap();
    }

    async fn verify(&self, known: Option<&str>) -> ChainReport {
        self.audit.verify(known.map(|head| head.parse().unwrap())).await.unwrap()
    }

    async fn head(&self) -> String {
        let report = self.verify(None).await;
        assert!(report.ok, "{report:?}");
        report.head
    }

    async fn close(self) {
        self.store.close().await;
    }
}

fn number_of(listed: &ListedEntry) -> u64 {
    serde_json::from_str::<AuditEntry>(listed.as_str()).unwrap().number
}

#[tokio::test]
async fn each_purge_of_the_log_has_one_entry_however_often_the_process_ends() {
    let mut rig = Rig::new().await;
    for round in 1..=3u64 {
        rig.purges(10).await;
        if round == 2 {
            rig.audit.flush().await.unwrap();
        }
        // Dropped without a flush.
        rig = rig.restarted().await;
        let filter = AuditFilter { action: Some(AuditAction::Purge), ..AuditFilter::default() };
        let page = rig.audit.list(&filter, None, LISTED_MAX).await.unwrap();
        assert_eq!(page.entries.len() as u64, round * 10);
        let entry: AuditEntry = serde_json::from_str(page.entries[0].as_str()).unwrap();
        assert_eq!(entry.actor, actor_of(&RequesterIdentity::Token(TOKEN)));
        assert_eq!(entry.address, Some("192.0.2.7".parse().unwrap()));
    }
    assert!(rig.verify(None).await.ok);
    rig.close().await;
}

#[tokio::test]
async fn a_change_that_was_begun_has_its_entry_whether_the_process_ends_or_not() {
    let rig = Rig::new().await;
    let change = || AuditEntry::new(UnixMillis(1), OPERATOR, AuditAction::SiteRemove);
    let finished = rig.audit.begin("a".to_owned(), change()).await.unwrap();
    rig.audit.finish(finished).await;
    let _cut_short = rig.audit.begin("b".to_owned(), change()).await.unwrap();
    let rig = rig.restarted().await.restarted().await;
    let filter = AuditFilter { actor: Some(OPERATOR.to_owned()), ..AuditFilter::default() };
    let page = rig.audit.list(&filter, None, 10).await.unwrap();
    let results: Vec<String> = page
        .entries
        .iter()
        .map(|entry| serde_json::from_str::<AuditEntry>(entry.as_str()).unwrap().result.into_owned())
        .collect();
    assert_eq!(results, ["unknown", "done"]);
    rig.close().await;
}

#[tokio::test]
async fn each_flipped_byte_of_each_block_is_noticed() {
    let rig = Rig::long().await;
    for (_, value) in rig.blocks().await {
        for at in (0..value.len()).step_by(97).chain(value.len() - 64..value.len()) {
            let mut bytes = value.to_vec();
            bytes[at] ^= 1;
            assert!(AuditBlock::decode(&bytes).is_err(), "byte {at}");
        }
    }
    // In the store, it is told where.
    let (key, value) = rig.blocks().await.swap_remove(1);
    let mut bytes = value.to_vec();
    bytes[200] ^= 1;
    rig.put(&key, bytes).await;
    let report = rig.verify(None).await;
    assert!(!report.ok && report.flaws[0].what.contains("cannot be read"), "{report:?}");
    rig.close().await;
}

/// Whoever changes an entry can make the block's own sum fit again; the chain does not.
#[tokio::test]
async fn an_entry_that_was_changed_taken_out_put_in_or_moved_is_noticed_although_the_sums_fit() {
    let rig = Rig::long().await;
    let known = rig.head().await;
    let rows = rig.blocks().await;
    let tampers: [fn(&mut Vec<String>); 4] = [
        |lines| lines[3] = lines[3].replace("192.0.2.7", "192.0.2.8"),
        |lines| drop(lines.remove(3)),
        |lines| lines.insert(3, lines[3].clone()),
        |lines| lines.swap(3, 4),
    ];
    for place in [1, rows.len() - 1] {
        let (key, value) = &rows[place];
        for (number, tamper) in tampers.iter().enumerate() {
            let mut block = AuditBlock::decode(value).unwrap();
            let mut lines: Vec<String> = block.lines.lines().map(str::to_owned).collect();
            tamper(&mut lines);
            block.head.count = lines.len() as u64;
            block.lines = lines.into_iter().map(|line| line + "\n").collect();
            rig.put(key, block.encode()).await;
            let report = rig.verify(None).await;
            assert!(!report.ok && report.flaws_total > 0, "block {place}, {number}: {report:?}");
            let report = rig.verify(Some(&known)).await;
            assert!(!report.ok, "block {place}, {number}: {report:?}");
            rig.put(key, value.clone()).await;
        }
    }
    rig.close().await;
}

#[tokio::test]
async fn a_block_that_is_gone_is_noticed_wherever_it_was() {
    let rig = Rig::long().await;
    let rows = rig.blocks().await;
    for (place, (key, value)) in rows.iter().enumerate() {
        rig.delete(key).await;
        let report = rig.verify(None).await;
        assert!(!report.ok && report.flaws_total > 0, "block {place}: {report:?}");
        rig.put(key, value.clone()).await;
    }
    rig.close().await;
}

/// Without a head that was kept elsewhere nobody can know that there was more.
#[tokio::test]
async fn a_chain_that_was_cut_off_or_put_back_does_not_fit_the_head_that_was_kept() {
    let rig = Rig::long().await;
    let older = rig.blocks().await;
    let kept = rig.head().await;
    rig.purges(500).await;
    rig.audit.flush().await.unwrap();
    let newer = rig.head().await;
    assert_eq!(rig.verify(Some(&kept)).await.known_head, Some(HeadVerdict::Confirmed));

    // The state from before is put back, behind the back of a control plane that has ended.
    for (key, _) in rig.blocks().await {
        rig.delete(&key).await;
    }
    for (key, value) in &older {
        rig.put(key, value.clone()).await;
    }
    let store = Arc::clone(&rig.store);
    // The purge log is the older one, too, as far as the chain is concerned.
    let log_id = store.log().state().await.unwrap().log_id;
    let audit = Audit::open(store, Clock::system(), log_id, Replica::ONLY).await.unwrap();
    let verdict = |audit: Audit, head: String| async move {
        let _walking = audit.walking.read().await;
        let end = audit.writer.lock().await.end().await.unwrap();
        let mut check = check::ChainCheck::new(end.head(), 0, Some(head.parse().unwrap()));
        let blocks = Blocks { kv: audit.store.kv(), replica: "1" };
        let mut next = 0;
        while let Some(found) = blocks.from(next).await.unwrap() {
            next = found.first + 1;
            check.block(&found.open().unwrap());
        }
        let report = check.finish();
        drop(_walking);
        (audit, report)
    };
    let (audit, report) = verdict(audit, kept.clone()).await;
    assert!(report.ok, "{report:?}");
    let (audit, report) = verdict(audit, newer.clone()).await;
    assert_eq!((report.ok, report.known_head), (false, Some(HeadVerdict::Missing)));
    // It goes on and passes the place: there stands another entry now.
    let change =
        audit.begin("a".to_owned(), AuditEntry::new(UnixMillis(1), OPERATOR, AuditAction::NodeAdmit));
    audit.finish(change.await.unwrap()).await;
    audit.flush().await.unwrap();
    let report = audit.verify(Some(newer.parse().unwrap())).await.unwrap();
    assert_eq!((report.ok, report.known_head), (false, Some(HeadVerdict::Differs)));
    let foreign = format!("2{}", &kept[1..]);
    let report = audit.verify(Some(foreign.parse().unwrap())).await.unwrap();
    assert_eq!((report.ok, report.known_head), (false, Some(HeadVerdict::Foreign)));
    rig.close().await;
}

#[tokio::test]
async fn a_restored_backup_is_told_by_the_identity_of_its_log() {
    let rig = Rig::long().await;
    assert_eq!(rig.verify(None).await.store_changes, []);
    let restored = LogId::from_bytes([9; 16]);
    let audit = Audit::open(rig.store.clone(), Clock::system(), restored, Replica::ONLY).await.unwrap();
    let report = audit.verify(None).await.unwrap();
    assert!(report.ok, "{report:?}");
    assert_eq!(report.store_changes.len(), 1);
    assert_eq!(report.store_changes[0].log_id, restored.to_string());
    rig.close().await;
}

#[tokio::test]
async fn what_is_forgotten_at_the_old_end_is_told_and_nothing_more_may_be_missing() {
    let rig = Rig::long().await;
    let kept = rig.head().await;
    let before = rig.blocks().await;
    let bytes: usize = before.iter().map(|(_, value)| value.len()).sum();
    let year = Duration::from_secs(400 * 86_400);
    rig.audit.forget(UnixMillis(1_776_672_751_000), year, u64::MAX).await.unwrap();
    assert_eq!(rig.blocks().await.len(), before.len(), "nothing is too old or too much");

    rig.audit.forget(UnixMillis(1_776_672_751_000), year, bytes as u64 / 2).await.unwrap();
    let after = rig.blocks().await;
    assert!(after.len() < before.len() && after.len() > 1, "{} of {}", after.len(), before.len());
    let report = rig.verify(Some(&kept)).await;
    assert!(report.ok && report.first > 1, "{report:?}");
    let first = format!("1:1:{}", "0".repeat(64));
    assert_eq!(rig.verify(Some(&first)).await.known_head, Some(HeadVerdict::Forgotten));

    // After a restart as well; and one block more is one too many.
    let rig = rig.restarted().await;
    assert!(rig.verify(Some(&kept)).await.ok);
    rig.delete(&after[0].0).await;
    let report = rig.verify(None).await;
    assert!(!report.ok && report.flaws[0].what.contains("are not there"), "{report:?}");
    rig.close().await;
}

#[tokio::test]
async fn old_entries_are_forgotten_by_age() {
    let rig = Rig::long().await;
    let day = Duration::from_secs(86_400);
    // The purges are of April 2026, the beginning of the chain is of now.
    let late = UnixMillis(Clock::system().wall().0 + 2 * 86_400_000);
    rig.audit.forget(late, day, u64::MAX).await.unwrap();
    assert_eq!(rig.blocks().await.len(), 2, "the last block stays, and the entry about the others comes");
    assert!(rig.verify(None).await.ok);
    rig.close().await;
}

#[tokio::test]
async fn pages_follow_one_another_and_filters_find_what_fits() {
    let rig = Rig::long().await;
    let mut numbers = Vec::new();
    let mut before = None;
    loop {
        let page = rig.audit.list(&AuditFilter::default(), before, 97).await.unwrap();
        numbers.extend(page.entries.iter().map(number_of));
        match page.next {
            Some(next) => before = Some(next),
            None => break,
        }
    }
    let all: Vec<u64> = (1..=2_501).rev().collect();
    assert_eq!(numbers, all);

    let count =
        async |filter: AuditFilter| rig.audit.list(&filter, None, LISTED_MAX).await.unwrap().entries.len();
    let none = AuditFilter { site: Some("other".to_owned()), ..AuditFilter::default() };
    assert_eq!(count(none).await, 0);
    let begin = AuditFilter { action: Some(AuditAction::AuditBegin), ..AuditFilter::default() };
    assert_eq!(count(begin).await, 1);
    let april = UnixMillis(1_776_672_751_001);
    let since = AuditFilter { since: Some(april), ..AuditFilter::default() };
    assert_eq!(count(since).await, 1, "the beginning of the chain is younger than its purges");
    let until = AuditFilter { until: Some(april), ..AuditFilter::default() };
    assert_eq!(count(until).await, LISTED_MAX);
    rig.close().await;
}

#[tokio::test]
async fn a_stretch_goes_on_where_the_last_one_ended() {
    let rig = Rig::long().await;
    let (mut next, mut numbers, mut hash) = (750, Vec::new(), None::<String>);
    while let Some(stretch) = rig.audit.stretch(next).await.unwrap() {
        assert_eq!(stretch.head.first, next);
        if let Some(hash) = &hash {
            assert_eq!(&stretch.head.previous, hash);
        }
        numbers.extend(stretch.entries.iter().map(number_of));
        let last: serde_json::Value = serde_json::from_str(stretch.entries.last().unwrap().as_str()).unwrap();
        hash = last["hash"].as_str().map(str::to_owned);
        next = stretch.next;
    }
    assert_eq!(numbers, (750..=2_501).collect::<Vec<u64>>());
    assert!(rig.head().await.ends_with(&hash.unwrap()));
    rig.close().await;
}

/// Two control planes over the store of the rig.
async fn two(rig: &Rig) -> [Audit; 2] {
    let store = SharedStore::over(rig.store.clone());
    let log_id = store.log().state().await.unwrap().log_id;
    let open =
        async |number| Audit::open(store.clone(), Clock::system(), log_id, Replica(number)).await.unwrap();
    [open(1).await, open(2).await]
}

fn counted(page: &AuditPage) -> usize {
    assert!(page.next.is_none());
    page.entries.len()
}

#[tokio::test(flavor = "multi_thread")]
async fn several_control_planes_write_one_chain_and_each_purge_has_one_entry() {
    let rig = Rig::new().await;
    let [one, two] = two(&rig).await.map(Arc::new);
    let change = || AuditEntry::new(UnixMillis(1), OPERATOR, AuditAction::NodeAdmit);
    let writes = async |audit: &Audit, name: &str| {
        for round in 0..30 {
            let begun = audit.begin(format!("{name}{round}"), change()).await.unwrap();
            audit.note(AuditEntry::new(UnixMillis(1), OPERATOR, AuditAction::UserSignIn));
            audit.flush().await.unwrap();
            audit.finish(begun).await;
        }
    };
    let purging = async {
        for _ in 0..20 {
            rig.purges(50).await;
        }
    };
    tokio::join!(writes(&one, "one"), writes(&two, "two"), purging);
    for audit in [&one, &two] {
        let report = audit.verify(None).await.unwrap();
        assert!(report.ok, "{report:?}");
        let count = async |action| {
            let filter = AuditFilter { action: Some(action), ..AuditFilter::default() };
            let (mut entries, mut before) = (0, None);
            loop {
                let page = audit.list(&filter, before, LISTED_MAX).await.unwrap();
                entries += page.entries.len();
                match page.next {
                    Some(next) => before = Some(next),
                    None => return entries,
                }
            }
        };
        assert_eq!(count(AuditAction::Purge).await, 1_000);
        assert_eq!(count(AuditAction::NodeAdmit).await, 60);
        assert_eq!(count(AuditAction::UserSignIn).await, 60);
        assert_eq!(count(AuditAction::AuditBegin).await, 1);
        assert_eq!(count(AuditAction::LogGap).await, 0);
    }
    assert_eq!(one.verify(None).await.unwrap().head, two.verify(None).await.unwrap().head);
    rig.close().await;
}

#[tokio::test]
async fn a_start_ends_the_changes_of_its_own_last_process_alone() {
    let rig = Rig::new().await;
    let [one, two] = two(&rig).await;
    let now = Clock::system().wall();
    let change = || AuditEntry::new(now, OPERATOR, AuditAction::SiteRemove);
    let _cut_short = one.begin("one".to_owned(), change()).await.unwrap();
    let goes_on = two.begin("two".to_owned(), change()).await.unwrap();
    drop(one);
    let store = SharedStore::over(rig.store.clone());
    let log_id = store.log().state().await.unwrap().log_id;
    let one = Audit::open(store, Clock::system(), log_id, Replica(1)).await.unwrap();
    two.finish(goes_on).await;
    let filter = AuditFilter { action: Some(AuditAction::SiteRemove), ..AuditFilter::default() };
    let page = one.list(&filter, None, 10).await.unwrap();
    assert_eq!(counted(&page), 2);
    let results: Vec<String> = page
        .entries
        .iter()
        .map(|entry| serde_json::from_str::<AuditEntry>(entry.as_str()).unwrap().result.to_string())
        .collect();
    assert_eq!(results, ["done", "unknown"], "newest first");
    assert!(two.verify(None).await.unwrap().ok);
    rig.close().await;
}

#[tokio::test]
async fn of_two_that_forget_at_one_time_neither_leaves_a_flaw() {
    let rig = Rig::long().await;
    let bytes: usize = rig.blocks().await.iter().map(|(_, value)| value.len()).sum();
    let [one, two] = two(&rig).await;
    let year = Duration::from_secs(400 * 86_400);
    let now = UnixMillis(1_776_672_751_000);
    let forget = async |audit: &Audit| audit.forget(now, year, bytes as u64 / 2).await.unwrap();
    tokio::join!(forget(&one), forget(&two));
    forget(&two).await;
    for audit in [&one, &two] {
        let report = audit.verify(None).await.unwrap();
        assert!(report.ok && report.first > 1, "{report:?}");
    }
    rig.close().await;
}
