//! Varnish as Debian has it, with the VCL that we ship.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use batoff_tests::{eventually, free_port, http};

use crate::conformance;
use crate::daemon::Daemon;
use crate::feature::Feature;
use crate::origin::Page;
use crate::plane::{HOSTS, UNDER_WILDCARD};
use crate::process::Process;
use crate::stage::Stage;
use crate::subject::{Setting, Subject};

struct Varnish {
    daemon: Daemon,
    server: Server,
}

/// One varnishd.
struct Server {
    process: Process,
    visitors: SocketAddr,
    cli: SocketAddr,
    dir: PathBuf,
}

impl Server {
    async fn start(setting: &Setting<'_>) -> Self {
        let (dir, origin) = (setting.dir, setting.origin);
        let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/varnish");
        let vcl = std::fs::read_to_string(shipped.join("batoff.vcl")).expect("batoff.vcl");
        let lease = dir.join("lease");
        let vcl = vcl.replace("/run/batoff-varnish/lease", lease.to_str().expect("a path in UTF-8"));
        let vcl = if setting.is_parent { vcl.replace("    unset resp.http.Cache-Tag;\n", "") } else { vcl };
        std::fs::write(dir.join("batoff.vcl"), vcl).expect("a file");
        let vcl = std::fs::read_to_string(shipped.join("default.vcl")).expect("default.vcl");
        let vcl = vcl.replace("\"8080\"", &format!("\"{}\"", origin.port()));
        std::fs::write(dir.join("default.vcl"), vcl).expect("a file");
        std::fs::write(dir.join("secret"), "between us\n").expect("a file");
        let local = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let (visitors, cli) = (local(free_port()), local(free_port()));
        let server =
            Self { process: run(dir, visitors, cli, &PARAMETERS), visitors, cli, dir: dir.to_owned() };
        server.answers().await;
        server
    }

    async fn restart(&mut self, parameters: &[&str]) {
        self.process.kill();
        // The child that serves notices a little later that its manager is gone; until then the port is its.
        let visitors = self.visitors;
        eventually("the old varnishd lets go of its port", || async {
            tokio::net::TcpStream::connect(visitors).await.err()
        })
        .await;
        self.process = run(&self.dir, self.visitors, self.cli, parameters);
        self.answers().await;
    }

    async fn answers(&self) {
        let url = format!("http://{}/up", self.visitors);
        eventually("varnish answers", || async { http().get(&url).send().await.ok().map(drop) }).await;
    }
}

/// As in deploy/varnish/varnish.service.conf.
const PARAMETERS: [&str; 6] =
    ["-p", "workspace_backend=384k", "-p", "http_resp_hdr_len=20k", "-p", "http_resp_size=64k"];

fn run(dir: &Path, visitors: SocketAddr, cli: SocketAddr, parameters: &[&str]) -> Process {
    let file = |name: &str| dir.join(name).to_str().expect("a path in UTF-8").to_owned();
    let (visitors, cli) = (format!("visitors={visitors}"), cli.to_string());
    let (node, purge, secret, vcl) =
        (file("varnishd"), format!("batoff={}", file("purge.sock")), file("secret"), file("default.vcl"));
    let mut args = vec![
        "-F",
        "-n",
        &node,
        "-a",
        &visitors,
        "-a",
        &purge,
        "-T",
        &cli,
        "-S",
        &secret,
        "-f",
        &vcl,
        "-s",
        "malloc,256m",
        "-p",
        "thread_pools=1",
    ];
    args.extend(parameters);
    Process::server("varnishd", &args, &[], &dir.join("varnish.log"))
}

impl Subject for Varnish {
    const NAME: &'static str = "Varnish";
    const TIERS: bool = true;

    fn lacks(_feature: Feature) -> Option<&'static str> {
        None
    }

    async fn start(setting: &Setting<'_>) -> Self {
        let server = Server::start(setting).await;
        let dir = setting.dir.display();
        let caches = format!(
            "[caches.varnish]\npurge = \"{dir}/purge.sock\"\ncli = \"{}\"\nsecret = \"{dir}/secret\"\n\
             lease_dir = \"{dir}/lease\"\n",
            server.cli
        );
        Self { daemon: Daemon::edge(setting, &caches).await, server }
    }

    fn visitors(&self) -> SocketAddr {
        self.server.visitors
    }

    fn check(&self, page: &str) -> Option<Vec<String>> {
        let args = ["varnish", "--connect", &self.visitors().to_string(), "--host", HOSTS[0], "--page", page]
            .map(str::to_owned)
            .to_vec();
        Some(args)
    }

    fn daemon(&mut self) -> &mut Daemon {
        &mut self.daemon
    }

    async fn restart_cache(&mut self) {
        self.server.restart(&PARAMETERS).await;
    }
}

conformance!(Varnish);

/// `batoff-edge check varnish`: whether it is content, and what it says.
fn check(varnish: &mut Varnish, page: &str) -> (bool, String) {
    let (visitors, config) = (varnish.visitors().to_string(), varnish.daemon.config().to_owned());
    let output = std::process::Command::new(batoff_tests::binary("batoff-edge"))
        .arg("--config")
        .arg(config)
        .args([
            "check",
            "varnish",
            "--connect",
            &visitors,
            "--host",
            HOSTS[0],
            "--page",
            page,
            "--tag",
            "checked",
        ])
        .arg("--fence")
        .output()
        .expect("batoff-edge runs");
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_check_is_content_with_what_we_ship_and_names_what_is_wrong() {
    let mut stage = Stage::<Varnish>::strict().await;
    stage.origin.page("/checked", Page::tagged("checked"));
    stage.fill("/checked").await;
    let (content, text) = check(&mut stage.subject, "/checked");
    assert!(content, "{text}");
    assert!(
        text.contains("ok     a purge by tag takes it") && text.contains("ok     nothing is served without"),
        "{text}"
    );

    // A subroutine of the operator's that returns before ours.
    let Server { dir, .. } = &stage.subject.server;
    let vcl = std::fs::read_to_string(dir.join("default.vcl")).expect("the file");
    let hasty = vcl.replace(
        "include \"",
        "sub vcl_hit { if (req.method != \"PURGE\") { return (deliver); } }\ninclude \"",
    );
    std::fs::write(dir.join("hasty.vcl"), hasty).expect("a file");
    let admin = |command: &[&str]| {
        let status = std::process::Command::new("varnishadm")
            .arg("-n")
            .arg(dir.join("varnishd"))
            .args(command)
            .status();
        assert!(status.expect("varnishadm runs").success(), "{command:?}");
    };
    admin(&["vcl.load", "hasty", dir.join("hasty.vcl").to_str().expect("a path in UTF-8")]);
    admin(&["vcl.use", "hasty"]);
    let (content, text) = check(&mut stage.subject, "/checked");
    assert!(!content && text.contains("WRONG  nothing is served without a lease"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_is_noticed_and_the_secret_is_in_no_log() {
    let mut stage = Stage::<Varnish>::strict().await;
    stage.purge(serde_json::json!({"prefixes": [crate::stage::url("/x")]})).await;
    stage.subject.restart_cache().await;
    stage.purge_url("/y").await;
    let daemon = &stage.subject.daemon;
    let noticed = async || daemon.log().contains("varnish was restarted").then_some(());
    eventually("the restart is noticed", noticed).await;
    let log = daemon.log();
    assert!(!log.contains("between us"), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_secret_and_a_wrong_configuration_are_refused_at_the_start() {
    let stage = Stage::<Varnish>::strict().await;
    let dir = &stage.subject.server.dir;
    std::fs::write(dir.join("stale"), "of old").expect("a file");
    let good = std::fs::read_to_string(stage.subject.daemon.config()).expect("the daemon's configuration");
    let good = good.replace(&format!("{:?}", dir.join("state")), &format!("{:?}", dir.join("another")));
    // The folder of its lease is held by the one that runs.
    let good = good.replace("/lease\"", "/another-lease\"");
    let visitors = stage.subject.server.visitors.to_string();
    let cases = [
        (good.replace("/secret\"", "/stale\""), "stale"),
        (good.replace("/secret\"", "/missing\""), "missing"),
        (good.replace(&format!("{}/purge.sock", dir.display()), &visitors), "batoff.vcl"),
    ];
    for (config, named) in cases {
        std::fs::write(dir.join("wrong.toml"), config).expect("a file");
        let output = std::process::Command::new(batoff_tests::binary("batoff-edge"))
            .arg("--config")
            .arg(dir.join("wrong.toml"))
            .output()
            .expect("batoff-edge runs");
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(64), "{named}: {text}");
        assert!(text.contains(named) && !text.contains("of old"), "{named}: {text}");
    }
}

/// What `owner` in the state directory says.
fn owner(stage: &Stage<Varnish>) -> (PathBuf, String) {
    let path = stage.subject.server.dir.join("state/owner");
    let text = std::fs::read_to_string(&path).expect("the state says whose it is");
    (path, text)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_of_the_daemon_alone_drops_nothing_and_a_cache_of_another_state_is_emptied() {
    let mut stage = Stage::<Varnish>::strict().await;
    stage.fill("/page").await;
    // Where it stands is stored before it ends.
    stage.subject.daemon.stop();
    stage.subject.daemon.restart().await;
    stage.plane.leased("pop1").await;
    assert!(stage.hits("/page").await, "the same state, the same cache");
    // The state that this Varnish was driven from is another one.
    let (path, text) = owner(&stage);
    let identity = text.lines().find_map(|line| line.strip_prefix("identity=")).expect("an identity");
    std::fs::write(path, text.replace(identity, &"7".repeat(32))).expect("a file");
    stage.subject.daemon.stop();
    stage.subject.daemon.restart().await;
    stage.plane.leased("pop1").await;
    assert!(!stage.hits("/page").await, "nobody knows what it was told");
    stage.fill("/page").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_daemons_do_not_drive_one_varnish() {
    let stage = Stage::<Varnish>::strict().await;
    let dir = &stage.subject.server.dir;
    let config = std::fs::read_to_string(stage.subject.daemon.config()).expect("the daemon's configuration");
    let second = config.replace(&format!("{:?}", dir.join("state")), &format!("{:?}", dir.join("another")));
    std::fs::write(dir.join("second.toml"), second).expect("a file");
    let output = std::process::Command::new(batoff_tests::binary("batoff-edge"))
        .arg("--config")
        .arg(dir.join("second.toml"))
        .output()
        .expect("batoff-edge runs");
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(75), "{text}");
    assert!(text.contains("another daemon"), "{text}");
    stage.fill("/page").await;
    stage.purge_url("/page").await;
    assert!(!stage.hits("/page").await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_folder_that_is_removed_comes_back() {
    let stage = Stage::<Varnish>::strict().await;
    stage.fill("/page").await;
    std::fs::remove_dir_all(stage.subject.server.dir.join("lease")).expect("the folder goes");
    stage.fill("/page").await;
    stage.fill("/other").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_is_found_by_each_of_16_kb_of_tags_and_one_with_more_by_any() {
    let stage = Stage::<Varnish>::strict().await;
    let tags = |count: usize| (0..count).map(|n| format!("tag-{n:06}")).collect::<Vec<_>>().join(",");
    stage.origin.page("/many", Page::tagged(&tags(1_480)));
    stage.origin.page("/more", Page::tagged(&tags(1_700)));
    stage.origin.page("/odd", Page::tagged("fine, two words"));
    stage.origin.page("/few", Page::tagged("few"));
    let pages = ["/many", "/more", "/odd", "/few"];
    for (tag, gone) in [("tag-001479", &pages[..3]), ("elsewhere", &pages[1..3])] {
        for target in pages {
            stage.fill(target).await;
        }
        stage.purge(serde_json::json!({"tags": [tag]})).await;
        for target in pages {
            assert_eq!(stage.hits(target).await, !gone.contains(&target), "{target} when {tag} is purged");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_varnishs_own_parameters_long_tags_are_served_and_go_with_any_tag() {
    let mut stage = Stage::<Varnish>::strict().await;
    stage.subject.server.restart(&[]).await;
    // Noticed with the next purge; the machinery is the same as after any restart.
    stage.purge_url("/nothing").await;
    let tags: Vec<_> = (0..1_000).map(|n| format!("t{n:06}")).collect();
    stage.origin.page("/long", Page::tagged(&tags[..990].join(",")));
    stage.fill("/long").await;
    for tag in ["t000989", "unheard-of"] {
        stage.purge(serde_json::json!({"tags": [tag]})).await;
        assert!(!stage.hits("/long").await, "{tag}");
        stage.fill("/long").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_no_site_owns_is_served_and_not_stored() {
    let stage = Stage::<Varnish>::strict().await;
    for host in ["unknown.test", "127.0.0.1", "shop.example.test", "www.example.test.evil.test"] {
        for _ in 0..3 {
            assert!(stage.get_from(host, "/page", &[]).await.asked, "{host} could be purged by nobody");
        }
    }
    for host in [UNDER_WILDCARD, "a.b.c.shop.example.test"] {
        stage.fill_from(host, "/page", &[]).await;
    }
    let old = stage.fill("/page").await.number;
    let dotted = stage.try_get("www.example.test.", "/page", &[]).await.expect("an answer");
    assert_eq!(dotted.number, old, "the dot at the end makes no other host");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_method_that_changes_things_takes_the_page_and_trace_is_refused() {
    let stage = Stage::<Varnish>::strict().await;
    let send = async |method: &str| {
        let url = format!("http://{}/page", stage.subject.visitors());
        let method = reqwest::Method::from_bytes(method.as_bytes()).expect("a method");
        let request = http().request(method, url).header("Host", HOSTS[0]).body("x");
        request.send().await.expect("an answer").status().as_u16()
    };
    for method in ["POST", "PUT", "DELETE", "PATCH", "FROB"] {
        stage.fill("/page").await;
        assert_eq!(send(method).await, 200);
        assert!(!stage.hits("/page").await, "RFC 9111, 4.4: {method}");
    }
    let asked = stage.origin.requests(HOSTS[0], "/page");
    assert_eq!((send("TRACE").await, stage.origin.requests(HOSTS[0], "/page")), (405, asked));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_through_a_parent_of_which_nothing_is_known_is_not_stored() {
    let mut stage = Stage::<Varnish>::strict().await;
    stage.fill("/page").await;
    let config = stage.subject.daemon.config().to_owned();
    let straight = std::fs::read_to_string(&config).expect("the daemon's configuration");
    std::fs::write(&config, straight.replace("parents = []", "parents = [\"nowhere\"]")).expect("a file");
    stage.subject.daemon.stop();
    stage.subject.daemon.restart().await;
    stage.plane.leased("pop1").await;
    assert!(stage.hits("/page").await, "what was stored before was fetched from the origin");
    stage.purge_url("/page").await;
    for restarted in [false, true] {
        if restarted {
            stage.subject.restart_cache().await;
        }
        for target in ["/page", "/other"] {
            for _ in 0..3 {
                assert!(!stage.hits(target).await, "{target}, restarted: {restarted}");
            }
        }
    }
    // What one run has closed, the next opens.
    std::fs::write(&config, straight).expect("a file");
    stage.subject.daemon.restart().await;
    stage.plane.leased("pop1").await;
    stage.fill("/page").await;
    stage.fill("/other").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stale_answer_is_marked() {
    let stage = Stage::<Varnish>::strict().await;
    let mark = async |target: &str| {
        let url = format!("http://{}{target}", stage.subject.visitors());
        let reply = http().get(url).header("Host", HOSTS[0]).send().await.expect("an answer");
        reply.headers().contains_key("x-batoff-stale")
    };
    stage.fill("/page").await;
    assert!(!mark("/page").await);
    stage.purge(serde_json::json!({"urls": [crate::stage::url("/page")], "soft": true})).await;
    assert!(mark("/page").await, "a child must not take it for new");
    eventually("the next version is served", || async { (!mark("/page").await).then_some(()) }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_that_may_not_be_served_stale_is_gone_after_a_soft_purge() {
    let stage = Stage::<Varnish>::strict().await;
    for directive in ["must-revalidate", "proxy-revalidate"] {
        stage.origin.page(
            "/strict",
            Page {
                more: format!("Cache-Control: max-age=3600, stale-while-revalidate=600, {directive}\r\n"),
                ..Page::default()
            },
        );
        let old = stage.fill("/strict").await.number;
        stage.purge(serde_json::json!({"urls": [crate::stage::url("/strict")], "soft": true})).await;
        assert!(stage.get("/strict").await.number > old, "RFC 9111, 5.2.2: {directive}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn max_objects_is_refused_with_the_node_and_the_cache_that_cannot_be_counted() {
    let stage = Stage::<Varnish>::strict().await;
    stage.fill("/page").await;
    let guarded = serde_json::json!({"urls": [crate::stage::url("/page")], "max_objects": 5});
    let refused = stage.plane.customer.purge(&guarded).await;
    assert_eq!(
        (refused.status, &refused.json["code"]),
        (503, &"count_unavailable".into()),
        "{}",
        refused.json
    );
    let detail = refused.json["detail"].as_str().expect("a detail");
    assert!(detail.contains("pop1/edge-1 (varnish)") && detail.contains("without max_objects"), "{detail}");
    assert!(stage.hits("/page").await, "nothing was queued");
}
