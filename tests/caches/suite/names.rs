//! What an object is found by where its names say less, or more, than usual: tags that overflow, and ports.

use serde_json::json;

use super::story;
use crate::feature::Feature;
use crate::origin::Page;
use crate::plane::HOSTS;
use crate::port_cases::PORTS;
use crate::stage::Stage;
use crate::subject::Subject;

pub async fn an_object_with_more_tags_than_are_indexed_goes_with_every_tag<S: Subject>() {
    story::<S>(Feature::Overflow, async || {
        let stage = Stage::<S>::strict().await;
        let seventeen = (1..=17).map(|n| format!("tag-{n}")).collect::<Vec<_>>().join(", ");
        stage.origin.page("/many", Page::tagged(&seventeen));
        stage.origin.page("/odd", Page::tagged("shelf, not a tag"));
        for (target, tag) in
            [("/many", "tag-17"), ("/many", "tag-1"), ("/odd", "shelf"), ("/odd", "what-nobody-can-know")]
        {
            // Twice, so that a cache that stores it has it.
            stage.get(target).await;
            let before = stage.get(target).await.number;
            stage.purge(json!({"tags": [tag]})).await;
            let answer = stage.get(target).await;
            assert!(answer.number > before, "{target} outlived the purge of {tag}: {answer:?}");
        }
    })
    .await;
}

pub async fn a_port_means_the_same_to_visitors_and_purges<S: Subject>() {
    story::<S>(Feature::Ports, async || {
        let stage = Stage::<S>::strict().await;
        let host = HOSTS[0];
        // How often the origin was asked for it, by whatever name of the host.
        let asked = |port: &str, target: &str| {
            let names = [host.to_owned(), format!("{host}{port}")];
            let names = if port.is_empty() { &names[..1] } else { &names[..] };
            names.iter().map(|name| stage.origin.requests(name, target)).sum::<u64>()
        };
        let visit = async |port: &str, target: &str| {
            let before = asked(port, target);
            stage.try_get(&format!("{host}{port}"), target, &[]).await.expect("an answer");
            asked(port, target) > before
        };
        visit(":8443", "/probe").await;
        let is_stored = !visit(":8443", "/probe").await;
        let keys_have_ports = visit("", "/probe").await || !is_stored;
        for (n, case) in PORTS.iter().enumerate() {
            let target = format!("/port-{n}");
            visit(case.visited, &target).await;
            visit(case.visited, &target).await;
            let (scheme, port) = case.purged;
            stage.purge(json!({"urls": [format!("{scheme}{host}{port}{target}")]})).await;
            let is_gone = visit(case.visited, &target).await;
            assert!(
                is_gone || keys_have_ports && !case.hits,
                "{host}{}{target} outlived the purge of {scheme}{host}{port}{target}",
                case.visited
            );
        }
    })
    .await;
}
