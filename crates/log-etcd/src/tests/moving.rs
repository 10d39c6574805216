//! A log that moves between the embedded store and etcd is the same log, whatever happens on the way.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use batoff_log::conformance::ManualClock;
use batoff_log::embedded::{BackupContents, EmbeddedConfig, EmbeddedStore, compose_backup};
use batoff_log::moving::{LogPart, LogParts, compare, parts};
use batoff_log::{Appended, Expect, Key, Kv, NewRecord, ReadError, Store, StoreError, Write};
use batoff_types::UnixMillis;
use bytes::Bytes;
use tempfile::TempDir;

use super::{everything, keyed_record, keys_below, open, record, seq, site, task_id, tasks};
use crate::testing::{EtcdServers, EtcdSettings};
use crate::{EtcdConfig, EtcdMove, EtcdMoveError, EtcdOpenError, EtcdStore, FoundLog, ImportedLog};

const HOUR_MS: u64 = 3_600_000;

/// Tasks, completions, keys that end within the hour and later, a beginning that is trimmed, pairs with and without an end.
async fn fill(store: &dyn Store, clock: &ManualClock) {
    let (log, now) = (store.log(), clock.now().0);
    let late = UnixMillis(now + 24 * HOUR_MS);
    for hundred in 0..4 {
        let of = |n: u64| match n {
            n if n.is_multiple_of(10) => record(format!("without a task {n}")),
            n if n.is_multiple_of(7) => keyed_record(format!("soon {n}"), n, UnixMillis(now + HOUR_MS)),
            n => NewRecord { accepted_at: UnixMillis(now + n), ..keyed_record(format!("body {n}"), n, late) },
        };
        log.append((1..=100).map(|n| of(hundred * 100 + n)).collect()).await.unwrap();
    }
    for n in 401..=403 {
        log.append(vec![keyed_record(vec![n as u8; 900_000], n, late)]).await.unwrap();
    }
    let done = (1..=403).step_by(3).map(|n| (task_id(n), Bytes::from(format!("done {n}")))).collect();
    log.put_completions(done).await.unwrap();
    assert!(log.forget_tasks(UnixMillis(now + 30)).await.unwrap() > 0);
    assert_eq!(log.trim(seq(251)).await.unwrap(), seq(251));
    put(store, "sites/shop", None).await;
    put(store, "tokens/shop/1", None).await;
    put(store, "sessions/1", Some(2 * HOUR_MS)).await;
    put(store, "sessions/2", Some(HOUR_MS)).await;
    for n in 0..150 {
        put(store, &format!("cursors/{n:03}"), None).await;
    }
}

async fn put(store: &dyn Store, key: &str, ttl_ms: Option<u64>) {
    let write =
        Write::Put { value: Bytes::from(format!("of {key}")), ttl: ttl_ms.map(Duration::from_millis) };
    store.kv().cas(&Key::from(key), Expect::Any, write).await.unwrap();
}

fn embedded(dir: &Path, clock: &ManualClock) -> Arc<EmbeddedStore> {
    EmbeddedStore::open(EmbeddedConfig::new(dir, clock.clock())).unwrap()
}

fn contents(store: &EmbeddedStore, dir: &TempDir, clock: &ManualClock) -> BackupContents {
    let path = dir.path().join("backup");
    store.backup(&mut File::create(&path).unwrap()).unwrap();
    BackupContents::read(&path, clock.now()).unwrap()
}

/// The way that the command goes, without the seal of the other engine.
async fn import(to: &EtcdMove, contents: &BackupContents) -> Result<ImportedLog, EtcdMoveError> {
    let bytes = contents.summary().bytes;
    to.import(contents.outline(), contents.parts(), contents.parts(), bytes, &mut |_| {}).await
}

async fn place(servers: &EtcdServers, clock: &ManualClock) -> EtcdMove {
    EtcdMove::connect(&servers.config(clock.clock())).await.unwrap()
}

/// Waits until a store is seen by others: it says so right after it was opened.
async fn says_that_it_is_there(store: &EtcdStore) {
    while keys_below(store, "a/").await == 0 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// What two stores answer is the same, for everything that can be asked.
async fn assert_same(one: &dyn Store, other: &dyn Store) {
    assert_eq!(one.log().state().await.unwrap(), other.log().state().await.unwrap());
    assert!(everything(one.log()).await == everything(other.log()).await);
    let rows = tasks(one.log()).await;
    assert!(rows == tasks(other.log()).await);
    assert!(rows.iter().any(|row| row.seq < seq(251) && row.completion.is_some()));
    for row in &rows {
        assert_eq!(other.log().find_task(row.task).await.unwrap().as_ref(), Some(row));
    }
    let scan = async |store: &dyn Store| {
        let pairs = store.kv().scan(&Key::from(""), None, 1_000).await.unwrap();
        pairs.into_iter().map(|(key, versioned)| (key, versioned.value)).collect::<Vec<_>>()
    };
    assert_eq!(scan(one).await, scan(other).await);
    let first = one.log().state().await.unwrap().first;
    let trimmed = Err(ReadError::Trimmed { first });
    assert_eq!(other.log().read(seq(first.get() - 1), 1, 1).await, trimmed);
}

/// Repeats of trimmed and of kept records are recognised, with the first task; what has expired is not.
async fn assert_recognised(store: &dyn Store, clock: &ManualClock) {
    let late = UnixMillis(clock.now().0 + HOUR_MS);
    for n in [1, 2, 249, 251, 254, 401, 403] {
        let again = store.log().append(vec![keyed_record("again", n, late)]).await.unwrap();
        assert_eq!(again, [Appended::Duplicate { seq: seq(n), task: task_id(n) }], "{n}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_goes_there_and_back_and_stays_the_same() {
    let (servers, clock) = (EtcdServers::start(1).await, ManualClock::default());
    let (dir, scratch) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let source = embedded(dir.path(), &clock);
    fill(&*source, &clock).await;
    clock.advance_ms(HOUR_MS / 2);
    let contents = contents(&source, &scratch, &clock);
    // Keys and a session expire while it is under way.
    clock.advance_ms(HOUR_MS);
    let to = place(&servers, &clock).await;
    let mut told = Vec::new();
    let bytes = contents.summary().bytes;
    let imported = to
        .import(contents.outline(), contents.parts(), contents.parts(), bytes, &mut |counts| {
            told.push(*counts)
        })
        .await
        .unwrap();
    assert_eq!(
        (imported.counts.records, imported.counts.tasks),
        (153, contents.outline().tasks.len() as u64)
    );
    assert!(
        told.windows(2).all(|pair| pair[0].records <= pair[1].records) && told.last().unwrap().records == 153
    );
    // Everything is there, and it is no log yet.
    let refused = EtcdStore::open(servers.config(clock.clock())).await.err().unwrap();
    assert!(matches!(refused, EtcdOpenError::Importing { .. }), "{refused}");
    to.finish(&imported).await.unwrap();
    to.finish(&imported).await.unwrap();

    let there = open(&servers, &clock).await;
    assert_eq!(there.log_id(), source.log().state().await.unwrap().log_id);
    assert_same(&*source, &*there).await;
    assert_recognised(&*there, &clock).await;
    let soon = keyed_record("anew", 7, UnixMillis(u64::MAX));
    assert_eq!(there.log().append(vec![soon]).await.unwrap(), [Appended::New { seq: seq(404) }]);
    // It lives on: what was moved is completed, trimmed, forgotten and expires as if it had always been here.
    there
        .log()
        .put_completions(vec![(task_id(301), Bytes::from("at last")), (task_id(99), Bytes::from("late"))])
        .await
        .unwrap();
    assert_eq!(there.log().trim(seq(402)).await.unwrap(), seq(402));
    put(&*there, "tokens/shop/2", None).await;
    clock.advance_ms(HOUR_MS);
    for _ in 0..100 {
        if keys_below(&there, "e/").await == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(keys_below(&there, "e/").await, 0, "sessions end where they were moved to");
    let second = open(&servers, &clock).await;
    assert_same(&*there, &*second).await;
    second.close().await;

    // And back. Whoever has it open is told of by name.
    says_that_it_is_there(&there).await;
    let inhabited = to.seal("a folder").await.err().unwrap();
    assert!(matches!(inhabited, EtcdMoveError::Inhabited { .. }), "{inhabited}");
    let (rows, records) = (tasks(there.log()).await, everything(there.log()).await);
    there.close().await;
    let (log_id, moved) = to.seal("a folder").await.unwrap();
    assert_eq!(to.find().await.unwrap(), FoundLog::Log(log_id, Some(moved.clone())));
    assert_eq!(to.seal("another folder").await.unwrap(), (log_id, moved));
    // What builds from before the seal refuse: a change would let them in.
    assert_eq!((crate::stored::FORMAT, crate::stored::FORMAT_MOVED), (1, 0x8000_0001));
    let refused = EtcdStore::open(servers.config(clock.clock())).await.err().unwrap();
    assert!(refused.to_string().contains("has moved to a folder on "), "{refused}");
    assert!(matches!(
        EtcdStore::adopt_copy(servers.config(clock.clock())).await,
        Err(EtcdOpenError::Moved { .. })
    ));

    let backup = scratch.path().join("back");
    let (outline, of_etcd) = to.read(clock.now()).await.unwrap();
    let composing = tokio::task::spawn_blocking({
        let (outline, backup, now) = (outline.clone(), backup.clone(), clock.now());
        move || compose_backup(&mut File::create(backup).unwrap(), &outline, of_etcd, now)
    });
    composing.await.unwrap().unwrap();
    let home = scratch.path().join("home");
    EmbeddedStore::restore_moved(&backup, &home).unwrap();
    let back = embedded(&home, &clock);
    let again = self::contents(&back, &scratch, &clock);
    let (outline, of_etcd) = to.read(clock.now()).await.unwrap();
    let counts = compare((&outline, of_etcd), (again.outline(), again.parts())).await.unwrap();
    assert_eq!(counts.records, 3);
    assert!(tasks(back.log()).await == rows && everything(back.log()).await == records);
    assert_recognised(&*back, &clock).await;
    assert_eq!(back.log().state().await.unwrap().log_id, log_id);
    assert_eq!(back.log().append(vec![record("next")]).await.unwrap(), [Appended::New { seq: seq(405) }]);
    assert!(back.log().list_tasks(&site(), None, 1).await.unwrap()[0].seq <= seq(404));
    back.close().await;
    source.close().await;
}

/// Passes on so many parts, and is gone.
fn cut(mut parts_of: LogParts, after: usize) -> LogParts {
    let (sender, cut) = parts();
    tokio::spawn(async move {
        for _ in 0..after {
            sender.put(parts_of.next().await).await;
        }
    });
    cut
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_dies_on_the_way_leaves_no_log_and_the_next_one_begins_anew() {
    let (servers, clock) = (EtcdServers::start(1).await, ManualClock::default());
    let (dir, scratch) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let source = embedded(dir.path(), &clock);
    fill(&*source, &clock).await;
    let contents = contents(&source, &scratch, &clock);
    let to = place(&servers, &clock).await;
    assert_eq!(to.find().await.unwrap(), FoundLog::Nothing);
    let log_id = contents.outline().state.log_id;
    // Among the pairs, among the records, and right before the end.
    for after in [0, 60, 154, 200, 306, 307] {
        let cut = cut(contents.parts(), after);
        let died = to.import(contents.outline(), cut, contents.parts(), 0, &mut |_| {}).await;
        assert!(died.is_err(), "{after}");
        assert_eq!(to.find().await.unwrap(), FoundLog::Half(log_id));
        let refused = EtcdStore::open(servers.config(clock.clock())).await.err().unwrap();
        assert!(
            matches!(refused, EtcdOpenError::Importing { log_id: found } if found == log_id),
            "{refused}"
        );
        let with = EtcdConfig { log_id: Some(log_id), ..servers.config(clock.clock()) };
        assert!(matches!(EtcdStore::open(with).await, Err(EtcdOpenError::Importing { .. })));
    }
    // What is written once more, and differs, is no log either.
    let mut other = contents.outline().clone();
    other.keys.pop_last();
    let differs = to.import(&other, contents.parts(), cut(contents.parts(), 200), 0, &mut |_| {}).await;
    assert!(matches!(differs, Err(EtcdMoveError::Move(_))), "{differs:?}");

    // Of two at once the earlier one stops, wherever it is, and spoils nothing.
    let slow = place(&servers, &clock).await;
    let first = import(&slow, &contents).await.unwrap();
    let imported = import(&to, &contents).await.unwrap();
    assert!(matches!(slow.finish(&first).await, Err(EtcdMoveError::Overtaken)));
    to.finish(&imported).await.unwrap();
    let there = open(&servers, &clock).await;
    assert_same(&*source, &*there).await;
    for kind in ["i", "q/"] {
        assert_eq!(keys_below(&there, kind).await, 0, "nothing is left of those before");
    }
    assert_eq!(keys_below(&there, "p/").await, 6, "three records with their parts");
    let occupied = import(&to, &contents).await;
    assert!(matches!(occupied, Err(EtcdMoveError::Occupied { log_id: found, .. }) if found == log_id));
    there.close().await;
    source.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_is_taken_back_only_while_nothing_was_written_since() {
    let (servers, clock) = (EtcdServers::start(1).await, ManualClock::default());
    let (dir, scratch) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let source = embedded(dir.path(), &clock);
    fill(&*source, &clock).await;
    let contents = contents(&source, &scratch, &clock);
    let (to, log_id) = (place(&servers, &clock).await, contents.outline().state.log_id);
    assert!(matches!(to.withdraw(log_id).await, Err(EtcdMoveError::Missing { .. })));
    let moved = async || to.finish(&import(&to, &contents).await.unwrap()).await.unwrap();
    moved().await;
    let other = batoff_types::LogId::from_bytes([9; 16]);
    assert!(matches!(to.withdraw(other).await, Err(EtcdMoveError::Missing { .. })));
    to.withdraw(log_id).await.unwrap();
    assert_eq!(to.find().await.unwrap(), FoundLog::Half(log_id));
    to.withdraw(log_id).await.unwrap();
    assert!(EtcdStore::open(servers.config(clock.clock())).await.is_err());
    moved().await;
    // A control plane came, and wrote one pair.
    let there = open(&servers, &clock).await;
    put(&*there, "replicas/at/1", None).await;
    says_that_it_is_there(&there).await;
    assert!(matches!(to.withdraw(log_id).await, Err(EtcdMoveError::Inhabited { .. })));
    there.close().await;
    let gone_on = to.withdraw(log_id).await.err().unwrap();
    assert!(matches!(&gone_on, EtcdMoveError::GoneOn { key } if key.ends_with("replicas/at/1")), "{gone_on}");
    // To say that it has moved, and to take that back, hides nothing.
    to.seal("nowhere").await.unwrap();
    assert!(matches!(to.withdraw(log_id).await, Err(EtcdMoveError::Missing { .. })));
    to.unseal(log_id).await.unwrap();
    assert!(matches!(to.withdraw(log_id).await, Err(EtcdMoveError::GoneOn { .. })));
    let there = open(&servers, &clock).await;
    assert_eq!(there.log().append(vec![record("x")]).await.unwrap(), [Appended::New { seq: seq(404) }]);
    // Whoever still has it open when it is sealed accepts nothing more.
    says_that_it_is_there(&there).await;
    let lease = crate::rpc::KeyRange::below("batoff/a/".into());
    let request = crate::rpc::TxnRequest { success: vec![crate::rpc::delete(&lease)], ..Default::default() };
    there.shared().client.txn(&request).await.unwrap();
    to.seal("a folder").await.unwrap();
    let late = there.log().append(vec![record("too late")]).await;
    assert_eq!(late, Err(StoreError::WrongCluster));
    there.close().await;
    // Nor does one that has not heard of it yet write a pair.
    to.unseal(log_id).await.unwrap();
    let unaware = super::fleet::stop_following(open(&servers, &clock).await).await;
    to.seal("a folder").await.unwrap();
    let write = Write::Put { value: Bytes::from("x"), ttl: None };
    let pairs = crate::kv::EtcdPairs::new(Arc::new(unaware));
    let late = pairs.cas(&Key::from("tokens/late"), Expect::Absent, write).await;
    assert_eq!(late, Err(StoreError::WrongCluster.into()));
    source.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_in_the_way_and_what_does_not_fit_is_named_before_anything_is_written() {
    let quota = ["--quota-backend-bytes".to_owned(), "4000000".to_owned()];
    let settings = EtcdSettings { arguments: quota.to_vec(), ..EtcdSettings::default() };
    let (servers, clock) = (EtcdServers::start_with(1, settings).await, ManualClock::default());
    let (dir, scratch) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let source = embedded(dir.path(), &clock);
    fill(&*source, &clock).await;
    let contents = contents(&source, &scratch, &clock);
    let config = EtcdConfig { quota_bytes: Some(4_000_000), ..servers.config(clock.clock()) };
    let to = EtcdMove::connect(&config).await.unwrap();
    let no_room = import(&to, &contents).await.err().unwrap();
    assert!(matches!(no_room, EtcdMoveError::Room { quota: 4_000_000, usable: 3_200_000, .. }), "{no_room}");
    assert!(no_room.to_string().contains(&format!("{}", contents.summary().bytes * 5 / 4)), "{no_room}");
    // It is the mark of the attempt, and nothing else.
    to.withdraw(contents.outline().state.log_id).await.unwrap();
    let elsewhere = EtcdConfig { prefix: "other/".to_owned(), ..config.clone() };
    let foreign = EtcdMove::connect(&elsewhere).await.unwrap();
    let request = crate::rpc::PutRequest { key: "other/thing".into(), value: Bytes::from("x"), lease: 0 };
    crate::client::EtcdClient::new(&config).unwrap().put(&request).await.unwrap();
    let refused = import(&foreign, &contents).await.err().unwrap();
    assert!(matches!(&refused, EtcdMoveError::Foreign { key, .. } if key == "other/thing"), "{refused}");
    assert!(matches!(foreign.seal("x").await, Err(EtcdMoveError::Foreign { .. })));
    source.close().await;
}

/// An empty log is a log: it moves with its identity.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_without_records_keeps_its_place() {
    let (servers, clock) = (EtcdServers::start(1).await, ManualClock::default());
    let (dir, scratch) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let source = embedded(dir.path(), &clock);
    source
        .log()
        .append((1..=20).map(|n| keyed_record("x", n, UnixMillis(u64::MAX))).collect())
        .await
        .unwrap();
    source.log().trim(seq(21)).await.unwrap();
    let contents = contents(&source, &scratch, &clock);
    let to = place(&servers, &clock).await;
    to.finish(&import(&to, &contents).await.unwrap()).await.unwrap();
    let there = open(&servers, &clock).await;
    let state = there.log().state().await.unwrap();
    assert_eq!(state, source.log().state().await.unwrap());
    assert_eq!((state.first, state.tail.get()), (seq(21), 20));
    there.close().await;
    to.seal("home").await.unwrap();
    let (outline, of_etcd) = to.read(clock.now()).await.unwrap();
    let backup = scratch.path().join("back");
    let composing = tokio::task::spawn_blocking({
        let (outline, backup) = (outline.clone(), backup.clone());
        move || compose_backup(&mut File::create(backup).unwrap(), &outline, of_etcd, UnixMillis(1))
    });
    composing.await.unwrap().unwrap();
    let home = scratch.path().join("home");
    EmbeddedStore::restore_moved(&backup, &home).unwrap();
    let back = embedded(&home, &clock);
    assert_eq!(back.log().state().await.unwrap(), state);
    let again = keyed_record("again", 20, UnixMillis(u64::MAX));
    let answers = back.log().append(vec![again, record("new")]).await.unwrap();
    assert_eq!(
        answers,
        [Appended::Duplicate { seq: seq(20), task: task_id(20) }, Appended::New { seq: seq(21) }]
    );
    assert!(matches!(to.read(clock.now()).await.unwrap().1.next().await, Ok(LogPart::End)));
    back.close().await;
    source.close().await;
}
