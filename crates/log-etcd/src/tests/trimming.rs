use batoff_log::conformance::ManualClock;
use batoff_log::{Appended, ReadError, Store};
use batoff_types::UnixMillis;
use bytes::Bytes;

use super::{append_one, everything, keyed_record, open, record, seq, task_id, tasks};
use crate::testing::EtcdServers;

/// Rows, completions and keys of trimmed records are there for a store that opens later, and for the one that was there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_outlives_trimming_is_the_same_for_whoever_comes_later() {
    let servers = EtcdServers::start(1).await;
    let clock = ManualClock::default();
    let store = open(&servers, &clock).await;
    let log = store.log();
    let late = UnixMillis(clock.now().0 + 3_600_000);
    for hundred in 0..13 {
        let batch =
            (1..=100).map(|n| keyed_record(format!("{hundred}/{n}"), hundred * 100 + n, late)).collect();
        log.append(batch).await.unwrap();
    }
    let complete = async |from: u64, text: &'static str| {
        let rows = (from..1_300).step_by(7).map(|task| (task_id(task), Bytes::from(text))).collect();
        log.put_completions(rows).await.unwrap();
    };
    complete(1, "early").await;
    assert_eq!(log.trim(seq(650)).await, Ok(seq(601)));
    // Of pages that are written, and of records that are in the log.
    complete(2, "late").await;
    complete(1, "again").await;
    let as_it_is = tasks(log).await;
    assert_eq!(as_it_is.len(), 1_300);
    let second = open(&servers, &clock).await;
    assert!(tasks(second.log()).await == as_it_is);
    assert_eq!(second.log().trim(seq(1_150)).await, Ok(seq(1_101)));
    let third = open(&servers, &clock).await;
    for store in [&store, &second, &third] {
        assert!(tasks(store.log()).await == as_it_is);
        assert_eq!(store.log().state().await.unwrap().first, seq(1_101));
        assert_eq!(store.log().read(seq(1_100), 1, 1).await, Err(ReadError::Trimmed { first: seq(1_101) }));
        assert_eq!(everything(store.log()).await.len(), 200);
        for task in [1, 600, 601, 1_101, 1_300] {
            let repeat = append_one(store, keyed_record("again", task, late)).await;
            assert_eq!(repeat, Appended::Duplicate { seq: seq(task), task: task_id(task) });
        }
    }
    // Of records that have long been trimmed, in groups that are trimmed in their turn.
    for task in [3, 650, 1_299] {
        third.log().put_completions(vec![(task_id(task), Bytes::from("at last"))]).await.unwrap();
    }
    let as_it_is = tasks(third.log()).await;
    append_one(&third, record("in a group behind them")).await;
    assert_eq!(third.log().trim(seq(1_301)).await, Ok(seq(1_301)));
    let late_comer = open(&servers, &clock).await;
    assert!(tasks(late_comer.log()).await == as_it_is);
    // What has expired or was forgotten leaves the pages when they are next written.
    clock.advance_ms(3_600_000);
    assert_eq!(third.log().forget_tasks(UnixMillis(1_001)).await, Ok(1_300));
    assert_eq!(
        append_one(&third, keyed_record("anew", 600, UnixMillis(u64::MAX))).await,
        Appended::New { seq: seq(1_302) }
    );
    assert_eq!(third.log().trim(seq(9_999)).await, Ok(seq(1_303)));
    assert_eq!(super::keys_below(&third, "x/").await, 1);
    let fourth = open(&servers, &clock).await;
    assert_eq!(tasks(fourth.log()).await.len(), 1);
    assert_eq!(
        append_one(&fourth, keyed_record("again", 600, UnixMillis(u64::MAX))).await,
        Appended::Duplicate { seq: seq(1_302), task: task_id(600) }
    );
}

/// Replicas that trim at once, while others append, end at one beginning and lose no row.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_that_trim_at_once_do_not_undo_one_another() {
    let servers = EtcdServers::start(1).await;
    let clock = ManualClock::default();
    let stores = [open(&servers, &clock).await, open(&servers, &clock).await];
    let late = UnixMillis(u64::MAX);
    for task in 1..=600 {
        append_one(&stores[usize::from(task % 2 == 0)], keyed_record("x", task, late)).await;
    }
    let trims = stores.iter().map(|store| store.log().trim(seq(550)));
    let completing = async {
        for task in 1..=40 {
            let rows = vec![(task_id(task * 13), Bytes::from(format!("{task}")))];
            stores[0].log().put_completions(rows).await.unwrap();
        }
    };
    let (firsts, ()) = tokio::join!(futures_util::future::join_all(trims), completing);
    for first in firsts {
        assert_eq!(first, Ok(seq(550)));
    }
    stores[1].log().trim(seq(601)).await.unwrap();
    let opened_later = open(&servers, &clock).await;
    let rows = tasks(opened_later.log()).await;
    assert_eq!(rows.len(), 600);
    assert_eq!(rows.iter().filter(|row| row.completion.is_some()).count(), 40);
    for store in &stores {
        store.log().state().await.unwrap();
        assert!(tasks(store.log()).await == rows);
    }
}

/// A replica that was away while the log moved on, and lost its beginning, reads it anew.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_the_log_has_left_behind_reads_it_anew() {
    let servers = EtcdServers::start(1).await;
    let clock = ManualClock::default();
    let store = open(&servers, &clock).await;
    let late = UnixMillis(u64::MAX);
    append_one(&store, keyed_record("x", 1, late)).await;
    let away = open(&servers, &clock).await;
    // It still answers, and follows no more.
    let away = super::fleet::stop_following(away).await;
    for task in 2..=300 {
        append_one(&store, keyed_record("x", task, late)).await;
    }
    store.log().trim(seq(290)).await.unwrap();
    assert_eq!(away.index.read().group(), 1);
    let state = away.state_now().await.unwrap();
    assert_eq!((state.first, state.tail.get()), (seq(290), 300));
    assert_eq!(away.index.read().seq_of(task_id(77)), Some(77));
}
