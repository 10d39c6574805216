use std::time::Duration;

use batoff_types::{Body, Cursor, Replica, ReplicaSet};

use super::{ALL, Several};
use crate::tests::plane::{PATIENCE, shop};
use crate::tracker::{SetRefused, TaskState};

fn set(members: &[u8]) -> ReplicaSet {
    ReplicaSet::new(members.iter().copied().map(Replica)).unwrap()
}

/// Waits until nothing speaks against the set at that replica.
async fn may_count(several: &mut Several, asked: u8, set: &ReplicaSet) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while let Err(refused) = several.one(asked).tracker.may_count(set, &[], false) {
        assert!(tokio::time::Instant::now() < deadline, "{refused}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn write_set(several: &mut Several, by: u8, set: &ReplicaSet) -> Cursor {
    let one = several.one(by);
    let seq = one.commit.append_body(Body::ReplicaSet(set.clone()), "test").await.unwrap();
    one.tracker.knows(seq).await;
    Cursor::after(seq)
}

#[tokio::test(flavor = "multi_thread")]
async fn one_grows_to_three_and_none_of_them_is_needed_any_more() {
    let mut several = Several::start(&[1], &[(1, ALL)]).await;
    let first = several.one(1).purge("/a").await;
    several.one(1).completed(&first).await;
    let three = set(&[1, 2, 3]);
    let refused = several.one(1).tracker.may_count(&three, &[], false);
    assert_eq!(refused, Err(SetRefused::Unknown(Replica(2))));
    let refused = several.one(1).tracker.may_count(&three, &[Replica(2), Replica(3)], false);
    assert_eq!(refused, Err(SetRefused::NoMajority { live: 1, needed: 2 }));
    several.add(2, ALL).await;
    several.add(3, ALL).await;
    may_count(&mut several, 1, &three).await;
    let from = write_set(&mut several, 1, &three).await;
    // Purges go on meanwhile, and the change is completed as they are.
    let second = several.one(2).purge("/b").await;
    several.one(3).completed(&second).await;
    several.one(1).completed(&second).await;
    let view = several.one(2).tracker.replicas().unwrap();
    assert_eq!((view.set, view.set_from), (three.clone(), from));
    assert!(view.replicas.iter().all(|one| one.member && one.needed));
    assert_eq!(several.one(2).tracker.may_count(&three, &[], false), Err(SetRefused::Same));

    several.kill(1);
    let third = several.one(2).purge("/c").await;
    several.one(3).completed(&third).await;
    assert_eq!(several.one(2).task(&third).await.state, TaskState::Completed);
    // The first again: it finds the set in the log.
    several.add(1, ALL).await;
    several.kill(3);
    let fourth = several.one(1).purge("/d").await;
    several.one(1).completed(&fourth).await;
    several.one(2).completed(&fourth).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_set_is_known_after_its_record_is_trimmed() {
    let mut several = Several::start(&[1], &[(1, ALL), (2, ALL)]).await;
    let two = set(&[1, 2]);
    may_count(&mut several, 1, &two).await;
    let from = write_set(&mut several, 1, &two).await;
    let accepted = several.one(1).purge("/a").await;
    several.one(2).completed(&accepted).await;
    let saved = |several: &mut Several| several.one(1).tracker.saved_through();
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while saved(&mut several) < from {
        assert!(tokio::time::Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    several.store.log().trim(from.next()).await.unwrap();
    // Two is a majority of two: one that starts now and knew the first set only would complete with less.
    let learner = several.add(3, ALL).await;
    assert_eq!(learner.tracker.replicas().unwrap().set, two);
    several.kill(2);
    let open = several.one(1).purge("/b").await;
    let waited = several.one(3).tracker.wait(&shop(), open.task, Duration::from_millis(500)).await;
    assert_ne!(waited.unwrap().unwrap().state, TaskState::Completed);
}
