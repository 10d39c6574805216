//! Traffic Server as Debian has it, with the settings that we ship, through the adapter for any cache that is told by
//! HTTP.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use batoff_tests::{eventually, free_port, http};

use crate::conformance;
use crate::daemon::Daemon;
use crate::feature::Feature;
use crate::process::Process;
use crate::subject::{Setting, Subject};

struct TrafficServer {
    daemon: Daemon,
    process: Process,
    visitors: SocketAddr,
    dir: PathBuf,
}

/// Seconds after which settings are in force here; see the interval below.
const EMPTY_SECONDS: &str = "8";

fn shipped(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/trafficserver").join(name)
}

fn configure(dir: &Path, visitors: SocketAddr, origin: SocketAddr) {
    let read = |name| std::fs::read_to_string(shipped(name)).expect("a file that we ship");
    let root = dir.join("trafficserver");
    let etc = root.join("etc");
    for folder in ["etc", "log", "cache", "run", "state"] {
        std::fs::create_dir_all(root.join(folder)).expect("a folder");
    }
    for file in std::fs::read_dir("/etc/trafficserver").expect("trafficserver is installed").flatten() {
        if file.path().is_file() {
            std::fs::copy(file.path(), etc.join(file.file_name())).expect("a copy");
        }
    }
    let at = root.display();
    let layout = format!(
        "prefix: {at}\nexec_prefix: /usr\nbindir: /usr/bin\nsbindir: /usr/sbin\nsysconfdir: {at}/etc\n\
         datadir: {at}/cache\nincludedir: /usr/include\nlibdir: /usr/lib/trafficserver\n\
         libexecdir: /usr/lib/trafficserver/modules\nlocalstatedir: {at}/state\nruntimedir: {at}/run\n\
         logdir: {at}/log\ncachedir: {at}/cache\n"
    );
    let own = format!(
        "CONFIG proxy.config.http.server_ports STRING {}:ip-in={}\nCONFIG proxy.config.admin.user_id STRING #-1\n\
         CONFIG proxy.config.cache.ram_cache.size INT 16777216\nCONFIG proxy.config.config_update_interval_ms INT 500\n\
         CONFIG proxy.config.exec_thread.autoconfig INT 0\nCONFIG proxy.config.exec_thread.limit INT 2\n",
        visitors.port(),
        visitors.ip()
    );
    let remap = read("remap.config").replace("127.0.0.1:8000", &origin.to_string());
    for (name, text) in [
        ("runroot.yaml", layout),
        ("etc/records.config", read("records.config") + &own),
        ("etc/remap.config", remap),
        ("etc/ip_allow.yaml", read("ip_allow.yaml")),
        ("etc/storage.config", format!("{at}/cache 64M\n")),
    ] {
        std::fs::write(root.join(name), text).expect("a file");
    }
}

async fn run(dir: &Path, visitors: SocketAddr) -> Process {
    let root = format!("--run-root={}", dir.join("trafficserver").display());
    let process = Process::server("traffic_manager", &[&root], &[], &dir.join("trafficserver.log"));
    let url = format!("http://{visitors}/up");
    eventually("trafficserver answers", || async {
        // It listens before its cache is ready, and says so only by not storing anything.
        let number = |reply: reqwest::Response| async { reply.text().await.ok() };
        let first = number(http().get(&url).send().await.ok()?).await?;
        let second = number(http().get(&url).send().await.ok()?).await?;
        (first == second && first.starts_with("number=")).then_some(())
    })
    .await;
    process
}

impl Subject for TrafficServer {
    const NAME: &'static str = "Traffic Server";
    const STRICT: bool = false;

    fn lacks(feature: Feature) -> Option<&'static str> {
        match feature {
            Feature::Spelling => Some("only as the purge spells it"),
            Feature::Prefix | Feature::Tag | Feature::Host | Feature::Everything | Feature::Many => {
                Some("empties the cache, or needs registered objects")
            }
            Feature::RaceHeaderUrl | Feature::RaceBody => Some("stores an answer that was under way"),
            Feature::RaceHeaderTag | Feature::RaceHeaderPrefix => Some("empties the cache"),
            Feature::Soft => Some("takes it out"),
            Feature::FenceDaemon | Feature::FenceControl => Some("does not ask for a lease"),
            _ => None,
        }
    }

    async fn start(setting: &Setting<'_>) -> Self {
        let visitors = SocketAddr::from(([127, 0, 0, 1], free_port()));
        configure(setting.dir, visitors, setting.origin);
        let process = run(setting.dir, visitors).await;
        let caches = format!(
            "[caches.http]\naddress = \"{visitors}\"\nothers = \"empty\"\n\
             empty = [{:?}, {EMPTY_SECONDS:?}, \"--run-root={}\"]\n",
            shipped("empty"),
            setting.dir.join("trafficserver").display()
        );
        let daemon = Daemon::edge(setting, &caches).await;
        Self { daemon, process, visitors, dir: setting.dir.to_owned() }
    }

    fn visitors(&self) -> SocketAddr {
        self.visitors
    }

    fn daemon(&mut self) -> &mut Daemon {
        &mut self.daemon
    }

    async fn restart_cache(&mut self) {
        self.process.terminate();
        self.process = run(&self.dir, self.visitors).await;
    }
}

impl Drop for TrafficServer {
    fn drop(&mut self) {
        // The manager ends the server; killed, it would leave that to the server's own noticing.
        self.process.terminate();
    }
}

conformance!(TrafficServer);
