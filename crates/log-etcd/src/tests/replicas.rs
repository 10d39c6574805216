use std::collections::BTreeSet;
use std::time::Duration;

use batoff_log::conformance::ManualClock;
use batoff_log::{Appended, Expect, Key, PresenceEvent, Store, Write};
use batoff_types::UnixMillis;
use bytes::Bytes;
use futures_util::StreamExt;

use super::fleet::Fleet;
use super::{append_one, everything, keyed_record, open, open_at, record, task_id, tasks};
use crate::testing::EtcdServers;

const LATE: UnixMillis = UnixMillis(u64::MAX);

/// Three control planes append at once, each beside another member: one log, and each follows all of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_stores_append_to_one_log() {
    let fleet = Fleet::start().await;
    fleet.acknowledge(3_000).await;
    let tally = fleet.check().await;
    let least = tally.by_store.iter().min().copied().unwrap_or_default();
    let most = tally.by_store.iter().max().copied().unwrap_or_default();
    assert!(least * 8 > most, "none starves beside the leader's neighbour: {:?}", tally.by_store);
}

/// The same request through all replicas at once is one record, whoever was first.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repeat_is_recognised_whichever_replica_accepted_the_first() {
    let servers = EtcdServers::start(3).await;
    let clock = ManualClock::default();
    let stores = [
        open_at(&servers, 0, &clock).await,
        open_at(&servers, 1, &clock).await,
        open_at(&servers, 2, &clock).await,
    ];
    let mut firsts = BTreeSet::new();
    for task in 1..=60 {
        let at_once = stores.iter().map(|store| append_one(store, keyed_record("x", task, LATE)));
        let answers = futures_util::future::join_all(at_once).await;
        let news = answers.iter().filter(|answer| matches!(answer, Appended::New { .. })).count();
        assert_eq!(news, 1, "{answers:?}");
        for answer in answers {
            match answer {
                Appended::New { seq } | Appended::Duplicate { seq, .. } => firsts.insert((task, seq)),
                Appended::Conflict => panic!("the same request is no conflict"),
            };
        }
    }
    assert_eq!(firsts.len(), 60, "all are told of the same record");
    // Whoever is told of a task by one replica finds it at another.
    let told = append_one(&stores[0], keyed_record("told", 100, LATE)).await;
    assert!(stores[1].log().find_task(task_id(100)).await.unwrap().is_some(), "{told:?}");
    stores[2].log().put_completions(vec![(task_id(100), Bytes::from("done"))]).await.unwrap();
    let rows = futures_util::future::join_all(stores.iter().map(async |store| {
        store.log().state().await.unwrap();
        tasks(store.log()).await
    }));
    let rows = rows.await;
    assert!(rows[0] == rows[1] && rows[1] == rows[2]);
    assert_eq!(rows[0][0].completion, Some(Bytes::from("done")));
}

/// What one replica was answered, every other one's state and reading include.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_state_of_one_replica_includes_what_another_was_answered() {
    let servers = EtcdServers::start(3).await;
    let clock = ManualClock::default();
    let stores = [open_at(&servers, 0, &clock).await, open_at(&servers, 1, &clock).await];
    for number in 0..200 {
        let (writer, reader) = (&stores[number % 2], &stores[(number + 1) % 2]);
        let Appended::New { seq } = append_one(writer, record(format!("{number}"))).await else {
            panic!("it is new")
        };
        let page = reader.log().read(seq, 1, 1).await.unwrap();
        assert_eq!(page[0].body, format!("{number}"), "read at once by another replica");
        assert!(reader.log().state().await.unwrap().tail.covers(seq));
        // No stale pair, either.
        let key = Key::from("pair");
        let value = Bytes::from(format!("{number}"));
        writer.kv().cas(&key, Expect::Any, Write::Put { value: value.clone(), ttl: None }).await.unwrap();
        assert_eq!(reader.kv().get(&key).await.unwrap().map(|pair| pair.value), Some(value));
    }
    assert_eq!(everything(stores[0].log()).await.len(), 200);
}

/// Replicas hear of one another's coming, of what they say, and of their end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_hear_of_one_another() {
    let servers = EtcdServers::start(1).await;
    let clock = ManualClock::default();
    let listener = open(&servers, &clock).await;
    let mut peers = listener.presence().peers();
    let mut next = async || {
        let event = tokio::time::timeout(Duration::from_secs(30), peers.next()).await;
        event.expect("it is heard of soon").expect("the stream goes on")
    };
    let PresenceEvent::Up(own) = next().await else { panic!("first the listener's own") };
    let other = open(&servers, &clock).await;
    other.presence().publish(3, Bytes::from("three")).await.unwrap();
    let PresenceEvent::Up(replica) = next().await else { panic!("then the other's") };
    assert_ne!(own, replica);
    let update = PresenceEvent::Update { replica: replica.clone(), shard: 3, body: Bytes::from("three") };
    assert_eq!(next().await, update);
    other.close().await;
    assert_eq!(next().await, PresenceEvent::Down(replica));
}
