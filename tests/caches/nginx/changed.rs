//! nginx with something otherwise than it is shipped.

use std::net::SocketAddr;

use super::{Changes, Nginx};
use crate::conformance;
use crate::daemon::Daemon;
use crate::feature::Feature;
use crate::subject::{Setting, Subject};

/// A daemon that takes over what it finds.
pub const ADOPTS: usize = 0;
/// Keys that do not follow the daemon's template.
pub const ODD_KEYS: usize = 1;
/// A fill hop that stamps nothing, and no guard that would miss the stamps.
pub const NO_STAMPS: usize = 2;

/// A daemon that hears of files through fanotify.
pub const FANOTIFY: usize = 3;

/// An nginx that asks the origin whether what it has is still right.
pub const REVALIDATES: usize = 4;

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
                (" $batoff_bypass $batoff_moved;", " $batoff_bypass;".to_owned()),
            ],
        },
        REVALIDATES => Changes {
            nginx: vec![("proxy_cache_revalidate off;", "proxy_cache_revalidate on;".to_owned())],
            ..Changes::default()
        },
        FANOTIFY => Changes { daemon: "watch = \"fanotify\"".to_owned(), ..Changes::default() },
        other => panic!("no change {other}"),
    }
}

impl<const CHANGE: usize> Changed<CHANGE> {
    /// As it is under the change.
    pub fn nginx(&self) -> &Nginx {
        &self.0
    }
}

impl<const CHANGE: usize> Subject for Changed<CHANGE> {
    const NAME: &'static str = "nginx, changed";

    const LISTED: bool = false;

    // One of all caches meets what a file system does on a disk: the one that reads and unlinks files itself.
    const ON_DISK: bool = CHANGE == FANOTIFY;

    fn lacks(_: Feature) -> Option<&'static str> {
        (CHANGE == FANOTIFY && !rustix::process::geteuid().is_root()).then_some("needs CAP_SYS_ADMIN")
    }

    async fn start(setting: &Setting<'_>) -> Self {
        Self(Nginx::with(setting, &changes(CHANGE)).await)
    }

    fn visitors(&self) -> SocketAddr {
        self.0.visitors()
    }

    fn check(&self, page: &str) -> Option<Vec<String>> {
        self.0.check(page)
    }

    fn daemon(&mut self) -> &mut Daemon {
        self.0.daemon()
    }

    async fn restart_cache(&mut self) {
        self.0.restart_cache().await;
    }
}

conformance!(Changed<FANOTIFY>;
    an_answer_is_stored_and_served_again,
    every_variant_goes_with_its_url,
    a_tag_takes_what_carries_it_and_only_of_its_site,
    a_soft_purge_brings_the_next_version,
    a_fill_before_its_header_does_not_survive_a_purge_by_tag,
    a_fill_in_its_body_does_not_survive_a_purge,
    purges_while_the_daemon_was_down_take_effect,
    a_burst_of_purges_takes_effect,
    one_purge_takes_many_objects,
);
