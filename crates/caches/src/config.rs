//! What the operator of `batoff-edge` wrote: the daemon's sections, and one table a cache.

use batoff_edge::DaemonConfig;
use batoff_edge::config::{ControlSection, LeaseSection, NodeSection, PathSection, StateSection};
use batoff_program::config::{ConfigError, ConfigFile};
use batoff_program::logs::LogSection;
use batoff_program::monitor::MetricsSection;
use batoff_program::traces::TracesSection;
use serde::Deserialize;

use crate::kinds::CachesSection;
use crate::section::Beside;

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
    /// `[traces]`
    #[serde(default)]
    pub traces: TracesSection,
    /// `[caches]`
    #[serde(default)]
    pub caches: CachesSection,
}

impl ConfigFile for EdgeConfig {
    fn validate(&self) -> Result<(), ConfigError> {
        self.log.filter()?;
        self.traces.validate()?;
        self.path.parents(&self.node.name()?)?;
        self.control.validate()?;
        self.caches.validate(&self.beside_caches())
    }
}

impl EdgeConfig {
    /// What bears on the caches beside their own sections.
    pub fn beside_caches(&self) -> Beside<'_> {
        Beside {
            policy: self.lease.on_lease_lost.policy(),
            has_parents: !self.path.parents.is_empty(),
            has_registry: self.caches.has_registry(),
            state_dir: &self.state.dir,
        }
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
    MetricsSection::on_loopback(9465)
}

#[cfg(test)]
mod tests;
