//! A backup taken while purges are under way, and a control plane made of it.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use batoff_tests::{HOST, Launch, System, SystemPlan, Visitor, eventually};
use serde_json::json;

/// Runs `batoff-control` to its end: whether it was content, and what it said.
async fn control(dir: &Path, args: &[&str]) -> (bool, String) {
    let launch = Launch::new("batoff-control", args, dir);
    let output = tokio::task::spawn_blocking(move || launch.run()).await.unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

fn resets(system: &System, node: usize) -> usize {
    system.nodes[node].service.log().matches("everything cached is dropped").count()
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_of_a_busy_control_plane_is_restored_and_no_node_serves_anything_from_before() {
    let mut system = System::start(SystemPlan { nodes: 2, ..SystemPlan::default() }).await;
    let (folder, visitor) = (system.data_dir.with_extension("backups"), Visitor::default());
    std::fs::create_dir(&folder).unwrap();
    let dir = folder.as_path();
    let (target, again) = (dir.join("one"), dir.join("two"));
    let before = system.customer.purge(&json!({"urls": [System::url("/before")]})).await.task();
    system.customer.completed(&before).await;

    // Purges all the time, and backups meanwhile.
    let stop = AtomicBool::new(false);
    let customer = &system.customer;
    let purging = async {
        let mut tasks = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            let body = json!({"urls": [System::url(&format!("/busy/{}", tasks.len()))]});
            tasks.push(customer.purge(&body).await.task());
        }
        tasks
    };
    let taking = async {
        let arguments = |to| ["backup", "--data-dir", path(&system.data_dir), path(to)].map(str::to_owned);
        for to in [&target, &again] {
            let arguments = arguments(to);
            let (fine, said) = control(dir, &arguments.each_ref().map(String::as_str)).await;
            assert!(fine && said.contains("verified"), "{said}");
        }
        stop.store(true, Ordering::Relaxed);
    };
    let (tasks, ()) = tokio::join!(purging, taking);
    assert!(tasks.len() > 2, "that was no load");
    assert!(
        system.control.log().matches("a backup was taken").count() == 2,
        "the running one has given them"
    );
    let (fine, said) = control(dir, &["backup", "--data-dir", path(&system.data_dir), path(&target)]).await;
    assert!(!fine && said.contains("is there already"), "{said}");

    // What happens after the backup is not in it.
    let after = system.customer.purge(&json!({"urls": [System::url("/after")]})).await.task();
    system.customer.completed(&after).await;
    let head =
        system.batoff(&["audit", "verify"]).await.unwrap().remove(0)["head"].as_str().unwrap().to_owned();
    system.warm("/after").await;
    system.warm("/before").await;
    let resets_before = [resets(&system, 0), resets(&system, 1)];
    assert_eq!(system.control.stop().await, 0);

    let data = dir.join("restored");
    let (fine, said) = control(dir, &["restore", path(&target), "--data-dir", path(&data)]).await;
    assert!(!fine && said.contains("--new-log-id") && said.contains("Every node drops"), "{said}");
    assert!(!data.exists(), "nothing was done");
    let restore = ["restore", path(&target), "--data-dir", path(&data), "--new-log-id"];
    let (fine, said) = control(dir, &restore).await;
    assert!(fine && said.contains("whole"), "{said}");
    let (fine, said) = control(dir, &restore).await;
    assert!(!fine && said.contains("is not empty"), "{said}");
    let id = |dir: &Path| std::fs::read_to_string(dir.join("LOG_ID")).unwrap();
    assert_ne!(id(&data), id(&system.data_dir), "no number is given a second time in one log");

    let mut elsewhere = system.control_on(&data);
    elsewhere.start().await.unwrap_or_else(|why| panic!("{why}"));
    for (node, before) in resets_before.into_iter().enumerate() {
        eventually("the node has dropped everything", || async {
            (resets(&system, node) > before).then_some(())
        })
        .await;
    }
    system.settled().await;
    for node in &system.nodes {
        for page in ["/before", "/after"] {
            let answer = visitor.read(&node.proxy, HOST, page).await;
            assert_ne!(answer.x_cache, "HIT", "{}{page} was cached before", node.pop);
        }
    }
    // The token, the site and the tasks are those of the backup; purges go on.
    assert_eq!(system.customer.task(&before, 0).await.json["state"], "completed");
    assert_eq!(system.customer.task(&after, 0).await.status, 404);
    let next = system.customer.purge(&json!({"urls": [System::url("/before")]})).await.task();
    system.customer.completed(&next).await;
    // The audit log tells of the other store, and a head that was kept elsewhere of what is missing.
    let verdict = system.batoff(&["audit", "verify"]).await.unwrap().remove(0);
    assert!(!verdict["store_changes"].as_array().unwrap().is_empty(), "{verdict}");
    assert!(system.batoff(&["audit", "verify", "--head", &head]).await.is_err(), "entries are missing");
    assert_eq!(elsewhere.stop().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_of_a_control_plane_that_is_stopped_is_as_good_and_a_damaged_one_is_refused() {
    let mut system = System::start(SystemPlan { nodes: 1, ..SystemPlan::default() }).await;
    let folder = system.data_dir.with_extension("backups");
    std::fs::create_dir(&folder).unwrap();
    let dir = folder.as_path();
    let task = system.customer.purge(&json!({"urls": [System::url("/a")]})).await.task();
    system.customer.completed(&task).await;
    assert_eq!(system.control.stop().await, 0);
    let target = dir.join("one");
    let (fine, said) = control(dir, &["backup", "--data-dir", path(&system.data_dir), path(&target)]).await;
    assert!(fine, "{said}");

    let data = dir.join("restored");
    let restore = ["restore", path(&target), "--data-dir", path(&data), "--new-log-id"];
    let store = target.join("store.backup");
    let whole = std::fs::read(&store).unwrap();
    let mut altered = whole.clone();
    let middle = altered.len() / 2;
    altered[middle] ^= 1;
    for (bytes, word) in
        [(&altered, "altered or damaged at byte"), (&whole[..middle].to_vec(), "cut off at byte")]
    {
        std::fs::write(&store, bytes).unwrap();
        let (fine, said) = control(dir, &restore).await;
        assert!(!fine && said.contains(word) && said.contains("store.backup"), "{said}");
        assert!(!data.exists(), "nothing was made");
    }
    std::fs::write(&store, &whole).unwrap();
    let token = std::fs::read(target.join("admin.token")).unwrap();
    std::fs::write(target.join("admin.token"), "another").unwrap();
    let (fine, said) = control(dir, &restore).await;
    assert!(!fine && said.contains("admin.token"), "{said}");
    std::fs::write(target.join("admin.token"), token).unwrap();
    let (fine, said) = control(dir, &restore).await;
    assert!(fine, "{said}");
    let mut elsewhere = system.control_on(&data);
    elsewhere.start().await.unwrap_or_else(|why| panic!("{why}"));
    system.settled().await;
    assert_eq!(elsewhere.stop().await, 0);
}
