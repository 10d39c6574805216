//! Two caches of a kind behind each other, each with its daemon; the child's configuration names the parent.

use std::time::Duration;

use batoff_tests::eventually;
use serde_json::{Value, json};

use super::story;
use crate::feature::Feature;
use crate::origin::{Page, Phase};
use crate::stage::{Stage, url};
use crate::subject::Subject;

/// How long a parent that serves stale may take to do so, before the origin answers it in any case.
const STALE_WITHIN: Duration = Duration::from_millis(400);

pub async fn a_child_does_not_keep_what_a_parent_that_is_behind_still_has<S: Subject>() {
    story::<S>(Feature::TierHard, async || {
        let stage = Stage::<S>::behind_a_parent().await;
        stage.origin.page("/tiers", Page::tagged("tiers"));
        for purge in [json!({"urls": [url("/tiers")]}), json!({"tags": ["tiers"]})] {
            behind::<S>(&stage, purge).await;
        }
    })
    .await;
}

/// The child has applied a purge and the parent has not: what the child fetches then is the old page, and it must not be
/// there when the purge is completed.
async fn behind<S: Subject>(stage: &Stage<S>, purge: Value) {
    let old = stage.filled_at_parent("/tiers").await;
    // So that the child is purged, too.
    assert_eq!(stage.fill("/tiers").await.number, old);
    stage.hold_parent();
    let task = stage.plane.customer.purge_until_accepted(&purge).await.task();
    stage.plane.caught_up("pop1").await;
    for _ in 0..3 {
        let answer = stage.get("/tiers").await;
        assert_eq!((answer.status, answer.number), (200, old), "{purge}: the parent has it still");
    }
    stage.release_parent();
    stage.plane.customer.completed(&task).await;
    for _ in 0..5 {
        let answer = stage.get("/tiers").await;
        assert!(answer.number > old, "{purge}: served after the purge was completed: {answer:?}");
    }
    // And the child keeps pages again.
    eventually("the child has the new page", || async {
        let asked = stage.asked_parent();
        (stage.get("/tiers").await.number > old && stage.asked_parent() == asked).then_some(())
    })
    .await;
}

pub async fn a_child_does_not_keep_what_a_parent_serves_stale<S: Subject>() {
    story::<S>(Feature::TierSoft, async || {
        let stage = Stage::<S>::behind_a_parent().await;
        let old = stage.filled_at_parent("/stale").await;
        stage.purge(json!({"urls": [url("/stale")], "soft": true})).await;
        // While the parent asks the origin anew, it may serve what it has; the child asks for the first time.
        let held = stage.origin.hold("/stale", Phase::Header);
        let visitor = stage.get("/stale");
        let released = async {
            held.reached().await;
            tokio::time::sleep(STALE_WITHIN).await;
            held.release();
        };
        let (answer, ()) = tokio::join!(visitor, released);
        assert!(answer.status == 200 && answer.number >= old, "{answer:?}");
        let new = eventually("the parent has the next version", || async {
            let number = stage.get_at_parent("/stale").await.number;
            (number > old).then_some(number)
        })
        .await;
        for _ in 0..3 {
            let answer = stage.get("/stale").await;
            assert!(answer.number >= new, "the child has kept what the parent served stale: {answer:?}");
        }
    })
    .await;
}

pub async fn a_parent_that_is_not_declared_is_found<S: Subject>() {
    story::<S>(Feature::TierUndeclared, async || {
        let mut stage = Stage::<S>::behind_an_undeclared_parent().await;
        let (found, said) = looked_at(&mut stage).await;
        assert!(found, "{said}");
        drop(stage);
        if S::TIERS {
            let mut stage = Stage::<S>::behind_a_parent().await;
            let (found, said) = looked_at(&mut stage).await;
            assert!(!found && !said.contains("WRONG"), "{said}");
        }
    })
    .await;
}

/// Whether a cache behind the one under test is missed in its configuration, and all that is said.
async fn looked_at<S: Subject>(stage: &mut Stage<S>) -> (bool, String) {
    stage.plane.leased("pop1").await;
    stage.fill("/checked").await;
    let Some(args) = stage.subject.check("/checked") else {
        let said = stage.subject.daemon().log();
        return (said.contains("came from another cache"), said);
    };
    // A page of the parent's is served without a lease, too, so the child may have none yet although the page came twice.
    let mut said = String::new();
    for _ in 0..3 {
        said = stage.subject.daemon().check(&args).1;
        if !said.contains("WRONG  it has a lease") {
            break;
        }
    }
    // The second cache of the local API is not there in this story.
    let said: Vec<_> = said.lines().filter(|line| !line.contains("img (page)")).collect();
    (said.iter().any(|line| line.starts_with("WRONG  no cache lies behind it")), said.join("\n"))
}
