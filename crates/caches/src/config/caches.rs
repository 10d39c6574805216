use batoff_edge::config::ConfigError;
use batoff_types::message::LeasePolicy;
use serde::Deserialize;

use crate::haproxy::HaproxySection;
use crate::http::HttpSection;
use crate::local::LocalSection;
use crate::nginx::NginxSection;
use crate::trafficserver::TrafficServerSection;
use crate::varnish::VarnishSection;

/// `[caches]`: what this daemon drives, one table a kind.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CachesSection {
    /// Really no cache at all: the daemon follows, keeps its rules and acknowledges. For measuring and for tests.
    #[serde(default)]
    pub none: bool,
    /// `[caches.nginx]`
    pub nginx: Option<NginxSection>,
    /// `[caches.varnish]`
    pub varnish: Option<VarnishSection>,
    /// `[caches.haproxy]`
    pub haproxy: Option<HaproxySection>,
    /// `[caches.trafficserver]`
    pub trafficserver: Option<TrafficServerSection>,
    /// `[caches.http]`
    pub http: Option<HttpSection>,
    /// `[caches.local]`
    pub local: Option<LocalSection>,
}

impl CachesSection {
    /// Whether the keys of all caches have ports. nginx's `$host` has none, so there a purge hits whatever port it names.
    pub fn keys_have_ports(&self) -> bool {
        self.nginx.is_none()
    }

    /// The kinds that are configured.
    fn kinds(&self) -> Vec<&'static str> {
        let kinds = [
            ("nginx", self.nginx.is_some()),
            ("varnish", self.varnish.is_some()),
            ("haproxy", self.haproxy.is_some()),
            ("trafficserver", self.trafficserver.is_some()),
            ("http", self.http.is_some()),
            ("local", self.local.is_some()),
        ];
        kinds.into_iter().filter_map(|(name, there)| there.then_some(name)).collect()
    }

    /// Checks what types cannot say; `policy` is what the node does without a lease.
    pub fn validate(&self, policy: LeasePolicy) -> Result<(), ConfigError> {
        let kinds = self.kinds();
        match (self.none, kinds.first()) {
            (true, Some(kind)) => {
                return Err(ConfigError::invalid(
                    "caches.none",
                    format!("is true, but there is a [caches.{kind}]; drop one of the two"),
                ));
            }
            (false, None) => {
                return Err(ConfigError::invalid(
                    "caches",
                    "names no cache, so nothing on this node would be evicted; add a table such as [caches.nginx], run \
                     batoff-proxy, which has its cache and the daemon in one process, or set `none = true` to follow the \
                     purges without a cache",
                ));
            }
            (true, None) | (false, Some(_)) => {}
        }
        if let Some(section) = &self.nginx {
            section.validate()?;
        }
        if let Some(section) = &self.varnish {
            section.validate()?;
        }
        if let Some(section) = &self.haproxy {
            section.validate()?;
        }
        if let Some(section) = &self.trafficserver {
            section.validate()?;
        }
        if let Some(section) = &self.http {
            section.validate(self.local.is_some())?;
        }
        if let Some(section) = &self.local {
            section.validate(policy)?;
        }
        Ok(())
    }
}
