//! nginx with something otherwise than it is shipped.

use std::net::SocketAddr;

use super::{Changes, Nginx};
use crate::daemon::Daemon;
use crate::feature::Feature;
use crate::subject::{Setting, Subject};

/// A daemon that takes over what it finds.
pub const ADOPTS: usize = 0;
/// Keys that do not follow the daemon's template.
pub const ODD_KEYS: usize = 1;
/// A fill hop that stamps nothing, and no guard that would miss the stamps.
pub const NO_STAMPS: usize = 2;

/// nginx with one of the changes.
pub struct Changed<const CHANGE: usize>(Nginx);

fn changes(change: usize) -> Changes {
    match change {
        ADOPTS => Changes { daemon: "adopt = \"trust\"".to_owned(), ..Changes::default() },
        ODD_KEYS => Changes {
            nginx: vec![("proxy_cache_key \"$scheme://", "proxy_cache_key \"odd $scheme://".to_owned())],
            ..Changes::default()
        },
        NO_STAMPS => Changes {
            daemon: "fill_window_secs = 2".to_owned(),
            nginx: vec![
                ("add_header X-Fill-Gen $batoff_gen always;", String::new()),
                ("proxy_no_cache $batoff_bypass $batoff_moved;", "proxy_no_cache $batoff_bypass;".to_owned()),
            ],
        },
        other => panic!("no change {other}"),
    }
}

impl<const CHANGE: usize> Subject for Changed<CHANGE> {
    const NAME: &'static str = "nginx, changed";

    fn lacks(_: Feature) -> Option<&'static str> {
        None
    }

    async fn start(setting: &Setting<'_>) -> Self {
        Self(Nginx::with(setting, &changes(CHANGE)).await)
    }

    fn visitors(&self) -> SocketAddr {
        self.0.visitors()
    }

    fn daemon(&mut self) -> &mut Daemon {
        self.0.daemon()
    }

    async fn restart_cache(&mut self) {
        self.0.restart_cache().await;
    }
}
