use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use batoff_types::message::{LeasePolicy, ResetReason};
use batoff_types::{Purge, Selector, Seq, UnixMillis};

use super::node::Node;
use super::plane::{Plane, shop};
use crate::clock::Clock;
use crate::commit::{Accepted, Submission};
use crate::housekeeping::{Housekeeping, LogSize};

fn housekeeping(plane: &Plane, clock: Clock) -> Housekeeping {
    let services = plane.services();
    Housekeeping {
        store: Arc::clone(&services.store),
        catalog: Arc::clone(&services.catalog),
        audit: Arc::clone(&plane.services().audit),
        tracker: Arc::clone(&services.tracker),
        clock,
        retention: services.config.retention.clone(),
        size: LogSize::default(),
        turn: None,
    }
}

/// A wall clock that is so many hours ahead.
fn ahead(hours: u64) -> Clock {
    let skew = AtomicU64::new(hours * 3_600_000);
    let clock = Clock::system();
    Clock::with_wall(move || UnixMillis(clock.wall().0 + skew.load(Ordering::Relaxed)))
}

async fn saved(plane: &Plane) {
    plane.tracker().save().await.unwrap();
    plane.services().catalog.save().await.unwrap();
}

async fn first(plane: &Plane) -> Seq {
    plane.services().store.log().state().await.unwrap().first
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_was_away_for_too_long_is_reset_and_tasks_stay_known() {
    let mut plane = Plane::start().await;
    let node = Node::strict(&plane, "fra1/edge-1").await;
    let intro = node.intro(LeasePolicy::Revalidate);
    drop(node);
    let task = plane.purge("/a").await.task;
    let seq = plane.completed(task).await.seq;
    plane.streamed(seq).await;
    saved(&plane).await;
    housekeeping(&plane, ahead(8 * 24)).tidy().await.unwrap();
    assert_eq!(first(&plane).await, plane.tail().next());

    let mut node = Node::connect(&plane, intro).await;
    assert_eq!(node.reset().await.reason, ResetReason::Trimmed);
    drop(node);
    let view = plane.task(task).await;
    assert_eq!(view.items_total(), 1);
    plane.crash().await;
    // The sites are still known, though the records that made them are gone.
    assert_eq!(plane.services().catalog.table().owner("www.example.com"), Some(&shop()));
    assert_eq!(plane.task(task).await, view);
    housekeeping(&plane, ahead(31 * 24)).tidy().await.unwrap();
    assert_eq!(plane.tracker().task(&shop(), task).await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_has_grown_too_large_is_trimmed_from_its_old_end() {
    let plane = Plane::start_with("[retention]\nlog_bytes = 3_000_000\n").await;
    for _ in 0..5 {
        purge_of_long_urls(&plane, 100).await;
    }
    let last = purge_of_long_urls(&plane, 100).await;
    plane.streamed(last.seq).await;
    saved(&plane).await;
    housekeeping(&plane, ahead(0)).tidy().await.unwrap();
    let kept = last.seq.get() - first(&plane).await.get() + 1;
    assert!((2..=4).contains(&kept), "{kept} records of 0.8 MB are kept");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_largest_purge_that_the_api_lets_through_is_accepted_and_shown() {
    let plane = Plane::start().await;
    Node::strict(&plane, "fra1/edge-1").await.follow();
    let task = purge_of_long_urls(&plane, 200).await.task;
    assert_eq!(plane.completed(task).await.items_total(), 200);
    let view = plane.until(task, |view| view.objects_final).await;
    assert_eq!(view.items_total(), 200);
}

async fn purge_of_long_urls(plane: &Plane, count: usize) -> Accepted {
    let url = |number: usize| {
        let front = format!("https://www.example.com/{number}/");
        let rest = "x".repeat(batoff_types::URL_BYTES_MAX - front.len());
        Selector::Url(format!("{front}{rest}").parse().unwrap())
    };
    let purge = Purge { site: shop(), selectors: (0..count).map(url).collect(), soft: false };
    let submission =
        Submission { purge, request_id: "long".into(), requester: None, dedupe: Vec::new(), trace: None };
    plane.services().commit.submit(submission).await.unwrap()
}
