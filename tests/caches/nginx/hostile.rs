//! What happens to nginx's node that nobody meant: moved folders, links, clocks, restored backups, strange requests.

use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use batoff_tests::{binary, eventually, isolated};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::Nginx;
use crate::origin::Page;
use crate::plane::{HOSTS, NEIGHBOR};
use crate::process::Process;
use crate::stage::{Stage, url};
use crate::subject::Subject;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cache_directory_whose_link_is_moved_is_read_anew_before_a_purge_is_confirmed() {
    let mut stage = Stage::<Nginx>::strict().await;
    let (cache, disks) =
        (stage.subject.cache(), ["disk-a", "disk-b"].map(|disk| stage.subject.dir.join(disk)));
    stage.subject.daemon().kill();
    std::fs::rename(&cache, &disks[0]).unwrap();
    symlink(&disks[0], &cache).unwrap();
    stage.subject.daemon().restart().await;
    stage.plane.leased("pop1").await;
    let old = stage.fill("/page").await.number;
    run("cp", &["-a", text(&disks[0]), text(&disks[1])]);
    let next = cache.with_extension("next");
    symlink(&disks[1], &next).unwrap();
    std::fs::rename(&next, &cache).unwrap();
    stage.purge(json!({"everything": true})).await;
    assert!(stage.get("/page").await.number > old, "the other disk's copy was purged, too");
    let stored = stage.fill("/page").await.number;
    stage.purge_url("/page").await;
    assert!(stage.get("/page").await.number > stored, "and it is watched from now on");
}

#[test]
fn a_cache_directory_that_is_mounted_over_is_read_anew_and_so_is_the_one_below() {
    isolated(&["nginx", "umount"], async || {
        let stage = Stage::<Nginx>::strict().await;
        let cache = stage.subject.cache();
        let below = stage.fill("/page").await.number;
        run("mount", &["-t", "tmpfs", "-o", "mode=0777", "none", text(&cache)]);
        eventually("the new disk is in use", || async {
            let answer = stage.get("/page").await;
            (!answer.asked && answer.number > below).then_some(())
        })
        .await;
        let above = stage.fill("/page").await.number;
        stage.purge_url("/page").await;
        assert!(stage.get("/page").await.number > above, "what stands there now was purged");
        // The daemon holds the one that it watches.
        run("umount", &["-l", text(&cache)]);
        stage.purge_url("/another").await;
        let answer = stage.get("/page").await;
        assert!(answer.number > below, "it comes back as it was before the purge: {answer:?}");
        stage.plane.leased("pop1").await;
        let stored = stage.fill("/page").await.number;
        stage.purge(json!({"everything": true})).await;
        assert!(stage.get("/page").await.number > stored, "and it is watched from now on");
    });
}

#[test]
fn a_cache_directory_that_is_read_only_at_the_start_is_no_mistake_of_the_configuration() {
    isolated(&["nginx", "umount"], async || {
        let mut stage = Stage::<Nginx>::strict().await;
        stage.fill("/page").await;
        stage.subject.daemon().kill();
        let cache = stage.subject.cache();
        run("mount", &["--bind", text(&cache), text(&cache)]);
        run("mount", &["-o", "remount,ro,bind", text(&cache)]);
        let started = second_daemon(&mut stage, "second", |command| command);
        let said = String::from_utf8_lossy(&started.stderr).into_owned();
        assert_eq!(started.status.code(), Some(75), "{said}");
        assert!(said.contains("mount it writable"), "{said}");
        run("umount", &[text(&cache)]);
        stage.subject.daemon().restart().await;
        stage.plane.leased("pop1").await;
        stage.fill("/page").await;
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stamp_from_a_future_that_a_backup_has_undone_is_none() {
    let mut stage = Stage::<Nginx>::strict().await;
    stage.purge_url("/something").await;
    let daemon = stage.subject.daemon();
    daemon.kill();
    let state = daemon.config().with_file_name("state");
    let control = daemon.config().with_file_name("control");
    stage.plane.kill();
    for folder in [&state, &control] {
        run("cp", &["-a", text(folder), text(&folder.with_extension("backup"))]);
    }
    stage.plane.restart();
    stage.subject.daemon().restart().await;
    stage.plane.leased("pop1").await;
    for n in 0..20 {
        stage.purge_url(&format!("/another/{n}")).await;
    }
    let old = stage.fill("/page").await.number;
    stage.subject.daemon().kill();
    stage.plane.kill();
    for folder in [&state, &control] {
        std::fs::remove_dir_all(folder).unwrap();
        std::fs::rename(folder.with_extension("backup"), folder).unwrap();
    }
    stage.plane.restart();
    stage.subject.daemon().restart().await;
    stage.plane.leased("pop1").await;
    stage.purge_url("/page").await;
    assert!(stage.get("/page").await.number > old);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn links_in_the_cache_directory_are_not_followed_and_stop_nothing() {
    let mut stage = Stage::<Nginx>::strict().await;
    let old = stage.fill("/page").await;
    let victim = stage.subject.dir.join("victim");
    std::fs::write(&victim, "untouched").unwrap();
    let names = ["0", "1"].map(|end| stage.subject.cache().join("0/00").join(format!("{end:0>29}000")));
    symlink(&victim, &names[0]).unwrap();
    std::fs::hard_link(&victim, &names[1]).unwrap();
    run("mkfifo", &[text(&names[0].with_file_name(format!("{:0>29}000", "2")))]);
    std::fs::create_dir(names[0].with_file_name(format!("{:0>29}000", "3"))).unwrap();
    stage.subject.daemon().restart().await;
    stage.plane.leased("pop1").await;
    assert_eq!(stage.fill("/page").await, old, "the directory was read");
    stage.purge_url("/page").await;
    assert!(stage.get("/page").await.number > old.number);
    assert_eq!(std::fs::read_to_string(&victim).unwrap(), "untouched");
    assert!(
        names.iter().all(|name| std::fs::symlink_metadata(name).is_err()),
        "the purge took their names away"
    );
    assert!(stage.subject.daemon().log().contains("nginx has not made it"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_dir_that_is_removed_is_made_again() {
    let stage = Stage::<Nginx>::strict().await;
    let run = stage.subject.run_dir();
    for removed in [run.join("lease"), run.join("slots"), run.join("gen"), run.clone()] {
        stage.fill("/page").await;
        std::fs::remove_dir_all(&removed).unwrap();
        eventually("it is there again", || async { removed.is_dir().then_some(()) }).await;
        let stored = stage.fill("/page").await.number;
        stage.purge_url("/page").await;
        assert!(stage.get("/page").await.number > stored, "{}", removed.display());
    }
    eventually("notes are heard again", || async { run.join("notes").exists().then_some(()) }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_may_pass_at_the_start_is_no_mistake_of_the_configuration() {
    let mut stage = Stage::<Nginx>::strict().await;
    stage.fill("/page").await;
    let second = second_daemon(&mut stage, "second", |command| command);
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert_eq!(second.status.code(), Some(75), "{said}");
    assert!(said.contains("another batoff-edge drives this cache"), "{said}");
    stage.subject.daemon().kill();
    let cache = stage.subject.cache();
    std::fs::rename(&cache, cache.with_extension("unmounted")).unwrap();
    let started = second_daemon(&mut stage, "third", |command| command);
    let said = String::from_utf8_lossy(&started.stderr).into_owned();
    assert_eq!(started.status.code(), Some(75), "a mount that is late: {said}");
    assert!(said.contains("mounted later"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_of_another_user_needs_two_capabilities_and_says_so() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let mut stage = Stage::<Nginx>::strict().await;
    stage.fill("/page").await;
    stage.subject.daemon().kill();
    let started = second_daemon(&mut stage, "nobody", |_| as_nobody(&[]));
    let said = String::from_utf8_lossy(&started.stderr).into_owned();
    assert_eq!(started.status.code(), Some(64), "{said}");
    for word in ["www-data", "nobody", "CAP_DAC_OVERRIDE and CAP_CHOWN"] {
        assert!(said.contains(word), "{said}");
    }
    // Folders that nginx has not needed yet have to be made for it.
    std::fs::remove_dir_all(stage.subject.cache().join("7")).unwrap();
    let both = "+dac_override,+chown";
    let (own, program) = own_folder(&mut stage, "able");
    let caps = ["--inh-caps", "--ambient-caps"].map(|kind| format!("{kind}=-all,{both}"));
    let config = own.join("daemon.toml");
    let mut args = vec!["--reuid", "nobody", "--regid", "nogroup", "--clear-groups"];
    args.extend(caps.iter().map(String::as_str));
    args.extend([text(&program), "--config", text(&config)]);
    let log = own.join("log");
    let mut daemon = Process::server("setpriv", &args, &[], &log);
    let begun = std::time::Instant::now();
    while !daemon.log().contains("the cache directory was read") {
        assert!(daemon.is_running() && begun.elapsed() < batoff_tests::PATIENCE, "{}", daemon.log());
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let owner = |path: PathBuf| std::fs::metadata(path).unwrap().uid();
    assert_eq!(owner(stage.subject.cache().join("7/00")), owner(stage.subject.cache()), "nginx's own");
    daemon.kill();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_line_that_names_a_host_is_sent_on_as_what_it_is_stored_under() {
    let stage = Stage::<Nginx>::strict().await;
    let request =
        format!("GET http://{NEIGHBOR}/x HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", HOSTS[0]);
    for _ in 0..2 {
        let mut stream = tokio::net::TcpStream::connect(stage.subject.visitors()).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        stream.read_to_end(&mut Vec::new()).await.unwrap();
    }
    assert_eq!(
        stage.origin.requests(HOSTS[0], "/x"),
        0,
        "no page of this host may stand under the neighbor's URL"
    );
    assert!(stage.origin.requests(NEIGHBOR, "/x") > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixteen_kilobytes_of_tags_are_stored_and_visitors_see_none_of_them() {
    let stage = Stage::<Nginx>::strict().await;
    let tags: Vec<_> = (0..16).map(|n| format!("{n:02}{}", "x".repeat(1_000))).collect();
    stage.origin.page("/tagged", Page::tagged(&tags.join(",")));
    stage.fill("/tagged").await;
    let address = stage.subject.visitors();
    let reply = batoff_tests::http()
        .get(format!("http://{address}/tagged"))
        .header("Host", HOSTS[0])
        .send()
        .await
        .unwrap();
    assert_eq!(reply.status(), 200);
    assert!(reply.headers().get("cache-tag").is_none());
    let mut stored = Vec::new();
    super::stories::find(&stage.subject.cache(), tags[15].as_bytes(), &mut stored);
    assert_eq!(stored.len(), 1, "and they are stored, all of them");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hosts_that_no_site_owns_are_not_kept() {
    let stage = Stage::<Nginx>::strict().await;
    for host in ["unknown.test", "192.0.2.7"] {
        eventually(&format!("{host} is not served from the cache"), || async {
            stage.get_from(host, "/page", &[]).await;
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            stage.get_from(host, "/page", &[]).await.asked.then_some(())
        })
        .await;
    }
    // One dot at the end is the same host.
    let old = stage.fill("/page").await.number;
    let dotted = format!("{}.", HOSTS[0]);
    assert_eq!(stage.try_get(&dotted, "/page", &[]).await.unwrap().number, old);
    stage.purge_url("/page").await;
    assert!(stage.try_get(&dotted, "/page", &[]).await.unwrap().number > old);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tags_of_a_confirmed_page_are_taken_over() {
    let stage = Stage::<Nginx>::strict().await;
    stage.origin.page("/same", Page { constant: true, ..Page::tagged("one") });
    let old = stage.fill("/same").await.number;
    stage.origin.page("/same", Page { constant: true, ..Page::tagged("two") });
    stage.purge(json!({"urls": [url("/same")], "soft": true})).await;
    eventually("it was asked for again", || async {
        stage.get("/same").await;
        (stage.origin.requests(HOSTS[0], "/same") > old).then_some(())
    })
    .await;
    let stored = stage.fill("/same").await.number;
    stage.purge(json!({"tags": ["two"]})).await;
    assert!(stage.get("/same").await.asked, "stored as {stored}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_clock_makes_fresh_again_what_a_soft_purge_made_stale() {
    let stage = Stage::<Nginx>::strict().await;
    stage.fill("/page").await;
    stage.purge(json!({"urls": [url("/page")], "soft": true})).await;
    let mut files = Vec::new();
    super::stories::find(&stage.subject.cache(), b"/page", &mut files);
    let fresh_until: Vec<_> =
        files.iter().map(|(_, bytes)| i64::from_le_bytes(bytes[8..16].try_into().unwrap())).collect();
    assert_eq!(fresh_until, [1], "in seconds since 1970");
}

/// A folder of its own for another daemon beside this one's cache: its configuration, and a program that anybody may run.
fn own_folder(stage: &mut Stage<Nginx>, name: &str) -> (PathBuf, PathBuf) {
    let config = stage.subject.daemon().config().to_owned();
    let own = stage.subject.dir.join(name);
    std::fs::create_dir_all(own.join("run")).unwrap();
    let text = std::fs::read_to_string(&config).unwrap();
    let (state, run_dir) = (config.with_file_name("state"), stage.subject.run_dir());
    let text = text.replace(&format!("{state:?}"), &format!("{:?}", own.join("state")));
    let text = text.replace(&format!("{run_dir:?}"), &format!("{:?}", own.join("run")));
    let text = text.replace("\"edge-1\"", "\"edge-2\"");
    std::fs::write(own.join("daemon.toml"), text).unwrap();
    let program = own.join("batoff-edge");
    std::fs::copy(binary("batoff-edge"), &program).unwrap();
    if rustix::process::geteuid().is_root() {
        run("chown", &["-R", "nobody", own.to_str().unwrap()]);
    }
    (own, program)
}

/// Starts another daemon that is to end by itself.
fn second_daemon(stage: &mut Stage<Nginx>, name: &str, how: impl FnOnce(Command) -> Command) -> Output {
    let (own, program) = own_folder(stage, name);
    let mut command = how(Command::new("env"));
    command.arg(program).arg("--config").arg(own.join("daemon.toml")).output().unwrap()
}

fn as_nobody(more: &[&str]) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "nobody", "--regid", "nogroup", "--clear-groups"]).args(more);
    command
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

fn run(program: &str, args: &[&str]) {
    let done = Command::new(program).args(args).output().unwrap();
    assert!(done.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&done.stderr));
}
