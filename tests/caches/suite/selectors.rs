use batoff_tests::eventually;
use serde_json::json;

use super::story;
use crate::feature::Feature;
use crate::origin::Page;
use crate::plane::{HOSTS, NEIGHBOR, UNDER_WILDCARD};
use crate::stage::{Stage, url};
use crate::subject::Subject;

pub async fn an_answer_is_stored_and_served_again<S: Subject>() {
    story::<S>(Feature::Fill, async || {
        let stage = Stage::<S>::strict().await;
        let first = stage.get("/page").await;
        assert_eq!((first.status, first.number, first.asked), (200, 1, true));
        let stored = stage.fill("/page").await;
        assert_eq!(stage.get("/page").await, stored, "the same answer again, without the origin");
    })
    .await;
}

pub async fn a_purge_by_url_leaves_its_neighbors_alone<S: Subject>() {
    story::<S>(Feature::Url, async || {
        let stage = Stage::<S>::strict().await;
        let cases = [
            ("/a/b", ["/a", "/a/", "/a/bc", "/a/b?q"]),
            ("/q?x=1&y=2", ["/q", "/q?", "/q?y=2&x=1", "/q?x=1"]),
        ];
        for (purged, spared) in cases {
            let old = stage.fill(purged).await.number;
            for target in spared {
                stage.fill(target).await;
            }
            stage.fill_from(HOSTS[1], purged, &[]).await;
            stage.purge_url(purged).await;
            let answer = stage.get(purged).await;
            assert!(answer.asked && answer.number > old, "{purged} is gone: {answer:?}");
            for target in spared {
                assert!(stage.hits(target).await, "{target} stays when {purged} goes");
            }
            assert!(!stage.get_from(HOSTS[1], purged, &[]).await.asked, "{purged} stays under another name");
            stage.fill(purged).await;
        }
        // What is not there can be purged too.
        stage.purge_url("/nothing").await;
    })
    .await;
}

pub async fn every_spelling_of_a_url_goes_with_it<S: Subject>() {
    story::<S>(Feature::Spelling, async || {
        let stage = Stage::<S>::strict().await;
        let spellings = [
            ("/~user/caf%C3%A9", ["/%7Euser/caf%C3%A9", "/~user/caf%c3%a9", "/%7euser/c%61f%c3%A9"]),
            ("/list?tag=a-b", ["/list?tag=a%2db", "/list?tag=a%2Db", "/list?t%61g=a-b"]),
        ];
        for (normal, others) in spellings {
            let mut seen = Vec::new();
            for target in others.into_iter().chain([normal]) {
                // Twice, so that a cache that stores this spelling has it.
                stage.get(target).await;
                seen.push((target, stage.get(target).await.number));
            }
            stage.purge_url(normal).await;
            for (target, before) in seen {
                // As one object or as several: nobody may see what there was before.
                let answer = stage.get(target).await;
                assert!(
                    answer.asked || answer.number > before,
                    "{target} outlived the purge of {normal}: {answer:?}"
                );
            }
        }
        // Hosts are compared without case and without the default port.
        for host in ["WWW.Example.TEST", "www.example.test:80"] {
            let before = stage.try_get(host, "/host", &[]).await.expect("an answer");
            assert_eq!(before.status, 200);
            stage.try_get(host, "/host", &[]).await.expect("an answer");
            stage.purge_url("/host").await;
            let asked = |origin: &crate::origin::Origin| -> u64 {
                [host, HOSTS[0]].iter().map(|host| origin.requests(host, "/host")).sum()
            };
            let then = asked(&stage.origin);
            stage.try_get(host, "/host", &[]).await.expect("an answer");
            assert!(asked(&stage.origin) > then, "/host under {host} outlived its purge");
        }
    })
    .await;
}

pub async fn every_variant_goes_with_its_url<S: Subject>() {
    story::<S>(Feature::Variants, async || {
        let stage = Stage::<S>::strict().await;
        stage.origin.page("/vary", Page::in_languages());
        let languages = ["en", "ru", "el"];
        for language in languages {
            stage.fill_from(HOSTS[0], "/vary", &[("Accept-Language", language)]).await;
        }
        stage.purge_url("/vary").await;
        // The order matters: one variant is stored anew before the next is asked for.
        for language in languages {
            let answer = stage.get_from(HOSTS[0], "/vary", &[("Accept-Language", language)]).await;
            assert!(answer.asked, "the variant {language} is gone");
            stage.fill_from(HOSTS[0], "/vary", &[("Accept-Language", language)]).await;
        }
    })
    .await;
}

pub async fn a_prefix_takes_what_begins_with_it<S: Subject>() {
    story::<S>(Feature::Prefix, async || {
        let stage = Stage::<S>::strict().await;
        let (purged, spared) =
            (["/img/b", "/img/banner.png", "/img/b/c?d=1"], ["/img/", "/img/a", "/im", "/x/img/b"]);
        for target in purged.into_iter().chain(spared) {
            stage.fill(target).await;
        }
        stage.fill_from(HOSTS[1], "/img/b", &[]).await;
        stage.purge(json!({"prefixes": [url("/img/b")]})).await;
        for target in purged {
            assert!(!stage.hits(target).await, "{target} is gone");
        }
        for target in spared {
            assert!(stage.hits(target).await, "{target} stays");
        }
        assert!(!stage.get_from(HOSTS[1], "/img/b", &[]).await.asked, "/img/b stays under another name");

        // Characters that mean something in a pattern are only themselves here.
        for target in ["/p/a.b*(c", "/p/aXb"] {
            stage.fill(target).await;
        }
        stage.purge(json!({"prefixes": [url("/p/a.b*(")]})).await;
        assert!(!stage.hits("/p/a.b*(c").await && stage.hits("/p/aXb").await);
    })
    .await;
}

pub async fn a_tag_takes_what_carries_it_and_only_of_its_site<S: Subject>() {
    story::<S>(Feature::Tag, async || {
        let stage = Stage::<S>::strict().await;
        stage.origin.page("/t/both", Page::tagged("red,Große, product:42"));
        stage.origin.page("/t/blue", Page::tagged("product:4,blue,Red"));
        stage.origin.page("/t/plain", Page::default());
        let hosts = [HOSTS[0], HOSTS[1], UNDER_WILDCARD, NEIGHBOR];
        for (tag, also) in [("red", "red"), ("product:42", "absent"), ("Große", "Große")] {
            for host in hosts {
                for target in ["/t/both", "/t/blue", "/t/plain"] {
                    stage.fill_from(host, target, &[]).await;
                }
            }
            stage.purge(json!({"tags": [tag, also]})).await;
            for host in &hosts[..3] {
                assert!(stage.get_from(host, "/t/both", &[]).await.asked, "{tag} takes {host}/t/both");
                for target in ["/t/blue", "/t/plain"] {
                    assert!(!stage.get_from(host, target, &[]).await.asked, "{tag} spares {host}{target}");
                }
            }
            assert!(!stage.get_from(NEIGHBOR, "/t/both", &[]).await.asked, "{tag} is another site's there");
        }
    })
    .await;
}

pub async fn a_hostname_goes_whole<S: Subject>() {
    story::<S>(Feature::Host, async || {
        let stage = Stage::<S>::strict().await;
        for host in [HOSTS[0], HOSTS[1]] {
            for target in ["/", "/deep/er?q=1"] {
                stage.fill_from(host, target, &[]).await;
            }
        }
        stage.purge(json!({"hosts": [HOSTS[0]]})).await;
        for target in ["/", "/deep/er?q=1"] {
            assert!(stage.get_from(HOSTS[0], target, &[]).await.asked, "{target} is gone");
            assert!(!stage.get_from(HOSTS[1], target, &[]).await.asked, "{target} stays under another name");
        }
    })
    .await;
}

pub async fn everything_of_a_site_goes_and_no_other_sites<S: Subject>() {
    story::<S>(Feature::Everything, async || {
        let stage = Stage::<S>::strict().await;
        let mine = [HOSTS[0], HOSTS[1], UNDER_WILDCARD];
        for host in mine.into_iter().chain([NEIGHBOR]) {
            stage.fill_from(host, "/page", &[]).await;
        }
        stage.purge(json!({"everything": true})).await;
        for host in mine {
            assert!(stage.get_from(host, "/page", &[]).await.asked, "{host} is empty");
        }
        assert!(!stage.get_from(NEIGHBOR, "/page", &[]).await.asked, "the neighbor's is not");
    })
    .await;
}

pub async fn a_soft_purge_brings_the_next_version<S: Subject>() {
    story::<S>(Feature::Soft, async || {
        let stage = Stage::<S>::strict().await;
        stage.origin.page("/soft/", Page::tagged("soft"));
        let spared = stage.fill("/other").await;
        for body in [json!({"urls": [url("/soft/1")], "soft": true}), json!({"tags": ["soft"], "soft": true})]
        {
            let old = stage.fill("/soft/1").await.number;
            stage.purge(body).await;
            // Stale once more while the next version is fetched, or the next version at once; never an error.
            let first = stage.get("/soft/1").await;
            assert!(first.status == 200 && first.number >= old, "{first:?}");
            let next = eventually("the next version is served", || async {
                let answer = stage.get("/soft/1").await;
                (answer.number > old).then_some(answer.number)
            })
            .await;
            assert!(stage.fill("/soft/1").await.number >= next);
            assert_eq!(stage.get("/other").await, spared);
        }
        // Soft never weakens hard.
        let old = stage.fill("/soft/1").await.number;
        stage.purge(json!({"urls": [url("/soft/1")], "soft": true})).await;
        stage.purge_url("/soft/1").await;
        let answer = stage.get("/soft/1").await;
        assert!(answer.number > old, "{answer:?}");
    })
    .await;
}
