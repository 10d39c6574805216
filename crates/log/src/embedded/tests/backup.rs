//! A backup of a store that goes on, and the store that is made of it.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use batoff_types::{Seq, SiteId, TaskId, UnixMillis};
use bytes::Bytes;
use tempfile::TempDir;

use super::{open, open_brisk};
use crate::conformance::ManualClock;
use crate::embedded::{BackupError, BackupSummary, EmbeddedStore, OpenError, verify_backup};
use crate::error::ReadError;
use crate::kv::{Expect, Key, Kv, Write};
use crate::purge_log::{Appended, Dedupe, NewRecord, NewTask, PurgeLog};
use crate::store::Store;

fn site() -> SiteId {
    "shop".parse().unwrap()
}

fn task_of(seq: u64) -> TaskId {
    TaskId::from_bytes(u128::from(seq).to_be_bytes())
}

fn body_of(seq: u64) -> Bytes {
    Bytes::from(format!("{seq}:{}", "x".repeat(seq as usize % 900)))
}

fn record(seq: u64) -> NewRecord {
    let dedupe = Dedupe {
        key: [seq.to_le_bytes(); 4].concat().try_into().unwrap(),
        body_hash: [1; 32],
        fresh_for_ms: 0,
        expires_at: UnixMillis(u64::MAX - 1),
    };
    NewRecord {
        body: body_of(seq),
        accepted_at: UnixMillis(seq),
        task: Some(NewTask { site: site(), task: task_of(seq), meta: Bytes::from_static(b"meta") }),
        dedupe: vec![dedupe],
    }
}

async fn append(store: &EmbeddedStore, seq: u64) {
    let appended = store.append(vec![record(seq)]).await.unwrap();
    assert_eq!(appended, [Appended::New { seq: Seq::new(seq).unwrap() }]);
}

async fn put(store: &EmbeddedStore, key: &str) {
    let write = Write::Put { value: Bytes::from_static(b"value"), ttl: None };
    store.cas(&Key::from(key), Expect::Absent, write).await.unwrap();
}

/// With records through 200, of which those before 20 are trimmed, completions, keys and pairs.
async fn filled(dir: &TempDir, clock: &ManualClock) -> Arc<EmbeddedStore> {
    let store = open_brisk(dir, clock);
    for seq in 1..=200 {
        append(&store, seq).await;
    }
    store.put_completions(vec![(task_of(7), Bytes::from_static(b"done"))]).await.unwrap();
    store.trim(Seq::new(20).unwrap()).await.unwrap();
    put(&store, "a").await;
    put(&store, "b").await;
    store
}

fn back_up(store: &EmbeddedStore, path: &Path) -> BackupSummary {
    let mut file = fs::File::create(path).unwrap();
    let summary = store.backup(&mut file).unwrap();
    assert_eq!(verify_backup(path).unwrap(), summary);
    summary
}

fn restored(path: &Path, clock: &ManualClock) -> (TempDir, Arc<EmbeddedStore>) {
    let dir = TempDir::new().unwrap();
    EmbeddedStore::restore(path, dir.path()).unwrap();
    let store = open(&dir, clock);
    (dir, store)
}

#[tokio::test]
async fn a_restored_store_holds_all_that_the_backup_says_and_goes_on_in_a_log_of_its_own() {
    let (dir, clock) = (TempDir::new().unwrap(), ManualClock::default());
    let store = filled(&dir, &clock).await;
    let path = dir.path().join("../backup-of-it");
    let path = path.with_extension(format!("{}", std::process::id()));
    let summary = back_up(&store, &path);
    let before = store.state().await.unwrap();
    assert_eq!((summary.first.get(), summary.tail.get(), summary.pairs), (20, 200, 2));
    append(&store, 201).await;

    let (_kept, copy) = restored(&path, &clock);
    let state = copy.state().await.unwrap();
    assert_ne!(state.log_id, before.log_id);
    assert_eq!((state.first, state.tail), (before.first, summary.tail));
    let mut seq = 20;
    while seq <= 200 {
        for record in copy.read(Seq::new(seq).unwrap(), 500, usize::MAX).await.unwrap() {
            assert_eq!((record.seq.get(), record.accepted_at), (seq, UnixMillis(seq)));
            assert_eq!(record.body, body_of(seq));
            seq += 1;
        }
    }
    let trimmed = copy.read(Seq::new(19).unwrap(), 1, 1).await;
    assert_eq!(trimmed, Err(ReadError::Trimmed { first: Seq::new(20).unwrap() }));
    for seq in [1, 7, 20, 200] {
        let row = copy.find_task(task_of(seq)).await.unwrap().unwrap();
        let completion = (seq == 7).then(|| Bytes::from_static(b"done"));
        assert_eq!((row.seq.get(), &*row.meta, row.completion), (seq, &b"meta"[..], completion));
        let repeated = copy.append(vec![record(seq)]).await.unwrap();
        assert_eq!(repeated, [Appended::Duplicate { seq: Seq::new(seq).unwrap(), task: task_of(seq) }]);
    }
    assert!(copy.find_task(task_of(201)).await.unwrap().is_none());
    let version = store.get(&Key::from("b")).await.unwrap().unwrap().version;
    assert_eq!(copy.get(&Key::from("b")).await.unwrap().unwrap().version, version);
    put(&copy, "c").await;
    assert!(copy.get(&Key::from("c")).await.unwrap().unwrap().version.raw() > version.raw());
    append(&copy, 201).await;
    copy.close().await;
    let copy =
        EmbeddedStore::open(crate::embedded::EmbeddedConfig::new(_kept.path(), clock.clock())).unwrap();
    assert_eq!(copy.state().await.unwrap().tail.get(), 201);
    copy.close().await;
    store.close().await;
    fs::remove_file(path).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn backups_that_are_taken_while_the_store_writes_trims_and_checkpoints_are_whole() {
    let (dir, clock) = (TempDir::new().unwrap(), ManualClock::default());
    let store = filled(&dir, &clock).await;
    let writing = tokio::spawn({
        let store = Arc::clone(&store);
        async move {
            for seq in 201..=900 {
                append(&store, seq).await;
                if seq % 10 == 0 {
                    store.trim(Seq::new(seq - 50).unwrap()).await.unwrap();
                    put(&store, &format!("pair-{seq}")).await;
                }
            }
        }
    });
    let target = TempDir::new().unwrap();
    let mut taken = Vec::new();
    while !writing.is_finished() {
        let path = target.path().join(taken.len().to_string());
        let (store, at) = (Arc::clone(&store), path.clone());
        taken.push((tokio::task::spawn_blocking(move || back_up(&store, &at)).await.unwrap(), path));
    }
    writing.await.unwrap();
    assert!(taken.len() > 1);
    // Each is what the store was at one moment: what the pairs speak of is in the log.
    let step = taken.len().div_ceil(6);
    for (summary, path) in taken.iter().step_by(step) {
        let (_dir, copy) = restored(path, &clock);
        let state = copy.state().await.unwrap();
        assert_eq!((state.tail, state.first), (summary.tail, summary.first));
        let tail = state.tail.get();
        for seq in state.first.get()..=tail {
            let page = copy.read(Seq::new(seq).unwrap(), 1, usize::MAX).await.unwrap();
            assert_eq!(page[0].body, body_of(seq));
            assert!(copy.find_task(task_of(seq)).await.unwrap().is_some());
        }
        for seq in (210..=900).step_by(10) {
            let pair = copy.get(&Key::from(&*format!("pair-{seq}"))).await.unwrap();
            assert!(pair.is_none() || seq <= tail, "pair {seq} speaks of a record beyond {tail}");
        }
        append(&copy, tail + 1).await;
        copy.close().await;
    }
    store.close().await;
}

#[tokio::test]
async fn a_backup_that_was_cut_or_altered_is_refused_by_name_and_byte() {
    let (dir, clock) = (TempDir::new().unwrap(), ManualClock::default());
    let store = filled(&dir, &clock).await;
    let target = TempDir::new().unwrap();
    let path = target.path().join("store.backup");
    back_up(&store, &path);
    store.close().await;
    let whole = fs::read(&path).unwrap();
    let damaged = target.path().join("damaged");
    let refused = |bytes: &[u8]| {
        fs::write(&damaged, bytes).unwrap();
        let error = verify_backup(&damaged).expect_err("it was damaged");
        let into = TempDir::new().unwrap();
        assert!(EmbeddedStore::restore(&damaged, into.path()).is_err());
        assert_eq!(fs::read_dir(into.path()).unwrap().count(), 0, "nothing was made");
        error
    };
    let step = (whole.len() / 97).max(1);
    for at in (0..whole.len()).step_by(step) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x20;
        match refused(&bytes) {
            BackupError::Altered { at: told, path, .. } | BackupError::Cut { at: told, path } => {
                assert!(told <= at as u64 && path == damaged, "byte {at}, told of {told}");
            }
            BackupError::Foreign(_) => assert!(at < 8),
            other => panic!("byte {at}: {other}"),
        }
        let cut = refused(&whole[..at]);
        assert!(matches!(cut, BackupError::Cut { .. }) || at < 8, "cut at {at}: {cut}");
    }
    let longer = [&whole[..], b"x"].concat();
    assert!(matches!(refused(&longer), BackupError::Altered { .. }));
    let mut newer = whole.clone();
    newer[8] = 2;
    let crc = crc32fast::hash(&newer[..12]);
    newer[12..16].copy_from_slice(&crc.to_le_bytes());
    let error = refused(&newer);
    assert!(matches!(error, BackupError::Version { found: 2, supported: 1, .. }), "{error}");
}

#[tokio::test]
async fn a_folder_that_holds_something_is_not_restored_into_and_half_a_restore_is_no_store() {
    let (dir, clock) = (TempDir::new().unwrap(), ManualClock::default());
    let store = filled(&dir, &clock).await;
    let target = TempDir::new().unwrap();
    let path = target.path().join("store.backup");
    back_up(&store, &path);
    store.close().await;
    let into = TempDir::new().unwrap();
    fs::write(into.path().join("notes"), "mine").unwrap();
    assert!(matches!(EmbeddedStore::restore(&path, into.path()), Err(BackupError::Occupied(_))));
    fs::remove_file(into.path().join("notes")).unwrap();
    fs::create_dir(into.path().join("lost+found")).unwrap();
    EmbeddedStore::restore(&path, into.path()).unwrap();
    // As a power cut would leave it before the store has its name.
    fs::rename(into.path().join("purge.redb"), into.path().join("purge.redb.restoring")).unwrap();
    let Err(error) = EmbeddedStore::open(crate::embedded::EmbeddedConfig::new(into.path(), clock.clock()))
    else {
        panic!("half a store was opened");
    };
    assert!(matches!(error, OpenError::Lost { .. }), "{error}");
}
