//! Where a request goes.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
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
    is_parent: bool,
}

/// Where one request is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Destination {
    /// The address to connect to.
    pub address: SocketAddr,
    /// Another cache is there, which may know of fewer purges than this node.
    pub is_parent: bool,
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
        Ok(Self { host, port: uri.port_u16().unwrap_or(80), is_parent: false })
    }

    /// The same, as a cache between this node and the origin or as the origin itself.
    pub fn as_parent(self, is_parent: bool) -> Self {
        Self { is_parent, ..self }
    }

    /// Whether it is this address, so that requests to it would come back.
    pub fn is(&self, listen: SocketAddr) -> bool {
        let host: Option<IpAddr> = self.host.parse().ok();
        let own = host
            .is_some_and(|host| host == listen.ip() || listen.ip().is_unspecified() && host.is_loopback());
        own && self.port == listen.port() && listen.port() != 0
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

    /// Where a request to `host` (without a port) is sent.
    pub async fn destination(&self, host: Option<&str>) -> Result<Destination, NoOrigin> {
        let named = host.and_then(|host| self.by_host.get(host));
        let origin = named.or(self.fallback.as_ref()).ok_or(NoOrigin::NotConfigured)?;
        Ok(Destination { address: origin.address().await?, is_parent: origin.upstream.is_parent })
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
        let Upstream { host, port, .. } = &self.upstream;
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
        for (text, host, port) in [
            ("http://127.0.0.1:8000", "127.0.0.1", 8000),
            ("http://o.example/", "o.example", 80),
            ("http://[::1]:1", "::1", 1),
        ] {
            let upstream = Upstream { host: host.into(), port, is_parent: false };
            assert_eq!(Upstream::parse(text).unwrap(), upstream);
        }
        assert!(Upstream::parse("https://o.example").unwrap_err().contains("TLS"));
        assert!(Upstream::parse("http://o.example/path").unwrap_err().contains("path"));
        assert!(Upstream::parse("o.example").is_err());
    }

    #[test]
    fn a_proxy_knows_itself() {
        let is = |text: &str, listen: &str| Upstream::parse(text).unwrap().is(listen.parse().unwrap());
        assert!(is("http://127.0.0.1:8090", "127.0.0.1:8090") && is("http://127.0.0.1:8090", "0.0.0.0:8090"));
        assert!(!is("http://127.0.0.1:8091", "127.0.0.1:8090") && !is("http://127.0.0.1:80", "127.0.0.1:0"));
        assert!(
            !is("http://10.0.0.1:8090", "127.0.0.1:8090") && !is("http://o.example:8090", "0.0.0.0:8090")
        );
    }

    #[tokio::test]
    async fn a_host_of_its_own_wins_over_the_fallback() {
        let (one, two) = ("http://127.0.0.1:1", "http://127.0.0.1:2");
        let by_host = vec![("a.test".parse().unwrap(), Upstream::parse(two).unwrap().as_parent(true))];
        let origins = Origins::new(Some(Upstream::parse(one).unwrap()), by_host.clone());
        let to =
            async |host| origins.destination(host).await.map(|to| (to.address.port(), to.is_parent)).unwrap();
        assert_eq!(to(Some("a.test")).await, (2, true));
        assert_eq!(to(Some("b.test")).await, (1, false));
        assert_eq!(to(None).await, (1, false));
        let origins = Origins::new(None, by_host);
        assert!(matches!(origins.destination(Some("b.test")).await, Err(NoOrigin::NotConfigured)));
    }
}
