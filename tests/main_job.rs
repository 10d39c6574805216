//! The main job, end to end: a signed request becomes durable, is streamed to every node, takes effect in real caches
//! and is acknowledged. Real processes, real sockets, real HTTP responses in the caches.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

use batoff_tests::{Customer, Dev, DevOptions, eventually};
use serde_json::{Value, json};

/// Purges and waits until the task is completed; the task as the API shows it.
async fn purge(dev: &Dev, body: Value) -> Value {
    let reply = dev.customer.purge(&body).await;
    let task = reply.task();
    assert_eq!(reply.json["items_done"], 0);
    assert_eq!(reply.header("location"), format!("/v1/sites/{}/purge/{task}", dev.line.site));
    dev.customer.completed(&task).await
}

fn all(dev: &Dev, x_cache: &str) -> Vec<String> {
    vec![x_cache.to_owned(); dev.line.nodes.len()]
}

#[tokio::test]
async fn each_kind_of_purge_leaves_every_cache_and_touches_nothing_else() {
    let dev = Dev::start(DevOptions::default());
    let cases = [
        ("url", json!({"urls": [dev.url("/a/1")]}), "/a/1", "/a/2"),
        ("url without its query", json!({"urls": [dev.url("/q?x=1")]}), "/q?x=1", "/q?x=2"),
        (
            "url in Cyrillic",
            json!({"urls": [dev.url("/новости/1")]}),
            "/%D0%BD%D0%BE%D0%B2%D0%BE%D1%81%D1%82%D0%B8/1",
            "/a/2",
        ),
        ("prefix", json!({"prefixes": [dev.url("/img/b")]}), "/img/banner.png", "/img/logo.png"),
        ("tag", json!({"tags": ["product:42"]}), "/product/42", "/product/43"),
        ("both tags at once", json!({"tags": ["product:7", "no-such-tag"]}), "/product/7", "/product/43"),
    ];
    for (kind, body, hit, spared) in cases {
        dev.warm(hit).await;
        dev.warm(spared).await;
        let task = purge(&dev, body).await;
        assert_eq!(dev.x_cache(hit).await, all(&dev, "MISS"), "{kind}: {hit} is gone everywhere");
        assert_eq!(dev.x_cache(spared).await, all(&dev, "HIT"), "{kind}: {spared} is still there");
        assert_eq!(task["items_done"], task["items_total"], "{kind}");
        assert!(task["propagation_ms"].is_u64() && task["completed_at"].is_string(), "{kind}: {task}");
        let nodes = &task["nodes"];
        assert_eq!((&nodes["total"], &nodes["confirmed"]), (&json!(3), &json!(3)), "{kind}: {task}");
    }
}

#[tokio::test]
async fn a_host_and_everything_are_purged_whole() {
    let dev = Dev::start(DevOptions { pops: 1, ..DevOptions::default() });
    let proxy = dev.line.nodes[0].proxy.clone();
    let (host, other) = (dev.line.hosts[0].clone(), dev.line.hosts[1].clone());
    let read = async |host: &str| dev.visitor.read(&proxy, host, "/page").await.x_cache;

    dev.visitor.warm(&proxy, &host, "/page").await;
    dev.visitor.warm(&proxy, &other, "/page").await;
    purge(&dev, json!({"hosts": [host]})).await;
    assert_eq!((read(&host).await.as_str(), read(&other).await.as_str()), ("MISS", "HIT"));

    dev.visitor.warm(&proxy, &host, "/page").await;
    purge(&dev, json!({"everything": true})).await;
    assert_eq!((read(&host).await.as_str(), read(&other).await.as_str()), ("MISS", "MISS"));
}

#[tokio::test]
async fn every_variant_of_a_url_goes_with_it() {
    let dev = Dev::start(DevOptions { pops: 1, ..DevOptions::default() });
    let proxy = &dev.line.nodes[0].proxy;
    let read = async |language: &'static str| {
        let headers = [("accept-language", language)];
        dev.visitor
            .try_read(proxy, dev.host(), "/vary/page", &headers)
            .await
            .expect("the proxy answers")
            .x_cache
    };
    for language in ["en", "ru"] {
        assert_eq!(read(language).await, "MISS");
        eventually("the variant is stored", || async { (read(language).await == "HIT").then_some(()) }).await;
    }
    let task = purge(&dev, json!({"urls": [dev.url("/vary/page")]})).await;
    assert_eq!((read("en").await.as_str(), read("ru").await.as_str()), ("MISS", "MISS"));
    let path = format!("/v1/sites/{}/purge/{}", dev.line.site, task["task_id"].as_str().expect("an id"));
    let evicted = eventually("the count of evicted objects is final", || async {
        let task = dev.customer.get(&path).await.json;
        (task["objects_final"] == true).then(|| task["objects_evicted"].clone())
    })
    .await;
    assert_eq!(evicted, 2, "each variant counts one");
}

#[tokio::test]
async fn a_soft_purge_is_served_stale_once_while_it_is_fetched_anew() {
    let dev = Dev::start(DevOptions { pops: 1, ..DevOptions::default() });
    let proxy = &dev.line.nodes[0].proxy;
    let before = dev.visitor.warm(proxy, dev.host(), "/soft").await;
    purge(&dev, json!({"urls": [dev.url("/soft")], "soft": true})).await;
    let stale = dev.visitor.read(proxy, dev.host(), "/soft").await;
    assert_eq!((stale.x_cache.as_str(), &stale.body), ("STALE", &before.body));
    // The origin confirms or replaces it in the background; then it is an untouched fresh object again.
    dev.visitor.warm(proxy, dev.host(), "/soft").await;

    purge(&dev, json!({"urls": [dev.url("/soft")], "soft": true})).await;
    purge(&dev, json!({"urls": [dev.url("/soft")]})).await;
    purge(&dev, json!({"urls": [dev.url("/soft")], "soft": true})).await;
    assert_eq!(dev.visitor.read(proxy, dev.host(), "/soft").await.x_cache, "MISS", "soft never weakens hard");
}

#[tokio::test]
async fn a_dry_run_counts_and_max_objects_fails_closed() {
    let dev = Dev::start(DevOptions { pops: 2, ..DevOptions::default() });
    for path in ["/d/1", "/d/2", "/d/3"] {
        dev.warm(path).await;
    }
    let body = json!({"prefixes": [dev.url("/d/")], "urls": [dev.url("/d/1")]});
    let path = format!("/v1/sites/{}/purge?dry_run=true", dev.line.site);
    let bytes = body.to_string();
    let reply = dev
        .customer
        .send(dev.customer.request("POST", &path, Some(bytes.as_bytes())))
        .await
        .expect("a reply");
    assert_eq!(reply.status, 200, "{}", reply.text);
    assert_eq!(reply.json["nodes"], json!({"total": 2, "answered": 2}));
    let items = reply.json["items"].as_array().expect("items");
    assert_eq!(items.iter().find(|item| item["kind"] == "prefix").expect("the prefix")["objects"], 6);
    assert_eq!(items.iter().find(|item| item["kind"] == "url").expect("the URL")["objects"], 2);
    assert_eq!(dev.x_cache("/d/1").await, all(&dev, "HIT"), "a dry run purges nothing");

    let mut body = body;
    body["max_objects"] = json!(3);
    let reply = dev.customer.purge(&body).await;
    assert_eq!((reply.status, reply.code()), (412, "too_many_objects"));
    assert_eq!(dev.x_cache("/d/1").await, all(&dev, "HIT"), "nothing was queued");
    body["max_objects"] = json!(1000);
    purge(&dev, body).await;
    assert_eq!(dev.x_cache("/d/1").await, all(&dev, "MISS"));
}

#[tokio::test]
async fn status_list_and_metrics_tell_the_same_story() {
    let dev = Dev::start(DevOptions { pops: 2, ..DevOptions::default() });
    let mut tasks = Vec::new();
    for n in 0..5 {
        let task = purge(&dev, json!({"urls": [dev.url(&format!("/s/{n}"))]})).await;
        tasks.insert(0, task["task_id"].as_str().expect("an id").to_owned());
    }
    let shown = dev.customer.task(&tasks[0], 0).await.json;
    let pops: Vec<_> =
        shown["pops"].as_array().expect("pops").iter().map(|pop| pop["nodes"].clone()).collect();
    assert_eq!(pops, vec![json!({"total": 1, "confirmed": 1, "fenced": 0, "unreachable": 0}); 2]);

    let mut listed = Vec::new();
    let mut path = format!("/v1/sites/{}/purges?limit=2&state=completed", dev.line.site);
    loop {
        let page = dev.customer.get(&path).await.json;
        for task in page["purges"].as_array().expect("purges") {
            listed.push(task["task_id"].as_str().expect("an id").to_owned());
        }
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        path = format!("/v1/sites/{}/purges?limit=2&state=completed&cursor={cursor}", dev.line.site);
    }
    assert_eq!(listed, tasks, "newest first, each once");

    let metrics = Dev::metrics(&dev.line.control_metrics).await;
    assert!(metrics.contains("batoff_control_purges_accepted_total{kind=\"url\"} 5"), "{metrics}");
    assert!(metrics.contains("batoff_control_propagation_seconds_bucket{le=\"2\"}"), "{metrics}");
    let node = Dev::metrics(&dev.line.nodes[0].metrics).await;
    for (page, program) in [(&metrics, "batoff-control"), (&node, "batoff-proxy")] {
        for family in page.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
            let name = family.split(' ').next().expect("a name");
            assert!(page.contains(&format!("# HELP {name} ")), "{program} does not explain {name}");
        }
        let build = format!("batoff_build_info{{program=\"{program}\",");
        for sample in [
            build.as_str(),
            "process_cpu_seconds_total ",
            "process_resident_memory_bytes ",
            "process_open_fds ",
            "process_max_fds ",
            "process_threads ",
            "process_start_time_seconds ",
        ] {
            assert!(page.lines().any(|line| line.starts_with(sample)), "{program} has no {sample}");
        }
    }
    for name in [
        "batoff_edge_applied_seq",
        "batoff_edge_evicted_total",
        "batoff_edge_index_entries",
        "batoff_edge_lease_remaining_seconds",
        "batoff_edge_reconnects_total",
    ] {
        assert!(node.contains(name), "{name} is missing:\n{node}");
    }
}

#[tokio::test]
async fn the_nodes_name_their_progress_to_visitors_and_hide_the_tags() {
    let dev = Dev::start(DevOptions { pops: 1, ..DevOptions::default() });
    let answer = dev.visitor.warm(&dev.line.nodes[0].proxy, dev.host(), "/product/1").await;
    assert!(!answer.headers.contains_key("cache-tag"), "{:?}", answer.headers);
    let status = answer.headers.get("cache-status").and_then(|value| value.to_str().ok()).unwrap_or_default();
    assert!(status.contains("hit") && status.contains("purge-seq="), "{status}");
}

#[tokio::test]
async fn a_stranger_gets_nothing() {
    let dev = Dev::start(DevOptions { pops: 1, ..DevOptions::default() });
    let mut stranger = dev.customer.clone();
    stranger.secret = "bts_live_wrong".to_owned();
    let reply = stranger.purge(&json!({"everything": true})).await;
    assert_eq!((reply.status, reply.code()), (401, "bad_signature"));
    let elsewhere = Customer::new(&dev.line.api, "another-site", &dev.line.token, &dev.line.secret);
    let reply = elsewhere.purge(&json!({"everything": true})).await;
    assert_eq!((reply.status, reply.code()), (403, "scope_denied"));
}

#[tokio::test]
async fn the_control_plane_knows_how_much_each_node_has_cached() {
    let dev = Dev::start(DevOptions { pops: 2, ..DevOptions::default() });
    let sizes = async || {
        let nodes = dev.admin("/admin/v1/nodes").await["nodes"].as_array().cloned().unwrap_or_default();
        let size = |node: &Value| Some((node["index_objects"].as_u64()?, node["index_bytes"].as_u64()?));
        nodes.iter().map(size).collect::<Option<Vec<(u64, u64)>>>().filter(|sizes| sizes.len() == 2)
    };
    let before = eventually("both nodes have said how large their index is", sizes).await;
    assert!(before.iter().all(|(objects, _)| *objects == 0), "nothing is cached yet: {before:?}");
    for path in ["/i/1", "/i/2", "/i/3"] {
        dev.warm(path).await;
    }
    let after = eventually("both nodes have told of the three pages", || async {
        sizes().await.filter(|sizes| sizes.iter().all(|(objects, _)| *objects == 3))
    })
    .await;
    assert!(
        after.iter().zip(&before).all(|((_, bytes), (_, before))| bytes > before),
        "{before:?} {after:?}"
    );
    eventually("the fleet's figures follow", || async {
        let metrics = Dev::metrics(&dev.line.control_metrics).await;
        let all = metrics.contains("batoff_control_index_objects{nodes=\"all\"} 6\n");
        (all && metrics.contains("batoff_control_index_objects{nodes=\"largest\"} 3\n")).then_some(())
    })
    .await;
    purge(&dev, json!({"everything": true})).await;
    eventually("what is purged is cached no more", || async {
        sizes().await.filter(|sizes| sizes.iter().all(|(objects, _)| *objects == 0))
    })
    .await;
}
