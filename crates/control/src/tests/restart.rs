use std::time::{Duration, Instant};

use batoff_types::message::LeasePolicy;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::node::{Intro, Node};
use super::plane::{Plane, shop};
use crate::catalog::{NewToken, Scope};
use crate::tracker::{TaskFilter, TaskState};

#[tokio::test(flavor = "multi_thread")]
async fn tasks_that_were_open_at_a_crash_are_resolved_after_it() {
    let mut plane = Plane::start().await;
    let node = Node::available(&plane, "fra1/edge-1").await;
    let intro = node.intro(LeasePolicy::Serve);
    let open = plane.purge("/a").await;
    plane.crash().await;
    drop(node);
    let view = plane.task(open.task).await;
    assert_ne!(view.state, TaskState::Completed);
    let mut node = Node::connect(&plane, intro).await;
    node.receive_through(open.seq).await;
    node.ack(&[(open.seq, 5, true)]);
    let view = plane.completed(open.task).await;
    assert_eq!((view.seq, view.nodes.confirmed), (open.seq, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_told_before_a_crash_is_told_after_it() {
    let mut plane = Plane::start().await;
    Node::strict(&plane, "fra1/edge-1").await.follow();
    let task = plane.purge("/a").await.task;
    plane.completed(task).await;
    let before = plane.until(task, |view| view.objects_final).await;
    // Counts that changed after completion are written within a moment.
    tokio::time::sleep(std::time::Duration::from_millis(600)).await;
    let pops = plane.tracker().pops(&shop(), task).await.unwrap();
    plane.crash().await;
    assert_eq!(plane.task(task).await, before);
    assert_eq!(plane.tracker().pops(&shop(), task).await.unwrap(), pops);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_start_raises_the_term_and_remembers_nodes_and_policies() {
    let mut plane = Plane::start().await;
    let node = Node::strict(&plane, "fra1/edge-1").await;
    let term = plane.tracker().term();
    plane.crash().await;
    drop(node);
    assert!(plane.tracker().term() > term);
    let nodes = plane.tracker().nodes();
    assert_eq!((nodes.len(), nodes[0].policy), (1, Some(LeasePolicy::Revalidate)));
    // Strict and silent: fenced once the leases of the last start have run out, and not before.
    let view = plane.completed(plane.purge("/a").await.task).await;
    assert_eq!((view.nodes.total, view.nodes.fenced), (1, 1));
}

/// What a second incarnation acknowledged says nothing of the first one's cache, which may serve until its lease ends.
/// Stored, it would count for both after a restart.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_new_incarnation_confirmed_is_not_stored_while_the_old_one_may_hold_a_lease() {
    let mut plane = Plane::start().await;
    // On a machine that is too busy the lease is over before the crash, and nothing is learned.
    for attempt in 0..20 {
        let name = format!("fra1/edge-{attempt}");
        let asked = Instant::now();
        let first = Node::strict(&plane, &name).await;
        let purge = plane.purge("/a").await;
        let mut second = Node::connect(&plane, Intro::new(&name, LeasePolicy::Revalidate)).await;
        second.receive_through(purge.seq).await;
        second.ack(&[]);
        let cursor = |plane: &Plane| {
            let nodes = plane.tracker().nodes();
            nodes.iter().find(|node| node.node == first.name).map(|node| node.cursor).unwrap()
        };
        while !cursor(&plane).covers(purge.seq) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        plane.tracker().save().await.unwrap();
        plane.crash().await;
        if asked.elapsed() < plane.tracker().times().lease {
            assert!(!cursor(&plane).covers(purge.seq), "taken for the first one's word");
            assert_ne!(plane.task(purge.task).await.state, TaskState::Completed);
            return;
        }
    }
    panic!("too slow a machine for this test");
}

#[tokio::test(flavor = "multi_thread")]
async fn sites_and_tokens_survive_and_a_revoked_token_stays_revoked() {
    let mut plane = Plane::start().await;
    let issue = || NewToken {
        site: shop(),
        label: "t".into(),
        scopes: vec![Scope::Purge],
        expires_at: None,
        created_by: "t".into(),
    };
    let kept = plane.services().catalog.issue(issue()).await.unwrap();
    let gone = plane.services().catalog.issue(issue()).await.unwrap();
    assert!(plane.services().catalog.revoke("shop", gone.token.id, "t").await.unwrap());
    let table = plane.services().catalog.table();
    plane.crash().await;
    let catalog = &plane.services().catalog;
    assert_eq!(catalog.table(), table);
    let found = catalog.find(&kept.text).unwrap();
    assert_eq!(found, kept.token);
    let mut signed = Hmac::<Sha256>::new_from_slice(kept.secret.as_bytes()).unwrap();
    signed.update(b"a message");
    let code = signed.finalize().into_bytes().into();
    let key = catalog.signing_key(&found);
    assert!(key.verify(&code, |tell| tell(b"a message")), "the secret is another one");
    assert!(!key.verify(&code, |tell| tell(b"another")));
    assert!(catalog.find(&gone.text).is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn more_open_tasks_than_fit_into_memory_are_completed_all_the_same() {
    let mut plane = Plane::start_with("[limits]\nlive_tasks = 16\n").await;
    let node = Node::available(&plane, "fra1/edge-1").await;
    let intro = node.intro(LeasePolicy::Serve);
    drop(node);
    let mut tasks = Vec::new();
    for round in 0..60 {
        tasks.push(plane.purge(&format!("/{round}")).await);
    }
    plane.crash().await;
    for round in 60..100 {
        tasks.push(plane.purge(&format!("/{round}")).await);
    }
    Node::connect(&plane, intro).await.follow();
    for accepted in &tasks {
        plane.completed(accepted.task).await;
    }
    let filter = TaskFilter { state: Some(TaskState::Completed), limit: 200, ..TaskFilter::default() };
    assert_eq!(plane.tracker().list(&shop(), &filter).await.unwrap().tasks.len(), 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_name_stays_blocked_after_a_start_until_it_is_admitted() {
    let mut plane = Plane::start().await;
    let node = Node::strict(&plane, "fra1/edge-1").await;
    let name = node.name.clone();
    let body = batoff_types::Body::NodeRemoved(name.clone());
    plane.services().commit.append_body(body, "test").await.unwrap();
    plane.crash().await;
    drop(node);
    let intro = Intro::new("fra1/edge-1", LeasePolicy::Revalidate);
    let mut refused = Node::open(&plane, &intro).await;
    refused.say(batoff_types::message::FromNode::Hello(intro.hello()));
    assert_eq!(refused.end().await.unwrap_err().code(), tonic::Code::PermissionDenied);
    assert!(plane.tracker().admit(&name).await.unwrap());
    Node::strict(&plane, "fra1/edge-1").await.follow();
    plane.completed(plane.purge("/a").await.task).await;
}
