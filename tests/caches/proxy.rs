//! The reference proxy: cache and daemon in one process.

use std::net::SocketAddr;

use batoff_tests::free_port;

use crate::conformance;
use crate::daemon::Daemon;
use crate::feature::Feature;
use crate::subject::{Setting, Subject};

struct Proxy {
    daemon: Daemon,
    visitors: SocketAddr,
}

impl Subject for Proxy {
    const NAME: &'static str = "batoff-proxy";
    const TIERS: bool = true;

    fn lacks(feature: Feature) -> Option<&'static str> {
        match feature {
            Feature::FenceDaemon => Some("one process: it dies with its cache"),
            _ => None,
        }
    }

    async fn start(setting: &Setting<'_>) -> Self {
        let visitors = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let mut proxy = format!("[proxy]\nlisten = \"{visitors}\"\norigin = \"http://{}\"\n", setting.origin);
        if setting.is_parent {
            proxy.push_str("[shield]\nchildren = [\"127.0.0.1\"]\n");
        }
        Self { daemon: Daemon::start("batoff-proxy", setting, &proxy).await, visitors }
    }

    fn visitors(&self) -> SocketAddr {
        self.visitors
    }

    fn check(&self, _page: &str) -> Option<Vec<String>> {
        None
    }

    fn daemon(&mut self) -> &mut Daemon {
        &mut self.daemon
    }

    async fn restart_cache(&mut self) {
        self.daemon.restart().await;
    }
}

conformance!(Proxy);
