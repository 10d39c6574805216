//! A store of the formats that kept everything in one database, as a build of before would have left it.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use batoff_types::{LogId, Seq, SiteId, TaskId, UnixMillis};
use bytes::Bytes;
use redb::{Database, ReadableDatabase, TableDefinition};
use tempfile::TempDir;
use ulid::Ulid;

use super::super::layout::{
    COMPLETIONS, KV, KV_EXPIRY, META, OLD_DEDUPE, OLD_LOG, SITE_TASKS, TASK_SEQS, TASKS,
};
use super::super::rows::{self, Pair, SeenKey};
use super::recorder::RecordingDisk;
use super::{brisk, copy_files, open};
use crate::conformance::ManualClock;
use crate::embedded::{EmbeddedConfig, EmbeddedStore, OpenError};
use crate::error::ReadError;
use crate::kv::{Expect, Key, Kv, Version, Write};
use crate::purge_log::{Appended, Dedupe, NewRecord, NewTask, PurgeLog};
use crate::store::Store;

/// The records that are left of those that there were.
const FIRST: u64 = 5;
const LAST: u64 = 3_000;

fn log_id() -> LogId {
    LogId::from_ulid(Ulid::from(0x0123_4567_89AB_CDEF_u128))
}

fn site() -> SiteId {
    "shop".parse().unwrap()
}

fn task_of(seq: u64) -> TaskId {
    TaskId::from_bytes(u128::from(seq).to_be_bytes())
}

fn body_of(seq: u64) -> Bytes {
    Bytes::from(format!("{seq}:{}", "x".repeat(seq as usize % 900)))
}

fn key_of(seq: u64) -> [u8; 32] {
    let mut key = [seq as u8; 32];
    key[8..16].copy_from_slice(&seq.to_le_bytes());
    key
}

/// `high 8 | accepted_at 8 | crc 4 | body`.
fn old_record(seq: u64) -> Vec<u8> {
    let mut row = [seq.to_le_bytes(), seq.to_le_bytes()].concat();
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&seq.to_le_bytes());
    hasher.update(&row);
    hasher.update(&body_of(seq));
    row.extend(hasher.finalize().to_le_bytes());
    row.extend(body_of(seq));
    row
}

fn old_store(dir: &Path, format: u128) {
    let database = Database::create(dir.join("purge.redb")).unwrap();
    let transaction = database.begin_write().unwrap();
    {
        let mut meta = transaction.open_table(META).unwrap();
        let numbers = [
            ("format", format),
            ("log_id", u128::from(log_id().ulid())),
            ("commit", 40),
            ("first", u128::from(FIRST)),
            ("kv_version", 9),
        ];
        for (name, number) in numbers {
            meta.insert(name, number).unwrap();
        }
        let mut log = transaction.open_table(OLD_LOG).unwrap();
        let mut tasks = transaction.open_table(TASKS).unwrap();
        let mut task_seqs = transaction.open_table(TASK_SEQS).unwrap();
        let mut site_tasks = transaction.open_table(SITE_TASKS).unwrap();
        let mut completions = transaction.open_table(COMPLETIONS).unwrap();
        let mut dedupe = transaction.open_table(OLD_DEDUPE).unwrap();
        let expiry: TableDefinition<(u64, &[u8; 32]), ()> = TableDefinition::new("dedupe_expiry");
        let mut dedupe_expiry = transaction.open_table(expiry).unwrap();
        let row_begin = if format == 1 { 4 } else { 0 };
        for seq in 1..=LAST {
            if seq >= FIRST {
                log.insert(seq, old_record(seq).as_slice()).unwrap();
            }
            let row = rows::task(seq, &site(), task_of(seq), UnixMillis(seq), b"meta");
            tasks.insert(seq, &row[row_begin..]).unwrap();
            task_seqs.insert(&task_of(seq).to_bytes(), seq).unwrap();
            site_tasks.insert((site().as_str(), seq), ()).unwrap();
            if seq % 2 == 0 {
                completions.insert(seq, &rows::completion(seq, b"done")[row_begin..]).unwrap();
            }
            let seen = SeenKey {
                seq,
                task: task_of(seq),
                body_hash: [1; 32],
                first_at: UnixMillis(seq),
                expires_at: UnixMillis(if seq % 3 == 0 { 1 } else { u64::MAX - 1 }),
            };
            dedupe.insert(&key_of(seq), &seen.to_row()).unwrap();
            dedupe_expiry.insert((seen.expires_at.0, &key_of(seq)), ()).unwrap();
        }
        let mut pairs = transaction.open_table(KV).unwrap();
        let pair = |version, expires| Pair { version, expires, value: Bytes::from_static(b"value") };
        pairs.insert(&b"stays"[..], pair(7, rows::NEVER).to_row().as_slice()).unwrap();
        pairs.insert(&b"goes"[..], pair(8, u64::MAX - 7).to_row().as_slice()).unwrap();
        let mut expiry = transaction.open_table(KV_EXPIRY).unwrap();
        expiry.insert((u64::MAX - 7, &b"goes"[..]), ()).unwrap();
    }
    transaction.commit().unwrap();
    fs::write(dir.join("LOG_ID"), format!("{}\n", log_id())).unwrap();
    fs::write(dir.join("ACKNOWLEDGED"), old_witness(40)).unwrap();
}

fn old_witness(commit: u64) -> Vec<u8> {
    let mut bytes = u128::from(log_id().ulid()).to_le_bytes().to_vec();
    bytes.extend(commit.to_le_bytes());
    bytes.extend(LAST.to_le_bytes());
    bytes.extend(crc32fast::hash(&bytes).to_le_bytes());
    bytes
}

/// Everything that was in it is in the store.
async fn check(store: &Arc<EmbeddedStore>, next: u64) {
    let state = store.state().await.unwrap();
    assert_eq!((state.log_id, state.first.get(), state.tail.get()), (log_id(), FIRST, next - 1));
    let mut seq = FIRST;
    while seq <= LAST {
        for record in store.read(Seq::new(seq).unwrap(), 500, usize::MAX).await.unwrap() {
            assert_eq!((record.seq.get(), record.accepted_at), (seq, UnixMillis(seq)));
            assert!(seq > LAST || record.body == body_of(seq));
            seq += 1;
        }
    }
    let before = store.read(Seq::new(FIRST - 1).unwrap(), 1, 1).await;
    assert_eq!(before, Err(ReadError::Trimmed { first: Seq::new(FIRST).unwrap() }));
    assert_eq!(store.find_by_time(UnixMillis(700)).await, Ok(Seq::new(700).unwrap()));
    for seq in [1, 2, FIRST, 1_000, LAST] {
        let row = store.find_task(task_of(seq)).await.unwrap().unwrap();
        let completion = (seq % 2 == 0).then(|| Bytes::from_static(b"done"));
        assert_eq!((row.seq.get(), &*row.meta, row.completion), (seq, &b"meta"[..], completion));
    }
    assert_eq!(store.list_tasks(&site(), Some(task_of(8)), 100).await.unwrap().len(), 7);
    for seq in [1, 2, 400] {
        assert_eq!(
            repeat(store, seq).await,
            Appended::Duplicate { seq: Seq::new(seq).unwrap(), task: task_of(seq) }
        );
    }
    let stays = store.get(&Key::from("stays")).await.unwrap().unwrap();
    assert_eq!((stays.version, &*stays.value), (Version::from_raw(7), &b"value"[..]));
    assert!(store.get(&Key::from("goes")).await.unwrap().is_some());
}

async fn repeat(store: &Arc<EmbeddedStore>, seq: u64) -> Appended {
    let dedupe = Dedupe {
        key: key_of(seq),
        body_hash: [1; 32],
        fresh_for_ms: 0,
        expires_at: UnixMillis(u64::MAX - 1),
    };
    let task = NewTask { site: site(), task: task_of(1_000_000 + seq), meta: Bytes::new() };
    let accepted_at = UnixMillis(LAST + 1);
    let record =
        NewRecord { body: Bytes::from("again"), accepted_at, task: Some(task), dedupe: vec![dedupe] };
    store.append(vec![record]).await.unwrap()[0]
}

#[tokio::test]
async fn a_store_of_an_older_format_is_carried_over() {
    for format in [1, 2] {
        let dir = TempDir::new().unwrap();
        old_store(dir.path(), format);
        let clock = ManualClock::default();
        for _ in 0..2 {
            let store = open(&dir, &clock);
            check(&store, LAST + 1).await;
            store.close().await;
        }
        let store = open(&dir, &clock);
        // A key that had expired is as if it had never been seen.
        assert_eq!(repeat(&store, 3).await, Appended::New { seq: Seq::new(LAST + 1).unwrap() });
        let version =
            store.cas(&Key::from("new"), Expect::Absent, Write::Put { value: Bytes::new(), ttl: None }).await;
        assert!(version.unwrap().raw() > 9);
        store.close().await;
        let store = open(&dir, &clock);
        check(&store, LAST + 2).await;
        store.close().await;
    }
}

#[tokio::test]
async fn a_kill_or_a_power_cut_while_it_is_carried_over_leaves_the_old_store_or_the_new_one() {
    let dir = TempDir::new().unwrap();
    old_store(dir.path(), 2);
    let clock = ManualClock::default();
    let disk = RecordingDisk::new(dir.path(), 0x5EED, 6);
    let config = EmbeddedConfig::new(dir.path(), clock.clock());
    EmbeddedStore::open_on(disk.clone(), config, brisk()).unwrap().close().await;
    let remains = disk.take_remains();
    let (mut old, mut new) = (0, 0);
    for found in remains {
        match format_of(found.dir.path()) {
            2 => old += 1,
            _ => new += 1,
        }
        let store = open(&found.dir, &clock);
        check(&store, LAST + 1).await;
        store.close().await;
        assert!(!found.dir.path().join("purge.redb.3").exists());
    }
    assert!(old > 3 && new > 0, "{old} before the new store had its name, {new} after");
}

/// The version that a build of before reads, through the table and the five numbers that it knows.
fn format_of(dir: &Path) -> u128 {
    let copy = TempDir::new().unwrap();
    fs::copy(dir.join("purge.redb"), copy.path().join("purge.redb")).unwrap();
    let database = Database::open(copy.path().join("purge.redb")).unwrap();
    let meta = database.begin_read().unwrap().open_table(META).unwrap();
    for name in ["log_id", "commit", "first", "kv_version"] {
        assert!(meta.get(name).unwrap().is_some(), "without its {name} it is told to be no purge log");
    }
    meta.get("format").unwrap().unwrap().value()
}

#[tokio::test]
async fn a_build_of_before_is_told_that_the_format_is_newer() {
    let dir = TempDir::new().unwrap();
    open(&dir, &ManualClock::default()).close().await;
    assert_eq!(format_of(dir.path()), 3);
}

#[tokio::test]
async fn an_old_store_that_lacks_what_was_acknowledged_is_not_carried_over() {
    let dir = TempDir::new().unwrap();
    old_store(dir.path(), 2);
    fs::write(dir.path().join("ACKNOWLEDGED"), old_witness(41)).unwrap();
    let config = || EmbeddedConfig::new(dir.path(), ManualClock::default().clock());
    let Err(error) = EmbeddedStore::open(config()) else { panic!("commit 41 is missing") };
    assert!(matches!(&error, OpenError::Corrupt { detail, .. } if detail.contains("commit 41")), "{error}");
    assert_eq!(format_of(dir.path()), 2, "it is as it was");
}

#[tokio::test]
async fn an_old_store_beside_files_of_a_newer_one_is_refused() {
    let (dir, other) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    open(&dir, &ManualClock::default()).close().await;
    old_store(other.path(), 2);
    copy_files(other.path(), dir.path());
    let Err(error) = EmbeddedStore::open(EmbeddedConfig::new(dir.path(), ManualClock::default().clock()))
    else {
        panic!("the newer store's log would be lost");
    };
    assert!(error.to_string().contains("older format than the files beside it"), "{error}");
    assert!(dir.path().join(super::super::names::segment(1)).exists());
}
