use batoff_tests::eventually;
use serde_json::json;

use super::story;
use crate::feature::Feature;
use crate::origin::Page;
use crate::stage::{Stage, url};
use crate::subject::Subject;

/// What an origin answers that has taken a page back: its status, and more of its header.
const TAKEN_BACK: [(&str, &str, &str); 7] = [
    ("/gone/404", "404 Not Found", ""),
    ("/gone/410", "410 Gone", ""),
    ("/gone/401", "401 Unauthorized", "WWW-Authenticate: Basic realm=\"x\"\r\n"),
    ("/gone/302", "302 Found", "Cache-Control: no-store\r\n"),
    ("/gone/no-store", "200 OK", "Cache-Control: no-store\r\n"),
    ("/gone/private", "200 OK", "Cache-Control: private, max-age=60\r\n"),
    ("/gone/cookie", "200 OK", "Set-Cookie: visitor=1\r\n"),
];

pub async fn what_the_origin_takes_back_is_not_served_stale<S: Subject>() {
    story::<S>(Feature::Withdrawn, async || {
        let stage = Stage::<S>::strict().await;
        let mut old = Vec::new();
        for (target, ..) in TAKEN_BACK {
            old.push(stage.fill(target).await.number);
        }
        let urls: Vec<_> = TAKEN_BACK.iter().map(|(target, ..)| url(target)).collect();
        stage.purge(json!({"urls": urls, "soft": true})).await;
        for ((target, status, more), old) in TAKEN_BACK.into_iter().zip(old) {
            stage.origin.page(target, Page { status, more: more.to_owned(), ..Page::default() });
            // Once more or a few times while the origin is asked, and then never again (RFC 9111, 4.3.3).
            eventually(&format!("{target} is not served stale"), || async {
                (stage.get(target).await.number != old).then_some(())
            })
            .await;
            for _ in 0..3 {
                assert_ne!(stage.get(target).await.number, old, "{target} came back");
            }
        }
    })
    .await;
}

pub async fn a_soft_purge_of_what_must_not_be_stale_is_a_hard_one<S: Subject>() {
    story::<S>(Feature::MustRevalidate, async || {
        let stage = Stage::<S>::strict().await;
        for (target, control) in [
            ("/must", "max-age=3600, must-revalidate"),
            ("/proxies", "public, Proxy-Revalidate, s-maxage=3600"),
        ] {
            let more = format!("Cache-Control: {control}\r\n");
            stage.origin.page(target, Page { more, ..Page::default() });
            let old = stage.fill(target).await.number;
            stage.purge(json!({"urls": [url(target)], "soft": true})).await;
            let answer = stage.get(target).await;
            assert!(answer.number > old, "{target} must not be served stale (RFC 9111, 5.2.2.2): {answer:?}");
        }
    })
    .await;
}
