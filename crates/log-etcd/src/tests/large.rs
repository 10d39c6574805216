use batoff_log::conformance::ManualClock;
use batoff_log::{RECORD_BYTES_MAX, Store};
use bytes::Bytes;

use super::{everything, keys_below, open, seq, task_id, task_record, tasks};
use crate::testing::EtcdServers;

fn body(number: u8, bytes: usize) -> Bytes {
    Bytes::from(vec![number; bytes])
}

/// etcd takes 1.5 MiB at once; a batch may have sixteen, and a record two.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_larger_than_a_request_to_etcd_is_kept_whole_and_leaves_nothing_behind() {
    let servers = EtcdServers::start(1).await;
    let clock = ManualClock::default();
    let store = open(&servers, &clock).await;
    let log = store.log();
    log.append(vec![task_record("small", 1)]).await.unwrap();
    let batch: Vec<_> = (2..=9).map(|n| task_record(body(n, 900_000), u64::from(n))).collect();
    log.append(batch).await.unwrap();
    let largest = task_record(body(10, RECORD_BYTES_MAX / 2), 10);
    log.append(vec![largest]).await.unwrap();
    let rows = vec![(task_id(1), Bytes::from("done")), (task_id(10), body(11, RECORD_BYTES_MAX))];
    log.put_completions(rows).await.unwrap();

    let read = everything(log).await;
    assert_eq!(read.len(), 10);
    assert_eq!(read[0].body, "small");
    assert!(read[1..9].iter().zip(2..).all(|(record, n)| record.body == body(n, 900_000)));
    assert!(keys_below(&store, "p/").await > 0, "it lies in parts");

    let other = open(&servers, &clock).await;
    assert!(everything(other.log()).await == read, "another store reads the same");
    let first = log.trim(seq(11)).await.unwrap();
    assert_eq!(first, seq(11));
    assert_eq!(keys_below(&store, "p/").await, 0, "parts go with their groups");
    assert_eq!(keys_below(&store, "l/").await, 0);
    let opened_later = open(&servers, &clock).await;
    let rows = tasks(log).await;
    assert_eq!(rows.len(), 10);
    assert_eq!(rows[0].completion, Some(body(11, RECORD_BYTES_MAX)));
    assert!(tasks(opened_later.log()).await == rows, "rows outlive their records");

    // The page goes with the last of its tasks, and its parts with it.
    log.forget_tasks(batoff_types::UnixMillis(2_000)).await.unwrap();
    log.append(vec![task_record("last", 11)]).await.unwrap();
    log.trim(seq(12)).await.unwrap();
    assert_eq!(keys_below(&store, "q/").await, 0);
    assert_eq!(keys_below(&store, "x/").await, 1);
}

/// Parts of a writer that died before its group was in the log go at the second trim after it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parts_that_belong_to_no_group_are_swept() {
    let servers = EtcdServers::start(1).await;
    let clock = ManualClock::default();
    let store = open(&servers, &clock).await;
    let orphan = crate::rpc::PutRequest {
        key: store.shared().names.part(crate::names::PartsShelf::Groups, &[7; 16], 3, 0),
        value: Bytes::from("half of something"),
        lease: 0,
    };
    store.shared().client.put(&orphan).await.unwrap();
    for number in 1..=3 {
        store.log().append(vec![task_record("x", number)]).await.unwrap();
        store.log().append(vec![task_record(body(1, 900_000), number + 100)]).await.unwrap();
        assert!(keys_below(&store, "p/").await >= 2);
        store.log().trim(seq(2 * number)).await.unwrap();
        let left = keys_below(&store, "p/").await;
        assert_eq!(
            left,
            if number == 1 { 3 } else { 2 },
            "after trim {number}: the orphan, and the last group's two"
        );
    }
}
