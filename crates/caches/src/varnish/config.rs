use std::path::PathBuf;

use batoff_edge::config::ConfigError;
use serde::Deserialize;

use crate::shared::pipeline::Address;

/// The name in logs, in metrics and at the control plane.
pub(super) const NAME: &str = "varnish";

/// `[caches.varnish]`: one varnishd with `deploy/varnish/batoff.vcl`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VarnishSection {
    /// Its listener named `batoff`: the path of a Unix socket, or `host:port`.
    #[serde(default = "default_purge")]
    pub purge: String,
    /// Its command line (`-T`), as `host:port`.
    #[serde(default = "default_cli")]
    pub cli: String,
    /// The file with the secret of its command line (`-S`).
    #[serde(default = "default_secret")]
    pub secret: PathBuf,
    /// The folder, on a tmpfs, that `batoff.vcl` looks into before it serves from the cache.
    #[serde(default = "default_lease_dir")]
    pub lease_dir: PathBuf,
    /// How long before its lease ends a strict node's Varnish stops serving from its cache.
    #[serde(default = "default_slot_guard")]
    pub slot_guard_ms: u64,
    /// The longest time between the check of an answer in `vcl_backend_response` and its place in the cache.
    #[serde(default = "default_settle")]
    pub settle_ms: u64,
    /// Varnish's `ban_lurker_age` while this daemon drives it: how old a ban is when objects begin to be tested against
    /// it in the background.
    #[serde(default = "default_lurker_age")]
    pub ban_lurker_age_secs: u64,
}

impl VarnishSection {
    /// Checks what types cannot say.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let invalid =
            |key: &str, message: String| Err(ConfigError::invalid(format!("caches.varnish.{key}"), message));
        if let Err(message) = self.purge.parse::<Address>() {
            return invalid("purge", message);
        }
        if !matches!(self.cli.parse::<Address>(), Ok(Address::Tcp(_))) {
            return invalid("cli", "must be host:port, as behind varnishd's -T".to_owned());
        }
        if !self.lease_dir.is_absolute() {
            return invalid("lease_dir", "must be absolute, as batoff.vcl names it".to_owned());
        }
        if self.slot_guard_ms > 1_000 {
            return invalid(
                "slot_guard_ms",
                "must be at most 1000: the lease itself is about as long".to_owned(),
            );
        }
        if !(1..=1_000).contains(&self.settle_ms) {
            return invalid("settle_ms", "must be 1 to 1000".to_owned());
        }
        if !(1..=600).contains(&self.ban_lurker_age_secs) {
            return invalid("ban_lurker_age_secs", "must be 1 to 600".to_owned());
        }
        Ok(())
    }
}

fn default_purge() -> String {
    "/run/batoff-varnish/purge.sock".to_owned()
}

fn default_cli() -> String {
    "127.0.0.1:6082".to_owned()
}

fn default_secret() -> PathBuf {
    "/etc/varnish/secret".into()
}

fn default_lease_dir() -> PathBuf {
    "/run/batoff-varnish/lease".into()
}

const fn default_slot_guard() -> u64 {
    100
}

const fn default_settle() -> u64 {
    50
}

const fn default_lurker_age() -> u64 {
    1
}
