use serde_json::{Value, json};

use super::story;
use crate::feature::Feature;
use crate::origin::{Page, Phase};
use crate::plane::HOSTS;
use crate::stage::{Stage, url};
use crate::subject::Subject;

pub async fn a_fill_before_its_header_does_not_survive_a_purge_by_url<S: Subject>() {
    story::<S>(Feature::RaceHeaderUrl, async || {
        race::<S>(Phase::Header, json!({"urls": [url("/race")]})).await;
    })
    .await;
}

pub async fn a_fill_before_its_header_does_not_survive_a_purge_by_tag<S: Subject>() {
    story::<S>(Feature::RaceHeaderTag, async || race::<S>(Phase::Header, json!({"tags": ["race"]})).await)
        .await;
}

pub async fn a_fill_before_its_header_does_not_survive_a_purge_by_prefix<S: Subject>() {
    story::<S>(Feature::RaceHeaderPrefix, async || {
        race::<S>(Phase::Header, json!({"prefixes": [url("/ra")]})).await;
    })
    .await;
}

pub async fn a_fill_in_its_body_does_not_survive_a_purge<S: Subject>() {
    story::<S>(Feature::RaceBody, async || {
        race::<S>(Phase::Body, json!({"urls": [url("/race")]})).await;
        race::<S>(Phase::Body, json!({"tags": ["race"]})).await;
    })
    .await;
}

/// An answer that the origin made before the purge arrives when the purge is completed: its visitor may have it, the
/// next may not.
async fn race<S: Subject>(phase: Phase, purge: Value) {
    let stage = Stage::<S>::strict().await;
    stage.origin.page("/race", Page::tagged("race"));
    // Where there is something to be replaced, too.
    for was_there in [false, true] {
        if was_there {
            stage.fill("/race").await;
            stage.purge(purge.clone()).await;
        }
        let held = stage.origin.hold("/race", phase);
        let old = stage.origin.requests(HOSTS[0], "/race") + 1;
        let visitor = stage.get("/race");
        let purged = async {
            held.reached().await;
            stage.purge(purge.clone()).await;
            held.release();
        };
        let (answer, ()) = tokio::join!(visitor, purged);
        assert_eq!((answer.status, answer.number), (200, old), "the visitor who waited is served");
        for _ in 0..3 {
            let answer = stage.get("/race").await;
            assert!(
                answer.number > old,
                "{purge}: what was fetched before the purge is served after it: {answer:?}"
            );
        }
        assert!(stage.fill("/race").await.number > old);
    }
}
