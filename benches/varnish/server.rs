use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use batoff_caches::shared::pipeline::{Address, Pipeline};
use batoff_tests::free_port;
use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;

use super::{HOST, get};

/// A varnishd of the bench's own.
pub struct Server {
    pub dir: PathBuf,
    /// `host:port`
    pub visitors: String,
    cli: SocketAddr,
    process: Child,
}

/// What an operator has without us, with a header that bans can be tested against in the background.
const PLAIN: &str = r#"
sub vcl_recv { if (req.method == "PURGE") { return (purge); } }
sub vcl_backend_response { set beresp.http.X-Url = bereq.url; }
"#;

impl Server {
    pub async fn start(dir: &Path, origin: SocketAddr, ours: bool) -> anyhow::Result<Self> {
        std::fs::create_dir_all(dir)?;
        // varnishd's child is a user of its own.
        for folder in dir.ancestors().take(2) {
            std::fs::set_permissions(folder, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        }
        let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/varnish/batoff.vcl");
        let added = if ours {
            let vcl = std::fs::read_to_string(shipped)?;
            vcl.replace("/run/batoff-varnish/lease", &dir.join("lease").to_string_lossy())
                .replace("vcl 4.1;", "")
        } else {
            PLAIN.to_owned()
        };
        let backend =
            format!("backend default {{ .host = \"127.0.0.1\"; .port = \"{}\"; }}\n", origin.port());
        std::fs::write(dir.join("bench.vcl"), format!("vcl 4.1;\n{backend}{added}"))?;
        std::fs::write(dir.join("secret"), "bench\n")?;
        let visitors = format!("127.0.0.1:{}", free_port());
        let cli = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let process = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "varnishd", "-F", "-s", "malloc,1g", "-a"])
            .arg(format!("visitors={visitors}"))
            .arg("-a")
            .arg(format!("batoff={}", dir.join("purge.sock").display()))
            .arg("-n")
            .arg(dir.join("varnishd"))
            .arg("-T")
            .arg(cli.to_string())
            .arg("-S")
            .arg(dir.join("secret"))
            .arg("-f")
            .arg(dir.join("bench.vcl"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(dir.join("log"))?)
            .spawn()
            .context("varnishd: apt-get install varnish varnish-modules")?;
        let server = Self { dir: dir.to_owned(), visitors, cli, process };
        let begun = Instant::now();
        while Pipeline::new(Address::Tcp(server.visitors.clone())).send(&[get(0)]).await.is_err() {
            ensure!(begun.elapsed() < Duration::from_secs(60), "varnishd does not start: {}", dir.display());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(server)
    }

    /// `[caches.varnish]` for it.
    pub fn section(&self) -> serde_json::Value {
        let file = |name: &str| self.dir.join(name).to_string_lossy().into_owned();
        json!({
            "purge": file("purge.sock"), "cli": self.cli.to_string(), "secret": file("secret"),
            "lease_dir": file("lease"),
        })
    }

    /// As `varnishadm` does.
    pub async fn ban(&self, command: &str) -> anyhow::Result<()> {
        let output = tokio::process::Command::new("varnishadm")
            .arg("-n")
            .arg(self.dir.join("varnishd"))
            .args(command.split(' '))
            .output()
            .await?;
        ensure!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }

    /// As a script with one kept connection does.
    pub async fn purge_one_by_one(&self, objects: usize) -> anyhow::Result<()> {
        let mut pipeline = Pipeline::new(Address::Tcp(self.visitors.clone()));
        for n in 0..objects {
            let request = format!("PURGE /many/{}/{n} HTTP/1.1\r\nHost: {HOST}\r\n\r\n", n % 100);
            pipeline.send(&[request.into_bytes()]).await?;
        }
        Ok(())
    }

    /// Objects in the cache.
    pub fn objects(&self) -> anyhow::Result<u64> {
        let mut command = Command::new("varnishstat");
        let output =
            command.arg("-n").arg(self.dir.join("varnishd")).args(["-1", "-f", "MAIN.n_object"]).output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.split_whitespace().nth(1).and_then(|count| count.parse().ok()).context("MAIN.n_object")
    }

    /// The process that serves: the manager's child.
    pub fn child(&self) -> anyhow::Result<u32> {
        let children = format!("/proc/{0}/task/{0}/children", self.process.id());
        let text = std::fs::read_to_string(children)?;
        text.split_whitespace().next().and_then(|pid| pid.parse().ok()).context("varnishd's child")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// CPU time that a process has used.
pub fn cpu(pid: u32) -> anyhow::Result<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields: Vec<_> = stat.rsplit(')').next().context("stat")?.split_whitespace().collect();
    let ticks: u64 =
        fields.get(11).context("utime")?.parse::<u64>()? + fields.get(12).context("stime")?.parse::<u64>()?;
    // 100 ticks a second on every Linux that Debian builds.
    Ok(Duration::from_millis(ticks * 10))
}

/// Answers anything at once, with a tag.
pub async fn origin() -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut stream = BufReader::new(stream);
                let mut line = String::new();
                loop {
                    line.clear();
                    if stream.read_line(&mut line).await? == 0 {
                        return std::io::Result::Ok(());
                    }
                    if line == "\r\n" {
                        let answer = "HTTP/1.1 200 OK\r\nCache-Control: max-age=3600\r\nCache-Tag: many,bench\r\n\
                                      Content-Length: 6\r\n\r\nhello\n";
                        stream.get_mut().write_all(answer.as_bytes()).await?;
                    }
                }
            });
        }
    });
    Ok(address)
}
