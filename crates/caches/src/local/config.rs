//! `[caches.local]`, and what makes a purged object unservable in each cache that it declares.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use batoff_edge::config::ConfigError;
use batoff_types::message::LeasePolicy;
use serde::Deserialize;

/// The longest name of a cache, in bytes.
const NAME_BYTES_MAX: usize = 64;

/// The name under which `batoff-edge check local` registers.
pub const CHECK: &str = "check";

/// `[caches.local]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LocalSection {
    /// The Unix socket of the API. Its directory must exist.
    #[serde(default = "LocalSection::default_socket")]
    pub socket: PathBuf,
    /// The directory of the pages, on tmpfs; made when it does not exist.
    #[serde(default = "LocalSection::default_pages")]
    pub pages: PathBuf,
    /// Who may open the socket and read the pages, besides the daemon's user: a name from /etc/group, or a number. The
    /// daemon's own group when nothing is said.
    pub group: Option<String>,
    /// The caches of this node, and what makes a purged object unservable in each.
    #[serde(default)]
    pub caches: BTreeMap<String, Mode>,
    /// Milliseconds within which a cache has to confirm an eviction, or a part of a large one. One that does not loses
    /// its session, and is fenced if it reads its page. 1 to 60,000.
    #[serde(default = "LocalSection::default_confirm")]
    pub confirm_within_ms: u64,
    /// Milliseconds for which, on an available node, a purge waits for a cache that has no session and may be serving;
    /// then it is fenced through its page. At most 600,000.
    #[serde(default = "LocalSection::default_resync")]
    pub resync_within_ms: u64,
    /// Objects that one cache may register. Further ones are to be discarded.
    #[serde(default = "LocalSection::default_objects")]
    pub objects_max: u64,
}

/// What makes a purged object unservable in a cache of the local API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// It confirms each eviction, and reads its page at each hit: one that does not confirm is fenced.
    Page,
    /// It confirms each eviction, and is waited for, however long.
    Evict,
    /// It asks at each hit.
    Lookup,
}

impl Mode {
    /// As in the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Page => "page",
            Self::Evict => "evict",
            Self::Lookup => "lookup",
        }
    }
}

impl LocalSection {
    /// Checks what types cannot say.
    pub fn validate(&self, policy: LeasePolicy) -> Result<(), ConfigError> {
        let invalid =
            |key: &str, message: String| Err(ConfigError::invalid(format!("caches.local.{key}"), message));
        if self.caches.is_empty() {
            return invalid("caches", "name at least one cache, such as `web = \"page\"`".to_owned());
        }
        for (name, mode) in &self.caches {
            let fits = (1..=NAME_BYTES_MAX).contains(&name.len())
                && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
            if !fits || name == CHECK {
                let rule =
                    format!("{name:?} must be 1 to {NAME_BYTES_MAX} of a-z, 0-9 and -, and not {CHECK:?}");
                return invalid("caches", rule);
            }
            if *mode == Mode::Evict && policy == LeasePolicy::Revalidate {
                let message = format!(
                    "{name} does not read its page in mode \"evict\", so it cannot be fenced, which on_lease_lost = \
                     \"revalidate\" promises; let it read the page (\"page\") or ask (\"lookup\"), or use \"serve\""
                );
                return invalid("caches", message);
            }
        }
        for (key, path) in [("socket", &self.socket), ("pages", &self.pages)] {
            if !path.is_absolute() {
                return invalid(key, format!("{} must be an absolute path", path.display()));
            }
        }
        if !(1..=60_000).contains(&self.confirm_within_ms) {
            return invalid("confirm_within_ms", "must be 1 to 60000".to_owned());
        }
        if self.resync_within_ms > 600_000 {
            return invalid("resync_within_ms", "must be at most 600000".to_owned());
        }
        Ok(())
    }

    /// See [`LocalSection::confirm_within_ms`].
    pub const fn confirm_within(&self) -> Duration {
        Duration::from_millis(self.confirm_within_ms)
    }

    /// See [`LocalSection::resync_within_ms`].
    pub const fn resync_within(&self) -> Duration {
        Duration::from_millis(self.resync_within_ms)
    }

    fn default_socket() -> PathBuf {
        PathBuf::from("/run/batoff-edge/local.sock")
    }

    fn default_pages() -> PathBuf {
        PathBuf::from("/run/batoff-edge/pages")
    }

    /// Below the 700 ms after which the control plane takes a strict node's lease.
    const fn default_confirm() -> u64 {
        400
    }

    const fn default_resync() -> u64 {
        2_000
    }

    const fn default_objects() -> u64 {
        10_000_000
    }
}
