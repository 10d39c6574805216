//! What a visitor may ask so that others would see something else than the page.

use super::story;
use crate::feature::Feature;
use crate::plane::{HOSTS, NEIGHBOR};
use crate::stage::Stage;
use crate::subject::Subject;

pub async fn no_spelling_of_a_host_puts_a_page_under_another_name<S: Subject>() {
    story::<S>(Feature::HostSpelling, async || {
        let stage = Stage::<S>::strict().await;
        let host = HOSTS[0];
        let dot = host.find('.').expect("a name with a dot");
        let (front, back) = (&host[..dot], &host[dot + 1..]);
        let spellings = [
            host.to_uppercase(),
            format!("{front}%2E{back}"),
            format!("{front}%2e{back}"),
            format!("{front}。{back}"),
            host.replace("example", "ｅｘａｍｐｌｅ"),
            host.replace("example", "exam\u{ad}ple"),
            format!("{host}."),
            format!("{host}:"),
            format!("{host}:80"),
            format!("{host}:443"),
            format!("{host}.:443"),
            format!("user@{host}"),
            format!("{host}/"),
            format!("{host}#"),
            format!("{host}\t"),
        ];
        for (n, spelling) in spellings.iter().enumerate() {
            let target = format!("/host-{n}");
            only_its_own(&stage, &target, &format!("GET {target} HTTP/1.1\r\nHost: {spelling}")).await;
        }
        // The target names one host, and the header another.
        for (n, (named, header)) in [(NEIGHBOR, host), (host, NEIGHBOR)].into_iter().enumerate() {
            let target = format!("/absolute-{n}");
            let request = format!("GET http://{named}{target} HTTP/1.1\r\nHost: {header}");
            only_its_own(&stage, &target, &request).await;
        }
    })
    .await;
}

/// After this request, made twice so that what can be stored is, each host has its own page.
async fn only_its_own<S: Subject>(stage: &Stage<S>, target: &str, request: &str) {
    for _ in 0..2 {
        stage.raw(&format!("{request}\r\nConnection: close\r\n\r\n")).await;
    }
    for host in [HOSTS[0], NEIGHBOR] {
        for _ in 0..2 {
            let plain = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
            let answer = stage.raw(&plain).await;
            assert!(answer.contains(&format!("host={host}\n")), "{host} after {request:?}: {answer}");
        }
    }
}

pub async fn the_answer_to_a_get_with_a_body_is_nobody_elses<S: Subject>() {
    story::<S>(Feature::BodyInGet, async || {
        let stage = Stage::<S>::strict().await;
        let (host, plain) = (HOSTS[0], |target: &str| {
            format!("GET {target} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", HOSTS[0])
        });
        for (n, (field, body)) in
            [("Content-Length: 5", "admin"), ("Transfer-Encoding: chunked", "5\r\nadmin\r\n0\r\n\r\n")]
                .into_iter()
                .enumerate()
        {
            let target = format!("/body-{n}");
            let head =
                format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n{field}\r\nConnection: close\r\n\r\n");
            for _ in 0..2 {
                stage.raw(&format!("{head}{body}")).await;
            }
            // It may be stored where the origin was not shown the body.
            let answer = stage.raw(&plain(&target)).await;
            assert!(answer.contains("asked=\n"), "the page is the answer to a body: {answer}");
            stage.fill(&target).await;
        }
    })
    .await;
}

pub async fn a_method_that_changes_the_page_takes_it<S: Subject>() {
    story::<S>(Feature::Methods, async || {
        let stage = Stage::<S>::strict().await;
        for (method, more) in [("POST", WITH_BODY), ("PUT", WITH_BODY), ("DELETE", "\r\n")] {
            takes_the_page(&stage, method, more).await;
        }
    })
    .await;
}

pub async fn a_method_that_nobody_knows_takes_the_page<S: Subject>() {
    story::<S>(Feature::OtherMethods, async || {
        let stage = Stage::<S>::strict().await;
        for (method, more) in [("PATCH", WITH_BODY), ("FROB", WITH_BODY), ("FROB", "\r\n")] {
            takes_the_page(&stage, method, more).await;
        }
    })
    .await;
}

const WITH_BODY: &str = "Content-Length: 1\r\n\r\nx";

/// RFC 9111, 4.4; or the method is refused here, and has changed nothing.
async fn takes_the_page<S: Subject>(stage: &Stage<S>, method: &str, more: &str) {
    stage.fill("/page").await;
    let asked = stage.origin.requests(HOSTS[0], "/page");
    let answer = send(stage, method, more).await;
    if ["405", "501"].iter().any(|status| answer.starts_with(&format!("HTTP/1.1 {status}"))) {
        assert_eq!(
            stage.origin.requests(HOSTS[0], "/page"),
            asked,
            "{method} is refused, and passed on: {answer}"
        );
        return;
    }
    assert!(answer.starts_with("HTTP/1.1 200"), "{method}: {answer}");
    assert!(stage.get("/page").await.asked, "{method}: the page is still there");
}

async fn send<S: Subject>(stage: &Stage<S>, method: &str, more: &str) -> String {
    let host = HOSTS[0];
    stage.raw(&format!("{method} /page HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{more}")).await
}

pub async fn trace_does_not_reach_the_origin<S: Subject>() {
    story::<S>(Feature::Trace, async || {
        let stage = Stage::<S>::strict().await;
        stage.fill("/page").await;
        let asked = stage.origin.requests(HOSTS[0], "/page");
        let answer = send(&stage, "TRACE", "Cookie: secret=1\r\n\r\n").await;
        assert_eq!(stage.origin.requests(HOSTS[0], "/page"), asked, "TRACE has reached the origin: {answer}");
        assert!(!answer.contains("secret=1"), "{answer}");
    })
    .await;
}
