use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use batoff_types::{Seq, TaskId, UnixMillis};
use bytes::Bytes;
use futures_util::StreamExt;
use proptest::prelude::*;
use tempfile::TempDir;

use super::super::names::segment as name;
use super::super::pace::Pace;
use super::medium::{Ill, Patient};
use super::{copy_files, open_brisk};
use crate::conformance::ManualClock;
use crate::embedded::{EmbeddedConfig, EmbeddedStore};
use crate::error::StoreError;
use crate::purge_log::{Appended, Dedupe, NewRecord, NewTask, PurgeLog, StoredRecord};
use crate::store::{Health, Store};

struct Ward {
    store: Arc<EmbeddedStore>,
    patient: Patient,
    dir: TempDir,
}

impl Ward {
    fn new() -> Self {
        let (dir, patient) = (TempDir::new().unwrap(), Patient::default());
        let store = open(&dir, &patient);
        Self { store, patient, dir }
    }

    async fn append(&self, number: u64) -> Result<Appended, StoreError> {
        self.store.append(vec![record(number)]).await.map(|answers| answers[0])
    }

    async fn recovered(&self) {
        let mut health = self.store.health();
        tokio::time::timeout(Duration::from_secs(30), health.wait_for(|health| *health == Health::Ok))
            .await
            .expect("recovers by itself")
            .unwrap();
    }

    async fn bodies(&self) -> Vec<Bytes> {
        bodies(&self.store).await
    }
}

fn open(dir: &TempDir, patient: &Patient) -> Arc<EmbeddedStore> {
    let config = EmbeddedConfig::new(dir.path(), ManualClock::default().clock());
    EmbeddedStore::open_on(patient.clone(), config, Pace::default()).unwrap()
}

async fn bodies(store: &EmbeddedStore) -> Vec<Bytes> {
    let records: Vec<StoredRecord> = store.read(Seq::FIRST, 8_000, usize::MAX).await.unwrap();
    assert!(records.iter().zip(1..).all(|(record, number)| record.seq.get() == number));
    records.into_iter().map(|record| record.body).collect()
}

/// A record that can be repeated.
fn record(number: u64) -> NewRecord {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&number.to_le_bytes());
    let task = TaskId::from_bytes(u128::from(number).to_be_bytes());
    NewRecord {
        body: Bytes::from(number.to_string()),
        accepted_at: UnixMillis(number),
        task: Some(NewTask { site: "shop".parse().unwrap(), task, meta: Bytes::new() }),
        dedupe: vec![Dedupe {
            key,
            body_hash: [1; 32],
            fresh_for_ms: 0,
            expires_at: UnixMillis(u64::MAX - 1),
        }],
    }
}

fn new(number: u64) -> Result<Appended, StoreError> {
    Ok(Appended::New { seq: Seq::new(number).unwrap() })
}

#[tokio::test]
async fn a_full_disk_refuses_and_recovers_when_there_is_room() {
    let ward = Ward::new();
    assert_eq!(ward.append(1).await, new(1));
    ward.patient.falls(Ill::Full { after: 0 });
    // More than is left of the room that the log has taken from the disk.
    let large = || NewRecord { body: vec![b'2'; 1_500_000].into(), ..record(2) };
    assert_eq!(ward.store.append(vec![large()]).await, Err(StoreError::Full));
    assert!(matches!(&*ward.store.health().borrow(), Health::Degraded { .. }));
    assert_eq!(
        ward.append(3).await,
        Err(StoreError::Full),
        "small ones wait as well, until there is room to spare"
    );
    assert_eq!(ward.bodies().await, ["1"], "what is there can still be read");
    ward.patient.recovers();
    ward.recovered().await;
    assert_eq!(ward.append(4).await, new(2));
    assert_eq!(ward.bodies().await, ["1", "4"]);
}

#[tokio::test]
async fn a_disk_that_takes_no_writes_is_read_until_it_takes_them_again() {
    let ward = Ward::new();
    assert_eq!(ward.append(1).await, new(1));
    ward.patient.falls(Ill::ReadOnly);
    for _ in 0..3 {
        let failed = ward.append(2).await;
        assert!(
            matches!(failed, Err(StoreError::Unavailable { .. } | StoreError::Unknown { .. })),
            "{failed:?}"
        );
        // The writer answers, and then opens the file for readers.
        let readable = async {
            while ward.store.read(Seq::FIRST, 1, 1).await.is_err() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), readable).await.expect("readers go on");
        assert_eq!(ward.bodies().await, ["1"], "what is there can still be read");
    }
    assert!(matches!(&*ward.store.health().borrow(), Health::Degraded { .. }));
    ward.patient.recovers();
    ward.recovered().await;
    assert_eq!(ward.append(2).await, new(2));
    assert_eq!(ward.bodies().await, ["1", "2"]);
    ward.store.close().await;
    assert_eq!(bodies(&open(&ward.dir, &Patient::default())).await, ["1", "2"], "and on the disk, too");
}

#[tokio::test]
async fn what_failed_before_its_flush_is_certainly_not_there() {
    let ward = Ward::new();
    assert_eq!(ward.append(1).await, new(1));
    ward.patient.falls(Ill::Writes { after: 0 });
    let failed = ward.append(2).await;
    ward.patient.recovers();
    ward.recovered().await;
    // The disk may be so ill that it cannot be asked; then the answer must not promise anything.
    assert!(matches!(failed, Err(StoreError::Unavailable { .. } | StoreError::Unknown { .. })), "{failed:?}");
    assert_eq!(ward.append(2).await, new(2));
    assert_eq!(ward.bodies().await, ["1", "2"]);
}

#[tokio::test]
async fn a_failed_flush_is_never_acknowledged_and_a_repeat_finds_what_survived() {
    let (mut unknown, mut survived) = (0, 0);
    // Whichever flush of a commit it is that fails.
    for ill in (0..4).flat_map(|after| [Ill::Flushes { after }, Ill::OneFlush { after }]) {
        let ward = Ward::new();
        assert_eq!(ward.append(1).await, new(1));
        ward.patient.falls(ill);
        let answer = ward.append(2).await;
        ward.patient.recovers();
        ward.recovered().await;
        let second = Seq::new(2).unwrap();
        let repeated = ward.append(2).await.unwrap();
        match (answer, repeated) {
            (Ok(_), Appended::Duplicate { seq, .. }) => assert_eq!(seq, second),
            (Err(StoreError::Unknown { .. }), Appended::Duplicate { seq, .. }) => {
                assert_eq!(seq, second);
                survived += 1;
                unknown += 1;
            }
            (Err(StoreError::Unknown { .. }), Appended::New { seq }) => {
                assert_eq!(seq, second);
                unknown += 1;
            }
            (Err(StoreError::Unavailable { .. }), Appended::New { seq }) => assert_eq!(seq, second),
            other => panic!("{ill:?}: {other:?}"),
        }
        assert_eq!(ward.bodies().await, ["1", "2"]);
    }
    assert!(unknown > 0, "some flush decides, and its failure is told as unknown");
    assert!(survived > 0, "the medium keeps what was written, so the repeat of an unknown one finds it");
}

#[tokio::test]
async fn a_tail_goes_on_through_a_failure() {
    let ward = Ward::new();
    let mut tail = ward.store.tail(Seq::FIRST);
    assert_eq!(ward.append(1).await, new(1));
    assert_eq!(tail.next().await.unwrap().unwrap()[0].body, "1");
    ward.patient.falls(Ill::Flushes { after: 0 });
    assert!(ward.append(2).await.is_err());
    ward.patient.recovers();
    ward.recovered().await;
    ward.append(2).await.unwrap();
    ward.append(3).await.unwrap();
    let mut told = Vec::new();
    while told.len() < 2 {
        told.extend(tail.next().await.unwrap().unwrap().iter().map(|record| record.body.clone()));
    }
    assert_eq!(told, ["2", "3"]);
}

#[tokio::test]
async fn a_store_that_lost_what_it_acknowledged_refuses_for_good() {
    let ward = Ward::new();
    assert_eq!(ward.append(1).await, new(1));
    ward.store.close().await;
    let old = ward.dir.path().join("old");
    fs::copy(ward.dir.path().join(name(1)), &old).unwrap();

    let store = open(&ward.dir, &ward.patient);
    store.append(vec![record(2)]).await.unwrap();
    ward.patient.swaps_for(old);
    ward.patient.falls(Ill::Flushes { after: 0 });
    let failed = store.append(vec![record(3)]).await;
    ward.patient.recovers();
    assert!(failed.is_err());
    let mut health = store.health();
    let down = health.wait_for(|health| matches!(health, Health::Down { .. }));
    tokio::time::timeout(Duration::from_secs(30), down).await.expect("it is noticed").unwrap();
    for _ in 0..2 {
        let refused = store.append(vec![record(3)]).await;
        assert!(
            matches!(&refused, Err(StoreError::Corrupt(detail)) if detail.contains("acknowledged")),
            "{refused:?}"
        );
    }
    assert!(matches!(store.state().await, Err(StoreError::Corrupt(_))));
    assert!(matches!(
        store.read(Seq::FIRST, 1, 1).await,
        Err(crate::ReadError::Store(StoreError::Corrupt(_)))
    ));
}

#[tokio::test]
async fn a_writer_that_has_panicked_says_that_another_start_is_needed_and_has_lost_nothing() {
    let ward = Ward::new();
    assert_eq!(ward.append(1).await, new(1));
    let mut health = ward.store.health();
    ward.patient.falls(Ill::Panics);
    assert!(ward.append(2).await.is_err());
    let stopped = health.wait_for(|health| matches!(health, Health::Stopped { .. }));
    tokio::time::timeout(Duration::from_secs(30), stopped).await.expect("it is told").unwrap();
    ward.patient.recovers();
    assert!(ward.append(3).await.is_err(), "nothing is promised any more");
    let copy = TempDir::new().unwrap();
    copy_files(ward.dir.path(), copy.path());
    drop(ward);
    let store = open(&copy, &Patient::default());
    assert!(!store.read(Seq::FIRST, 10, usize::MAX).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_read_that_failed_mends_an_idle_store() {
    let dir = TempDir::new().unwrap();
    let patient = Patient::default();
    // No cache, so that reads touch the medium.
    let config = || EmbeddedConfig {
        cache_bytes: 0,
        ..EmbeddedConfig::new(dir.path(), ManualClock::default().clock())
    };
    let store = EmbeddedStore::open_on(patient.clone(), config(), Pace::default()).unwrap();
    store.append((1..=500).map(record).collect()).await.unwrap();
    patient.falls(Ill::Reads);
    let mut failed = false;
    for _ in 0..50 {
        failed |= store.read(Seq::FIRST, 500, usize::MAX).await.is_err();
    }
    assert!(failed, "the medium was read");
    patient.recovers();
    let mut health = store.health();
    let sound = health.wait_for(|health| *health == Health::Ok);
    tokio::time::timeout(Duration::from_secs(30), sound).await.expect("recovers by itself").unwrap();
    tokio::time::timeout(Duration::from_secs(30), async {
        while store.read(Seq::FIRST, 500, usize::MAX).await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .expect("reads succeed again although nobody writes");
}

#[tokio::test]
async fn a_queue_that_is_full_refuses_at_once_and_loses_nothing_it_took() {
    let ward = Ward::new();
    ward.patient.falls(Ill::Hangs);
    // More than one group and a full queue, whatever the writer has taken meanwhile.
    let appends: Vec<_> = (0..20_000u64)
        .map(|number| {
            let store = Arc::clone(&ward.store);
            tokio::spawn(async move { store.append(vec![record(number)]).await })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(50)).await;
    ward.patient.recovers();
    let (mut taken, mut refused) = (0, 0);
    for append in appends {
        match append.await.unwrap() {
            Ok(_) => taken += 1,
            Err(StoreError::Unavailable { retry_after }) => {
                assert!(!retry_after.is_zero());
                refused += 1;
            }
            Err(other) => panic!("{other}"),
        }
    }
    assert!(taken >= 8_192 && refused > 0, "{taken} taken, {refused} refused");
    assert_eq!(ward.store.state().await.unwrap().tail.get(), taken);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_waits_for_the_disk_holds_up_no_purge() {
    const TASKS: u64 = 2_000;
    let (dir, patient) = (TempDir::new().unwrap(), Patient::default());
    let pace = Pace { checkpoint_rows: 500, ..Pace::default() };
    let open = || {
        // Without a cache each page is read from the disk.
        let config = EmbeddedConfig {
            cache_bytes: 0,
            ..EmbeddedConfig::new(dir.path(), ManualClock::default().clock())
        };
        EmbeddedStore::open_on(patient.clone(), config, pace).unwrap()
    };
    let store = open();
    for first in (1..=TASKS).step_by(100) {
        store.append((first..first + 100).map(record).collect()).await.unwrap();
    }
    let task = |number: u64| TaskId::from_bytes(u128::from(number).to_be_bytes());
    store.put_completions(vec![(task(1_000), Bytes::from_static(b"before"))]).await.unwrap();
    store.close().await;
    drop(store);
    let store = open();

    patient.falls(Ill::ReadsHang);
    let old = tokio::spawn({
        let store = Arc::clone(&store);
        async move { store.find_task(task(1_000)).await }
    });
    let list = tokio::spawn({
        let store = Arc::clone(&store);
        async move { store.list_tasks(&"shop".parse().unwrap(), Some(task(1_500)), 1_000).await }
    });
    patient.holds_a_reader().await;
    let appended = store.append(vec![NewRecord { dedupe: Vec::new(), ..record(TASKS + 1) }]);
    let appended = tokio::time::timeout(Duration::from_secs(30), appended).await;
    let appended = appended.expect("the purge is durable although the readers still wait").unwrap();
    assert_eq!(appended, [new(TASKS + 1).unwrap()]);
    patient.recovers();
    assert_eq!(old.await.unwrap().unwrap().unwrap().completion.as_deref(), Some(&b"before"[..]));
    let listed: Vec<u64> = list.await.unwrap().unwrap().iter().map(|row| row.seq.get()).collect();
    assert_eq!(listed, (500..1_500).rev().collect::<Vec<_>>());
}

/// Checkpoints end all the time while tasks are looked for.
#[tokio::test(flavor = "multi_thread")]
async fn readers_beside_checkpoints_miss_nothing_that_was_acknowledged() {
    const TASKS: u64 = 600;
    let dir = TempDir::new().unwrap();
    let store = open_brisk(&dir, &ManualClock::default());
    let task = |number: u64| TaskId::from_bytes(u128::from(number).to_be_bytes());
    let acknowledged = Arc::new(AtomicU64::new(0));
    let readers: Vec<_> = (0..3)
        .map(|_| {
            let (store, acknowledged) = (Arc::clone(&store), Arc::clone(&acknowledged));
            tokio::spawn(async move {
                loop {
                    let done = acknowledged.load(Ordering::SeqCst);
                    let rows = store.list_tasks(&"shop".parse().unwrap(), None, 1_000).await.unwrap();
                    assert!(
                        rows.iter().rev().zip(1..).all(|(row, seq)| row.seq.get() == seq),
                        "each once, in order"
                    );
                    let completed = rows.iter().filter(|row| row.completion.is_some()).count() as u64;
                    assert!(completed >= done, "{completed} of {done} are listed as completed");
                    for number in done.saturating_sub(12).max(1)..=done {
                        let found =
                            store.find_task(task(number)).await.unwrap().expect("it was acknowledged");
                        assert!(
                            found.completion.is_some(),
                            "task {number} was completed before it was looked for"
                        );
                    }
                    if done == TASKS {
                        return;
                    }
                }
            })
        })
        .collect();
    for number in 1..=TASKS {
        store.append(vec![record(number)]).await.unwrap();
        store.put_completions(vec![(task(number), Bytes::from_static(b"done"))]).await.unwrap();
        acknowledged.store(number, Ordering::SeqCst);
    }
    for reader in readers {
        reader.await.unwrap();
    }
}

fn illnesses() -> impl Strategy<Value = Vec<(Ill, u8)>> {
    let ill = prop_oneof![
        (0..12u64).prop_map(|after| Ill::Writes { after }),
        (0..3u64).prop_map(|after| Ill::Flushes { after }),
        (0..6u64).prop_map(|after| Ill::OneFlush { after }),
        (0..12u64).prop_map(|after| Ill::Full { after }),
    ];
    proptest::collection::vec((ill, 1..6u8), 1..4)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever fails when: each acknowledged record is there once at its number, each refused one is not there
    /// unless its outcome was unknown, and a restart finds the same.
    #[test]
    fn no_failure_loses_or_doubles_a_record(illnesses in illnesses()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(live_through(illnesses));
    }
}

async fn live_through(illnesses: Vec<(Ill, u8)>) {
    let ward = Ward::new();
    let mut acknowledged = BTreeMap::new();
    let mut unknown = Vec::new();
    let mut number = 0;
    for (ill, appends) in illnesses {
        ward.patient.falls(ill);
        for _ in 0..appends {
            number += 1;
            match ward.append(number).await {
                Ok(Appended::New { seq }) => drop(acknowledged.insert(seq.get(), number)),
                Ok(other) => panic!("{number} is new: {other:?}"),
                Err(StoreError::Unknown { .. }) => unknown.push(number),
                Err(StoreError::Unavailable { .. } | StoreError::Full) => {}
                Err(other) => panic!("{number}: {other}"),
            }
        }
        ward.patient.recovers();
        ward.recovered().await;
        number += 1;
        let answer = ward.append(number).await;
        let Ok(Appended::New { seq }) = answer else { panic!("a sound store accepts: {answer:?}") };
        acknowledged.insert(seq.get(), number);
    }
    let before = ward.bodies().await;
    for (body, seq) in before.iter().zip(1u64..) {
        let body: u64 = std::str::from_utf8(body).unwrap().parse().unwrap();
        match acknowledged.remove(&seq) {
            Some(expected) => assert_eq!(body, expected),
            None => assert!(unknown.contains(&body), "{body} was refused but is there"),
        }
    }
    assert!(acknowledged.is_empty(), "lost: {acknowledged:?}");
    ward.store.close().await;
    assert_eq!(bodies(&open(&ward.dir, &ward.patient)).await, before);
}
