use std::time::Duration;

use super::{ALL, Several};
use crate::tests::plane::shop;
use crate::tracker::TaskState;

const THREE: [(u8, super::Doing); 3] = [(1, ALL), (2, ALL), (3, ALL)];

#[tokio::test(flavor = "multi_thread")]
async fn three_replicas_over_etcd_complete_as_two_of_them_do_and_one_does_not() {
    let mut several = Several::start_over_etcd(1, &[1, 2, 3], &THREE).await;
    let mut accepted = Vec::new();
    for number in 0..6_u8 {
        accepted.push(several.one(number % 3 + 1).purge(&format!("/{number}")).await);
    }
    for one in &accepted {
        for replica in 1..=3 {
            several.one(replica).completed(one).await;
        }
    }
    for one in &accepted {
        several.agree(one).await;
    }
    several.kill(1);
    let fourth = several.one(2).purge("/with/two").await;
    several.one(3).completed(&fourth).await;
    assert_eq!(several.one(2).task(&fourth).await.state, TaskState::Completed);
    several.kill(2);
    let open = several.one(3).purge("/with/one").await;
    let waited = several.one(3).tracker.wait(&shop(), open.task, Duration::from_secs(1)).await;
    assert_ne!(waited.unwrap().unwrap().state, TaskState::Completed);
    several.add(1, ALL).await;
    several.one(3).completed(&open).await;
    several.one(1).completed(&open).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_but_what_is_completed_is_answered_while_the_engine_is_away() {
    let mut several = Several::start_over_etcd(1, &[1, 2, 3], &[(1, ALL), (2, ALL)]).await;
    let done = several.one(1).purge("/a").await;
    several.one(1).completed(&done).await;
    several.one(2).until(&done, |view| view.objects_final).await;
    several.kill(2);
    let open = several.one(1).purge("/b").await;
    several.one(1).until(&open, |view| view.nodes.confirmed == 1).await;
    several.etcd.as_mut().unwrap().kill(0);
    let tracker = &several.one(1).tracker;
    let told = tracker.task(&shop(), done.task).await.unwrap().unwrap();
    assert_eq!(told.state, TaskState::Completed);
    assert!(tracker.task(&shop(), open.task).await.is_err(), "another replica may know it as completed");
    several.etcd.as_mut().unwrap().restart(0);
    let tracker = &several.one(1).tracker;
    let deadline = tokio::time::Instant::now() + crate::tests::plane::PATIENCE;
    while tracker.task(&shop(), open.task).await.is_err() {
        assert!(tokio::time::Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
