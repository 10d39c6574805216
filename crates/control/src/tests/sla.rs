use std::time::Duration;

use batoff_types::message::{FromNode, LeasePolicy, Trouble};

use super::node::Node;
use super::plane::{Plane, shop};
use crate::tracker::{SlaView, TaskState};

async fn of_shop(plane: &Plane) -> SlaView {
    plane.tracker().sla(Some(&shop()), Duration::from_secs(3_600)).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_that_missed_the_target_is_a_breach_and_names_who_was_late_and_why() {
    let plane = Plane::start().await;
    let mut node = Node::available(&plane, "fra1/edge-1").await;
    let accepted = plane.purge("/a").await;
    node.receive_through(accepted.seq).await;
    let trouble = Trouble { cache: "nginx".into(), message: "no answer".into(), stuck: Some(accepted.seq) };
    node.say(FromNode::Trouble(trouble));
    let intro = node.intro(LeasePolicy::Serve);
    let open = loop {
        let sla = of_shop(&plane).await;
        if !sla.breaches.is_empty() {
            break sla;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert_eq!((open.purges, open.within_target), (1, 0.0), "open and past the target");
    assert_eq!(open.breaches[0].propagation_ms, None);

    drop(node);
    plane.until(accepted.task, |view| view.state == TaskState::Partial).await;
    Node::connect(&plane, intro).await.follow();
    plane.completed(accepted.task).await;
    let sla = of_shop(&plane).await;
    assert_eq!((sla.purges, sla.within_target, sla.breaches.len()), (1, 0.0, 1));
    let breach = &sla.breaches[0];
    assert!(breach.propagation_ms.unwrap() >= 2_000, "{breach:?}");
    assert_eq!(breach.late[0].node.to_string(), "fra1/edge-1");
    let reason = &*breach.late[0].reason;
    assert!(reason.ends_with(", connected, 1 record behind; nginx: no answer (since seq 3)"), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_that_completes_in_the_instant_after_the_target_is_a_breach_too() {
    let plane = Plane::start().await;
    let node = Node::available(&plane, "fra1/edge-1").await;
    let intro = node.intro(LeasePolicy::Serve);
    drop(node);
    let task = plane.purge("/a").await.task;
    // No tick may come in between: the question itself notices that the target has passed.
    plane.until(task, |view| view.state == TaskState::Partial).await;
    Node::connect(&plane, intro).await.follow();
    plane.completed(task).await;
    let sla = of_shop(&plane).await;
    assert_eq!((sla.purges, sla.breaches.len()), (1, 1));
    assert!(sla.breaches[0].late[0].reason.starts_with("unreachable, no connection"), "{sla:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_purge_is_counted_once_whenever_the_process_dies() {
    let mut plane = Plane::start().await;
    for round in 1..=4_u64 {
        for purge in 0..5 {
            plane.completed(plane.purge(&format!("/{round}/{purge}")).await.task).await;
        }
        if round % 2 == 0 {
            // The counts are durable, and how far they go is not.
            plane.tracker().save_sla().await.unwrap();
        }
        plane.crash().await;
        let sla = of_shop(&plane).await;
        assert_eq!((sla.purges, sla.within_target), (5 * round, 1.0));
    }
    let fleet = plane.tracker().sla(None, Duration::from_secs(3_600)).await.unwrap();
    assert_eq!(fleet, of_shop(&plane).await, "one site is all there is");
}

#[tokio::test(flavor = "multi_thread")]
async fn all_sites_together_are_the_sum_of_each() {
    let plane = Plane::start().await;
    plane.change("news", Some(&["news.example.com"])).await;
    plane.completed(plane.purge("/a").await.task).await;
    let news = "news".parse().unwrap();
    let of_news = plane.tracker().sla(Some(&news), Duration::from_secs(3_600)).await.unwrap();
    let fleet = plane.tracker().sla(None, Duration::from_secs(3_600)).await.unwrap();
    assert_eq!((of_news.purges, of_shop(&plane).await.purges, fleet.purges), (0, 1, 1));
    assert_eq!(of_news.within_target, 1.0, "nothing was late");
}
