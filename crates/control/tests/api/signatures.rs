//! What is signed, what a refused signature is told, and what a gateway in front may change.

use crate::checks::check;
use crate::client::Request;
use crate::rig::Rig;

const PURGE: &str = "/v1/sites/shop/purge";
const BODY: &str = r#"{"tags":["a"]}"#;

#[tokio::test]
async fn a_captured_request_cannot_be_sent_again_with_a_key_of_the_thiefs_choice() {
    let rig = Rig::start().await;
    let captured = rig.post(BODY);
    captured.send().await.task();
    let signature = captured.right_signature();
    let resent = captured.clone().header("Idempotency-Key", "deploy-17").signature(&signature);
    check("a key was added", &resent.send().await, 401, "bad_signature");
    let own = rig.post(r#"{"tags":["b"]}"#).header("Idempotency-Key", "deploy-17").send().await;
    assert_eq!(own.header("idempotency-replayed"), None, "the key is still free: {own:?}");
    own.task();

    let with_key = rig.post(BODY).header("Idempotency-Key", "deploy-18");
    let signature = with_key.right_signature();
    let same_instant = |request: Request| request.timestamp(with_key.timestamp.as_deref().unwrap());
    let without = same_instant(rig.post(BODY)).signature(&signature);
    check("the key was taken away", &without.send().await, 401, "bad_signature");
    let other = same_instant(rig.post(BODY)).header("Idempotency-Key", "deploy-19").signature(&signature);
    check("another key", &other.send().await, 401, "bad_signature");
    assert_eq!(with_key.send().await.status, 202);
}

#[tokio::test]
async fn a_refused_signature_is_told_which_lines_were_expected() {
    let rig = Rig::start().await;
    let target = format!("{PURGE}?dry_run=true");
    let request = rig.request("POST", &target).json("{}").header("Idempotency-Key", "k-1").secret("wrong");
    let problem = check("wrong secret", &request.send().await, 401, "bad_signature");
    let detail = problem["detail"].as_str().unwrap();
    let hash = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";
    let timestamp = request.timestamp.as_deref().unwrap();
    let lines =
        format!(r#"these 5 lines joined by newlines: "{timestamp}", "POST", "{target}", "{hash}", "k-1""#);
    assert!(detail.contains(&lines), "{detail}");
    assert!(!detail.contains(&request.right_signature()), "the signature itself is nobody's business");
    let without = check("four", &rig.post("{}").secret("wrong").send().await, 401, "bad_signature");
    assert!(without["detail"].as_str().unwrap().contains("these 4 lines"), "{without}");
}

#[tokio::test]
async fn behind_a_gateway_that_takes_a_prefix_away_the_path_that_was_sent_is_signed() {
    let rig = Rig::start_with(&[("BATOFF_API_PUBLIC_PREFIX", "/purge-api")]).await;
    // What the gateway passes on, with the signature over what the customer sent.
    let through = |request: Request| {
        let sent = Request { target: format!("/purge-api{}", request.target), ..request.clone() };
        request.signature(&sent.right_signature())
    };
    let reply = through(rig.post(BODY)).send().await;
    let task = reply.task();
    assert_eq!(reply.header("location"), Some(format!("/purge-api{PURGE}/{task}").as_str()));
    assert_eq!(
        rig.post(BODY).send().await.status,
        202,
        "and whoever is behind the gateway signs what arrives"
    );
    let page = through(rig.get("/v1/sites/shop/purges?limit=1")).send().await;
    assert!(page.header("link").unwrap().starts_with("</purge-api/v1/sites/shop/purges?"), "{page:?}");
    let problem = check("wrong", &rig.post(BODY).secret("wrong").send().await, 401, "bad_signature");
    assert!(problem["detail"].as_str().unwrap().contains("\"/purge-api/v1/sites/shop/purge\""), "{problem}");
    let description = rig.get("/openapi.json").no_token().send().await.json();
    assert_eq!(description["servers"][0]["url"], "/purge-api");
    let script = rig.get("/docs/swagger-initializer.js").no_token().send().await;
    assert!(String::from_utf8_lossy(&script.body).contains("\"/purge-api/openapi.json\""));
}

#[tokio::test]
async fn without_a_prefix_in_the_configuration_a_stripped_one_is_refused_and_the_path_is_named() {
    let rig = Rig::start().await;
    let request = rig.post(BODY);
    let sent = Request { target: format!("/purge-api{PURGE}"), ..request.clone() };
    let reply = request.signature(&sent.right_signature()).send().await;
    let problem = check("stripped", &reply, 401, "bad_signature");
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains("\"/v1/sites/shop/purge\"") && detail.contains("api.public_prefix"), "{detail}");
}

#[tokio::test]
async fn a_compressed_body_is_refused_with_the_codings_that_would_do() {
    let rig = Rig::start().await;
    for coding in ["gzip", "GZIP", "identity, br", "zstd"] {
        let reply = rig.post(BODY).header("Content-Encoding", coding).send().await;
        check(coding, &reply, 415, "unsupported_media_type");
        assert_eq!(reply.header("accept-encoding"), Some("identity"), "{coding}");
    }
    assert_eq!(rig.post(BODY).header("Content-Encoding", "identity").send().await.status, 202);
    let form = rig.request("POST", PURGE).bytes(b"tags=a").send().await;
    assert_eq!((form.status, form.header("accept-encoding")), (415, None), "RFC 7694, section 3");
}

/// `deploy/sign.sh`, with the test's clock in place of the machine's.
#[tokio::test(flavor = "multi_thread")]
async fn the_script_signs_with_and_without_a_key() {
    let rig = Rig::start().await;
    let folder = tempfile::tempdir().unwrap();
    let date = folder.path().join("date");
    std::fs::write(&date, format!("#!/bin/sh\necho {}.123456789\n", rig.wall_secs())).unwrap();
    std::fs::set_permissions(&date, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", folder.path().display(), std::env::var("PATH").unwrap());
    let owner = rig.post(BODY);
    let run = async |arguments: &[&str]| {
        let mut script =
            tokio::process::Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/sign.sh"));
        script.args(arguments).env("PATH", &path).env("BATOFF_API", format!("http://{}", owner.to));
        script.env("BATOFF_TOKEN", owner.token.as_deref().unwrap()).env("BATOFF_SECRET", &owner.secret);
        let output = script.output().await.unwrap();
        let said =
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.contains("task_id"), "{arguments:?}: {said}");
        said
    };
    run(&["POST", PURGE, BODY]).await;
    let first = run(&["POST", PURGE, BODY, "deploy-17"]).await;
    assert_eq!(run(&["POST", PURGE, BODY, "deploy-17"]).await, first, "the same purge");
    assert_ne!(run(&["POST", PURGE, BODY, "deploy-18"]).await, first);
}
