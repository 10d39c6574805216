//! nginx as Debian packages it, with the configuration that we ship.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Instant;

use batoff_tests::{PATIENCE, free_port};

use crate::conformance;
use crate::daemon::Daemon;
use crate::feature::Feature;
use crate::plane::HOSTS;
use crate::process::Process;
use crate::subject::{Policy, Setting, Subject};

mod changed;
mod hostile;
mod stories;

/// nginx and the daemon beside it.
pub struct Nginx {
    daemon: Daemon,
    server: Process,
    dir: PathBuf,
    visitors: SocketAddr,
    /// Where `batoff-edge check nginx` answers for the origin.
    checks: u16,
}

/// What a story wants otherwise than it is shipped.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    /// More lines in `[caches.nginx]`.
    pub daemon: String,
    /// Replaced in nginx's configuration: what it says, and what it is to say.
    pub nginx: Vec<(&'static str, String)>,
}

impl Nginx {
    /// Starts both.
    pub async fn with(setting: &Setting<'_>, changes: &Changes) -> Self {
        let visitors = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let (dir, checks) = (setting.dir.join("nginx"), free_port());
        write_configuration(&dir, (visitors, checks), setting, &changes.nginx);
        let server = start_server(&dir, visitors);
        let daemon = Daemon::edge(setting, &tables(&dir, changes)).await;
        Self { daemon, server, dir, visitors, checks }
    }

    /// The directory of `proxy_cache_path`.
    pub fn cache(&self) -> PathBuf {
        self.dir.join("cache")
    }

    /// What the daemon tells nginx.
    pub fn run_dir(&self) -> PathBuf {
        self.dir.join("run")
    }

    /// The pid of nginx's master.
    pub fn pid(&self) -> u32 {
        self.server.pid()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        if self.server.is_running() {
            self.server.terminate();
        }
    }
}

impl Subject for Nginx {
    const NAME: &'static str = "nginx";

    const TIERS: bool = true;

    fn lacks(feature: Feature) -> Option<&'static str> {
        matches!(feature, Feature::Methods | Feature::OtherMethods).then_some("leaves it: to be purged")
    }

    async fn start(setting: &Setting<'_>) -> Self {
        Self::with(setting, &Changes::default()).await
    }

    fn visitors(&self) -> SocketAddr {
        self.visitors
    }

    fn check(&self, page: &str) -> Option<Vec<String>> {
        let args = [
            "nginx",
            "--connect",
            &self.visitors().to_string(),
            "--host",
            HOSTS[0],
            "--page",
            page,
            "--origin",
            &format!("127.0.0.1:{}", self.checks),
        ]
        .map(str::to_owned)
        .to_vec();
        Some(args)
    }

    fn daemon(&mut self) -> &mut Daemon {
        &mut self.daemon
    }

    async fn restart_cache(&mut self) {
        self.server.terminate();
        self.server = start_server(&self.dir, self.visitors);
    }
}

fn tables(dir: &Path, changes: &Changes) -> String {
    format!(
        "[caches.nginx]\npath = {:?}\nrun_dir = {:?}\n{}\n",
        dir.join("cache"),
        dir.join("run"),
        changes.daemon
    )
}

/// The files of `deploy/nginx`, with this test's paths and addresses in the place of the real ones.
fn write_configuration(
    dir: &Path,
    (visitors, checks): (SocketAddr, u16),
    setting: &Setting<'_>,
    changes: &[(&'static str, String)],
) {
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/nginx");
    std::fs::create_dir_all(dir.join("snippets")).expect("a folder");
    let text = |path: &Path| path.to_str().expect("a path in UTF-8").to_owned();
    let mut replaced = vec![
        ("/run/batoff-nginx", text(&dir.join("run"))),
        ("/run/batoff-fill.sock", text(&dir.join("fill.sock"))),
        ("/var/cache/nginx-site", text(&dir.join("cache"))),
        ("192.0.2.10:8080", setting.origin.to_string()),
        ("listen 80;", format!("listen {visitors};")),
        ("server_name www.example.com;", "server_name _;".to_owned()),
        ("127.0.0.1:9467", format!("127.0.0.1:{}", checks)),
    ];
    if setting.policy == Policy::Available {
        replaced.push((
            "include snippets/batoff-strict.conf;",
            "include snippets/batoff-available.conf;".to_owned(),
        ));
    }
    if setting.is_parent {
        // Its child has to see them.
        replaced.push(("proxy_hide_header Cache-Tag;", String::new()));
    }
    for file in ["http", "strict", "available", "cache", "fill"].map(|name| format!("batoff-{name}.conf")) {
        write(&shipped.join(&file), &dir.join("snippets").join(&file), &replaced, changes);
    }
    write(&shipped.join("site.conf"), &dir.join("site.conf"), &replaced, changes);
    // A worker of another user than the daemon's, where the test may choose.
    let user = if rustix::process::geteuid().is_root() { "user www-data;" } else { "" };
    let main = format!(
        "{user}\ndaemon off;\nworker_processes 2;\npid {dir}/nginx.pid;\nerror_log stderr warn;\n\
         events {{ worker_connections 4096; }}\nhttp {{\n\
         client_body_temp_path {dir}/body;\nproxy_temp_path {dir}/proxy;\nfastcgi_temp_path {dir}/fastcgi;\n\
         uwsgi_temp_path {dir}/uwsgi;\nscgi_temp_path {dir}/scgi;\naccess_log off;\n\
         include snippets/batoff-http.conf;\ninclude site.conf;\n}}\n",
        dir = text(dir),
    );
    std::fs::write(dir.join("nginx.conf"), main).expect("a file");
}

fn write(from: &Path, to: &Path, replaced: &[(&str, String)], changes: &[(&'static str, String)]) {
    let mut text =
        std::fs::read_to_string(from).unwrap_or_else(|error| panic!("{}: {error}", from.display()));
    for (old, new) in replaced {
        text = text.replace(old, new);
    }
    for (old, new) in changes {
        text = text.replace(old, new);
    }
    std::fs::write(to, text).expect("a file");
}

fn start_server(dir: &Path, visitors: SocketAddr) -> Process {
    // Left behind by a server that was killed.
    let _ = std::fs::remove_file(dir.join("fill.sock"));
    let dir_text = dir.to_str().expect("a path in UTF-8");
    let config = dir.join("nginx.conf");
    // Asked to end, it takes its workers with it; killed, it would leave them behind.
    let config = config.to_str().expect("a path in UTF-8");
    let args = ["--pdeathsig", "TERM", "nginx", "-p", dir_text, "-c", config];
    let mut server = Process::server("setpriv", &args, &[], &dir.join("nginx.log"));
    let begun = Instant::now();
    while std::net::TcpStream::connect(visitors).is_err() {
        assert!(server.is_running() && begun.elapsed() < PATIENCE, "nginx does not start:\n{}", server.log());
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    server
}

conformance!(Nginx);
