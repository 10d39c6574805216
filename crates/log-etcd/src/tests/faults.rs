use std::time::Duration;

use batoff_log::conformance::ManualClock;
use batoff_log::{Appended, Health, Store, StoreError};
use batoff_types::UnixMillis;
use bytes::Bytes;
use futures_util::StreamExt;
use tokio::time::Instant;

use super::fleet::Fleet;
use super::lossy_proxy::LossyProxy;
use super::{append_one, everything, keyed_record, open_at, record, seq};
use crate::rpc::alarm_request::AlarmAction;
use crate::rpc::{AlarmRequest, AlarmType};
use crate::testing::{EtcdServers, EtcdSettings};
use crate::{EtcdConfig, EtcdStore};

/// Acknowledged before a fault and after it.
const SOME: usize = 300;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_killed_costs_nothing_that_was_acknowledged() {
    let mut fleet = Fleet::start().await;
    fleet.acknowledge(SOME).await;
    let leader = fleet.servers.leader().await;
    fleet.servers.kill(leader);
    fleet.acknowledge(SOME).await;
    fleet.servers.restart(leader);
    fleet.acknowledge(SOME).await;
    fleet.check().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_freezes_is_left_and_does_no_harm_on_waking() {
    let fleet = Fleet::start().await;
    fleet.acknowledge(SOME).await;
    let leader = fleet.servers.leader().await;
    fleet.servers.freeze(leader);
    fleet.acknowledge(SOME).await;
    fleet.servers.thaw(leader);
    fleet.acknowledge(SOME).await;
    fleet.check().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_that_freezes_stops_nobody() {
    let fleet = Fleet::start().await;
    fleet.acknowledge(SOME).await;
    let follower = (fleet.servers.leader().await + 1) % 3;
    fleet.servers.freeze(follower);
    fleet.acknowledge(2 * SOME).await;
    // Its own store has gone to another member, and follows by that.
    let tail = fleet.stores[follower].log().state().await.unwrap().tail;
    assert!(tail.get() >= fleet.acknowledged() as u64 - 64, "{tail}");
    fleet.servers.thaw(follower);
    fleet.acknowledge(SOME).await;
    fleet.check().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_members_can_be_killed_at_once() {
    let mut fleet = Fleet::start().await;
    fleet.acknowledge(SOME).await;
    for member in 0..3 {
        fleet.servers.kill(member);
    }
    for member in 0..3 {
        fleet.servers.restart(member);
    }
    fleet.acknowledge(SOME).await;
    fleet.check().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_majority_nothing_is_accepted_and_what_was_can_be_read() {
    let mut fleet = Fleet::start().await;
    fleet.acknowledge(SOME).await;
    for member in [1, 2] {
        fleet.servers.kill(member);
    }
    let store = std::sync::Arc::clone(&fleet.stores[0]);
    let mut health = store.health();
    let degraded = health.wait_for(|health| matches!(health, Health::Degraded { .. }));
    tokio::time::timeout(Duration::from_secs(30), degraded).await.expect("it says so soon").unwrap();
    // Nothing more is acknowledged, and whoever asks is told so.
    let refused = store.log().append(vec![record("refused")]).await;
    assert!(
        matches!(refused, Err(StoreError::Unavailable { .. } | StoreError::Unknown { .. })),
        "{refused:?}"
    );
    let before = fleet.acknowledged();
    let page = store.log().read(seq(1), 10, usize::MAX).await.unwrap();
    assert_eq!(page[0].seq, seq(1), "what was accepted can be read at the member that is left");
    assert!(store.log().state().await.is_err(), "no state without a majority");
    assert_eq!(fleet.acknowledged(), before);
    for member in [1, 2] {
        fleet.servers.restart(member);
    }
    fleet.acknowledge(SOME).await;
    let well = health.wait_for(|health| *health == Health::Ok);
    tokio::time::timeout(Duration::from_secs(30), well).await.expect("it is well again").unwrap();
    fleet.check_but_for(1).await;
}

/// The history that a watch would have to tell is gone when its member wakes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_compaction_under_a_watch_loses_nothing() {
    let fleet = Fleet::start().await;
    fleet.acknowledge(SOME).await;
    let follower = (fleet.servers.leader().await + 1) % 3;
    fleet.servers.freeze(follower);
    fleet.acknowledge(SOME).await;
    let other = &fleet.stores[(follower + 1) % 3];
    let revision = other.shared().read_ends().await.unwrap().revision;
    other.shared().client.compact(revision).await.unwrap();
    fleet.acknowledge(SOME).await;
    fleet.servers.thaw(follower);
    fleet.acknowledge(SOME).await;
    fleet.check().await;
}

/// A tail that has read nothing while the log was compacted and trimmed behind its back is told where the log begins.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_tail_survives_compaction_and_is_told_of_trimming() {
    let servers = EtcdServers::start(1).await;
    let clock = ManualClock::default();
    let store = open_at(&servers, 0, &clock).await;
    let mut slow = store.log().tail(seq(1));
    for number in 0..400 {
        append_one(&store, record(format!("{number}"))).await;
    }
    let revision = store.shared().read_ends().await.unwrap().revision;
    store.shared().client.compact(revision).await.unwrap();
    let mut next = seq(1);
    while next <= seq(400) {
        for record in slow.next().await.unwrap().unwrap().iter() {
            assert_eq!(record.seq, next);
            next = next.next();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_append_whose_answer_is_lost_is_found_and_is_there_once() {
    let servers = EtcdServers::start(1).await;
    let clock = ManualClock::default();
    let proxy = LossyProxy::before(&servers.endpoints()[0]).await;
    let lossy = EtcdStore::open(EtcdConfig::new([&proxy.endpoint], clock.clock())).await.unwrap();
    let other = open_at(&servers, 0, &clock).await;
    for round in 1..=12 {
        proxy.swallow_answers(true);
        let append = lossy.log().append(vec![record(format!("{round}"))]);
        let heal = async {
            // etcd has it; only the answer is missing.
            while other.log().state().await.unwrap().tail.get() < round {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            proxy.swallow_answers(false);
        };
        let (answer, ()) = tokio::join!(append, heal);
        assert_eq!(answer, Ok(vec![Appended::New { seq: seq(round) }]));
    }
    let log = everything(other.log()).await;
    assert_eq!(log.len(), 12);
    // While no answer comes back at all, none is made up; and afterwards it is found that it was there.
    proxy.swallow_answers(true);
    let late = UnixMillis(u64::MAX);
    let lost = lossy.log().append(vec![keyed_record("lost", 99, late)]).await;
    assert!(matches!(lost, Err(StoreError::Unknown { .. } | StoreError::Unavailable { .. })), "{lost:?}");
    proxy.swallow_answers(false);
    let again = append_one(&lossy, keyed_record("lost", 99, late)).await;
    assert!(matches!(again, Appended::Duplicate { .. } | Appended::New { .. }), "{again:?}");
    let log = everything(other.log()).await;
    assert_eq!(log.iter().filter(|record| record.body == "lost").count(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_cluster_says_so_and_goes_on_once_there_is_room() {
    let arguments = ["--quota-backend-bytes", "12000000"].map(str::to_owned).to_vec();
    let servers = EtcdServers::start_with(1, EtcdSettings { arguments, ..EtcdSettings::default() }).await;
    let clock = ManualClock::default();
    let store = open_at(&servers, 0, &clock).await;
    let mut acknowledged = 0_u64;
    let body = Bytes::from(vec![b'x'; 100_000]);
    let begin = Instant::now();
    // The append that fills the cluster is carried out, and etcd answers it as it does those that are not.
    let refused = loop {
        assert!(begin.elapsed() < Duration::from_secs(60), "etcd takes {acknowledged} without end");
        match store.log().append(vec![record(body.clone()); 4]).await {
            Ok(_) => acknowledged += 4,
            Err(error) => break error,
        }
    };
    assert_eq!(refused, StoreError::Full);
    assert!(acknowledged > 20, "{acknowledged}");
    let Health::Degraded { reason, .. } = store.health().borrow().clone() else {
        panic!("it says what is wrong")
    };
    assert!(reason.contains("alarm disarm"), "{reason}");
    // A cluster that is full can be opened and read.
    let other = open_at(&servers, 0, &clock).await;
    assert_eq!(everything(other.log()).await.len() as u64, acknowledged);
    assert_eq!(other.log().append(vec![record("x")]).await, Err(StoreError::Full));
    // The operator raises the quota, here with a restart, and disarms the alarm.
    drop(other);
    let mut servers = servers;
    servers.kill(0);
    servers.set_arguments(["--quota-backend-bytes", "100000000"]);
    servers.restart(0);
    servers.leader().await;
    let disarm = AlarmRequest {
        action: AlarmAction::Deactivate.into(),
        member_id: 0,
        alarm: AlarmType::Nospace.into(),
    };
    let alarms = store.shared().client.alarm(&AlarmRequest::default()).await.unwrap().alarms;
    for alarm in alarms {
        let disarm = AlarmRequest { member_id: alarm.member_id, ..disarm };
        store.shared().client.alarm(&disarm).await.unwrap();
    }
    let mut health = store.health();
    let well = health.wait_for(|health| *health == Health::Ok);
    tokio::time::timeout(Duration::from_secs(30), well)
        .await
        .expect("it notices that there is room")
        .unwrap();
    assert_eq!(append_one(&store, record("goes on")).await, Appended::New { seq: seq(acknowledged + 1) });
    assert_eq!(everything(store.log()).await.len() as u64, acknowledged + 1);
}

/// With the quota known, appends end before the cluster is full, and trimming is enough for them to go on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn appends_end_while_there_is_room_for_trimming_and_go_on_after_it() {
    let servers = EtcdServers::start(1).await;
    let clock = ManualClock::default();
    let mut config = servers.config(clock.clock());
    config.quota_bytes = Some(10_000_000);
    config.compact_after = Some(Duration::from_millis(200));
    let store = EtcdStore::open(config).await.unwrap();
    let mut health = store.health();
    let mut acknowledged = 0;
    let body = Bytes::from(vec![b'x'; 100_000]);
    let begin = Instant::now();
    let refused = loop {
        assert!(begin.elapsed() < Duration::from_secs(60), "it takes {acknowledged} without end");
        match store.log().append(vec![record(body.clone()); 4]).await {
            Ok(_) => acknowledged += 4,
            Err(error) => break error,
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert_eq!(refused, StoreError::Full);
    assert!(
        matches!(&*health.borrow_and_update(), Health::Degraded { reason, .. } if reason.contains("retention"))
    );
    assert_eq!(store.log().trim(seq(acknowledged - 3)).await, Ok(seq(acknowledged - 3)));
    let well = health.wait_for(|health| *health == Health::Ok);
    tokio::time::timeout(Duration::from_secs(30), well).await.expect("there is room again").unwrap();
    assert_eq!(append_one(&store, record("goes on")).await, Appended::New { seq: seq(acknowledged + 1) });
}
