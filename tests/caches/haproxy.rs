//! HAProxy as Debian has it, with the configuration that we ship.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};

use batoff_tests::{eventually, free_port, http};
use serde_json::json;

use crate::conformance;
use crate::daemon::Daemon;
use crate::feature::Feature;
use crate::plane::HOSTS;
use crate::process::Process;
use crate::stage::{Stage, url};
use crate::subject::{Policy, Setting, Subject};

struct Haproxy {
    daemon: Daemon,
    process: Process,
    visitors: SocketAddr,
    dir: PathBuf,
}

const MAPS: [&str; 10] =
    ["all", "host", "zone", "prefix", "url", "lease", "process", "owned", "owned-under", "changed"];

fn configure(dir: &Path, visitors: SocketAddr, origin: SocketAddr) {
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/haproxy/haproxy.cfg");
    let maps = dir.join("maps");
    std::fs::create_dir(&maps).expect("a folder");
    for map in MAPS {
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

async fn run(dir: &Path, visitors: SocketAddr, more: &[&str]) -> Process {
    let config = dir.join("haproxy.cfg");
    let args = [&["-db", "-f", config.to_str().expect("a path in UTF-8")], more].concat();
    let process = Process::server("haproxy", &args, &[], &dir.join("haproxy.log"));
    let url = format!("http://{visitors}/up");
    eventually("haproxy answers", || async { http().get(&url).send().await.ok().map(drop) }).await;
    process
}

impl Subject for Haproxy {
    const NAME: &'static str = "HAProxy";
    const TIERS: bool = true;

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
        let process = run(setting.dir, visitors, &[]).await;
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

    fn check(&self, page: &str) -> Option<Vec<String>> {
        let args = ["haproxy", "--connect", &self.visitors().to_string(), "--host", HOSTS[0], "--page", page]
            .map(str::to_owned)
            .to_vec();
        Some(args)
    }

    fn daemon(&mut self) -> &mut Daemon {
        &mut self.daemon
    }

    async fn restart_cache(&mut self) {
        self.process.kill();
        self.process = run(&self.dir, self.visitors, &[]).await;
    }
}

impl Haproxy {
    /// As a reload does: a new process takes over, and the old one serves its open connections on.
    async fn reload(&mut self) -> Process {
        let pid = self.process.pid().to_string();
        let new = run(&self.dir, self.visitors, &["-sf", &pid]).await;
        let socket = self.dir.join("admin.sock");
        eventually("the new process is in charge", || async { (pid_at(&socket) == new.pid()).then_some(()) })
            .await;
        std::mem::replace(&mut self.process, new)
    }
}

/// Which process answers at the admin socket; 0: none.
fn pid_at(socket: &Path) -> u32 {
    let mut info = String::new();
    if let Ok(mut stream) = std::os::unix::net::UnixStream::connect(socket) {
        drop(stream.write_all(b"show info\n"));
        drop(stream.read_to_string(&mut info));
    }
    let pid = info.lines().find_map(|line| line.strip_prefix("Pid: "));
    pid.and_then(|pid| pid.trim().parse().ok()).unwrap_or(0)
}

/// A request of which the last bytes are still to come.
struct HalfSent(TcpStream);

impl HalfSent {
    fn begin(visitors: SocketAddr, target: &str) -> Self {
        let mut stream = TcpStream::connect(visitors).expect("a connection");
        let request = format!("GET {target} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n", HOSTS[0]);
        stream.write_all(request.as_bytes()).expect("most of a request");
        // So that the process in charge now has it.
        std::thread::sleep(std::time::Duration::from_millis(100));
        Self(stream)
    }

    /// What it was answered with; a closed connection: nothing.
    fn end(mut self) -> String {
        let mut answer = String::new();
        if self.0.write_all(b"\r\n").is_ok() {
            drop(self.0.read_to_string(&mut answer));
        }
        answer
    }
}

conformance!(Haproxy);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_a_reload_left_behind_serves_nothing_that_was_purged() {
    let mut stage = Stage::<Haproxy>::strict().await;
    let old = stage.fill("/page").await.number;
    let request = HalfSent::begin(stage.subject.visitors(), "/page");
    let _before = stage.subject.reload().await;
    stage.purge_url("/page").await;
    let answer = request.end();
    assert!(!answer.contains(&format!("number={old}\n")), "served after the purge was completed: {answer}");
    assert!(stage.fill("/page").await.number > old);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn purges_of_an_available_node_wait_for_the_process_that_a_reload_left_behind() {
    let mut stage = Stage::<Haproxy>::with(Policy::Available).await;
    let old = stage.fill("/page").await.number;
    let request = HalfSent::begin(stage.subject.visitors(), "/page");
    let mut before = stage.subject.reload().await;
    let task = stage.plane.customer.purge_until_accepted(&json!({"urls": [url("/page")]})).await.task();
    let shown = stage.plane.customer.task(&task, 3).await;
    assert_ne!(shown.json["state"], "completed", "the old process still runs: {}", shown.json);
    // Well before hard-stop-after, which ends what its visitors do not.
    drop(request.end());
    stage.plane.customer.completed(&task).await;
    assert!(!before.is_running(), "it was waited for");
    assert!(stage.fill("/page").await.number > old);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_state_directory_of_another_node_is_not_believed() {
    let mut stage = Stage::<Haproxy>::with(Policy::Available).await;
    let file = stage.subject.dir.join("state/haproxy-process");
    let copy = std::fs::read(&file).expect("what it remembers of the process");
    stage.subject.daemon().restart().await;
    stage.plane.leased("pop1").await;
    let old = stage.fill("/page").await.number;
    stage.subject.daemon().restart().await;
    assert_eq!(stage.get("/page").await.number, old, "its own state");
    stage.subject.daemon().kill();
    std::fs::write(&file, copy).expect("a copy from before");
    stage.subject.daemon().restart().await;
    assert!(stage.get("/page").await.number > old, "whose state it is nobody knows");
    stage.plane.leased("pop1").await;
    stage.fill("/page").await;
}

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
    let forgotten = good.replace("/%[baseq,map_str(", "/%[str(x),map_str(");
    assert_ne!(good, forgotten);
    std::fs::write(&path, forgotten).expect("a file");
    stage.subject.restart_cache().await;
    stage.plane.leased("pop1").await;
    stage.fill("/checked").await;
    let (content, text) = check();
    assert!(!content && text.contains("WRONG"), "{text}");
}

/// Starts another daemon that is to end by itself: its exit code, and what it says.
fn second_daemon(stage: &mut Stage<Haproxy>, change: impl FnOnce(String) -> String) -> (Option<i32>, String) {
    let dir = stage.subject.dir.clone();
    let config = std::fs::read_to_string(stage.subject.daemon().config()).expect("the configuration");
    let config = config.replace(&format!("{:?}", dir.join("state")), &format!("{:?}", dir.join("another")));
    std::fs::write(dir.join("second.toml"), change(config)).expect("a file");
    let mut daemon = std::process::Command::new(batoff_tests::binary("batoff-edge"));
    let output = daemon.arg("--config").arg(dir.join("second.toml")).output().expect("batoff-edge runs");
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_daemons_do_not_drive_one_haproxy() {
    let mut stage = Stage::<Haproxy>::strict().await;
    let (code, said) = second_daemon(&mut stage, |config| config);
    assert_eq!(code, Some(75), "{said}");
    assert!(said.contains("another daemon drives the HAProxy"), "{said}");
    stage.fill("/page").await;
    stage.purge_url("/page").await;
    assert!(!stage.hits("/page").await, "the first one is not disturbed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn maps_that_are_not_there_at_the_start_are_no_mistake_of_the_configuration() {
    let mut stage = Stage::<Haproxy>::strict().await;
    stage.subject.daemon().kill();
    let (code, said) = second_daemon(&mut stage, |config| config.replace("/maps\"", "/later/maps\""));
    assert_eq!(code, Some(75), "{said}");
    assert!(said.contains("with all its maps"), "{said}");
}
