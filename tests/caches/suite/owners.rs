use serde_json::json;

use super::story;
use crate::feature::Feature;
use crate::plane::{HOSTS, UNDER_WILDCARD};
use crate::stage::{Stage, url};
use crate::subject::Subject;

/// Under names that no site owns; the first is the site's own name, with the dot of the root.
const STRANGERS: [&str; 4] = ["www.example.test.", "127.0.0.1", "unknown.test", "xwww.example.test"];

pub async fn what_no_site_owns_is_not_served_after_purges<S: Subject>() {
    story::<S>(Feature::Unowned, async || {
        let stage = Stage::<S>::strict().await;
        let purges = [
            ("/owner/everything", json!({"everything": true})),
            ("/owner/host", json!({"hosts": [HOSTS[0]]})),
            ("/owner/url", json!({"urls": [url("/owner/url")]})),
        ];
        for (target, purge) in purges {
            stage.fill(target).await;
            for host in STRANGERS {
                for _ in 0..3 {
                    stage.get_from(host, target, &[]).await;
                }
            }
            stage.purge(purge.clone()).await;
            for host in STRANGERS {
                let before = requests(&stage, host, target);
                let answer = stage.get_from(host, target, &[]).await;
                // A cache that has nothing for such a host answers by itself, which is no page of the site's.
                let is_new = answer.number == 0 || requests(&stage, host, target) > before;
                assert!(is_new, "{host}{target} after {purge} comes from the cache: {answer:?}");
            }
        }
        // What the site owns is served from the cache as ever.
        for host in [HOSTS[1], UNDER_WILDCARD] {
            stage.fill_from(host, "/owned", &[]).await;
        }
    })
    .await;
}

/// How often the origin was asked for it, under the name that a cache may make of the host, too.
fn requests<S: Subject>(stage: &Stage<S>, host: &str, target: &str) -> u64 {
    stage.origin.requests(host, target) + stage.origin.requests(HOSTS[0], target)
}
