//! The adapter for any cache that is told by HTTP what to take out, on Traffic Server without its script.

use std::net::SocketAddr;

use crate::conformance;
use crate::daemon::Daemon;
use crate::feature::Feature;
use crate::plane::HOSTS;
use crate::subject::{Setting, Subject};
use crate::trafficserver::{Server, shipped};

struct PurgeByUrl {
    daemon: Daemon,
    server: Server,
}

/// Seconds after which settings are in force here; see the interval below.
const EMPTY_SECONDS: &str = "8";

impl Subject for PurgeByUrl {
    const NAME: &'static str = "any, by PURGE";
    const STRICT: bool = false;

    fn lacks(feature: Feature) -> Option<&'static str> {
        match feature {
            Feature::Spelling | Feature::Ports => Some("only as the purge spells it"),
            Feature::Prefix
            | Feature::Tag
            | Feature::Overflow
            | Feature::Host
            | Feature::Everything
            | Feature::Many => Some("empties the cache, or needs registered objects"),
            Feature::RaceHeaderUrl | Feature::RaceBody => Some("stores an answer that was under way"),
            Feature::RaceHeaderTag | Feature::RaceHeaderPrefix => Some("empties the cache"),
            Feature::Unowned => Some("stores whatever host is asked for"),
            Feature::Soft => Some("takes it out"),
            Feature::OtherMethods => Some("leaves it: to be purged"),
            Feature::HostSpelling => Some("passes on what was sent"),
            Feature::BodyInGet => Some("stores what it answers"),
            Feature::Trace => Some("as its own configuration has it"),
            Feature::TierHard | Feature::TierSoft => {
                Some("is refused with parents: stores whatever it fetches")
            }
            Feature::FenceDaemon | Feature::FenceControl => Some("does not ask for a lease"),
            _ => None,
        }
    }

    async fn start(setting: &Setting<'_>) -> Self {
        let server = Server::start(setting, "without-script", "").await;
        let caches = format!(
            "[caches.http]\naddress = \"{}\"\nothers = \"empty\"\n\
             empty = [{:?}, {EMPTY_SECONDS:?}, \"--run-root={}\"]\n",
            server.visitors,
            shipped("without-script/empty"),
            server.root.display()
        );
        let daemon = Daemon::edge(setting, &caches).await;
        Self { daemon, server }
    }

    fn visitors(&self) -> SocketAddr {
        self.server.visitors
    }

    fn check(&self, page: &str) -> Option<Vec<String>> {
        let args = ["http", "--connect", &self.visitors().to_string(), "--host", HOSTS[0], "--page", page]
            .map(str::to_owned)
            .to_vec();
        Some(args)
    }

    fn daemon(&mut self) -> &mut Daemon {
        &mut self.daemon
    }

    async fn restart_cache(&mut self) {
        self.server.restart().await;
    }
}

conformance!(PurgeByUrl);
