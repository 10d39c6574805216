//! What an operator may set, as [`batoff_program::config`] reads it; nothing is bound before the whole of it has been
//! checked.

mod check;
mod store;
mod traces;
mod url;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use batoff_delivery::LeaseTimes;
pub use batoff_program::config::ConfigError;
use batoff_program::config::load_str;
use batoff_program::listen::ListenersSection;
use batoff_program::logs::LogSection;
use batoff_program::monitor::MetricsSection;
use batoff_types::SiteId;
use http::HeaderName;
use serde::{Deserialize, Deserializer, de};

pub use self::store::{Engine, EtcdSection, ReplicaConfig, StoreConfig};
pub use self::traces::TracesConfig;

/// The whole configuration.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// `[data]`
    pub data: DataConfig,
    /// `[store]`
    #[serde(default)]
    pub store: StoreConfig,
    /// `[replica]`
    #[serde(default)]
    pub replica: ReplicaConfig,
    /// `[api]`
    #[serde(default)]
    pub api: ApiConfig,
    /// `[admin]`
    #[serde(default)]
    pub admin: AdminConfig,
    /// `[console]`
    #[serde(default)]
    pub console: ConsoleConfig,
    /// `[grpc]`
    #[serde(default)]
    pub grpc: GrpcConfig,
    /// `[metrics]`
    #[serde(default = "metrics_default")]
    pub metrics: MetricsSection,
    /// `[listeners]`: the customers' connections; the deadlines hold for the operators', too.
    #[serde(default)]
    pub listeners: ListenersSection,
    /// `[lease]`
    #[serde(default)]
    pub lease: LeaseConfig,
    /// `[limits]`
    #[serde(default)]
    pub limits: LimitsConfig,
    /// `[retention]`
    #[serde(default)]
    pub retention: RetentionConfig,
    /// `[log]`
    #[serde(default)]
    pub log: LogSection,
    /// `[traces]`
    #[serde(default)]
    pub traces: TracesConfig,
}

/// Where everything durable is.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataConfig {
    /// The folder with `master.key` and `admin.token`, as `batoff-control init` makes it, and the store, unless that is in
    /// etcd.
    pub dir: PathBuf,
}

/// The customers' HTTP API.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ApiConfig {
    /// Where it listens.
    pub listen: SocketAddr,
    /// Says that a proxy in front ends TLS: allows plain HTTP beyond loopback.
    pub behind_tls_proxy: bool,
    /// The certificate chain (PEM); with `key`, the API speaks TLS itself.
    pub cert: Option<PathBuf>,
    /// The certificate's private key (PEM).
    pub key: Option<PathBuf>,
    /// How far a request's timestamp may be from our clock, either way, in seconds: 1 to 3,600.
    pub clock_skew_seconds: u64,
    /// What a gateway in front takes away from the beginning of each path, such as `/purge-api`: customers sign the path
    /// that they send. Empty when paths arrive as they were sent.
    pub public_prefix: String,
    /// Where customers reach the API, such as `https://purge.example.net`: scheme, host and port. What the console shows to
    /// be copied has it. Not set: where it listens.
    pub public_url: Option<String>,
    /// Proxies whose `X-Forwarded-For` is believed, by address; for others the connection's address counts.
    pub trusted_proxies: Vec<std::net::IpAddr>,
}

/// The operator's HTTP API.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AdminConfig {
    /// Where it listens: loopback, unless it has certificates.
    pub listen: SocketAddr,
    /// The authority whose client certificates are let in (PEM). With `cert` and `key`, mutual TLS.
    pub ca: Option<PathBuf>,
    /// The certificate chain (PEM).
    pub cert: Option<PathBuf>,
    /// The certificate's private key (PEM).
    pub key: Option<PathBuf>,
}

/// The console in a browser.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ConsoleConfig {
    /// Where it listens.
    pub listen: SocketAddr,
    /// Says that a proxy in front ends TLS: allows plain HTTP beyond loopback, and browsers get cookies for TLS alone.
    pub behind_tls_proxy: bool,
    /// The certificate chain (PEM); with `key`, the console speaks TLS itself.
    pub cert: Option<PathBuf>,
    /// The certificate's private key (PEM).
    pub key: Option<PathBuf>,
    /// A session that nobody uses ends after so many minutes: 5 to 10,080.
    pub session_idle_minutes: u64,
    /// Every session ends after so many hours: 1 to 720.
    pub session_hours: u64,
    /// `[[console.pops]]`: where PoPs are, for a map. Those that are not named are not on it.
    pub pops: Vec<PopPlace>,
    /// `[console.proxy]`: somebody in front who knows who asks.
    pub proxy: Option<ConsoleProxyConfig>,
}

/// Where a PoP is.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PopPlace {
    /// Its name, as its nodes have it: the first part of `fra1/edge-03`.
    pub name: String,
    /// Degrees north: -90 to 90.
    pub latitude: f64,
    /// Degrees east: -180 to 180.
    pub longitude: f64,
}

/// A proxy in front of the console that signs people in, and says in headers who they are.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConsoleProxyConfig {
    /// The authority of its client certificate (PEM).
    pub ca: PathBuf,
    /// The name in that certificate: one of its DNS names, or of its URIs. No other connection is believed.
    pub name: String,
    /// Whether everybody comes through it: who comes past it is refused.
    #[serde(default)]
    pub required: bool,
    /// The header with the user's name.
    #[serde(default = "user_header", deserialize_with = "header_name")]
    pub user_header: HeaderName,
    /// The header with the user's groups.
    #[serde(default = "groups_header", deserialize_with = "header_name")]
    pub groups_header: HeaderName,
    /// What stands between two groups.
    #[serde(default = "groups_separator")]
    pub groups_separator: String,
    /// What the groups may do. Who is in none of them may do nothing.
    pub groups: Vec<ConsoleGroup>,
    /// Where one signs out of the proxy: a path of its own, or an address.
    pub sign_out_url: Option<String>,
}

/// What a group of the proxy's users may do in the console.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConsoleGroup {
    /// Its name, as the proxy sends it.
    pub group: String,
    /// What its members may do.
    pub role: GroupRole,
    /// For which sites; none for operators, who are for all.
    #[serde(default, deserialize_with = "sites")]
    pub sites: Vec<SiteId>,
}

/// A role, as the console has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GroupRole {
    /// Everything, of every site.
    Operator,
    /// Of its sites: tokens, purges, and all that can be read.
    Manager,
    /// Of its sites: purges, and all that can be read.
    Member,
    /// Of its sites: all that can be read.
    Viewer,
}

/// The nodes' stream.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GrpcConfig {
    /// Where it listens.
    pub listen: SocketAddr,
    /// The authority that signs the nodes' certificates (PEM).
    pub ca: Option<PathBuf>,
    /// Our certificate chain (PEM).
    pub cert: Option<PathBuf>,
    /// The certificate's private key (PEM).
    pub key: Option<PathBuf>,
    /// Certificates of nodes that are not believed any more: a file with a line `serial aa:bb:…` or `node pop/name` for
    /// each. It is read again when it changes.
    pub revoked: Option<PathBuf>,
    /// No TLS at all; only on loopback. A node is then believed whatever name it says.
    pub plaintext: bool,
    /// Time for the TLS handshake, and again for the first message, in milliseconds.
    pub hello_timeout_ms: u64,
    /// How often a silent connection is pinged, in milliseconds.
    pub keepalive_interval_ms: u64,
    /// How long a ping may stay unanswered before the connection counts as dead, in milliseconds.
    pub keepalive_timeout_ms: u64,
    /// Of an older version, and refused: records are gathered as the load asks for.
    pub gather_ms: Option<u64>,
    /// The shortest delay that nodes are told to wait before a reconnect, in milliseconds.
    pub reconnect_min_ms: u64,
    /// The longest such delay, in milliseconds.
    pub reconnect_max_ms: u64,
}

/// The times that the two-second guarantee is made of; checked together.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LeaseConfig {
    /// How long a lease lasts, in milliseconds.
    pub lease_ms: u64,
    /// How often nodes send a heartbeat, in milliseconds.
    pub heartbeat_ms: u64,
    /// How old a node's oldest unacknowledged record may be for its lease to be renewed, in milliseconds.
    pub grace_ms: u64,
    /// Added to a lease before it counts as over, in milliseconds.
    pub margin_ms: u64,
    /// The largest relative difference between the rates of two clocks.
    pub drift: f64,
}

/// Bounds of memory and of rates.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsConfig {
    /// URL and tag items a site a minute, and at once. A site may have its own.
    pub items_per_minute: u32,
    /// Prefix, host and *everything* items a site a minute, and at once. A site may have its own.
    pub prefixes_per_minute: u32,
    /// Submissions being made durable at one time at most, fewer while the log is slow. Further ones wait for less than a second,
    /// and are answered 503.
    pub submissions_in_flight: usize,
    /// Tasks whose progress is kept in memory; older ones are answered from the log.
    pub live_tasks: usize,
    /// Records kept encoded in memory for nodes that follow live; a node further behind reads from the log.
    pub tail_records: usize,
    /// The same, in bytes.
    pub tail_bytes: usize,
    /// Connections of nodes at one time.
    pub node_connections: usize,
    /// Open event streams (SSE) at one time.
    pub event_streams: usize,
}

/// How long things are kept.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RetentionConfig {
    /// Records older than this are trimmed, in hours. A node that needs one is reset.
    pub log_hours: u64,
    /// Records beyond this many bytes are trimmed, oldest first.
    pub log_bytes: u64,
    /// Tasks older than this are forgotten, in days.
    pub task_days: u64,
    /// Entries of the audit log older than this are forgotten, in days.
    pub audit_days: u64,
    /// Entries of the audit log beyond this many bytes are forgotten, oldest first.
    pub audit_bytes: u64,
}

impl Default for ApiConfig {
    fn default() -> Self {
        Self {
            listen: loopback(8080),
            behind_tls_proxy: false,
            cert: None,
            key: None,
            clock_skew_seconds: 300,
            public_prefix: String::new(),
            public_url: None,
            trusted_proxies: Vec::new(),
        }
    }
}

impl Default for AdminConfig {
    fn default() -> Self {
        Self { listen: loopback(8082), ca: None, cert: None, key: None }
    }
}

impl Default for ConsoleConfig {
    fn default() -> Self {
        Self {
            listen: loopback(8081),
            behind_tls_proxy: false,
            cert: None,
            key: None,
            session_idle_minutes: 12 * 60,
            session_hours: 7 * 24,
            pops: Vec::new(),
            proxy: None,
        }
    }
}

impl Default for GrpcConfig {
    fn default() -> Self {
        Self {
            listen: loopback(7443),
            ca: None,
            cert: None,
            key: None,
            revoked: None,
            plaintext: false,
            hello_timeout_ms: 5_000,
            keepalive_interval_ms: 10_000,
            keepalive_timeout_ms: 5_000,
            gather_ms: None,
            reconnect_min_ms: 50,
            reconnect_max_ms: 5_000,
        }
    }
}

impl Default for LeaseConfig {
    fn default() -> Self {
        Self { lease_ms: 1_000, heartbeat_ms: 250, grace_ms: 700, margin_ms: 50, drift: 0.01 }
    }
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            items_per_minute: 10_000,
            prefixes_per_minute: 60,
            submissions_in_flight: 4_096,
            live_tasks: 65_536,
            tail_records: 65_536,
            tail_bytes: 64 << 20,
            node_connections: 12_000,
            event_streams: 1_024,
        }
    }
}

impl Default for RetentionConfig {
    fn default() -> Self {
        Self { log_hours: 7 * 24, log_bytes: 1 << 30, task_days: 30, audit_days: 400, audit_bytes: 2 << 30 }
    }
}

impl Config {
    /// Reads a text that is at hand, lays an environment over it, and checks the whole.
    pub fn parse(
        text: &str,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        load_str(text, Path::new("control.toml"), environment)
    }
}

impl LeaseConfig {
    /// The times as the delivery rules take them.
    pub fn times(&self) -> LeaseTimes {
        LeaseTimes {
            lease: Duration::from_millis(self.lease_ms),
            heartbeat: Duration::from_millis(self.heartbeat_ms),
            grace: Duration::from_millis(self.grace_ms),
            margin: Duration::from_millis(self.margin_ms),
            drift: self.drift,
        }
    }
}

fn user_header() -> HeaderName {
    HeaderName::from_static("x-forwarded-user")
}

fn groups_header() -> HeaderName {
    HeaderName::from_static("x-forwarded-groups")
}

fn groups_separator() -> String {
    ",".to_owned()
}

fn header_name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<HeaderName, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map_err(|_| de::Error::custom(format!("{text:?} is not the name of a header field")))
}

fn sites<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<SiteId>, D::Error> {
    let names = Vec::<String>::deserialize(deserializer)?;
    let site = |name: &String| {
        name.parse()
            .map_err(|error| de::Error::custom(format!("{name:?} is not the name of a site: {error}")))
    };
    names.iter().map(site).collect()
}

fn metrics_default() -> MetricsSection {
    MetricsSection::on_loopback(9464)
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}
