use serde_json::json;

use super::story;
use crate::daemon::Daemon;
use crate::feature::Feature;
use crate::stage::{Stage, url};
use crate::subject::{Policy, Setting, Subject};

/// A golden image, a swapped volume: the state directory is that of a node whose caches have seen a purge that this
/// node's have not.
pub async fn the_state_of_another_node_is_not_believed<S: Subject>() {
    story::<S>(Feature::ForeignState, async || {
        let mut stage = Stage::<S>::strict().await;
        let old = stage.fill("/page").await.number;
        let dir = stage.subject.daemon().config().parent().expect("a folder").to_owned();
        let elsewhere = dir.join("elsewhere");
        std::fs::create_dir(&elsewhere).expect("a folder");
        let setting =
            Setting::alone("pop2", &elsewhere, &stage.plane, stage.origin.address(), Policy::Strict);
        let mut other = Daemon::edge(&setting, "[caches]\nnone = true\n").await;
        stage.plane.leased("pop2").await;
        stage.subject.daemon().kill();
        let task = stage.plane.customer.purge_until_accepted(&json!({"urls": [url("/page")]})).await.task();
        // It has applied the purge, and stores that before it ends.
        stage.plane.leased("pop2").await;
        other.stop();
        let (theirs, ours) = (elsewhere.join("state"), dir.join("state"));
        std::fs::remove_dir_all(&ours).expect("the state goes");
        std::fs::rename(theirs, ours).expect("another's comes");

        stage.subject.daemon().restart().await;
        stage.plane.customer.completed(&task).await;
        stage.plane.leased("pop1").await;
        for _ in 0..3 {
            let answer = stage.get("/page").await;
            assert!(answer.number > old, "purged, completed, and served: {answer:?}");
        }
        stage.fill("/page").await;
    })
    .await;
}
