use std::time::Duration;

use super::{ALL, Several};
use crate::tracker::TaskState;

#[tokio::test(flavor = "multi_thread")]
async fn three_replicas_complete_each_purge_and_tell_the_same_of_it() {
    let mut several = Several::three().await;
    for number in 0..9 {
        let by = number % 3 + 1;
        let accepted = several.one(by).purge(&format!("/{number}")).await;
        for replica in 1..=3 {
            several.one(replica).completed(&accepted).await;
        }
        // Until it is written down, each tells what it has seen itself.
        let told = several.agree(&accepted).await;
        assert!(told.completed_at.is_some() && told.propagation_ms.is_some(), "{told:?}");
        assert_eq!((told.nodes.confirmed, told.objects_evicted), (1, 1), "{told:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_of_three_complete_what_one_alone_does_not() {
    let mut several = Several::three().await;
    several.kill(3);
    let accepted = several.one(1).purge("/a").await;
    several.one(1).completed(&accepted).await;
    several.one(2).completed(&accepted).await;

    several.kill(2);
    let open = several.one(1).purge("/b").await;
    // The only one that is left knows that the node has confirmed it, and does not say so.
    let all_confirmed = several.one(1).until(&open, |view| view.nodes.confirmed == 1).await;
    assert_ne!(all_confirmed.state, TaskState::Completed);
    let waited = several.one(1).tracker.wait(&super::shop(), open.task, Duration::from_millis(500)).await;
    assert_ne!(waited.unwrap().unwrap().state, TaskState::Completed);
    assert_eq!(several.one(1).task(&accepted).await.state, TaskState::Completed, "what is done stays so");

    several.add(2, ALL).await;
    several.one(1).completed(&open).await;
    several.one(2).completed(&open).await;
    assert_eq!(several.one(2).task(&accepted).await.state, TaskState::Completed);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_in_no_set_tells_what_is_completed_and_completes_nothing() {
    let mut several = Several::start(&[1, 2, 3], &[(1, ALL), (4, ALL)]).await;
    let open = several.one(4).purge("/a").await;
    several.one(1).until(&open, |view| view.nodes.confirmed == 1).await;
    several.one(4).until(&open, |view| view.nodes.confirmed == 1).await;
    let waited = several.one(4).tracker.wait(&super::shop(), open.task, Duration::from_millis(500)).await;
    assert_ne!(waited.unwrap().unwrap().state, TaskState::Completed);
    several.add(3, ALL).await;
    several.one(4).completed(&open).await;
    several.one(1).completed(&open).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_told_as_completed_is_so_at_every_replica() {
    let mut several = Several::three().await;
    for number in 0..30 {
        let accepted = several.one(1).purge(&format!("/{number}")).await;
        let asked = u8::try_from(number % 3).unwrap() + 1;
        several.one(asked).completed(&accepted).await;
        for replica in 1..=3 {
            let view = several.one(replica).task(&accepted).await;
            assert_eq!(view.state, TaskState::Completed, "{replica} after {asked}: {view:?}");
            assert!(view.completed_at.is_some() && view.propagation_ms.is_some());
        }
    }
}
