//! Traffic Server as Debian has it, with the settings and the script that we ship.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use batoff_tests::{eventually, free_port, http};

use crate::conformance;
use crate::daemon::Daemon;
use crate::feature::Feature;
use crate::plane::HOSTS;
use crate::process::Process;
use crate::stage::{Stage, url};
use crate::subject::{Setting, Subject};

/// A Traffic Server of our own.
pub struct Server {
    process: Process,
    /// Where visitors connect.
    pub visitors: SocketAddr,
    /// The folder with all its files.
    pub root: PathBuf,
}

struct TrafficServer {
    daemon: Daemon,
    server: Server,
    rules: PathBuf,
}

/// A file of deploy/trafficserver.
pub fn shipped(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/trafficserver").join(name)
}

fn configure(root: &Path, visitors: SocketAddr, origin: SocketAddr, from: &str, plugins: &str) {
    let read = |name| std::fs::read_to_string(shipped(from).join(name)).expect("a file that we ship");
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
    // It writes round and round: what is to be kept must not be overtaken by the story of the many objects.
    let objects = std::env::var("BATOFF_CACHE_OBJECTS").ok().and_then(|text| text.parse().ok());
    let objects: usize = objects.unwrap_or(0);
    let layout = format!(
        "prefix: {at}\nexec_prefix: /usr\nbindir: /usr/bin\nsbindir: /usr/sbin\nsysconfdir: {at}/etc\n\
         datadir: {at}/cache\nincludedir: /usr/include\nlibdir: /usr/lib/trafficserver\n\
         libexecdir: /usr/lib/trafficserver/modules\nlocalstatedir: {at}/state\nruntimedir: {at}/run\n\
         logdir: {at}/log\ncachedir: {at}/cache\n"
    );
    let own = format!(
        "CONFIG proxy.config.http.server_ports STRING {}:ip-in={}\nCONFIG proxy.config.admin.user_id STRING #-1\n\
         CONFIG proxy.config.cache.ram_cache.size INT 16777216\nCONFIG proxy.config.config_update_interval_ms INT 500\n\
         CONFIG proxy.config.cache.min_average_object_size INT 1000\n\
         CONFIG proxy.config.exec_thread.autoconfig INT 0\nCONFIG proxy.config.exec_thread.limit INT 2\n",
        visitors.port(),
        visitors.ip()
    );
    let remap = std::fs::read_to_string(shipped("remap.config")).expect("a file that we ship");
    let remap = remap.replace("127.0.0.1:8000", &origin.to_string());
    for (name, text) in [
        ("runroot.yaml", layout),
        ("etc/records.config", read("records.config") + &own),
        ("etc/remap.config", remap),
        ("etc/ip_allow.yaml", read("ip_allow.yaml")),
        ("etc/plugin.config", plugins.to_owned()),
        ("etc/storage.config", format!("{at}/cache {}M\n", 256 + objects / 50)),
    ] {
        std::fs::write(root.join(name), text).expect("a file");
    }
}

impl Server {
    /// Starts it with the settings in a folder of deploy/trafficserver, and this `plugin.config`.
    pub async fn start(setting: &Setting<'_>, from: &str, plugins: &str) -> Self {
        let visitors = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let root = setting.dir.join("trafficserver");
        configure(&root, visitors, setting.origin, from, plugins);
        let process = Self::run(&root);
        let server = Self { process, visitors, root };
        server.answers().await;
        server
    }

    /// Ends it and starts it again, on the same address and the same cache.
    pub async fn restart(&mut self) {
        self.process.terminate();
        self.process = Self::run(&self.root);
        self.answers().await;
    }

    /// Its log of errors.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.root.join("log/diags.log")).unwrap_or_default()
    }

    fn run(root: &Path) -> Process {
        let argument = format!("--run-root={}", root.display());
        Process::server("traffic_manager", &[&argument], &[], &root.join("out.log"))
    }

    async fn answers(&self) {
        let url = format!("http://{}/up", self.visitors);
        eventually("trafficserver answers", || async {
            let reply = http().get(&url).send().await.ok()?.text().await.ok()?;
            reply.starts_with("number=").then_some(())
        })
        .await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The manager ends the server; killed, it would leave that to the server's own noticing.
        self.process.terminate();
    }
}

impl Subject for TrafficServer {
    const NAME: &'static str = "Traffic Server";

    fn lacks(_: Feature) -> Option<&'static str> {
        None
    }

    async fn start(setting: &Setting<'_>) -> Self {
        let rules = setting.dir.join("rules");
        let plugins = std::fs::read_to_string(shipped("plugin.config")).expect("a file that we ship");
        let plugins = plugins
            .replace("/etc/trafficserver/batoff.lua", &shipped("batoff.lua").display().to_string())
            .replace("/run/batoff-trafficserver/rules", &rules.display().to_string());
        let server = Server::start(setting, "", &plugins).await;
        let daemon = Daemon::edge(setting, &format!("[caches.trafficserver]\nrules = {rules:?}\n")).await;
        Self { daemon, server, rules }
    }

    fn visitors(&self) -> SocketAddr {
        self.server.visitors
    }

    fn daemon(&mut self) -> &mut Daemon {
        &mut self.daemon
    }

    async fn restart_cache(&mut self) {
        self.server.restart().await;
    }
}

conformance!(TrafficServer);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_check_is_content_with_what_we_ship_and_names_what_is_wrong() {
    let mut stage = Stage::<TrafficServer>::strict().await;
    stage.fill("/checked").await;
    let (visitors, config) =
        (stage.subject.visitors().to_string(), stage.subject.daemon().config().to_owned());
    let check = || {
        let output = std::process::Command::new(batoff_tests::binary("batoff-edge"))
            .arg("--config")
            .arg(&config)
            .args([
                "check",
                "trafficserver",
                "--connect",
                &visitors,
                "--host",
                HOSTS[0],
                "--page",
                "/checked",
            ])
            .output()
            .expect("batoff-edge runs");
        (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let (content, text) = check();
    assert!(content && text.contains("ok     the script judges each hit"), "{text}");
    // Without the script everything is served unjudged.
    std::fs::write(stage.subject.server.root.join("etc/plugin.config"), "").expect("a file");
    stage.subject.server.restart().await;
    stage.fill("/checked").await;
    let (content, text) = check();
    assert!(!content && text.contains("WRONG  the script judges each hit"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_confirmed_answer_is_as_good_as_a_new_one() {
    let stage = Stage::<TrafficServer>::strict().await;
    let constant = crate::origin::Page { constant: true, ..Default::default() };
    stage.origin.page("/constant", constant);
    stage.fill("/constant").await;
    for _ in 0..2 {
        stage.purge(serde_json::json!({"urls": [url("/constant")], "soft": true})).await;
        assert!(
            stage.get("/constant").await.asked,
            "stale: the origin is asked, and says that nothing has changed"
        );
        assert!(!stage.get("/constant").await.asked, "its stamp is the confirmation's");
    }
    assert!(!stage.subject.server.log().contains("batoff.lua:"), "{}", stage.subject.server.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_traffic_server_leaves_out_of_a_url_is_purged_with_it() {
    let stage = Stage::<TrafficServer>::strict().await;
    for (purged, shown) in [("/left/a?", "/left/a"), ("/left/b;", "/left/b"), ("//left/c", "/left/c")] {
        let old = stage.fill(shown).await.number;
        assert_eq!(stage.try_get(HOSTS[0], purged, &[]).await.expect("an answer").number, old, "one object");
        stage.purge_url(purged).await;
        assert!(stage.try_get(HOSTS[0], purged, &[]).await.expect("an answer").number > old, "{purged}");
    }
    let old = stage.fill("/left/d").await.number;
    stage.purge(serde_json::json!({"prefixes": [url("/left/d?")]})).await;
    assert!(
        stage.get("/left/d").await.number > old,
        "the prefix /left/d? takes /left/d?, which is /left/d here"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cache_that_was_stored_under_another_state_is_not_believed() {
    let mut stage = Stage::<TrafficServer>::strict().await;
    let old = stage.fill("/page").await.number;
    let config = std::fs::read_to_string(stage.subject.daemon().config()).expect("the configuration");
    let state = config.lines().find_map(|line| line.strip_prefix("dir = ")).expect("the state directory");
    stage.subject.daemon().kill();
    std::fs::remove_dir_all(state.trim_matches('"')).expect("the state is lost");
    stage.subject.daemon().restart().await;
    stage.plane.leased("pop1").await;
    assert!(stage.get("/page").await.number > old, "stamped by a run that nobody remembers");
    stage.fill("/page").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_that_somebody_removed_is_made_anew() {
    let stage = Stage::<TrafficServer>::strict().await;
    let old = stage.fill("/page").await.number;
    stage.fill("/kept").await;
    std::fs::remove_file(&stage.subject.rules).expect("the table");
    // It is looked for once a second.
    eventually("nothing is served", || async { stage.get("/kept").await.asked.then_some(()) }).await;
    stage.purge_url("/page").await;
    assert!(stage.get("/page").await.number > old);
    stage.fill("/kept").await;
}
