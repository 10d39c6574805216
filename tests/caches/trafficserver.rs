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
    const TIERS: bool = true;

    fn lacks(feature: Feature) -> Option<&'static str> {
        (feature == Feature::OtherMethods).then_some("leaves it: to be purged")
    }

    async fn start(setting: &Setting<'_>) -> Self {
        let rules = setting.dir.join("rules");
        let plugins = std::fs::read_to_string(shipped("plugin.config")).expect("a file that we ship");
        let plugins = plugins
            .replace("/etc/trafficserver/batoff.lua", &shipped("batoff.lua").display().to_string())
            .replace("/run/batoff-trafficserver/rules", &rules.display().to_string());
        let plugins = if setting.is_parent { plugins.trim_end().to_owned() + " children\n" } else { plugins };
        let server = Server::start(setting, "", &plugins).await;
        let daemon = Daemon::edge(setting, &format!("[caches.trafficserver]\nrules = {rules:?}\n")).await;
        Self { daemon, server, rules }
    }

    fn visitors(&self) -> SocketAddr {
        self.server.visitors
    }

    fn check(&self, page: &str) -> Option<Vec<String>> {
        let args =
            ["trafficserver", "--connect", &self.visitors().to_string(), "--host", HOSTS[0], "--page", page]
                .map(str::to_owned)
                .to_vec();
        Some(args)
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

/// The files of some folders as they were.
struct Backup(Vec<(PathBuf, Vec<u8>)>);

impl Backup {
    fn of(folders: &[PathBuf]) -> Self {
        let mut files = Vec::new();
        for folder in folders {
            for entry in std::fs::read_dir(folder).expect("the folder").flatten() {
                if entry.path().is_file() {
                    files.push((entry.path(), std::fs::read(entry.path()).expect("a file")));
                }
            }
        }
        Self(files)
    }

    /// In place, as a snapshot of a disk does.
    fn restore(&self) {
        for (path, bytes) in &self.0 {
            let folder = path.parent().expect("a folder");
            for entry in std::fs::read_dir(folder).expect("the folder").flatten() {
                if entry.path().is_file() && !self.0.iter().any(|(known, _)| *known == entry.path()) {
                    std::fs::remove_file(entry.path()).expect("a file that came later");
                }
            }
            std::fs::write(path, bytes).expect("a file");
        }
    }
}

impl TrafficServer {
    fn folder(&self, name: &str) -> PathBuf {
        self.rules.parent().expect("a folder").join(name)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_stamped_in_a_future_that_a_backup_took_back_is_not_believed() {
    let mut stage = Stage::<TrafficServer>::strict().await;
    stage.subject.daemon().kill();
    stage.plane.kill();
    let backup = Backup::of(&[stage.subject.folder("control"), stage.subject.folder("state")]);
    stage.plane.restart();
    stage.subject.daemon().restart().await;
    stage.plane.leased("pop1").await;
    for n in 0..6 {
        stage.purge_url(&format!("/lost/{n}")).await;
    }
    let lost = stage.fill("/page").await.number;
    let other = stage.fill("/other").await.number;
    stage.subject.daemon().kill();
    stage.plane.kill();
    backup.restore();
    stage.plane.restart();
    stage.subject.daemon().restart().await;
    stage.plane.leased("pop1").await;
    stage.purge_url("/page").await;
    assert!(stage.get("/page").await.number > lost, "stamped beyond the purge that took it");
    // Positions that the log reaches again are others.
    for n in 0..8 {
        stage.purge_url(&format!("/again/{n}")).await;
    }
    assert!(stage.get("/other").await.number > other, "stamped by a run that this state has never heard of");
    stage.fill("/page").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reset_to_an_earlier_position_leaves_a_cache_that_works() {
    let mut stage = Stage::<TrafficServer>::strict().await;
    stage.plane.kill();
    let backup = Backup::of(&[stage.subject.folder("control")]);
    stage.plane.restart();
    stage.plane.leased("pop1").await;
    let old = stage.fill("/page").await.number;
    for _ in 0..6 {
        stage.purge(serde_json::json!({"prefixes": [url("/lost")]})).await;
    }
    stage.subject.daemon().kill();
    stage.plane.kill();
    backup.restore();
    stage.plane.restart();
    stage.subject.daemon().restart().await;
    stage.plane.leased("pop1").await;
    assert!(stage.get("/page").await.number > old, "the node was beyond the log's end, and is reset");
    stage.fill("/page").await;
    stage.fill("/lost/page").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tags_are_not_shown_to_visitors_and_what_cannot_be_told_apart_goes_with_each() {
    let stage = Stage::<TrafficServer>::strict().await;
    let many = (1..=17).map(|n| format!("tag-{n}")).collect::<Vec<_>>().join(", ");
    stage.origin.page("/many", crate::origin::Page::tagged(&many));
    stage.origin.page("/long", crate::origin::Page::tagged(&"x".repeat(300)));
    stage.origin.page("/space", crate::origin::Page::tagged("two words"));
    for target in ["/many", "/long", "/space", "/none"] {
        stage.fill(target).await;
    }
    let shown = http().get(format!("http://{}/many", stage.subject.visitors())).header("Host", HOSTS[0]);
    let shown = shown.send().await.expect("an answer");
    assert!(!shown.headers().keys().any(|name| name.as_str().contains("tag")), "{:?}", shown.headers());
    stage.purge(serde_json::json!({"tags": ["tag-17"]})).await;
    for (target, goes) in [("/many", true), ("/long", true), ("/space", true), ("/none", false)] {
        assert_eq!(stage.get(target).await.asked, goes, "{target}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_port_that_a_scheme_implies_is_none() {
    let stage = Stage::<TrafficServer>::strict().await;
    for port in [":443", ":80"] {
        let host = format!("{}{port}", HOSTS[0]);
        stage.get_from(&host, "/page", &[]).await;
        let old = stage.get_from(&host, "/page", &[]).await.number;
        stage.purge_url("/page").await;
        assert!(stage.get_from(&host, "/page", &[]).await.number > old, "{host}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_origin_confirms_keeps_its_tags() {
    let stage = Stage::<TrafficServer>::strict().await;
    let page = crate::origin::Page { constant: true, tags: "a".into(), ..Default::default() };
    stage.origin.page("/page", page);
    stage.fill("/page").await;
    stage.purge(serde_json::json!({"urls": [url("/page")], "soft": true})).await;
    stage.get("/page").await;
    assert!(stage.hits("/page").await, "its tags are kept when the origin confirms it");
    stage.purge(serde_json::json!({"tags": ["a"]})).await;
    assert!(!stage.hits("/page").await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_that_somebody_removed_is_made_anew() {
    let stage = Stage::<TrafficServer>::strict().await;
    let old = stage.fill("/page").await.number;
    stage.fill("/kept").await;
    std::fs::remove_file(&stage.subject.rules).expect("the table");
    // Though nobody purges anything.
    eventually("it is there again", || async { stage.subject.rules.exists().then_some(()) }).await;
    stage.purge_url("/page").await;
    assert!(stage.get("/page").await.number > old);
    stage.fill("/kept").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_of_the_rules_that_is_not_there_at_the_start_is_no_mistake_of_the_configuration() {
    let mut stage = Stage::<TrafficServer>::strict().await;
    stage.subject.daemon().kill();
    let dir = stage.subject.folder("second");
    std::fs::create_dir(&dir).expect("a folder");
    let config = std::fs::read_to_string(stage.subject.daemon().config()).expect("the configuration");
    // Nobody can make a folder there, as where a tmpfs is mounted late.
    let config = config.replace(&format!("{:?}", stage.subject.rules), "\"/proc/later/rules\"");
    std::fs::write(dir.join("daemon.toml"), config).expect("a file");
    let mut daemon = std::process::Command::new(batoff_tests::binary("batoff-edge"));
    let output = daemon.arg("--config").arg(dir.join("daemon.toml")).output().expect("batoff-edge runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(75), "{said}");
    assert!(said.contains("/proc/later/rules") && said.contains("tmpfs"), "{said}");
}
