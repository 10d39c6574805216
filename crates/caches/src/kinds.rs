//! The kinds of caches, one row each. **Where a cache is added:** write its folder, in it a section of the configuration that
//! implements [`Section`], and its row below. Everything that goes through the kinds (`[caches]`, `--check`, `check <kind>`,
//! the doctor, the start of the daemon) is made of these rows.

use batoff_edge::cache::Cache;
use batoff_edge::config::ConfigError;
use batoff_program::doctor::folder::FolderUse;
use batoff_program::doctor::{Diagnosis, Severity};
use serde::Deserialize;

use crate::section::{Beside, Section};
use crate::shared::glance::AREA;
use crate::shared::report::{CheckError, Report};
use crate::{CacheOpenError, Locator, Surroundings};

#[macro_use]
mod rows;

// In the order of the configuration's keys and of the start. The text is what `batoff-edge check --help` says of it.
kinds! {
    /// nginx beside this daemon, with the configuration of deploy/nginx.
    nginx: Nginx(crate::nginx::NginxSection),
    /// Varnish beside this daemon, with deploy/varnish/batoff.vcl.
    varnish: Varnish(crate::varnish::VarnishSection),
    /// HAProxy beside this daemon, with the configuration of deploy/haproxy.
    haproxy: Haproxy(crate::haproxy::HaproxySection),
    /// Traffic Server beside this daemon, with the script of deploy/trafficserver.
    trafficserver: Trafficserver(crate::trafficserver::TrafficServerSection),
    /// A cache that is told by HTTP what to remove.
    http: Http(crate::http::HttpSection),
    /// Caches that register what they store.
    local: Local(crate::local::LocalSection),
}

impl CachesSection {
    /// Checks that there is a cache, or that none is meant, and what types cannot say of each.
    ///
    /// # Errors
    /// The key and the remedy.
    pub fn validate(&self, beside: &Beside) -> Result<(), ConfigError> {
        match (self.none, self.names().first()) {
            (true, Some(kind)) => Err(ConfigError::invalid(
                "caches.none",
                format!("is true, but there is a [caches.{kind}]; drop one of the two"),
            )),
            (false, None) => Err(ConfigError::invalid(
                "caches",
                "names no cache, so nothing on this node would be evicted; add a table such as [caches.nginx], run \
                 batoff-proxy, which has its cache and the daemon in one process, or set `none = true` to follow the \
                 purges without a cache",
            )),
            (true, None) | (false, Some(_)) => self.validate_each(beside),
        }
    }
}
