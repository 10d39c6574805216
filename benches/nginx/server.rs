use std::os::unix::fs::{FileExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, ensure};
use hdrhistogram::Histogram;
use tempfile::TempDir;

use super::Client;

/// The one hostname.
pub const HOST: &str = "bench.test";

/// How many tenths of a second the hits may take altogether.
const SLOTS: u64 = 9_000;

/// Connections that fill the cache.
const FILLERS: usize = 16;

/// nginx's module for purges by URL, where Debian puts it.
const MODULE: &str = "/usr/lib/nginx/modules/ngx_http_cache_purge_module.so";

/// One nginx with one worker, and with an origin in the same process, so that nothing else has to be started.
pub struct Server {
    dir: PathBuf,
    /// On a tmpfs, as it should be.
    run_dir: TempDir,
    address: String,
    nginx: Child,
}

impl Server {
    pub async fn start(dir: &Path) -> anyhow::Result<Self> {
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let address = format!("127.0.0.1:{port}");
        std::fs::set_permissions(dir, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/nginx");
        std::fs::create_dir_all(dir.join("snippets"))?;
        let run_dir = tempfile::Builder::new()
            .prefix("batoff-bench-")
            .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .tempdir_in("/dev/shm")?;
        let text = dir.to_str().context("a path in UTF-8")?;
        let run = run_dir.path().to_str().context("a path in UTF-8")?;
        for name in ["http", "available", "strict", "cache", "fill"] {
            let file = format!("batoff-{name}.conf");
            let shipped = std::fs::read_to_string(shipped.join(&file))?
                .replace("/run/batoff-nginx", run)
                .replace("/run/batoff-fill.sock", &format!("{text}/fill.sock"));
            std::fs::write(dir.join("snippets").join(file), shipped)?;
        }
        std::fs::write(dir.join("nginx.conf"), configuration(text, &address))?;
        let nginx = Command::new("setpriv")
            .args(["--pdeathsig", "TERM", "nginx", "-p", text, "-c"])
            .arg(dir.join("nginx.conf"))
            .stdin(Stdio::null())
            .stderr(std::fs::File::create(dir.join("nginx.log"))?)
            .spawn()
            .context("nginx")?;
        let server = Self { dir: dir.to_owned(), run_dir, address, nginx };
        let began = Instant::now();
        while Client::connect(&server.address).await.is_err() {
            let log = std::fs::read_to_string(dir.join("nginx.log"))?;
            ensure!(began.elapsed() < Duration::from_secs(10), "nginx does not start: {log}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(server)
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub fn cache(&self) -> PathBuf {
        self.dir.join("cache")
    }

    pub fn run_dir(&self) -> PathBuf {
        self.run_dir.path().to_owned()
    }

    /// Puts objects into the cache.
    pub async fn fill(&self, folder: &'static str, objects: usize) -> anyhow::Result<()> {
        let mut fillers = Vec::new();
        for filler in 0..FILLERS {
            let address = self.address.clone();
            fillers.push(tokio::spawn(async move {
                let mut client = Client::connect(&address).await?;
                for n in (filler..objects).step_by(FILLERS) {
                    let answer = client.ask("GET", HOST, &format!("{folder}{n}")).await?;
                    ensure!(answer.contains(" 200 "), "{answer}");
                }
                Ok(())
            }));
        }
        for filler in fillers {
            filler.await??;
        }
        Ok(())
    }

    /// Asks for some of the objects; none of them may be served from the cache.
    pub async fn must_miss(&self, folder: &str, objects: usize, sample: usize) -> anyhow::Result<()> {
        let mut client = Client::connect(&self.address).await?;
        for n in (0..objects).step_by((objects / sample).max(1)) {
            let answer = client.ask("GET", HOST, &format!("{folder}{n}")).await?;
            ensure!(answer.contains("X-Cache: MISS"), "{folder}{n} is served: {answer}");
        }
        Ok(())
    }

    /// Files that cannot be served and still lie there.
    pub fn spoiled_files(&self) -> anyhow::Result<usize> {
        let mut spoiled = 0;
        let mut folders = vec![self.cache()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder)? {
                let entry = entry?;
                if entry.file_type()?.is_dir() {
                    folders.push(entry.path());
                    continue;
                }
                let mut version = [0; 8];
                // It may be gone by now.
                let Ok(file) = std::fs::File::open(entry.path()) else { continue };
                if file.read_exact_at(&mut version, 0).is_ok() && version == [0; 8] {
                    spoiled += 1;
                }
            }
        }
        Ok(spoiled)
    }

    /// One by one through nginx's module, each from the request to the answer; `None` without the module, or when it does
    /// not answer.
    pub async fn purge_urls(&self, urls: usize) -> anyhow::Result<Option<Histogram<u64>>> {
        if !Path::new(MODULE).exists() {
            return Ok(None);
        }
        self.fill("/one/", urls).await?;
        let mut times = batoff_benches::micros();
        for n in 0..urls {
            // The module ends the connection after some of its answers.
            let mut client = Client::connect(&self.address).await?;
            let began = Instant::now();
            let Ok(answer) = client.ask("GET", HOST, &format!("/purge/one/{n}")).await else {
                return Ok(None);
            };
            ensure!(answer.contains(" 200 "), "{answer}");
            times.record(u64::try_from(began.elapsed().as_micros())?)?;
        }
        Ok(Some(times))
    }

    /// What a strict node's nginx asks for, as the daemon makes it while it has a lease: the lease of a whole run at once.
    pub fn allow_strict_hits(&self) -> anyhow::Result<()> {
        let now = u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis() / 100)?;
        let process = format!("/proc/{}/status", std::process::id());
        for slot in now..now + SLOTS {
            symlink(&process, self.run_dir().join("slots").join(format!("{}.{}", slot / 10, slot % 10)))?;
        }
        Ok(())
    }

    /// What one hit costs the worker, in microseconds of CPU, while it has much to do.
    pub async fn cost_of_a_hit(&self, path: &str) -> anyhow::Result<f64> {
        let mut client = Client::connect(&self.address).await?;
        client.ask("GET", HOST, path).await?;
        let hit = client.ask("GET", HOST, path).await?;
        ensure!(hit.contains("X-Cache: HIT"), "{path}: {hit}");
        let before = self.worker_ticks()?;
        let host = format!("Host: {HOST}");
        let url = format!("http://{}{path}", self.address);
        let load = Command::new("wrk")
            .args(["--threads", "1", "--connections", "8", "--duration", "1s", "--header", &host, &url])
            .output()
            .context("wrk; apt-get install wrk")?;
        let ticks = self.worker_ticks()? - before;
        let said = String::from_utf8_lossy(&load.stdout);
        ensure!(load.status.success() && !said.contains("Non-2xx"), "wrk: {said}");
        let hits = said.lines().find_map(|line| line.split_once(" requests in ")).context("wrk's count")?;
        let hits: u64 = hits.0.trim().parse()?;
        Ok(ticks as f64 * 1_000_000.0 / rustix::param::clock_ticks_per_second() as f64 / hits as f64)
    }

    /// User and system time of the worker.
    fn worker_ticks(&self) -> anyhow::Result<u64> {
        let master = self.nginx.id();
        let children = std::fs::read_to_string(format!("/proc/{master}/task/{master}/children"))?;
        let mut ticks = 0;
        for child in children.split_whitespace() {
            let stat = std::fs::read_to_string(format!("/proc/{child}/stat"))?;
            let fields: Vec<_> =
                stat.rsplit(") ").next().context("fields")?.split(' ').map(str::to_owned).collect();
            ticks += fields[11].parse::<u64>()? + fields[12].parse::<u64>()?;
        }
        Ok(ticks)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Killed, it would leave its worker behind.
        let pid = i32::try_from(self.nginx.id()).ok().and_then(rustix::process::Pid::from_raw);
        if let Some(pid) = pid {
            // Fails when it has ended, which is as good.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        drop(self.nginx.wait());
    }
}

fn configuration(dir: &str, address: &str) -> String {
    let module = if Path::new(MODULE).exists() { format!("load_module {MODULE};") } else { String::new() };
    // In a location of its own: with `PURGE from` in the cached one, Debian's version 2.3 in nginx 1.22 crashes its worker.
    let purge = if module.is_empty() {
        ""
    } else {
        r#"location ~ ^/purge(/.*) { proxy_cache_purge bench "$scheme://$host$1"; }"#
    };
    let user = if rustix::process::geteuid().is_root() { "user www-data;" } else { "" };
    format!(
        r#"{module}
{user}
daemon off; worker_processes 1; pid {dir}/nginx.pid; error_log stderr crit;
events {{ worker_connections 1024; }}
http {{
    client_body_temp_path {dir}/t1; proxy_temp_path {dir}/t2; fastcgi_temp_path {dir}/t3;
    uwsgi_temp_path {dir}/t4; scgi_temp_path {dir}/t5; access_log off; keepalive_requests 1000000;
    include snippets/batoff-http.conf;
    proxy_cache_path {dir}/cache levels=1:2 keys_zone=bench:64m inactive=24h use_temp_path=off;
    proxy_cache bench;
    proxy_cache_valid 200 1h;
    add_header X-Cache $upstream_cache_status always;
    upstream origin {{ server unix:{dir}/origin.sock; keepalive 32; }}
    server {{
        listen {address};
        location / {{
            include snippets/batoff-available.conf;
            proxy_pass http://batoff_fill;
        }}
        {purge}
        location /strict/ {{
            include snippets/batoff-strict.conf;
            proxy_pass http://batoff_fill;
        }}
        location /plain/ {{
            proxy_cache_key "$scheme://$host$request_uri";
            proxy_http_version 1.1;
            proxy_set_header Host $http_host;
            proxy_set_header Connection "";
            proxy_pass http://batoff_fill;
        }}
    }}
    server {{
        listen unix:{dir}/fill.sock;
        include snippets/batoff-fill.conf;
        location / {{ proxy_cache off; proxy_pass http://origin; }}
    }}
    server {{
        listen unix:{dir}/origin.sock;
        location / {{ add_header Cache-Tag $tag; return 200 "an object that is small, as many are\n"; }}
    }}
    map $uri $tag {{ default other; ~^/many/ many; }}
}}
"#
    )
}
