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

    /// Whether its stories keep their files on a real disk, and not in memory.
    const ON_DISK: bool = false;

    /// Whether its fills count from where its parents are, and whether it marks what it serves stale and keeps nothing that
    /// is marked so. A cache joins the stories of tiers by this alone: it is started twice, as [`Setting`] says.
    const TIERS: bool = false;

    /// Why this cache cannot do it, in a few words for the table; `None` when it can.
    fn lacks(feature: Feature) -> Option<&'static str>;

    /// Starts cache and daemon, and waits until both work.
    async fn start(setting: &Setting<'_>) -> Self;

    /// Where visitors connect, by plain HTTP.
    fn visitors(&self) -> SocketAddr;

    /// What follows the control plane.
    fn daemon(&mut self) -> &mut Daemon;

    /// What `batoff-edge check` is told to look at it with this page; `None` where there is no check, and its log tells.
    fn check(&self, page: &str) -> Option<Vec<String>>;

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
    /// Where its daemon connects, as `host:port`: the control plane, or a link to it that the story holds.
    pub control: String,
    /// Where the cache fetches every hostname from: the origin, or its parent.
    pub origin: SocketAddr,
    /// The parents that its configuration names ([`Daemon::start`] writes them).
    pub parents: &'a [&'a str],
    /// Other nodes fetch through it, from this machine: they need `Cache-Tag`.
    pub is_parent: bool,
    /// What it does without a lease.
    pub policy: Policy,
}

impl<'a> Setting<'a> {
    /// Straight in front of the origin, and nobody behind it.
    pub fn alone(
        name: &'static str,
        dir: &'a Path,
        plane: &'a Plane,
        origin: SocketAddr,
        policy: Policy,
    ) -> Self {
        let control = plane.grpc.clone();
        Self { name, dir, plane, control, origin, parents: &[], is_parent: false, policy }
    }
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
