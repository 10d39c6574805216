use std::time::Duration;

use batoff_tests::eventually;

use super::story;
use crate::feature::Feature;
use crate::stage::Stage;
use crate::subject::{Policy, Subject};

pub async fn a_strict_node_is_fenced_when_its_daemon_dies<S: Subject>() {
    story::<S>(Feature::FenceDaemon, async || {
        let mut stage = Stage::<S>::strict().await;
        let old = stage.fill("/fenced").await.number;
        stage.subject.daemon().kill();
        // Completed without the node: it has no lease, so it cannot serve what it still has.
        stage.purge_url("/fenced").await;
        for _ in 0..5 {
            let answer = stage.get("/fenced").await;
            assert!(answer.asked && answer.number > old, "served after the purge was completed: {answer:?}");
        }
        // And not for ever.
        stage.subject.daemon().restart().await;
        stage.plane.leased("pop1").await;
        assert!(stage.fill("/fenced").await.number > old);
    })
    .await;
}

pub async fn a_strict_node_is_fenced_when_the_control_plane_is_gone<S: Subject>() {
    story::<S>(Feature::FenceControl, async || {
        let mut stage = Stage::<S>::strict().await;
        stage.fill("/fenced").await;
        stage.plane.kill();
        eventually("the origin is asked", || async { (!stage.hits("/fenced").await).then_some(()) }).await;
        for _ in 0..5 {
            assert!(!stage.hits("/fenced").await, "served without a lease");
        }
        stage.plane.restart();
        stage.plane.leased("pop1").await;
        stage.fill("/fenced").await;
    })
    .await;
}

pub async fn an_available_node_serves_on<S: Subject>() {
    story::<S>(Feature::Available, async || {
        let mut stage = Stage::<S>::with(Policy::Available).await;
        let stored = stage.fill("/page").await;
        stage.plane.kill();
        // Longer than any lease.
        tokio::time::sleep(Duration::from_secs(2)).await;
        for _ in 0..5 {
            assert_eq!(stage.get("/page").await, stored);
        }
        stage.plane.restart();
        stage.plane.leased("pop1").await;
        stage.purge_url("/page").await;
        assert!(stage.get("/page").await.number > stored.number);
    })
    .await;
}
