//! HAProxy as Debian has it, with the configuration that we ship.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use batoff_tests::{eventually, free_port, http};

use crate::conformance;
use crate::daemon::Daemon;
use crate::feature::Feature;
use crate::plane::HOSTS;
use crate::process::Process;
use crate::stage::Stage;
use crate::subject::{Setting, Subject};

struct Haproxy {
    daemon: Daemon,
    process: Process,
    visitors: SocketAddr,
    dir: PathBuf,
}

fn configure(dir: &Path, visitors: SocketAddr, origin: SocketAddr) {
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/haproxy/haproxy.cfg");
    let maps = dir.join("maps");
    std::fs::create_dir(&maps).expect("a folder");
    for map in ["all", "host", "zone", "prefix", "url", "lease"] {
        std::fs::write(maps.join(map), "").expect("an empty map");
    }
    let text = std::fs::read_to_string(shipped).expect("haproxy.cfg");
    let path = |path: &Path| path.to_str().expect("a path in UTF-8").to_owned();
    let text = text
        .replace("/etc/haproxy/batoff", &path(&maps))
        .replace("/run/batoff-haproxy", &path(dir))
        .replace("bind :8080", &format!("bind {visitors}"))
        .replace("127.0.0.1:8000", &origin.to_string());
    std::fs::write(dir.join("haproxy.cfg"), text).expect("a file");
}

async fn run(dir: &Path, visitors: SocketAddr) -> Process {
    let config = dir.join("haproxy.cfg");
    let args = ["-db", "-f", config.to_str().expect("a path in UTF-8")];
    let process = Process::server("haproxy", &args, &[], &dir.join("haproxy.log"));
    let url = format!("http://{visitors}/up");
    eventually("haproxy answers", || async { http().get(&url).send().await.ok().map(drop) }).await;
    process
}

impl Subject for Haproxy {
    const NAME: &'static str = "HAProxy";

    fn lacks(feature: Feature) -> Option<&'static str> {
        match feature {
            Feature::Tag => Some("takes everything of the site"),
            Feature::Variants => Some("stores none but those of `Accept-Encoding`"),
            Feature::Soft => Some("takes it out"),
            _ => None,
        }
    }

    async fn start(setting: &Setting<'_>) -> Self {
        let visitors = SocketAddr::from(([127, 0, 0, 1], free_port()));
        configure(setting.dir, visitors, setting.origin);
        let process = run(setting.dir, visitors).await;
        let dir = setting.dir.display();
        let caches = format!(
            "[caches.haproxy]\nsocket = \"{dir}/admin.sock\"\nmaps = \"{dir}/maps\"\ntags = \"everything\"\n"
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
        self.process.kill();
        self.process = run(&self.dir, self.visitors).await;
    }
}

conformance!(Haproxy);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_check_is_content_with_what_we_ship_and_names_what_is_wrong() {
    let mut stage = Stage::<Haproxy>::strict().await;
    stage.fill("/checked").await;
    let (visitors, config) =
        (stage.subject.visitors().to_string(), stage.subject.daemon().config().to_owned());
    let check = || {
        let output = std::process::Command::new(batoff_tests::binary("batoff-edge"))
            .arg("--config")
            .arg(&config)
            .args(["check", "haproxy", "--connect", &visitors, "--host", HOSTS[0], "--page", "/checked"])
            .output()
            .expect("batoff-edge runs");
        (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let (content, text) = check();
    assert!(content && text.contains("ok     a purge by host takes it"), "{text}");

    // A configuration that forgets the generation of URLs.
    let path = stage.subject.dir.join("haproxy.cfg");
    let good = std::fs::read_to_string(&path).expect("the file");
    let generation = good.find("/%[baseq,map_str(").expect("the generation of URLs");
    let end = good[generation..].find("%[var(txn.batoff_pathq)]").expect("the target behind it");
    std::fs::write(&path, good[..generation].to_owned() + &good[generation + end..]).expect("a file");
    stage.subject.restart_cache().await;
    stage.plane.leased("pop1").await;
    stage.fill("/checked").await;
    let (content, text) = check();
    assert!(!content && text.contains("WRONG"), "{text}");
}
