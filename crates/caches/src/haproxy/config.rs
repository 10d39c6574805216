use std::path::PathBuf;

use batoff_edge::config::ConfigError;
use serde::Deserialize;

/// The name in logs, in metrics and at the control plane.
pub(super) const NAME: &str = "haproxy";

/// `[caches.haproxy]`: one HAProxy with the configuration of `deploy/haproxy`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HaproxySection {
    /// Its admin socket (`stats socket … level admin`).
    #[serde(default = "default_socket")]
    pub socket: PathBuf,
    /// The folder of its maps, as its configuration names it.
    #[serde(default = "default_maps")]
    pub maps: PathBuf,
    /// `max-age` of its cache: entries of the maps that are older than it can go.
    #[serde(default = "default_max_age")]
    pub max_age_secs: u64,
    /// `hard-stop-after` of its configuration: how long a process may live after a reload that cannot be seen to end from
    /// here. Purges wait for it.
    #[serde(default = "default_hard_stop")]
    pub hard_stop_after_secs: u64,
    /// How long before its lease ends a strict node's HAProxy stops serving from its cache.
    #[serde(default = "default_lease_guard")]
    pub lease_guard_ms: u64,
    /// What to do when a tag is purged.
    pub tags: Option<Tags>,
}

/// What to do when a tag is purged: HAProxy knows nothing of tags.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tags {
    /// Everything of the site goes.
    Everything,
}

impl HaproxySection {
    /// Checks what types cannot say.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let invalid =
            |key: &str, message: &str| Err(ConfigError::invalid(format!("caches.haproxy.{key}"), message));
        for (key, path) in [("socket", &self.socket), ("maps", &self.maps)] {
            if !path.is_absolute() {
                return invalid(key, "must be absolute, as in HAProxy's configuration");
            }
        }
        if !(1..=31_536_000).contains(&self.max_age_secs) {
            return invalid(
                "max_age_secs",
                "must be 1 to 31536000, as max-age of the cache in HAProxy's configuration",
            );
        }
        if !(1..=86_400).contains(&self.hard_stop_after_secs) {
            return invalid(
                "hard_stop_after_secs",
                "must be 1 to 86400, as hard-stop-after in HAProxy's configuration",
            );
        }
        if self.lease_guard_ms > 1_000 {
            return invalid("lease_guard_ms", "must be at most 1000: the lease itself is about as long");
        }
        if self.tags.is_none() {
            return invalid(
                "tags",
                "is missing: HAProxy cannot find objects by tag; set tags = \"everything\" to have a purge by tag take \
                 everything of its site, or run a cache that knows tags",
            );
        }
        Ok(())
    }
}

fn default_socket() -> PathBuf {
    "/run/batoff-haproxy/admin.sock".into()
}

fn default_maps() -> PathBuf {
    "/etc/haproxy/batoff".into()
}

const fn default_max_age() -> u64 {
    3_600
}

const fn default_hard_stop() -> u64 {
    10
}

const fn default_lease_guard() -> u64 {
    100
}
