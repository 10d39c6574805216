use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::BoxStream;

use super::node::Node;
use super::plane::{PATIENCE, Plane, shop};
use crate::tracker::{TaskEvent, TaskFilter, TaskState};

async fn next(events: &mut BoxStream<'static, TaskEvent>) -> TaskEvent {
    tokio::time::timeout(PATIENCE, events.next()).await.expect("no event").expect("the end")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscriber_sees_each_state_once_and_resumes_after_the_last() {
    let plane = Plane::start().await;
    Node::strict(&plane, "fra1/edge-1").await.follow();
    let mut events = plane.tracker().subscribe(&shop(), None).await.unwrap();
    let first = plane.purge("/a").await.task;
    let mut last = None;
    for state in [TaskState::Pending, TaskState::InProgress, TaskState::Completed] {
        let event = next(&mut events).await;
        assert_eq!((event.task.task, event.task.state), (first, state));
        last = Some(event.id);
    }
    drop(events);
    let second = plane.purge("/b").await.task;
    plane.completed(second).await;
    let mut events = plane.tracker().subscribe(&shop(), last.as_deref()).await.unwrap();
    for state in [TaskState::Pending, TaskState::InProgress, TaskState::Completed] {
        let event = next(&mut events).await;
        assert_eq!((event.task.task, event.task.state), (second, state));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscriber_of_an_earlier_start_is_told_how_things_stand() {
    let mut plane = Plane::start().await;
    let mut events = plane.tracker().subscribe(&shop(), None).await.unwrap();
    plane.purge("/a").await;
    let (mut id, mut state) = (None, TaskState::Pending);
    while state != TaskState::Completed {
        let event = next(&mut events).await;
        (id, state) = (Some(event.id), event.task.state);
    }
    let missed = plane.purge("/b").await.task;
    plane.completed(missed).await;
    // It holds on to the old tracker, and so to the store's file.
    drop(events);
    plane.crash().await;
    let mut events = plane.tracker().subscribe(&shop(), id.as_deref()).await.unwrap();
    let mut seen = Vec::new();
    while !seen.contains(&(missed, TaskState::Completed)) {
        let event = next(&mut events).await;
        seen.push((event.task.task, event.task.state));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_tasks_follow_one_another_without_gap_or_repeat() {
    let plane = Plane::start().await;
    let mut expected = Vec::new();
    for round in 0..25 {
        expected.push(plane.purge(&format!("/{round}")).await.task);
    }
    expected.reverse();
    let (mut listed, mut before, mut pages) = (Vec::new(), None, 0);
    loop {
        let filter = TaskFilter { limit: 5, before, ..TaskFilter::default() };
        let page = plane.tracker().list(&shop(), &filter).await.unwrap();
        listed.extend(page.tasks.iter().map(|task| task.task));
        pages += 1;
        match page.next {
            Some(next) => before = Some(next),
            None => break,
        }
    }
    assert_eq!((listed, pages), (expected, 5));
    let nobody = "nobody".parse().unwrap();
    let filter = TaskFilter { limit: 5, ..TaskFilter::default() };
    assert!(plane.tracker().list(&nobody, &filter).await.unwrap().tasks.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_ends_when_its_time_is_up() {
    let plane = Plane::start().await;
    let _silent = Node::available(&plane, "fra1/edge-1").await;
    let task = plane.purge("/a").await.task;
    let view = plane.tracker().wait(&shop(), task, Duration::from_millis(50)).await.unwrap().unwrap();
    assert_ne!(view.state, TaskState::Completed);
    let nobody = "nobody".parse().unwrap();
    assert_eq!(plane.tracker().wait(&nobody, task, PATIENCE).await.unwrap(), None);
}
