//! `[caches.nginx]`: where the cache directory and the folder are that nginx asks, and how long things may take there.

use std::path::PathBuf;
use std::time::Duration;

use batoff_edge::config::ConfigError;
use serde::Deserialize;

/// `[caches.nginx]`: one cache directory of one nginx.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NginxSection {
    /// The directory of `proxy_cache_path`.
    pub path: PathBuf,
    /// Its `levels`.
    #[serde(default)]
    pub levels: Levels,
    /// The value of `proxy_cache_key`, as it stands in nginx's configuration.
    #[serde(default = "default_key")]
    pub key: String,
    /// A folder on a tmpfs that nginx's configuration names too: what the daemon tells nginx lies there.
    #[serde(default = "default_run_dir")]
    pub run_dir: PathBuf,
    /// Whether nginx's configuration asks the files in `run_dir` before it serves from its cache.
    #[serde(default = "default_true")]
    pub fence: bool,
    /// Whether what nginx asks for goes with this process when it is killed. Both must then see the same `/proc`.
    #[serde(default = "default_true")]
    pub lease_follows_process: bool,
    /// How long before its lease ends a strict node's nginx stops serving from its cache.
    #[serde(default = "default_slot_guard")]
    pub slot_guard_ms: u64,
    /// The longest time that one turn of an nginx worker's event loop may take.
    #[serde(default = "default_event_loop")]
    pub event_loop_ms: u64,
    /// Files without the stamps of the fill hop are judged as if their fetch had begun this long before they appeared.
    #[serde(default = "default_fill_window")]
    pub fill_window_secs: u64,
    /// What an available node's nginx does while the directory is scanned.
    #[serde(default)]
    pub while_scanning: WhileScanning,
    /// What to do with what the directory holds when this node starts for the first time.
    #[serde(default)]
    pub adopt: Adopt,
    /// How the daemon hears of what nginx does in the directory.
    #[serde(default)]
    pub watch: WatchBy,
    /// Threads that read the directory.
    #[serde(default = "default_scan_threads")]
    pub scan_threads: usize,
}

/// The `levels` of `proxy_cache_path`: how many hex digits each level of folders takes, from the end of the name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Levels([u8; 3]);

/// What an available node's nginx does while the directory is scanned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WhileScanning {
    /// Asks the origin.
    #[default]
    Fence,
    /// Serves what it has, purged or not; purges that come meanwhile are acknowledged when the scan is over.
    Serve,
}

/// How the daemon hears of what nginx does in the directory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WatchBy {
    /// Any user may. After more than `fs.inotify.max_queued_events` events in a burst the directory is read anew.
    #[default]
    Inotify,
    /// Needs `CAP_SYS_ADMIN`, Linux 5.9 and a file system with file handles. No burst is too large.
    Fanotify,
}

/// What to do with what the directory holds when this node starts for the first time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Adopt {
    /// Nobody knows what was purged before: all of it goes.
    #[default]
    Flush,
    /// The operator vouches that nothing in it is older than a purge.
    Trust,
}

/// The most threads that read one directory.
const SCAN_THREADS_MAX: usize = 64;

impl NginxSection {
    /// Checks what types cannot say.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let invalid =
            |key: &str, message: &str| Err(ConfigError::invalid(format!("caches.nginx.{key}"), message));
        if !self.path.is_absolute() {
            return invalid("path", "must be absolute, as in nginx's proxy_cache_path");
        }
        if !self.run_dir.is_absolute() {
            return invalid("run_dir", "must be absolute, as nginx's configuration names it");
        }
        if !(1..=1_000).contains(&self.event_loop_ms) {
            return invalid("event_loop_ms", "must be 1 to 1000");
        }
        if self.slot_guard_ms > 1_000 {
            return invalid("slot_guard_ms", "must be at most 1000: the lease itself is about as long");
        }
        if !(1..=600).contains(&self.fill_window_secs) {
            return invalid("fill_window_secs", "must be 1 to 600");
        }
        if !(1..=SCAN_THREADS_MAX).contains(&self.scan_threads) {
            return invalid("scan_threads", "must be 1 to 64");
        }
        Ok(())
    }

    pub(super) const fn event_loop(&self) -> Duration {
        Duration::from_millis(self.event_loop_ms)
    }

    pub(super) const fn slot_guard(&self) -> Duration {
        Duration::from_millis(self.slot_guard_ms)
    }

    pub(super) const fn fill_window(&self) -> Duration {
        Duration::from_secs(self.fill_window_secs)
    }
}

impl Levels {
    /// Digits of each level, outermost first; at most three, none for a flat directory.
    pub fn digits(self) -> impl Iterator<Item = usize> {
        self.0.into_iter().take_while(|&digits| digits > 0).map(usize::from)
    }
}

impl Default for Levels {
    fn default() -> Self {
        Self([1, 2, 0])
    }
}

impl TryFrom<String> for Levels {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let wrong = || {
            format!("levels = {text:?} is not one to three of 1 and 2 with colons between, such as \"1:2\"")
        };
        let mut levels = [0; 3];
        let mut parts = text.split(':');
        for (level, part) in levels.iter_mut().zip(&mut parts) {
            *level = match part {
                "1" => 1,
                "2" => 2,
                _ => return Err(wrong()),
            };
        }
        if parts.next().is_some() { Err(wrong()) } else { Ok(Self(levels)) }
    }
}

fn default_key() -> String {
    "$scheme://$host$request_uri".to_owned()
}

fn default_run_dir() -> PathBuf {
    "/run/batoff-nginx".into()
}

const fn default_true() -> bool {
    true
}

const fn default_slot_guard() -> u64 {
    100
}

const fn default_event_loop() -> u64 {
    50
}

const fn default_fill_window() -> u64 {
    60
}

const fn default_scan_threads() -> usize {
    4
}
