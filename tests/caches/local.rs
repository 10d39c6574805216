//! The local API: the example cache in Python, which registers what it stores.

use std::net::SocketAddr;
use std::path::PathBuf;

use batoff_tests::{eventually, free_port};

use crate::conformance;
use crate::daemon::Daemon;
use crate::feature::Feature;
use crate::process::Process;
use crate::subject::{Setting, Subject};

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

    async fn listening(&self) {
        eventually("the cache listens", || async {
            tokio::net::TcpStream::connect(self.visitors).await.ok().map(drop)
        })
        .await;
    }
}

impl Subject for Python {
    const NAME: &'static str = "local API (Python)";

    fn lacks(_: Feature) -> Option<&'static str> {
        None
    }

    async fn start(setting: &Setting<'_>) -> Self {
        let visitors = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let (socket, pages) = (setting.dir.join("local.sock"), setting.dir.join("pages"));
        let section = format!(
            "[caches.local]\nsocket = {socket:?}\npages = {pages:?}\n[caches.local.caches]\nweb = \"page\"\n"
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
