use std::time::Duration;

use batoff_types::message::LeasePolicy;
use batoff_types::{HostPattern, Selector, SiteTable};

use super::node::{Intro, Node};
use super::plane::{Plane, shop};
use crate::commit::CommitError;
use crate::tracker::TaskState;

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_is_streamed_acknowledged_and_completed() {
    let plane = Plane::start().await;
    let mut node = Node::strict(&plane, "fra1/edge-1").await;
    let accepted = plane.purge("/a").await;
    node.receive_through(accepted.seq).await;
    let view = plane.until(accepted.task, |view| view.state != TaskState::Pending).await;
    assert_eq!((view.state, view.items_done(), view.nodes.confirmed), (TaskState::InProgress, 0, 0));
    node.ack(&[(accepted.seq, 3, true)]);
    let view = plane.completed(accepted.task).await;
    assert_eq!((view.items_total(), view.items_done(), view.nodes.total, view.nodes.confirmed), (1, 1, 1, 1));
    assert!(view.completed_at.is_some() && view.propagation_ms.is_some());
    let view = plane.until(accepted.task, |view| view.objects_final).await;
    assert_eq!(view.objects_evicted, 3);
    let pops = plane.tracker().pops(&shop(), accepted.task).await.unwrap().unwrap();
    assert_eq!((&*pops[0].pop, pops[0].objects_evicted, pops[0].nodes.confirmed), ("fra1", 3, 1));
    assert!(pops[0].slowest_ms.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_control_plane_that_is_alone_sends_at_once_whatever_the_node_asks_for() {
    let plane = Plane::start().await;
    let mut node = Node::strict(&plane, "fra1/edge-1").await;
    node.beat_filling_in(Duration::from_secs(3_600));
    assert_eq!(node.answer().await.tail, None);
    node.receive_through(plane.purge("/a").await.seq).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_nodes_a_purge_is_completed_at_once() {
    let plane = Plane::start().await;
    let view = plane.completed(plane.purge("/a").await.task).await;
    assert_eq!(view.nodes.total, 0);
    assert!(view.objects_final);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_strict_node_that_falls_silent_is_fenced_and_the_purge_completes() {
    let plane = Plane::start().await;
    let silent = Node::strict(&plane, "fra1/edge-1").await;
    Node::strict(&plane, "fra1/edge-2").await.follow();
    let view = plane.completed(plane.purge("/a").await.task).await;
    assert_eq!((view.nodes.total, view.nodes.confirmed, view.nodes.fenced), (2, 1, 1));
    assert!(!view.objects_final);
    drop(silent);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_available_node_that_is_gone_makes_the_purge_partial_until_it_is_back() {
    let plane = Plane::start().await;
    let node = Node::available(&plane, "fra1/edge-1").await;
    let intro = node.intro(LeasePolicy::Serve);
    drop(node);
    let task = plane.purge("/a").await.task;
    let view = plane.until(task, |view| view.state == TaskState::Partial).await;
    assert_eq!((view.nodes.unreachable, view.nodes.fenced), (1, 0));
    assert!(view.completed_at.is_none());
    Node::connect(&plane, intro).await.follow();
    let view = plane.completed(task).await;
    assert_eq!((view.nodes.confirmed, view.nodes.unreachable), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_node_does_not_delay_the_others() {
    let plane = Plane::start().await;
    // Reads nothing, ever.
    let _stuck = Node::connect(&plane, Intro::new("fra1/stuck", LeasePolicy::Serve)).await;
    let mut quick = Node::strict(&plane, "fra1/quick").await;
    for round in 0..50 {
        let accepted = plane.purge(&format!("/{round}")).await;
        quick.receive_through(accepted.seq).await;
        quick.ack(&[]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_has_fallen_out_of_the_tail_reads_on_from_the_log() {
    let plane = Plane::start_with("[limits]\ntail_records = 16\n").await;
    let node = Node::strict(&plane, "fra1/edge-1").await;
    let intro = node.intro(LeasePolicy::Revalidate);
    drop(node);
    let mut last = None;
    for round in 0..100 {
        last = Some(plane.purge(&format!("/{round}")).await);
    }
    let last = last.unwrap();
    plane.streamed(last.seq).await;
    let mut node = Node::connect(&plane, intro).await;
    node.receive_through(last.seq).await;
    node.ack(&[]);
    plane.completed(last.task).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reports_that_come_after_completion_are_added() {
    let plane = Plane::start().await;
    let mut node = Node::strict(&plane, "fra1/edge-1").await;
    let accepted = plane.purge("/a").await;
    node.receive_through(accepted.seq).await;
    node.ack(&[(accepted.seq, 1_000, false)]);
    let view = plane.completed(accepted.task).await;
    assert!(!view.objects_final);
    node.ack(&[(accepted.seq, 234, true)]);
    let view = plane.until(accepted.task, |view| view.objects_final).await;
    assert_eq!(view.objects_evicted, 1_234);
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_are_counted_on_the_nodes_that_answer() {
    let plane = Plane::start().await;
    Node::strict(&plane, "fra1/edge-1").await.follow();
    Node::strict(&plane, "ams1/edge-1").await.follow();
    let counts = plane.tracker().count(&shop(), &[Selector::Everything, Selector::Everything]).await;
    assert_eq!((counts.objects, counts.nodes_total, counts.nodes_answered), (vec![14, 14], 2, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_under_a_hostname_that_its_site_has_lost_is_refused() {
    let plane = Plane::start().await;
    plane.change("shop", Some(&["shop.example.com"])).await;
    assert_eq!(plane.submit("/a").await, Err(CommitError::SiteChanged { item: 0 }));
    plane.change("shop", None).await;
    assert_eq!(plane.submit("/a").await, Err(CommitError::SiteChanged { item: 0 }));
    plane.change("shop", Some(&["*.example.com"])).await;
    plane.purge("/a").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn welcome_tells_the_sites_as_they_were_where_the_stream_resumes() {
    let plane = Plane::start().await;
    let node = Node::strict(&plane, "fra1/edge-1").await;
    let intro = node.intro(LeasePolicy::Revalidate);
    drop(node);
    plane.change("shop", Some(&["new.example.com"])).await;
    let sites = |node: &Node| node.welcome.as_ref().unwrap().sites.clone();
    let names = |name: &str| {
        let mut sites = SiteTable::default();
        sites.set(&shop(), Some(&[name.parse::<HostPattern>().unwrap()]));
        sites
    };
    let node = Node::connect(&plane, intro).await;
    assert_eq!(sites(&node), names("www.example.com"));
    let fresh = Node::connect(&plane, Intro::new("fra1/edge-2", LeasePolicy::Revalidate)).await;
    assert_eq!(sites(&fresh), names("new.example.com"));
}
