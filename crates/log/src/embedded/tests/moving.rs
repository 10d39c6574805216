//! What a backup comes to as parts, and a store that is made of such parts, holds what the store held.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use batoff_types::{Seq, SiteId, TaskId, UnixMillis};
use bytes::Bytes;
use tempfile::TempDir;

use super::{open, open_brisk};
use crate::conformance::ManualClock;
use crate::embedded::{BackupContents, BackupError, EmbeddedStore, compose_backup};
use crate::kv::{Expect, Key, Kv, Write};
use crate::moving::{LogPart, MoveError, MovedCounts, compare, parts};
use crate::purge_log::{Appended, Dedupe, NewRecord, NewTask, PurgeLog};
use crate::store::Store;

fn site() -> SiteId {
    "shop".parse().unwrap()
}

fn task_of(seq: u64) -> TaskId {
    TaskId::from_bytes(u128::from(seq).to_be_bytes())
}

/// Each third has no task, each fifth shares the one before; keys of odd ones end soon.
fn record(seq: u64, now: u64) -> NewRecord {
    let expires_at = UnixMillis(if seq % 2 == 1 { now + 1_000 } else { u64::MAX - 1 });
    let mut key = [3; 32];
    key[..8].copy_from_slice(&seq.to_le_bytes());
    let has_task = !seq.is_multiple_of(3);
    let task = if seq.is_multiple_of(5) { task_of(seq - 1) } else { task_of(seq) };
    NewRecord {
        body: Bytes::from(vec![b'x'; (seq as usize * 37) % 3_000]),
        accepted_at: UnixMillis(now + seq),
        task: has_task.then(|| NewTask { site: site(), task, meta: Bytes::from(format!("meta {seq}")) }),
        dedupe: if has_task {
            vec![Dedupe { key, body_hash: [seq as u8; 32], fresh_for_ms: 0, expires_at }]
        } else {
            Vec::new()
        },
    }
}

fn contents(store: &EmbeddedStore, path: &Path, clock: &ManualClock) -> BackupContents {
    store.backup(&mut File::create(path).unwrap()).unwrap();
    BackupContents::read(path, clock.now()).unwrap()
}

#[tokio::test]
async fn a_log_that_goes_through_parts_is_the_same_log() {
    let (dir, target, clock) = (TempDir::new().unwrap(), TempDir::new().unwrap(), ManualClock::default());
    let store = open_brisk(&dir, &clock);
    let now = clock.now().0;
    for seq in 1..=300 {
        let appended = store.append(vec![record(seq, now)]).await.unwrap();
        assert_eq!(appended, [Appended::New { seq: Seq::new(seq).unwrap() }]);
    }
    let completions = |range: std::ops::Range<u64>, text: &'static str| {
        range.map(|seq| (task_of(seq), Bytes::from_static(text.as_bytes()))).collect::<Vec<_>>()
    };
    store.put_completions(completions(1..120, "early")).await.unwrap();
    store.put_completions(completions(100..250, "late")).await.unwrap();
    assert!(store.forget_tasks(UnixMillis(now + 20)).await.unwrap() > 0);
    store.trim(Seq::new(101).unwrap()).await.unwrap();
    for (key, ttl) in [("a", None), ("b/1", Some(60_000)), ("b/2", None)] {
        let ttl = ttl.map(Duration::from_millis);
        let write = Write::Put { value: Bytes::from(key), ttl };
        store.cas(&Key::from(key), Expect::Absent, write).await.unwrap();
    }
    clock.advance_ms(2_000);
    let (first, second) = (target.path().join("first"), target.path().join("second"));
    let contents_of = contents(&store, &first, &clock);
    let outline = contents_of.outline().clone();
    assert_eq!((outline.state.first.get(), outline.state.tail.get()), (101, 300));
    // Those of the even ones with a task; and not those of records without one.
    assert_eq!(
        outline.keys.len(),
        (1..=300).filter(|seq: &u64| seq.is_multiple_of(2) && !seq.is_multiple_of(3)).count()
    );
    let tasks = store.list_tasks(&site(), None, 1_000).await.unwrap();
    assert!(outline.tasks.values().rev().eq(&tasks));
    assert!(tasks.iter().any(|row| row.completion.is_some() && row.seq.get() < 101));

    let composing = tokio::task::spawn_blocking({
        let (outline, parts, second) = (outline.clone(), contents_of.parts(), second.clone());
        move || compose_backup(&mut File::create(second).unwrap(), &outline, parts, UnixMillis(9))
    });
    let composed = composing.await.unwrap().unwrap();
    assert_eq!((composed.records, composed.pairs, composed.tail.get()), (200, 3, 300));
    let folder = target.path().join("store");
    EmbeddedStore::restore_moved(&second, &folder).unwrap();
    let copy = EmbeddedStore::open(crate::embedded::EmbeddedConfig::new(&folder, clock.clock())).unwrap();
    assert_eq!(copy.state().await.unwrap(), store.state().await.unwrap());
    let third = target.path().join("third");
    let copied = contents(&copy, &third, &clock);
    let (one, other) = ((&outline, contents_of.parts()), (copied.outline(), copied.parts()));
    let keys = outline.keys.len() as u64;
    let counts = MovedCounts { records: 200, tasks: tasks.len() as u64, keys, pairs: 3 };
    assert_eq!(compare(one, other).await.unwrap(), counts);
    for seq in [2, 4, 104, 298] {
        let repeated = copy.append(vec![record(seq, now)]).await.unwrap();
        let first = store.append(vec![record(seq, now)]).await.unwrap();
        assert!(matches!(first[0], Appended::Duplicate { .. }));
        assert_eq!(repeated, first);
    }
    // A key that has expired is as if it had never been seen, and a write is another one than that before.
    let anew = copy.append(vec![record(1, now)]).await.unwrap();
    assert_eq!(anew, [Appended::New { seq: Seq::new(301).unwrap() }]);
    let before = copy.get(&Key::from("a")).await.unwrap().unwrap().version;
    let write = Write::Put { value: Bytes::from("other"), ttl: None };
    let after = copy.cas(&Key::from("a"), Expect::Version(before), write).await.unwrap();
    assert_ne!(before, after);
    clock.advance_ms(60_000);
    assert_eq!(copy.get(&Key::from("b/1")).await.unwrap(), None);

    // What differs is named.
    let later = contents(&copy, &third, &clock);
    let differs = compare((&outline, contents_of.parts()), (later.outline(), later.parts())).await;
    assert!(matches!(differs, Err(MoveError::Differs(_))), "{differs:?}");
    copy.close().await;
    store.close().await;
}

#[tokio::test]
async fn a_log_that_is_cut_off_while_it_is_read_is_no_log() {
    let (dir, target, clock) = (TempDir::new().unwrap(), TempDir::new().unwrap(), ManualClock::default());
    let store = open(&dir, &clock);
    for seq in 1..=9 {
        store.append(vec![record(seq, 0)]).await.unwrap();
    }
    let contents = contents(&store, &target.path().join("backup"), &clock);
    store.close().await;
    let outline = contents.outline();
    let half = |records: usize| {
        let (sender, cut) = parts();
        let mut whole = contents.parts();
        tokio::spawn(async move {
            for _ in 0..records {
                sender.put(whole.next().await).await;
            }
            if records > 5 {
                sender.put(Ok(LogPart::End)).await;
            }
        });
        cut
    };
    for records in [5, 8] {
        let compared = compare((outline, half(records)), (outline, half(records))).await;
        assert!(compared.is_err(), "{compared:?}");
        let (outline, parts) = (outline.clone(), half(records));
        let composing = tokio::task::spawn_blocking(move || {
            compose_backup(&mut Vec::new(), &outline, parts, UnixMillis(9))
        });
        assert!(matches!(composing.await.unwrap(), Err(BackupError::Store(_))));
    }
}
