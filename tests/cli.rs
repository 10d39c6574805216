//! The `batoff` command as customers and operators use it, against a running system.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

use std::io::Write;
use std::process::{Command, Output, Stdio};

use batoff_tests::{Dev, DevOptions, binary, eventually, kill};
use rustix::process::Signal;
use serde_json::Value;

/// Runs `batoff` as somebody whose credentials are in the environment.
fn batoff(dev: &Dev, args: &[&str], input: &str) -> Output {
    let mut child = Command::new(binary("batoff"))
        .args(args)
        .env_clear()
        .env("BATOFF_API", &dev.line.api)
        .env("BATOFF_SITE", &dev.line.site)
        .env("BATOFF_TOKEN", &dev.line.token)
        .env("BATOFF_SECRET", &dev.line.secret)
        .env("BATOFF_ADMIN", &dev.line.admin)
        .env("BATOFF_ADMIN_TOKEN", &dev.line.admin_token)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("batoff starts");
    // A command that fails early closes its input; what it says tells more than our error would.
    drop(child.stdin.take().expect("piped").write_all(input.as_bytes()));
    child.wait_with_output().expect("batoff ends")
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// The JSON documents of a command that succeeded, one a line.
fn documents(dev: &Dev, args: &[&str], input: &str) -> Vec<Value> {
    let args: Vec<&str> = args.iter().copied().chain(["--output", "json"]).collect();
    let output = batoff(dev, &args, input);
    assert!(output.status.success(), "{args:?}: {}", said(&output));
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    text.lines().map(|line| serde_json::from_str(line).expect("one JSON document a line")).collect()
}

#[tokio::test]
async fn a_purge_from_the_command_line_leaves_every_node() {
    let dev = Dev::start(DevOptions::default());
    dev.warm("/cli/a").await;
    dev.warm("/product/5").await;
    let (url, prefix) = (dev.url("/cli/a"), dev.url("/cli/"));

    let dry = documents(&dev, &["purge", "--prefix", &prefix, "--dry-run"], "");
    assert!(dry.iter().any(|line| line.to_string().contains("\"objects\":3")), "{dry:?}");
    assert_eq!(dev.x_cache("/cli/a").await, ["HIT", "HIT", "HIT"]);

    let output = batoff(&dev, &["purge", "--url", &url, "--tag", "product:5", "--wait"], "");
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(dev.x_cache("/cli/a").await, ["MISS", "MISS", "MISS"]);
    assert_eq!(dev.x_cache("/product/5").await, ["MISS", "MISS", "MISS"]);

    let listed = documents(&dev, &["list"], "");
    let task = listed[0]["task_id"].as_str().expect("an id").to_owned();
    let shown = documents(&dev, &["status", &task, "--pops", "--wait"], "");
    assert_eq!((&shown[0]["state"], &shown[0]["items_total"]), (&"completed".into(), &2.into()));
    assert_eq!(shown[0]["pops"].as_array().map(Vec::len), Some(3));
}

#[tokio::test]
async fn many_urls_are_split_into_requests_that_the_api_takes() {
    let dev = Dev::start(DevOptions { pops: 1, ..DevOptions::default() });
    let urls: Vec<String> = (0..450).map(|n| dev.url(&format!("/many/{n}"))).collect();
    let tasks = documents(&dev, &["purge", "--file", "-", "--wait"], &urls.join("\n"));
    let items: Vec<u64> = tasks.iter().filter_map(|task| task["items_total"].as_u64()).collect();
    assert_eq!(items, [200, 200, 50]);
    assert!(tasks.iter().all(|task| task["state"] == "completed"), "{tasks:?}");
}

#[tokio::test]
async fn a_file_with_a_wrong_line_purges_nothing_and_names_the_line() {
    let dev = Dev::start(DevOptions { pops: 1, ..DevOptions::default() });
    let mut urls: Vec<String> = (1..=500).map(|n| dev.url(&format!("/many/{n}"))).collect();
    urls[450] = "https://elsewhere.example/451".to_owned();
    let output = batoff(&dev, &["purge", "--file", "-"], &urls.join("\n"));
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(said(&output).contains("nothing was purged: 1 bad item"), "{}", said(&output));
    assert!(
        said(&output).contains("standard input, line 451: \"https://elsewhere.example/451\""),
        "{}",
        said(&output)
    );
    assert!(documents(&dev, &["list"], "").is_empty(), "half a file was purged");
}

#[tokio::test]
async fn nobody_reading_is_no_failure_worth_a_word_and_stops_no_purge() {
    let dev = Dev::start(DevOptions { pops: 1, ..DevOptions::default() });
    let urls: Vec<String> = (0..450).map(|n| dev.url(&format!("/many/{n}"))).collect();
    let mut child = Command::new(binary("batoff"));
    child.args(["purge", "--file", "-", "-o", "json"]).env_clear().env("BATOFF_API", &dev.line.api);
    child.env("BATOFF_SITE", &dev.line.site).env("BATOFF_TOKEN", &dev.line.token);
    child.env("BATOFF_SECRET", &dev.line.secret);
    let mut child =
        child.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    child.stdin.take().unwrap().write_all(urls.join("\n").as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), said(&output)), (Some(141), String::new()));
    assert_eq!(documents(&dev, &["list"], "").len(), 3, "all of the file was purged");
}

#[tokio::test]
async fn mistakes_are_explained_and_exit_with_the_right_code() {
    let dev = Dev::start(DevOptions { pops: 1, ..DevOptions::default() });
    let check = |args: &[&str], code: i32, words: &[&str]| {
        let output = batoff(&dev, args, "");
        assert_eq!(output.status.code(), Some(code), "{args:?}: {}", said(&output));
        for word in words {
            assert!(said(&output).contains(word), "{args:?} does not say {word:?}: {}", said(&output));
        }
    };
    check(&["purge"], 64, &["--url"]);
    check(&["purge", "--wait", "soon", "--tag", "a"], 64, &["soon"]);
    check(&["purge", "https://elsewhere.example/"], 1, &["elsewhere.example"]);
    check(&["purge", "--tag", "two words"], 1, &["two words"]);
    check(&["purge", "--tag", "a", "--secret", "bts_live_wrong"], 1, &["signature"]);
    check(&["purge", "--tag", "a", "--secret-file", "/nowhere/secret"], 64, &["/nowhere/secret"]);
    check(&["nodes", "list", "--admin-token", "bto_admin_wrong"], 1, &["BATOFF_ADMIN_TOKEN"]);
    check(
        &["purge", "https://elsewhere.example/", "-o", "json"],
        1,
        &["{\"code\":\"invalid_url\"", "\"exit_code\":1"],
    );
    check(&["purge", "-o", "json"], 64, &["\"code\":\"usage\""]);
    check(&["purge", "--no-such-flag", "-o", "json"], 64, &["\"code\":\"usage\"", "--no-such-flag"]);
    check(&["sites", "delete", "no-such-site"], 1, &["no-such-site"]);
    check(&["purge", "--tag", "a", "--api", "http://127.0.0.1:1"], 75, &["127.0.0.1:1"]);
    check(&["status", "01JF7M2KZ7YH9Q4K0P2BDH9W3Y"], 1, &[]);
    check(&["tokens", "list", "no-such-site"], 1, &["no-such-site"]);
}

#[tokio::test]
async fn under_a_russian_locale_the_command_and_the_api_answer_in_russian() {
    let dev = Dev::start(DevOptions { pops: 1, ..DevOptions::default() });
    let run = |args: &[&str]| {
        let mut command = Command::new(binary("batoff"));
        command.args(args).env_clear().env("LANG", "ru_RU.UTF-8").env("BATOFF_API", &dev.line.api);
        command.env("BATOFF_SITE", &dev.line.site).env("BATOFF_TOKEN", &dev.line.token);
        said(&command.env("BATOFF_SECRET", &dev.line.secret).output().expect("batoff runs"))
    };
    let foreign = run(&["purge", "https://elsewhere.example/"]);
    assert!(foreign.contains("хост elsewhere.example не принадлежит сайту"), "{foreign}");
    assert!(run(&["purge", "https://x/*"]).contains("звёздочка в конце"));
    assert!(run(&["purge", "--help"]).contains("Пометить устаревшим"));
    assert!(run(&["purge", "--no-such-flag"]).contains("неизвестный аргумент --no-such-flag"));
    assert!(run(&["purge", "--tag", "a", "--wait"]).contains("состояние    завершена"));
    assert!(run(&["list"]).contains("СОСТОЯНИЕ"));
    let json = run(&["purge", "--tag", "a", "--wait", "-o", "json"]);
    assert!(json.contains("\"state\":\"completed\""), "what is for programs stays as it is: {json}");
}

#[tokio::test]
async fn a_waited_for_purge_that_does_not_complete_exits_with_1() {
    let dev = Dev::start(DevOptions { pops: 1, ..DevOptions::default() });
    // Frozen, and under a lease: for about a second nobody can say that it does not serve.
    kill(dev.line.nodes[0].pid, Signal::STOP);
    let output = batoff(&dev, &["purge", "--url", &dev.url("/x"), "--wait", "0"], "");
    kill(dev.line.nodes[0].pid, Signal::CONT);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
}

#[tokio::test]
async fn an_operator_makes_a_site_and_its_customer_purges_until_the_token_is_revoked() {
    let dev = Dev::start(DevOptions { pops: 1, ..DevOptions::default() });
    let made = documents(
        &dev,
        &["sites", "create", "shop", "--host", "www.shop.test", "--host", "*.img.shop.test"],
        "",
    );
    assert_eq!(made[0]["site_id"], "shop");
    let issued = documents(&dev, &["tokens", "issue", "shop", "--label", "deploy"], "");
    let (token, secret) = (issued[0]["token"].as_str().unwrap(), issued[0]["secret"].as_str().unwrap());
    let purge = |url: &str| {
        batoff(&dev, &["purge", url, "--wait", "--site", "shop", "--token", token, "--secret", secret], "")
    };

    let proxy = &dev.line.nodes[0].proxy;
    dev.visitor.warm(proxy, "a.img.shop.test", "/1.png").await;
    let output = purge("https://a.img.shop.test/1.png");
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(dev.visitor.read(proxy, "a.img.shop.test", "/1.png").await.x_cache, "MISS");
    assert_eq!(purge("https://img.shop.test/").status.code(), Some(1), "a wildcard is not the name above it");

    let taken = batoff(&dev, &["sites", "create", "thief", "--host", "www.shop.test"], "");
    assert_eq!(taken.status.code(), Some(1), "{}", said(&taken));

    // A hostname that leaves the site takes what was cached for it along; what nobody owns is not stored any more.
    dev.visitor.warm(proxy, "a.img.shop.test", "/2.png").await;
    documents(&dev, &["sites", "update", "shop", "--host", "www.shop.test"], "");
    eventually("what was cached under the lost name is gone", || async {
        let answer = dev.visitor.read(proxy, "a.img.shop.test", "/2.png").await;
        (answer.x_cache == "BYPASS").then_some(())
    })
    .await;

    let id = documents(&dev, &["tokens", "list", "shop"], "")[0]["token_id"].as_str().unwrap().to_owned();
    let revoked = batoff(&dev, &["tokens", "revoke", "shop", &id], "");
    assert!(revoked.status.success() && said(&revoked).contains("revoked"), "{}", said(&revoked));
    let refused = purge("https://www.shop.test/");
    assert_eq!(refused.status.code(), Some(1));
    assert!(said(&refused).contains("token"), "{}", said(&refused));

    let deleted = batoff(&dev, &["sites", "delete", "shop", "--yes"], "");
    assert!(deleted.status.success() && said(&deleted).contains("site shop deleted"), "{}", said(&deleted));
}

#[tokio::test]
async fn an_operator_sees_which_site_sends_more_tags_than_are_indexed() {
    let dev = Dev::start(DevOptions { pops: 2, ..DevOptions::default() });
    let site = &dev.line.site;
    assert_eq!(documents(&dev, &["sites", "show", site], "")[0]["tag_overflow"]["objects"], 0);
    documents(&dev, &["sites", "update", site, "--tags-per-response", "1"], "");
    eventually("both nodes have met a page with two tags", || async {
        dev.warm("/product/5").await;
        documents(&dev, &["purge", "--tag", "whatever", "--wait"], "");
        (documents(&dev, &["sites", "list"], "")[0]["tag_overflow"]["nodes"].as_u64()? >= 2).then_some(())
    })
    .await;
    let list = batoff(&dev, &["sites", "list"], "");
    assert!(
        said(&list).contains("OVERFLOWED") && said(&list).contains("more tags than the site allows"),
        "{list:?}"
    );
}

#[tokio::test]
async fn the_sla_counts_a_sites_purges_and_the_fleets() {
    let dev = Dev::start(DevOptions { pops: 1, ..DevOptions::default() });
    documents(&dev, &["purge", "--tag", "a", "--wait"], "");
    documents(&dev, &["purge", "--tag", "b", "--wait"], "");
    for args in [&["sla", "--window", "1h"] as &[&str], &["sla", "--window", "1h", "--fleet"]] {
        let sla = &documents(&dev, args, "")[0];
        assert_eq!((&sla["window"], &sla["purges"]), (&"1h".into(), &2.into()), "{sla}");
    }
    let refused = batoff(&dev, &["sla", "--window", "a while"], "");
    assert_eq!(refused.status.code(), Some(1));
    assert!(said(&refused).contains("30d"), "{}", said(&refused));
}

#[tokio::test]
async fn a_removed_node_is_not_waited_for() {
    let dev = Dev::start(DevOptions { pops: 2, ..DevOptions::default() });
    let nodes = documents(&dev, &["nodes", "list"], "");
    assert_eq!(nodes.len(), 2);
    assert!(nodes.iter().all(|node| node["state"] == "leased"), "{nodes:?}");
    let gone = &dev.line.nodes[1];
    kill(gone.pid, Signal::STOP);
    let name = format!("{}/{}", gone.pop, gone.node);
    let output = batoff(&dev, &["nodes", "remove", &name, "--force"], "");
    kill(gone.pid, Signal::CONT);
    assert!(output.status.success(), "{}", said(&output));
    // The removal takes effect when its lease has certainly run out.
    eventually("purges count one node", || async {
        let task = dev.customer.purge(&serde_json::json!({"urls": [dev.url("/x")]})).await.task();
        (dev.customer.completed(&task).await["nodes"]["total"] == 1).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_user_is_freed_of_the_authenticator_and_signed_out_from_the_command_line() {
    let dev = Dev::start(DevOptions { pops: 1, ..DevOptions::default() });
    let added =
        documents(&dev, &["users", "add", "anna", "--role", "viewer", "--for-site", &dev.line.site], "");
    assert_eq!(added[0]["name"], "anna");
    let freed = documents(&dev, &["users", "drop-codes", "anna"], "");
    assert_eq!((&freed[0]["name"], &freed[0]["codes"]), (&"anna".into(), &false.into()));
    let out = documents(&dev, &["users", "sign-out", "anna"], "");
    assert_eq!((&out[0]["name"], &out[0]["signed_out"]), (&"anna".into(), &true.into()));
    let said_so = batoff(&dev, &["users", "sign-out", "anna"], "");
    assert!(said(&said_so).contains("user anna is signed out everywhere"), "{}", said(&said_so));
    let nobody = batoff(&dev, &["users", "drop-codes", "nobody"], "");
    assert!(!nobody.status.success() && said(&nobody).contains("nobody"), "{}", said(&nobody));
    let actions = documents(&dev, &["audit", "list"], "");
    for action in ["user.codes_off", "user.sign_out"] {
        assert!(
            actions.iter().any(|entry| entry["action"] == action && entry["object"] == "anna"),
            "{actions:?}"
        );
    }
}
