//! What the operator wrote: the daemon's sections and `[proxy]`.

use std::net::SocketAddr;

use batoff_edge::DaemonConfig;
use batoff_edge::config::{ControlSection, LeaseSection, NodeSection, PathSection, StateSection};
use batoff_program::config::{ConfigError, ConfigFile};
use batoff_program::listen::ListenersSection;
use batoff_program::logs::LogSection;
use batoff_program::monitor::MetricsSection;
use batoff_program::traces::TracesSection;
use serde::Deserialize;

use crate::origin::{Origins, Upstream};
use crate::shield::Children;

/// The least memory that makes sense for a cache, in bytes.
const MEMORY_BYTES_MIN: u64 = 1 << 20;

/// The configuration of `batoff-proxy`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProxyConfig {
    /// `[node]`
    pub node: NodeSection,
    /// `[control]`
    pub control: ControlSection,
    /// `[state]`
    pub state: StateSection,
    /// `[lease]`
    #[serde(default)]
    pub lease: LeaseSection,
    /// `[path]`
    #[serde(default)]
    pub path: PathSection,
    /// `[metrics]`
    #[serde(default = "metrics_default")]
    pub metrics: MetricsSection,
    /// `[log]`
    #[serde(default)]
    pub log: LogSection,
    /// `[traces]`
    #[serde(default)]
    pub traces: TracesSection,
    /// `[proxy]`
    pub proxy: ProxySection,
    /// `[listeners]`: visitors' connections. Further ones than `connections_max` wait in the kernel's queue.
    #[serde(default)]
    pub listeners: ListenersSection,
    /// `[shield]`
    pub shield: Option<ShieldSection>,
}

/// `[proxy]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProxySection {
    /// Where visitors connect, in plain HTTP/1.1; port 0 takes a free one.
    #[serde(default = "listen_default")]
    pub listen: SocketAddr,
    /// How many bytes cached objects may take: bodies, headers and an allowance for each. Over it objects leave.
    #[serde(default = "memory_bytes_default")]
    pub memory_bytes: u64,
    /// The largest body that is cached, in bytes; a larger one is passed on and not stored.
    #[serde(default = "object_bytes_max_default")]
    pub object_bytes_max: u64,
    /// Where requests go whose host no entry of `origins` names, as `http://host[:port]`.
    pub origin: Option<String>,
    /// What `origin` names is another cache, which may know of fewer purges than this node.
    #[serde(default)]
    pub origin_is_parent: bool,
    /// Origins by host.
    #[serde(default)]
    pub origins: Vec<OriginSection>,
    /// Pass `Cache-Tag` on to visitors.
    #[serde(default)]
    pub keep_tag_header: bool,
}

/// One of `[[proxy.origins]]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OriginSection {
    /// The host that visitors ask for.
    pub host: String,
    /// Where its requests go, as `http://host[:port]`.
    pub url: String,
    /// Another cache is there, which may know of fewer purges than this node.
    #[serde(default)]
    pub parent: bool,
}

/// `[shield]`: this node is the parent of others.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShieldSection {
    /// The addresses or networks of the nodes that ask this one. They can go past its cache.
    pub children: Vec<String>,
}

impl ConfigFile for ProxyConfig {
    fn validate(&self) -> Result<(), ConfigError> {
        self.log.filter()?;
        self.traces.validate()?;
        self.path.parents(&self.node.name()?)?;
        self.control.validate()?;
        let proxy = &self.proxy;
        if proxy.origin.is_none() && proxy.origins.is_empty() {
            return Err(ConfigError::invalid(
                "proxy.origin",
                "missing; say where requests go, as http://host:port",
            ));
        }
        if proxy.memory_bytes < MEMORY_BYTES_MIN {
            return Err(ConfigError::invalid(
                "proxy.memory_bytes",
                format!("must be at least {MEMORY_BYTES_MIN}"),
            ));
        }
        if proxy.origin_is_parent && proxy.origin.is_none() {
            return Err(ConfigError::invalid(
                "proxy.origin_is_parent",
                "says something about proxy.origin, which is missing; for one of proxy.origins write `parent = true` there",
            ));
        }
        self.listeners.validate()?;
        self.children()?;
        proxy.origins().map(drop)
    }
}

impl ProxyConfig {
    /// Who may ask this node as a parent.
    pub fn children(&self) -> Result<Children, ConfigError> {
        let Some(shield) = &self.shield else { return Ok(Children::default()) };
        if shield.children.is_empty() {
            return Err(ConfigError::invalid(
                "shield.children",
                "names nobody; name the nodes that ask this one, or leave the section out",
            ));
        }
        Children::parse(&shield.children).map_err(|rule| ConfigError::invalid("shield.children", rule))
    }
}

impl ProxySection {
    /// The default origin and those by host, checked.
    pub fn origins(&self) -> Result<Origins, ConfigError> {
        let parse = |key: &str, text: &str, parent: bool| {
            let upstream = Upstream::parse(text).map_err(|rule| ConfigError::invalid(key, rule))?;
            if upstream.is(self.listen) {
                return Err(ConfigError::invalid(
                    key,
                    format!("{text:?} is this proxy itself (proxy.listen)"),
                ));
            }
            Ok(upstream.as_parent(parent))
        };
        let fallback = self.origin.as_deref().map(|text| parse("proxy.origin", text, self.origin_is_parent));
        let fallback = fallback.transpose()?;
        let mut by_host = Vec::with_capacity(self.origins.len());
        for OriginSection { host, url, parent } in &self.origins {
            let host = host
                .parse()
                .map_err(|error| ConfigError::invalid("proxy.origins.host", format!("{error}")))?;
            by_host.push((host, parse("proxy.origins.url", url, *parent)?));
        }
        Ok(Origins::new(fallback, by_host))
    }
}

impl TryFrom<&ProxyConfig> for DaemonConfig {
    type Error = ConfigError;

    fn try_from(config: &ProxyConfig) -> Result<Self, ConfigError> {
        Ok(Self {
            parents: config.path.parents(&config.node.name()?)?,
            node: config.node.name()?,
            policy: config.lease.on_lease_lost.policy(),
            control: config.control.clone(),
            state_dir: config.state.dir.clone(),
        })
    }
}

fn metrics_default() -> MetricsSection {
    MetricsSection::on_loopback(9466)
}

fn listen_default() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 8090))
}

const fn memory_bytes_default() -> u64 {
    256 << 20
}

const fn object_bytes_max_default() -> u64 {
    16 << 20
}

#[cfg(test)]
mod tests;
