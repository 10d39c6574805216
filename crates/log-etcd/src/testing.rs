//! Clusters of etcd for tests: real members on free ports of the loopback, in memory if there is room, ended by their pid.

use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use batoff_log::WallClock;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::client::EtcdClient;
use crate::config::EtcdConfig;

/// How long a cluster may take to have a leader, on a machine that has more to do.
const START_TIME_MAX: Duration = Duration::from_secs(60);

/// Names the program that the members are, where it is not the `etcd` in `PATH`: to run the same tests with another
/// version.
const PROGRAM: &str = "BATOFF_ETCD";

/// How often members are started anew on other ports because somebody else took one.
const STARTS_MAX: u32 = 5;

/// How a test's cluster is started.
#[derive(Clone, Debug, Default)]
pub struct EtcdSettings {
    /// Further arguments for each member.
    pub arguments: Vec<String>,
    /// `https` with these files.
    pub tls: Option<EtcdTlsFiles>,
    /// Where the members' data is; in memory, if there is any of that kind.
    pub dir: Option<PathBuf>,
}

/// Files for members that speak TLS, with their clients and with one another.
#[derive(Clone, Debug)]
pub struct EtcdTlsFiles {
    /// Who signed all certificates.
    pub ca: PathBuf,
    /// The members' certificate, for 127.0.0.1.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

/// Members of one cluster. Dropped, they are killed.
pub struct EtcdServers {
    members: Vec<EtcdServer>,
    settings: EtcdSettings,
    dir: TempDir,
}

struct EtcdServer {
    client: String,
    peer: String,
    process: Option<Child>,
}

impl EtcdServers {
    /// A cluster of so many members that has a leader.
    ///
    /// # Panics
    /// When etcd is not installed or does not start.
    pub async fn start(members: usize) -> Self {
        Self::start_with(members, EtcdSettings::default()).await
    }

    /// The same, with settings.
    ///
    /// # Panics
    /// When etcd is not installed or does not start.
    pub async fn start_with(members: usize, settings: EtcdSettings) -> Self {
        for _ in 0..STARTS_MAX {
            let mut servers = Self::new(members, settings.clone());
            for member in 0..members {
                servers.restart(member);
            }
            if servers.come_up().await {
                return servers;
            }
        }
        panic!("etcd did not start {STARTS_MAX} times; run `etcd` by hand to see why");
    }

    fn new(members: usize, settings: EtcdSettings) -> Self {
        let memory = Path::new("/dev/shm");
        let dir = match &settings.dir {
            Some(dir) => TempDir::new_in(dir),
            None if memory.is_dir() => TempDir::new_in(memory),
            None => TempDir::new(),
        };
        let scheme = if settings.tls.is_some() { "https" } else { "http" };
        // All are held until all are known, so that no two are the same.
        let free: Vec<TcpListener> = (0..2 * members)
            .map(|_| TcpListener::bind("127.0.0.1:0").expect("the loopback has a free port"))
            .collect();
        let url = |listener: &TcpListener| {
            format!("{scheme}://{}", listener.local_addr().expect("a listener has an address"))
        };
        let members = free
            .chunks(2)
            .map(|pair| EtcdServer { client: url(&pair[0]), peer: url(&pair[1]), process: None })
            .collect();
        Self { members, settings, dir: dir.expect("a temporary folder can be made") }
    }

    /// Where the members listen for clients.
    pub fn endpoints(&self) -> Vec<String> {
        self.members.iter().map(|member| member.client.clone()).collect()
    }

    /// The usual settings of a store in this cluster.
    pub fn config(&self, clock: WallClock) -> EtcdConfig {
        EtcdConfig::new(self.endpoints(), clock)
    }

    /// Where a member has its data.
    pub fn data_dir(&self, member: usize) -> PathBuf {
        self.dir.path().join(format!("n{member}"))
    }

    /// Kills a member, as a machine that has lost its power does.
    pub fn kill(&mut self, member: usize) {
        if let Some(mut process) = self.members[member].process.take() {
            process.kill().expect("our own child can be killed");
            process.wait().expect("our own child ends");
        }
    }

    /// Starts a member that was killed, with the data that it had.
    ///
    /// # Panics
    /// When etcd is not installed.
    pub fn restart(&mut self, member: usize) {
        let this = &self.members[member];
        let dir = self.data_dir(member);
        let log =
            File::options().create(true).append(true).open(self.dir.path().join(format!("n{member}.log")));
        let log = log.expect("a temporary file can be made");
        let cluster: Vec<String> =
            self.members.iter().enumerate().map(|(n, member)| format!("n{n}={}", member.peer)).collect();
        // Alone, there is nobody to wait for.
        let (heartbeat, election) = if self.members.len() == 1 { ("10", "100") } else { ("50", "500") };
        let program = std::env::var_os(PROGRAM).unwrap_or_else(|| "etcd".into());
        let mut command = Command::new(program);
        command
            .args(["--name", &format!("n{member}"), "--logger", "zap", "--log-level", "warn"])
            .args(["--listen-client-urls", &this.client, "--advertise-client-urls", &this.client])
            .args(["--listen-peer-urls", &this.peer, "--initial-advertise-peer-urls", &this.peer])
            .args(["--initial-cluster", &cluster.join(","), "--initial-cluster-state", "new"])
            .args(["--initial-cluster-token", &format!("{}", self.dir.path().display())])
            .args(["--heartbeat-interval", heartbeat, "--election-timeout", election, "--pre-vote=true"])
            .arg("--data-dir")
            .arg(dir)
            .args(&self.settings.arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::from(log.try_clone().expect("a descriptor can be copied")))
            .stderr(Stdio::from(log));
        if let Some(tls) = &self.settings.tls {
            for (flag, file) in [
                ("--cert-file", &tls.certificate),
                ("--key-file", &tls.key),
                ("--trusted-ca-file", &tls.ca),
                ("--peer-cert-file", &tls.certificate),
                ("--peer-key-file", &tls.key),
                ("--peer-trusted-ca-file", &tls.ca),
            ] {
                command.arg(flag).arg(file);
            }
            command.args(["--client-cert-auth", "--peer-client-cert-auth"]);
        }
        match command.spawn() {
            Ok(process) => self.members[member].process = Some(process),
            Err(error) => {
                panic!(
                    "etcd cannot be started: {error}; install it (apt-get install etcd-server) or use tests/run"
                )
            }
        }
    }

    /// Gives members other arguments from their next start on.
    pub fn set_arguments(&mut self, arguments: impl IntoIterator<Item = impl Into<String>>) {
        self.settings.arguments = arguments.into_iter().map(Into::into).collect();
    }

    /// Stops a member without its noticing, until [`Self::thaw`].
    pub fn freeze(&self, member: usize) {
        self.signal(member, Signal::STOP);
    }

    /// Lets a frozen member go on.
    pub fn thaw(&self, member: usize) {
        self.signal(member, Signal::CONT);
    }

    fn signal(&self, member: usize, signal: Signal) {
        let process = self.members[member].process.as_ref().expect("the member runs");
        let pid = i32::try_from(process.id()).ok().and_then(Pid::from_raw).expect("a child has a pid");
        kill_process(pid, signal).expect("our own child can be signalled");
    }

    /// Which member leads; waits until one does.
    ///
    /// # Panics
    /// When none does for a minute.
    pub async fn leader(&self) -> usize {
        let begin = Instant::now();
        while begin.elapsed() < START_TIME_MAX {
            for member in 0..self.members.len() {
                // Of one that answers for itself.
                if self.leads(member).await == Some(true) {
                    return member;
                }
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("no member of etcd leads; their last words:\n{}", self.last_words());
    }

    /// Whether a member leads; `None` when it does not answer or knows no leader.
    async fn leads(&self, member: usize) -> Option<bool> {
        let clock = batoff_log::system_clock();
        let mut config = EtcdConfig::new([self.members[member].client.clone()], clock);
        config.tls = self.settings.tls.as_ref().map(EtcdTlsFiles::read);
        let client = EtcdClient::new(&config).ok()?;
        let status = client.status_of(0).await.ok()?;
        let id = status.header?.member_id;
        (status.leader != 0).then_some(status.leader == id)
    }

    /// Waits until each member knows a leader; false when one has ended.
    async fn come_up(&mut self) -> bool {
        let begin = Instant::now();
        for member in 0..self.members.len() {
            while self.leads(member).await.is_none() {
                assert!(begin.elapsed() < START_TIME_MAX, "etcd does not come up:\n{}", self.last_words());
                let process = self.members[member].process.as_mut().expect("it was started");
                if process.try_wait().expect("our own child can be asked").is_some() {
                    return false;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        true
    }

    fn last_words(&self) -> String {
        let logs = (0..self.members.len()).map(|member| {
            let text = fs::read_to_string(self.dir.path().join(format!("n{member}.log"))).unwrap_or_default();
            let lines: Vec<&str> = text.lines().rev().take(5).collect();
            format!("n{member}: {}", lines.join("\n"))
        });
        logs.collect::<Vec<_>>().join("\n")
    }
}

impl EtcdTlsFiles {
    /// What a client needs, which shows the same certificate.
    ///
    /// # Panics
    /// When a file cannot be read.
    pub fn read(&self) -> crate::EtcdTls {
        let read = |path: &Path| fs::read(path).expect("a certificate of the test can be read");
        crate::EtcdTls {
            ca_pem: read(&self.ca),
            client_pem: Some((read(&self.certificate), read(&self.key))),
        }
    }
}

impl Drop for EtcdServers {
    fn drop(&mut self) {
        for member in &mut self.members {
            if let Some(mut process) = member.process.take() {
                let _ = process.kill();
                let _ = process.wait();
            }
        }
    }
}
