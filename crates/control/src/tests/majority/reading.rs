use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::future::join_all;

use super::{ALL, Several};
use crate::tests::plane::shop;
use crate::tracker::{TaskFilter, TaskState};

#[tokio::test(flavor = "multi_thread")]
async fn a_task_is_found_at_once_whichever_replica_accepted_it() {
    let mut several = Several::three().await;
    for number in 0..30_u8 {
        let accepted = several.one(number % 3 + 1).purge(&format!("/{number}")).await;
        for replica in 1..=3 {
            assert_eq!(several.one(replica).task(&accepted).await.seq, accepted.seq);
            let filter = TaskFilter { limit: 1, ..TaskFilter::default() };
            let page = several.one(replica).tracker.list(&shop(), &filter).await.unwrap();
            assert_eq!(page.tasks[0].task, accepted.task);
        }
    }
    // The list goes on at another replica.
    let filter = TaskFilter { limit: 10, ..TaskFilter::default() };
    let first = several.one(1).tracker.list(&shop(), &filter).await.unwrap();
    let filter = TaskFilter { limit: 100, before: first.next, ..TaskFilter::default() };
    let rest = several.one(2).tracker.list(&shop(), &filter).await.unwrap();
    assert_eq!((first.tasks.len(), rest.tasks.len(), rest.next), (10, 20, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn many_questions_share_a_read() {
    let mut several = Several::start(&[1, 2, 3], &[(1, ALL)]).await;
    let open = several.one(1).purge("/a").await;
    let tracker = Arc::clone(&several.one(1).tracker);
    let before = tracker.fresh_reads();
    let site = shop();
    let asked = join_all((0..200).map(|_| tracker.task(&site, open.task))).await;
    assert!(asked.into_iter().all(|view| view.unwrap().unwrap().state != TaskState::Completed));
    let reads = tracker.fresh_reads() - before;
    assert!((1..=20).contains(&reads), "{reads}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_listens_goes_on_at_another_replica_and_misses_nothing() {
    let mut several = Several::three().await;
    let mut events = several.one(1).tracker.subscribe(&shop(), None).await.unwrap();
    let mut last = None;
    let mut completed = Vec::new();
    for number in 0..5 {
        let accepted = several.one(2).purge(&format!("/{number}")).await;
        while completed.last() != Some(&accepted.seq) {
            let event = events.next().await.unwrap();
            if event.task.state == TaskState::Completed {
                completed.push(event.task.seq);
            }
            last = Some(event.id);
        }
    }
    // Meanwhile more happens.
    let mut expected = completed.clone();
    for number in 0..5 {
        expected.push(several.one(3).purge(&format!("/more/{number}")).await.seq);
    }
    let mut events = several.one(3).tracker.subscribe(&shop(), last.as_deref()).await.unwrap();
    while completed.len() < expected.len() {
        let event = events.next().await.unwrap();
        if event.task.state == TaskState::Completed {
            completed.push(event.task.seq);
        }
    }
    assert_eq!(completed, expected);
    // A place in the console's news is good for one replica; another one has it ask anew.
    let place = several.one(1).tracker.news_place();
    assert!(several.one(1).tracker.news_since(place).is_some());
    assert!(several.one(2).tracker.news_since(place).is_none());
}
