use batoff_tests::eventually;
use serde_json::json;

use super::story;
use crate::feature::Feature;
use crate::origin::Page;
use crate::plane::HOSTS;
use crate::stage::{Stage, url};
use crate::subject::Subject;

pub async fn purges_while_the_daemon_was_down_take_effect<S: Subject>() {
    story::<S>(Feature::DaemonRestart, async || {
        let mut stage = Stage::<S>::strict().await;
        stage.origin.page("/tagged", Page::tagged("down"));
        for target in ["/down/url", "/down/prefix/1", "/tagged", "/kept"] {
            stage.fill(target).await;
        }
        stage.subject.daemon().kill();
        let mut tasks = Vec::new();
        for body in [
            json!({"urls": [url("/down/url")]}),
            json!({"prefixes": [url("/down/prefix/")], "tags": ["down"]}),
        ] {
            tasks.push(stage.plane.customer.purge_until_accepted(&body).await.task());
        }
        stage.subject.daemon().restart().await;
        for task in tasks {
            stage.plane.customer.completed(&task).await;
        }
        stage.plane.leased("pop1").await;
        for target in ["/down/url", "/down/prefix/1", "/tagged"] {
            assert!(!stage.hits(target).await, "{target} was purged while the daemon was down");
        }
        // Whether the rest is kept is the cache's own affair; it works.
        stage.fill("/kept").await;
        stage.purge_url("/kept").await;
        assert!(!stage.hits("/kept").await);
    })
    .await;
}

pub async fn purges_while_the_cache_was_down_take_effect<S: Subject>() {
    story::<S>(Feature::CacheRestart, async || {
        let mut stage = Stage::<S>::strict().await;
        let old = stage.fill("/page").await.number;
        let other = stage.fill("/other").await.number;
        let accepted = stage.plane.customer.purge(&json!({"urls": [url("/page")]})).await;
        stage.subject.restart_cache().await;
        let last = stage.plane.customer.purge(&json!({"prefixes": [url("/oth")]})).await;
        for reply in [accepted, last] {
            stage.plane.customer.completed(&reply.task()).await;
        }
        stage.plane.leased("pop1").await;
        for (target, old) in [("/page", old), ("/other", other)] {
            let answer = eventually("the cache answers", || async {
                let asked = stage.try_get(HOSTS[0], target, &[]).await.ok();
                asked.filter(|answer| answer.status == 200)
            })
            .await;
            assert!(answer.number > old, "{target} was purged: {answer:?}");
            stage.fill(target).await;
        }
        if S::lacks(Feature::RaceHeaderUrl).is_some() {
            return;
        }
        // The whole machinery works after the restart, the guard against late fills included.
        let held = stage.origin.hold("/late", crate::origin::Phase::Header);
        let purged = async {
            held.reached().await;
            stage.purge_url("/late").await;
            held.release();
        };
        let (answer, ()) = tokio::join!(stage.get("/late"), purged);
        assert_eq!(answer.number, 1);
        assert!(stage.get("/late").await.number > 1, "fetched before the purge, served after it");
    })
    .await;
}
