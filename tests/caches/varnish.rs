//! Varnish as Debian has it, with the VCL that we ship.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use batoff_tests::{eventually, free_port, http};

use crate::conformance;
use crate::daemon::Daemon;
use crate::feature::Feature;
use crate::origin::Page;
use crate::plane::HOSTS;
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
    async fn start(dir: &Path, origin: SocketAddr) -> Self {
        let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/varnish");
        let vcl = std::fs::read_to_string(shipped.join("batoff.vcl")).expect("batoff.vcl");
        let lease = dir.join("lease");
        let vcl = vcl.replace("/run/batoff-varnish/lease", lease.to_str().expect("a path in UTF-8"));
        std::fs::write(dir.join("batoff.vcl"), vcl).expect("a file");
        let vcl = std::fs::read_to_string(shipped.join("default.vcl")).expect("default.vcl");
        let vcl = vcl.replace("\"8080\"", &format!("\"{}\"", origin.port()));
        std::fs::write(dir.join("default.vcl"), vcl).expect("a file");
        std::fs::write(dir.join("secret"), "between us\n").expect("a file");
        let local = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let (visitors, cli) = (local(free_port()), local(free_port()));
        let server = Self { process: run(dir, visitors, cli), visitors, cli, dir: dir.to_owned() };
        server.answers().await;
        server
    }

    async fn answers(&self) {
        let url = format!("http://{}/up", self.visitors);
        eventually("varnish answers", || async { http().get(&url).send().await.ok().map(drop) }).await;
    }
}

fn run(dir: &Path, visitors: SocketAddr, cli: SocketAddr) -> Process {
    let file = |name: &str| dir.join(name).to_str().expect("a path in UTF-8").to_owned();
    let args = [
        "-F",
        "-n",
        &file("varnishd"),
        "-a",
        &format!("visitors={visitors}"),
        "-a",
        &format!("batoff={}", file("purge.sock")),
        "-T",
        &cli.to_string(),
        "-S",
        &file("secret"),
        "-f",
        &file("default.vcl"),
        "-s",
        "malloc,256m",
        "-p",
        "thread_pools=1",
    ];
    Process::server("varnishd", &args, &[], &dir.join("varnish.log"))
}

impl Subject for Varnish {
    const NAME: &'static str = "Varnish";

    fn lacks(_feature: Feature) -> Option<&'static str> {
        None
    }

    async fn start(setting: &Setting<'_>) -> Self {
        let server = Server::start(setting.dir, setting.origin).await;
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

    fn daemon(&mut self) -> &mut Daemon {
        &mut self.daemon
    }

    async fn restart_cache(&mut self) {
        self.server.process.kill();
        // The child that serves notices a little later that its manager is gone; until then the port is its.
        let visitors = self.server.visitors;
        eventually("the old varnishd lets go of its port", || async {
            tokio::net::TcpStream::connect(visitors).await.err()
        })
        .await;
        self.server.process = run(&self.server.dir, self.server.visitors, self.server.cli);
        self.server.answers().await;
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
