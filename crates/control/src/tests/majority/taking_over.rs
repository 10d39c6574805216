use std::sync::Arc;
use std::time::Duration;

use super::{ALL, Doing, Several};
use crate::store::SharedStore;
use crate::tests::plane::{PATIENCE, shop};
use crate::tracker::{SlaView, TaskState};

const HOUR: Duration = Duration::from_secs(3_600);

async fn counted(several: &mut Several, replica: u8, purges: u64) -> SlaView {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let tracker = &several.one(replica).tracker;
        tracker.save_sla().await.unwrap();
        let sla = tracker.sla(Some(&shop()), HOUR).await.unwrap();
        if sla.purges >= purges {
            return sla;
        }
        assert!(tokio::time::Instant::now() < deadline, "{sla:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_became_of_a_task_is_written_by_another_one_if_the_replica_that_completed_it_dies() {
    // The first records what is done, and dies before it has written a row.
    let (declares, hears) = (Doing { done: true, rows: false }, Doing { done: false, rows: true });
    let mut several = Several::start(&[1, 2, 3], &[(1, declares), (2, hears), (3, hears)]).await;
    let accepted = several.one(1).purge("/a").await;
    let first = several.one(1).completed(&accepted).await;
    assert!(first.approximate, "its row is not written, and another one may write it otherwise: {first:?}");
    several.kill(1);
    several.one(2).keep_done();
    several.one(3).keep_done();
    let second = several.one(2).completed(&accepted).await;
    assert!(second.approximate, "told at once, and not exactly: {second:?}");
    // Until somebody has written it down; then all tell the same, and each purge is counted once.
    let written =
        several.one(2).until(&accepted, |view| view.objects_final && view.nodes.confirmed == 1).await;
    assert_eq!(written.state, TaskState::Completed);
    let sla = counted(&mut several, 2, 1).await;
    assert_eq!((sla.purges, sla.judged), (1, 1));
    let theirs = several.one(3).until(&accepted, |view| *view == written).await;
    assert_eq!(theirs.state, TaskState::Completed);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_that_write_down_at_one_time_what_became_of_a_task_the_first_is_told_by_all() {
    let (declares, hears) = (Doing { done: true, rows: false }, Doing { done: false, rows: true });
    let mut several = Several::start(&[1, 2, 3], &[(1, declares)]).await;
    let stores = [2, 3].map(|_| SharedStore::over(Arc::clone(&several.store)));
    for (replica, store) in [2, 3].into_iter().zip(&stores) {
        store.hold_rows();
        several.add_over(replica, hears, Arc::clone(store) as _).await;
    }
    let accepted = several.one(1).purge("/a").await;
    several.one(2).keep_done();
    several.one(1).completed(&accepted).await;
    several.kill(1);
    several.one(2).completed(&accepted).await;
    // It hears of it later, so its figures are others.
    tokio::time::sleep(Duration::from_millis(300)).await;
    several.one(3).keep_done();
    let own = several.one(2).task(&accepted).await;
    let late = several.one(3).completed(&accepted).await;
    assert_ne!(own.propagation_ms, late.propagation_ms, "else nothing can be seen here");

    // Both have found that nobody has written it down, and are about to.
    for store in &stores {
        store.holds_rows().await;
    }
    let written = async |several: &mut Several, replica| {
        let tracker = Arc::clone(&several.one(replica).tracker);
        while tracker.stored_through() < tracker.tail() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        several.one(replica).until(&accepted, |view| view.objects_final).await
    };
    stores[1].let_rows_go();
    let first = written(&mut several, 3).await;
    stores[0].let_rows_go();
    assert_eq!(written(&mut several, 2).await, first, "the second takes over what is written");
    assert_eq!(several.agree(&accepted).await, first);
    let sla = counted(&mut several, 3, 1).await;
    assert_eq!((sla.purges, sla.judged), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn each_purge_is_counted_once_whoever_dies_while_he_counts() {
    let mut several = Several::three().await;
    for number in 0..5 {
        let accepted = several.one(1).purge(&format!("/{number}")).await;
        several.one(1).completed(&accepted).await;
    }
    counted(&mut several, 1, 5).await;
    for number in 0..5 {
        let accepted = several.one(2).purge(&format!("/more/{number}")).await;
        several.one(1).completed(&accepted).await;
    }
    // Whoever counts dies after the slots are written, and before he has said so.
    let mut count = Vec::new();
    for replica in 1..=3 {
        let tracker = std::sync::Arc::clone(&several.one(replica).tracker);
        while tracker.stored_through() < tracker.tail() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        count.push(tracker.count_slots().await.unwrap().map(|_| replica));
    }
    let dead: Vec<u8> = count.into_iter().flatten().collect();
    for replica in &dead {
        several.kill(*replica);
    }
    let left = [1, 2, 3].into_iter().find(|replica| !dead.contains(replica));
    let left = match left {
        Some(left) => left,
        None => {
            several.add(1, ALL).await;
            1
        }
    };
    let sla = counted(&mut several, left, 10).await;
    // Another round, to find out whether anything is counted again.
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!((sla.purges, sla.within + sla.breaches.len() as u64), (10, 10));
    assert_eq!(counted(&mut several, left, 10).await.purges, 10);
}
