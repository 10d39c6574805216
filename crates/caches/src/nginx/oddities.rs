//! Files that no purge can name: their key does not follow the template, or nothing in them can be read.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use batoff_types::PurgeUrl;
use parking_lot::Mutex;

use super::name::FileName;

/// Between two lines in the log about the same thing.
const SAY_EVERY: Duration = Duration::from_secs(60);

/// Bytes of a key that are shown.
const SHOWN: usize = 200;

/// They are counted, named in the log once a minute, and removed by every purge.
#[derive(Debug, Default)]
pub(super) struct Oddities {
    names: Mutex<HashSet<FileName>>,
    said: [Mutex<Option<Instant>>; 4],
}

impl Oddities {
    pub(super) fn unparsable(&self, name: FileName, key: &[u8]) {
        self.names.lock().insert(name);
        metrics::counter!("batoff_edge_nginx_odd_files_total", "reason" => "key").increment(1);
        if self.may_say(0) {
            let shown = String::from_utf8_lossy(&key[..key.len().min(SHOWN)]).into_owned();
            tracing::warn!(
                file = %name,
                key = %shown,
                "this key does not follow caches.nginx.key, so no purge can name it; every purge removes it"
            );
        }
    }

    pub(super) fn unreadable(&self, name: FileName) {
        self.names.lock().insert(name);
        metrics::counter!("batoff_edge_nginx_odd_files_total", "reason" => "format").increment(1);
        if self.may_say(1) {
            tracing::warn!(
                file = %name,
                "this is no cache file of nginx 1.18 to 1.29 on 64 bits, so no purge can name it; every purge removes it"
            );
        }
    }

    pub(super) fn not_plain(&self, name: FileName) {
        self.names.lock().insert(name);
        metrics::counter!("batoff_edge_nginx_odd_files_total", "reason" => "kind").increment(1);
        if self.may_say(2) {
            tracing::warn!(
                file = %name,
                "this is a link, a folder, a device or has a second name, so nginx has not made it; nothing is read from it \
                 or written to it, and every purge takes the name away"
            );
        }
    }

    pub(super) fn without_owner(&self, url: &PurgeUrl) {
        metrics::counter!("batoff_edge_nginx_without_owner_total").increment(1);
        if self.may_say(3) {
            tracing::warn!(%url, "this host belongs to no site, so no purge can name it; what nginx stores of it is taken out");
        }
    }

    /// The file can be named, or is gone.
    pub(super) fn is_regular(&self, name: FileName) {
        self.names.lock().remove(&name);
    }

    /// None of them is there any more.
    pub(super) fn forget_all(&self) {
        self.names.lock().clear();
    }

    pub(super) fn names(&self) -> Vec<FileName> {
        self.names.lock().iter().copied().collect()
    }

    pub(super) fn len(&self) -> usize {
        self.names.lock().len()
    }

    fn may_say(&self, what: usize) -> bool {
        let mut said = self.said[what].lock();
        let due = said.is_none_or(|at| at.elapsed() >= SAY_EVERY);
        if due {
            *said = Some(Instant::now());
        }
        due
    }
}
