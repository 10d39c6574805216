use batoff_types::{Cursor, Generation, Selector};

use crate::origin::Plan;
use crate::rig::{HOST, Rig, prefix, sites, tag, url};

#[tokio::test]
async fn the_first_answer_is_a_miss_and_the_second_a_hit() {
    let rig = Rig::start().await;
    rig.origin.plan("/a", Plan::page("one").header("cache-tag", "product:1, catalog"));
    let first = rig.get("/a").await;
    assert_eq!((first.status, first.told()), (200, ("MISS", "one")));
    assert_eq!(first.header("cache-status"), Some("batoff; fwd=miss; purge-seq=1"));
    assert_eq!(first.header("cache-tag"), None, "tags are the origin's business");
    let second = rig.get("/a").await;
    assert_eq!(second.told(), ("HIT", "one"));
    assert_eq!(second.header("cache-status"), Some("batoff; hit; purge-seq=1"));
    assert_eq!(second.header("age"), Some("0"));
    assert_eq!(rig.origin.asked("/a"), 1);
    assert_eq!(rig.origin.last_request("/a")["host"], HOST, "the origin sees the host that was asked for");
}

#[tokio::test]
async fn each_selector_hits_what_it_names_and_nothing_else() {
    for (selector, hits) in [
        (url("/img/a"), 1),
        (url("/img/"), 0),
        (prefix("/img/"), 2),
        (prefix("/"), 3),
        (tag("red"), 2),
        (tag("blue"), 0),
        (Selector::Host(HOST.parse().unwrap()), 3),
        (Selector::Host("other.test".parse().unwrap()), 0),
        (Selector::Everything, 3),
    ] {
        let rig = Rig::start().await;
        rig.origin.plan("/img/a", Plan::page("a").header("cache-tag", "red"));
        rig.origin.plan("/img/b", Plan::page("b"));
        rig.origin.plan("/c", Plan::page("c").header("cache-tag", "green,red"));
        for path in ["/img/a", "/img/b", "/c"] {
            rig.get(path).await;
            assert_eq!(rig.get(path).await.x_cache(), "HIT");
        }
        assert_eq!(rig.purge(selector.clone()).await, hits, "{selector:?}");
        assert_eq!(rig.store.len(), 3 - hits, "{selector:?}: memory is given back");
        let mut missed = 0;
        for path in ["/img/a", "/img/b", "/c"] {
            missed += u64::from(rig.get(path).await.x_cache() == "MISS");
        }
        assert_eq!(missed, hits, "{selector:?}");
    }
}

#[tokio::test]
async fn a_rule_is_enough_the_objects_need_not_be_swept() {
    let rig = Rig::start().await;
    rig.origin.plan("/a", Plan::page("old"));
    rig.get("/a").await;
    rig.rule(url("/a"));
    assert_eq!(rig.store.len(), 1);
    rig.origin.plan("/a", Plan::page("new"));
    assert_eq!(rig.get("/a").await.told(), ("MISS", "new"));
    assert_eq!(rig.get("/a").await.told(), ("HIT", "new"));
    assert_eq!((rig.store.len(), rig.index.stats().entries), (1, 1));
}

#[tokio::test]
async fn a_purge_of_a_url_hits_every_variant_and_every_spelling() {
    let rig = Rig::start().await;
    for path in ["/v~", "/v%7e"] {
        rig.origin.plan(path, Plan::page("v").header("vary", "Accept-Language"));
        for language in ["de", "en", "fr"] {
            assert_eq!(rig.get_with(path, &[("Accept-Language", language)]).await.x_cache(), "MISS");
            assert_eq!(rig.get_with(path, &[("Accept-Language", language)]).await.x_cache(), "HIT");
        }
    }
    assert_eq!(rig.purge(url("/v~")).await, 6);
    for path in ["/v~", "/v%7e"] {
        for language in ["en", "de", "fr"] {
            assert_eq!(rig.get_with(path, &[("Accept-Language", language)]).await.x_cache(), "MISS");
        }
    }
}

#[tokio::test]
async fn variants_live_side_by_side_when_one_of_them_is_fetched_anew() {
    let rig = Rig::start().await;
    rig.origin.plan("/v", Plan::page("v").header("vary", "Accept-Language").header("cache-tag", "t"));
    for language in ["de", "en"] {
        rig.get_with("/v", &[("Accept-Language", language)]).await;
    }
    rig.soft_purge(tag("t")).await;
    rig.origin.plan("/v", Plan::page("w").header("vary", "Accept-Language").header("cache-tag", "t"));
    assert_eq!(rig.get_with("/v", &[("Accept-Language", "de")]).await.told(), ("STALE", "v"));
    rig.origin.until_asked("/v", 3).await;
    assert_eq!(rig.get_with("/v", &[("Accept-Language", "en")]).await.told(), ("STALE", "v"));
}

#[tokio::test]
async fn a_reset_drops_everything() {
    let rig = Rig::start().await;
    rig.origin.plan("/a", Plan::page("a"));
    rig.get("/a").await;
    rig.index.reset(Generation(7), Cursor::new(100), sites());
    assert_eq!(rig.get("/a").await.x_cache(), "MISS");
    assert_eq!(rig.get("/a").await.x_cache(), "HIT");
}
