use std::path::PathBuf;

use batoff_edge::config::ConfigError;
use serde::Deserialize;

/// `[caches.trafficserver]`: one Traffic Server with the script of `deploy/trafficserver`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrafficServerSection {
    /// The file on a tmpfs with the rules that the script judges by; its plugin.config names it too.
    #[serde(default = "default_rules")]
    pub rules: PathBuf,
    /// How long before its lease ends a strict node's Traffic Server stops serving from its cache.
    #[serde(default = "default_lease_guard")]
    pub lease_guard_ms: u64,
}

impl TrafficServerSection {
    /// Checks what types cannot say.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let invalid = |key: &str, message: &str| {
            Err(ConfigError::invalid(format!("caches.trafficserver.{key}"), message))
        };
        if !self.rules.is_absolute() || self.rules.file_name().is_none() {
            return invalid(
                "rules",
                "must be the absolute path of a file, as in Traffic Server's plugin.config",
            );
        }
        if self.lease_guard_ms > 1_000 {
            return invalid("lease_guard_ms", "must be at most 1000: the lease itself is about as long");
        }
        Ok(())
    }
}

fn default_rules() -> PathBuf {
    "/run/batoff-trafficserver/rules".into()
}

const fn default_lease_guard() -> u64 {
    100
}
