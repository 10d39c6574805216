//! The local API: the example cache in Python, which registers what it stores.

use std::net::SocketAddr;
use std::path::PathBuf;

use batoff_tests::{Program, eventually, free_port, http, kill};
use rustix::process::Signal;

use crate::conformance;
use crate::daemon::Daemon;
use crate::feature::Feature;
use crate::plane::HOSTS;
use crate::process::Process;
use crate::stage::Stage;
use crate::subject::{Policy, Setting, Subject};

struct Python {
    cache: Process,
    daemon: Daemon,
    visitors: SocketAddr,
    args: Vec<String>,
    log: PathBuf,
}

/// A Python with grpcio and grpcio-tools: `tests/run` makes one.
fn python() -> String {
    let tools = std::env::var_os("BATOFF_TOOLS").map(PathBuf::from).unwrap_or_else(|| {
        PathBuf::from(std::env::var_os("HOME").expect("a home directory")).join(".cache/batoff-tools")
    });
    let python = tools.join("grpc/bin/python3");
    assert!(python.exists(), "{} is missing; run ./tests/run, which makes it", python.display());
    python.display().to_string()
}

impl Python {
    fn start_cache(args: &[String], log: &std::path::Path) -> Process {
        let args: Vec<_> = args.iter().map(String::as_str).collect();
        Process::server(&python(), &args, &[("PYTHONUNBUFFERED", "1"), ("PYTHONDONTWRITEBYTECODE", "1")], log)
    }

    /// Another one beside it, under the other name that is declared.
    fn start_second(&self) -> (Process, SocketAddr) {
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let mut args = self.args.clone();
        args[2] = address.to_string();
        args.extend(["--cache".to_owned(), "img".to_owned()]);
        (Self::start_cache(&args, &self.log), address)
    }

    async fn figures(&self) -> String {
        let url =
            format!("http://{}/metrics", self.daemon.announced["metrics"].as_str().expect("an address"));
        http().get(url).send().await.expect("the metrics").text().await.expect("a body")
    }

    async fn listening(&self) {
        eventually("the cache listens", || async {
            tokio::net::TcpStream::connect(self.visitors).await.ok().map(drop)
        })
        .await;
    }
}

impl Subject for Python {
    const NAME: &'static str = "local API (Python)";
    const TIERS: bool = true;

    fn lacks(_: Feature) -> Option<&'static str> {
        None
    }

    async fn start(setting: &Setting<'_>) -> Self {
        let visitors = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let (socket, pages) = (setting.dir.join("local.sock"), setting.dir.join("pages"));
        // The second one is started by the story that needs it; nothing waits for it.
        let section = format!(
            "[caches.local]\nsocket = {socket:?}\npages = {pages:?}\n\
             [caches.local.caches]\nweb = \"page\"\nimg = \"page\"\n"
        );
        let daemon = Daemon::edge(setting, &section).await;
        let program = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/examples/cache.py");
        let args = [
            program,
            "--listen",
            &visitors.to_string(),
            "--origin",
            &setting.origin.to_string(),
            "--socket",
            &socket.display().to_string(),
        ]
        .map(str::to_owned)
        .to_vec();
        let log = setting.dir.join("cache.log");
        let subject = Self { cache: Self::start_cache(&args, &log), daemon, visitors, args, log };
        subject.listening().await;
        subject
    }

    fn visitors(&self) -> SocketAddr {
        self.visitors
    }

    fn check(&self, page: &str) -> Option<Vec<String>> {
        let args = ["local", "--connect", &self.visitors().to_string(), "--host", HOSTS[0], "--page", page]
            .map(str::to_owned)
            .to_vec();
        Some(args)
    }

    fn daemon(&mut self) -> &mut Daemon {
        &mut self.daemon
    }

    async fn restart_cache(&mut self) {
        self.cache.kill();
        self.cache = Self::start_cache(&self.args, &self.log);
        self.listening().await;
    }
}

conformance!(Python);

/// Frozen, it cannot fence anything: the page's time does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_daemon_fences_its_cache_by_the_time_alone() {
    let mut stage = Stage::<Python>::strict().await;
    let old = stage.fill("/frozen").await.number;
    let pid = stage.subject.daemon().pid();
    kill(pid, Signal::STOP);
    stage.purge_url("/frozen").await;
    for _ in 0..5 {
        let answer = stage.get("/frozen").await;
        assert!(answer.asked && answer.number > old, "served after the purge was completed: {answer:?}");
    }
    kill(pid, Signal::CONT);
    stage.plane.leased("pop1").await;
    assert!(stage.fill("/frozen").await.number > old);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_cache_holds_up_no_purge_and_wakes_without_the_page() {
    for policy in [Policy::Strict, Policy::Available] {
        let stage = Stage::<Python>::with(policy).await;
        let old = stage.fill("/frozen").await.number;
        stage.fill("/other").await;
        kill(stage.subject.cache.pid(), Signal::STOP);
        stage.purge_url("/frozen").await;
        kill(stage.subject.cache.pid(), Signal::CONT);
        for _ in 0..5 {
            let answer = stage.get("/frozen").await;
            assert!(answer.number > old, "{policy:?}: served after the purge was completed: {answer:?}");
        }
        // It finds back, and what was not purged is still there.
        stage.fill("/other").await;
        assert!(stage.fill("/frozen").await.number > old);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_caches_of_one_node_lose_the_same_page() {
    let stage = Stage::<Python>::strict().await;
    let (_second, address) = stage.subject.start_second();
    let read = || async {
        let page = http().get(format!("http://{address}/page")).header("Host", HOSTS[0]).send().await.ok()?;
        let state = page.headers().get("x-cache")?.to_str().ok()?.to_owned();
        Some((state, page.text().await.ok()?))
    };
    let (_, body) = eventually("the second cache has the page", || async {
        read().await.filter(|(state, _)| state == "HIT")
    })
    .await;
    let old = stage.fill("/page").await.number;
    stage.purge_url("/page").await;
    let (state, newer) = read().await.expect("an answer");
    assert!(state == "MISS" && newer != body, "the second cache: {state} {newer}");
    assert!(stage.get("/page").await.number > old);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_figures_say_how_it_stands() {
    let stage = Stage::<Python>::strict().await;
    stage.fill("/page").await;
    eventually("the figures are right", || async {
        let figures = stage.subject.figures().await;
        let right = [
            "batoff_edge_local_in_sync{cache=\"web\"} 1",
            "batoff_edge_local_objects{cache=\"web\"} 1",
            "batoff_edge_local_commits_total{cache=\"web\",verdict=\"store\"} 1",
            "batoff_edge_local_commits_total{cache=\"web\",verdict=\"discard\"} 0",
        ];
        right.iter().all(|line| figures.contains(line)).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_check_says_how_it_stands() {
    let mut stage = Stage::<Python>::strict().await;
    stage.fill("/page").await;
    let config = stage.subject.daemon().config().display().to_string();
    let look = || {
        let dir = std::env::temp_dir();
        let output = Program::run("batoff-edge", &["--config", &config, "check", "local"], &dir);
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let (code, report) = look();
    assert!(report.contains("ok     web (page) is in sync, with 1 objects"), "{report}");
    assert!(code != Some(0) && report.contains("WRONG  img (page) is in sync"), "{report}");
    let (_second, _) = stage.subject.start_second();
    eventually("everything holds", || async { (look().0 == Some(0)).then_some(()) }).await;
    stage.subject.cache.kill();
    eventually("the cache is missed", || async {
        let (code, report) = look();
        (code != Some(0) && report.contains("WRONG  web (page) is in sync")).then_some(())
    })
    .await;
}
