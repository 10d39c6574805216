//! The brokers that are measured beside.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use anyhow::bail;
use batoff_tests::free_port;

use super::arguments::Contender;

/// A broker of another project; killed when dropped.
pub struct Broker {
    child: Child,
    /// `host:port`.
    pub address: String,
}

impl Broker {
    /// Starts it. `None`, with a line that says how to get it, when it is not installed.
    pub fn start(contender: Contender) -> anyhow::Result<Option<Self>> {
        let port = free_port();
        let number = port.to_string();
        let (program, arguments): (_, Vec<&str>) = match contender {
            Contender::Redis => {
                let line =
                    ["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--maxclients", "15000"];
                ("redis-server", [&["--port", &number], &line[..]].concat())
            }
            Contender::Nats => ("nats-server", vec!["--addr", "127.0.0.1", "--port", &number]),
            Contender::Batoff => bail!("not a broker"),
        };
        let Some(path) = installed(program) else {
            println!(
                "{program} is not installed: skipped (apt-get install --no-install-recommends {program})"
            );
            return Ok(None);
        };
        let mut command = Command::new(path);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut broker = Self { child: command.spawn()?, address: format!("127.0.0.1:{port}") };
        for _ in 0..500 {
            if std::net::TcpStream::connect(&broker.address).is_ok() {
                return Ok(Some(broker));
            }
            if let Some(status) = broker.child.try_wait()? {
                bail!("{program} ended at its start: {status}");
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        bail!("{program} does not listen after 5 s")
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Debian puts some of them where only root looks.
fn installed(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin"), PathBuf::from("/usr/bin")]);
    folders.map(|folder| folder.join(program)).find(|file| file.is_file())
}
