//! What the operator of `batoff-edge` wrote: the daemon's sections, and one table a cache.

use std::net::SocketAddr;

use batoff_edge::DaemonConfig;
use batoff_edge::config::{
    ConfigError, ConfigFile, ControlSection, LeaseSection, LogSection, MetricsSection, NodeSection,
    PathSection, StateSection,
};
use serde::Deserialize;

mod caches;

pub use self::caches::CachesSection;

/// The configuration of the standalone daemon.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EdgeConfig {
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
    /// `[caches]`
    #[serde(default)]
    pub caches: CachesSection,
}

impl ConfigFile for EdgeConfig {
    const SECTIONS: &'static [&'static str] =
        &["node", "control", "state", "lease", "path", "metrics", "log", "caches"];
    const TYPED: &'static [&'static str] =
        &["control.endpoints", "control.plaintext", "path.parents", "caches.none"];

    fn validate(&self) -> Result<(), ConfigError> {
        self.path.parents(&self.node.name()?)?;
        self.control.validate()?;
        self.caches.validate(self.lease.on_lease_lost.policy())
    }
}

impl TryFrom<&EdgeConfig> for DaemonConfig {
    type Error = ConfigError;

    fn try_from(config: &EdgeConfig) -> Result<Self, ConfigError> {
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
    MetricsSection { listen: SocketAddr::from(([127, 0, 0, 1], 9465)) }
}

#[cfg(test)]
mod tests;
