//! What the monitoring listener asks this program.

use batoff_program::monitored::Monitored;
use metrics::gauge;

use crate::store::Store;

/// The daemon, and the cache beside it.
pub struct Monitor<M> {
    /// The daemon.
    pub daemon: M,
    /// The cache.
    pub store: &'static Store,
}

impl<M: Monitored> Monitored for Monitor<M> {
    fn ready(&self) -> Result<(), String> {
        self.daemon.ready()
    }

    fn refresh(&self) {
        self.daemon.refresh();
        gauge!("batoff_proxy_cache_bytes").set(self.store.bytes() as f64);
        gauge!("batoff_proxy_cache_objects").set(self.store.len() as f64);
    }
}
