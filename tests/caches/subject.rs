//! What the suite asks of a cache under test.

use std::net::SocketAddr;
use std::path::Path;

use crate::daemon::Daemon;
use crate::feature::Feature;
use crate::plane::Plane;

/// A real cache server in front of the origin, with the daemon that drives it.
///
/// Each story starts its own. Servers listen on free loopback ports (a socket in [`Setting::dir`] is better still), keep
/// their files in [`Setting::dir`], and end with the value.
#[allow(async_fn_in_trait, reason = "known implementations only")]
pub trait Subject: Sized {
    /// As the table heads its column.
    const NAME: &'static str;

    /// Whether it can be fenced. One that cannot runs on an available node in every story.
    const STRICT: bool = true;

    /// Whether it has a column in the table.
    const LISTED: bool = true;

    /// Why this cache cannot do it, in a few words for the table; `None` when it can.
    fn lacks(feature: Feature) -> Option<&'static str>;

    /// Starts cache and daemon, and waits until both work.
    async fn start(setting: &Setting<'_>) -> Self;

    /// Where visitors connect, by plain HTTP.
    fn visitors(&self) -> SocketAddr;

    /// What follows the control plane.
    fn daemon(&mut self) -> &mut Daemon;

    /// Kills the cache server and starts it again, on the same addresses and the same files.
    async fn restart_cache(&mut self);
}

/// Where and how a subject is to run.
pub struct Setting<'a> {
    /// The name of its PoP: 1 to 64 of `a-z 0-9 -`.
    pub name: &'static str,
    /// For all its files; gone after the test.
    pub dir: &'a Path,
    /// The control plane to follow.
    pub plane: &'a Plane,
    /// The origin of every hostname.
    pub origin: SocketAddr,
    /// What it does without a lease.
    pub policy: Policy,
}

/// `[lease] on_lease_lost`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// `revalidate`
    Strict,
    /// `serve`
    Available,
}

impl Policy {
    /// As the configuration says it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Strict => "revalidate",
            Self::Available => "serve",
        }
    }
}
