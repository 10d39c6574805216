use batoff_types::message::{FromNode, LeasePolicy, Trouble};

use super::node::Node;
use super::plane::{Plane, shop};
use crate::tracker::{LateCause, Propagation, TaskState};

async fn spread(plane: &Plane, task: batoff_types::TaskId) -> Propagation {
    plane.tracker().propagation(Some(&shop()), task).await.unwrap().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_is_followed_from_the_stream_to_the_acknowledgement_and_so_it_is_kept() {
    let mut plane = Plane::start().await;
    Node::strict(&plane, "ams1/edge-1").await.follow();
    // Waited for however long the test takes: a strict one would be fenced when its lease has run out.
    let mut slow = Node::available(&plane, "fra1/edge-1").await;
    let accepted = plane.purge("/a").await;
    slow.receive_through(accepted.seq).await;

    // It has acknowledged in ams1, and fra1 has it.
    let open = loop {
        let open = spread(&plane, accepted.task).await;
        if open.pops.iter().any(|pop| pop.acked_ms.is_some()) {
            break open;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    };
    assert!(open.state != TaskState::Completed && open.completed_ms.is_none(), "{open:?}");
    assert_eq!((&*open.pops[0].pop, open.pops[0].until_ms()), ("fra1", None), "the slowest first");
    let waited_for = &open.late[0];
    assert_eq!(waited_for.node.pop(), "fra1");
    assert!(matches!(waited_for.cause, LateCause::Working | LateCause::NoLease), "{waited_for:?}");
    assert!(waited_for.sent_ms.is_some() && waited_for.sent_ms <= open.elapsed_ms);

    slow.ack(&[(accepted.seq, 3, true)]);
    plane.completed(accepted.task).await;
    plane.until(accepted.task, |view| view.objects_final).await;
    let done = spread(&plane, accepted.task).await;
    assert_eq!((done.state, done.pops.len(), done.late.len()), (TaskState::Completed, 2, 1), "{done:?}");
    for pop in &done.pops {
        let order = [pop.sent_ms, pop.sent_last_ms, pop.in_force_ms, pop.acked_ms, done.completed_ms];
        assert!(order.iter().all(Option::is_some) && order.is_sorted(), "{pop:?}");
        assert!(pop.evicted_ms >= pop.acked_ms && pop.fenced_ms.is_none(), "{pop:?}");
    }
    let slowest = &done.late[0];
    assert_eq!((slowest.node.pop(), slowest.acked_ms), ("fra1", done.pops[0].acked_ms));

    // Nothing of a task that all have reported on is in memory, let alone after a crash.
    plane.crash().await;
    let kept = spread(&plane, accepted.task).await;
    assert_eq!((kept.completed_ms, kept.pops, kept.late), (done.completed_ms, done.pops, done.late));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_fenced_has_its_moment_and_its_reason() {
    let plane = Plane::start().await;
    let silent = Node::strict(&plane, "waw1/edge-1").await;
    Node::strict(&plane, "fra1/edge-1").await.follow();
    drop(silent);
    let first = plane.purge("/a").await.task;
    plane.completed(first).await;
    let done = spread(&plane, first).await;
    let fenced = &done.late[0];
    assert_eq!((fenced.node.pop(), fenced.cause), ("waw1", LateCause::NoConnection), "{done:?}");
    let waw = done.pops.iter().find(|pop| &*pop.pop == "waw1").unwrap();
    assert!(waw.fenced_ms.is_some() && waw.fenced_ms == fenced.fenced_ms);
    assert!(waw.fenced_ms <= done.completed_ms && waw.acked_ms.is_none());

    // The next one need not wait for the end of the lease.
    let second = plane.purge("/b").await.task;
    plane.completed(second).await;
    let late = spread(&plane, second).await.late;
    assert!(late.iter().any(|line| line.fenced_ms == Some(0)), "{late:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cache_that_was_in_the_way_is_the_cause_with_its_own_words() {
    let plane = Plane::start().await;
    let mut node = Node::strict(&plane, "fra1/edge-1").await;
    let accepted = plane.purge("/a").await;
    node.receive_through(accepted.seq).await;
    let trouble = |message: &str| {
        FromNode::Trouble(Trouble {
            cache: "nginx".into(),
            message: message.into(),
            stuck: Some(accepted.seq),
        })
    };
    node.say(trouble("no answer"));
    let open = loop {
        let open = spread(&plane, accepted.task).await;
        if !open.late[0].detail.is_empty() {
            break open;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    };
    assert_eq!((open.late[0].cause, &*open.late[0].detail), (LateCause::CacheTrouble, "nginx: no answer"));
    // Well again before it acknowledges, as a daemon does it.
    node.say(trouble(""));
    let report = batoff_types::message::RecordReport {
        seq: accepted.seq,
        objects: 1,
        last: true,
        in_force_after: std::time::Duration::from_micros(1),
        evicted_after: std::time::Duration::from_secs(60),
    };
    let cursor = batoff_types::Cursor::after(accepted.seq);
    node.say(FromNode::Ack(batoff_types::message::Ack {
        cursor,
        reports: vec![report],
        overflowed: Vec::new(),
    }));
    plane.completed(accepted.task).await;
    let done = spread(&plane, accepted.task).await;
    assert_eq!((done.late[0].cause, &*done.late[0].detail), (LateCause::CacheTrouble, "nginx: no answer"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_is_shown_to_its_own_site_alone_and_to_the_operator() {
    let plane = Plane::start().await;
    let node = Node::available(&plane, "fra1/edge-1").await;
    let intro = node.intro(LeasePolicy::Serve);
    drop(node);
    let task = plane.purge("/a").await.task;
    let tracker = plane.tracker();
    assert!(tracker.propagation(Some(&"news".parse().unwrap()), task).await.unwrap().is_none());
    // The control plane notices the end of the stream in its own time; until then the purge counts as sent late.
    while tracker.propagation(None, task).await.unwrap().unwrap().late[0].cause != LateCause::NoConnection {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    Node::connect(&plane, intro).await.follow();
    plane.completed(task).await;
}
