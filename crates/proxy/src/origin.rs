//! Where a request goes.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use batoff_types::Hostname;
use parking_lot::Mutex;

/// How long a resolved address is used before the name is asked again.
const RESOLVED_FOR: Duration = Duration::from_secs(10);

/// An origin as it is configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    host: String,
    port: u16,
}

/// Which origin serves which host.
#[derive(Debug)]
pub struct Origins {
    fallback: Option<Arc<Origin>>,
    by_host: HashMap<Hostname, Arc<Origin>>,
}

#[derive(Debug)]
struct Origin {
    upstream: Upstream,
    resolved: Mutex<Option<(SocketAddr, Instant)>>,
}

/// A request cannot be sent anywhere.
#[derive(Debug, thiserror::Error)]
pub enum NoOrigin {
    /// Nothing is configured for its host.
    #[error("no origin is configured for this host")]
    NotConfigured,
    /// The origin's name has no address.
    #[error("cannot resolve the origin {host}: {why}")]
    Unresolved {
        /// The name.
        host: String,
        /// Why.
        why: String,
    },
}

impl Upstream {
    /// Parses `http://host[:port]`; the error is the rule that is broken.
    pub fn parse(text: &str) -> Result<Self, String> {
        let uri: http::Uri = text.parse().map_err(|_| format!("{text:?} is not a URL"))?;
        match uri.scheme_str() {
            Some("http") => {}
            Some("https") => {
                return Err(format!("{text:?}: this build speaks plain HTTP to origins; put TLS in front"));
            }
            _ => return Err(format!("{text:?} must begin with http://")),
        }
        if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
            return Err(format!("{text:?} must not have a path; requests are passed on as they came"));
        }
        let host = uri.host().ok_or_else(|| format!("{text:?} has no host"))?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        Ok(Self { host, port: uri.port_u16().unwrap_or(80) })
    }
}

impl Origins {
    /// From the configuration.
    pub fn new(fallback: Option<Upstream>, by_host: Vec<(Hostname, Upstream)>) -> Self {
        let origin = |upstream| Arc::new(Origin { upstream, resolved: Mutex::new(None) });
        Self {
            fallback: fallback.map(origin),
            by_host: by_host.into_iter().map(|(host, upstream)| (host, origin(upstream))).collect(),
        }
    }

    /// The address to connect to for a request to `host` (without a port).
    pub async fn address(&self, host: Option<&str>) -> Result<SocketAddr, NoOrigin> {
        let named = host.and_then(|host| self.by_host.get(host));
        let origin = named.or(self.fallback.as_ref()).ok_or(NoOrigin::NotConfigured)?;
        origin.address().await
    }
}

impl Origin {
    async fn address(&self) -> Result<SocketAddr, NoOrigin> {
        let known = *self.resolved.lock();
        if let Some((address, at)) = known
            && at.elapsed() < RESOLVED_FOR
        {
            return Ok(address);
        }
        let Upstream { host, port } = &self.upstream;
        let found = match tokio::net::lookup_host((host.as_str(), *port)).await {
            Ok(mut addresses) => addresses.next().ok_or_else(|| "it has no address".to_owned()),
            Err(error) => Err(error.to_string()),
        };
        match (found, known) {
            (Ok(address), _) => {
                *self.resolved.lock() = Some((address, Instant::now()));
                Ok(address)
            }
            // The resolver is away; the address was good a moment ago.
            (Err(_), Some((address, _))) => Ok(address),
            (Err(why), None) => Err(NoOrigin::Unresolved { host: host.clone(), why }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_a_scheme_a_host_and_a_port() {
        assert_eq!(
            Upstream::parse("http://127.0.0.1:8000").unwrap(),
            Upstream { host: "127.0.0.1".into(), port: 8000 }
        );
        assert_eq!(
            Upstream::parse("http://o.example/").unwrap(),
            Upstream { host: "o.example".into(), port: 80 }
        );
        assert_eq!(Upstream::parse("http://[::1]:1").unwrap(), Upstream { host: "::1".into(), port: 1 });
        assert!(Upstream::parse("https://o.example").unwrap_err().contains("TLS"));
        assert!(Upstream::parse("http://o.example/path").unwrap_err().contains("path"));
        assert!(Upstream::parse("o.example").is_err());
    }

    #[tokio::test]
    async fn a_host_of_its_own_wins_over_the_fallback() {
        let (one, two) = ("http://127.0.0.1:1", "http://127.0.0.1:2");
        let by_host = vec![("a.test".parse().unwrap(), Upstream::parse(two).unwrap())];
        let origins = Origins::new(Some(Upstream::parse(one).unwrap()), by_host.clone());
        assert_eq!(origins.address(Some("a.test")).await.unwrap().port(), 2);
        assert_eq!(origins.address(Some("b.test")).await.unwrap().port(), 1);
        assert_eq!(origins.address(None).await.unwrap().port(), 1);
        let origins = Origins::new(None, by_host);
        assert!(matches!(origins.address(Some("b.test")).await, Err(NoOrigin::NotConfigured)));
    }
}
