//! What a request asks for, as the purge side sees it.

use batoff_types::{PurgeUrl, Scheme};
use http::{Method, header};
use pingora::http::RequestHeader;

/// A page that can be cached: known by its URL in normal form, which purges name, and by the bytes that were asked for,
/// which the origin answers to. Two spellings of one URL are two objects, and one purge hits both.
#[derive(Clone, Debug)]
pub struct Page {
    /// What a purge calls it.
    pub url: PurgeUrl,
    /// What its primary cache key can be: host and target as they were asked for.
    pub key: Vec<u8>,
}

impl Page {
    /// The page that `request` asks for; `None` when it is not for the cache: another method, a target that is no path, a
    /// `Host` that is missing or doubled, a URL that has no normal form (and so could not be purged), an upgrade.
    pub fn of(request: &RequestHeader) -> Option<Self> {
        if !matches!(request.method, Method::GET | Method::HEAD)
            || request.headers.contains_key(header::UPGRADE)
        {
            return None;
        }
        let target = std::str::from_utf8(request.raw_path()).ok().filter(|target| target.starts_with('/'))?;
        if request.uri.authority().is_some() {
            return None;
        }
        let authority = authority(request)?;
        // Visitors may come through TLS that ends before us, so either default port says nothing.
        let scheme = if authority.ends_with(":443") { Scheme::Https } else { Scheme::Http };
        let url = PurgeUrl::of_request(scheme, authority, target).ok()?;
        let key_of_url = url.key();
        let authority = key_of_url.split_once('/').map_or(key_of_url, |(authority, _)| authority);
        let mut key = Vec::with_capacity(authority.len() + target.len());
        key.extend_from_slice(authority.as_bytes());
        key.extend_from_slice(target.as_bytes());
        Some(Self { url, key })
    }
}

/// The one `Host` of a request, with its port.
pub fn authority(request: &RequestHeader) -> Option<&str> {
    let mut hosts = request.headers.get_all(header::HOST).iter();
    match (hosts.next(), hosts.next()) {
        (Some(host), None) => host.to_str().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(method: &str, target: &str, hosts: &[&str]) -> RequestHeader {
        let mut request = RequestHeader::build(method, target.as_bytes(), None).unwrap();
        for host in hosts {
            request.append_header(header::HOST, *host).unwrap();
        }
        request
    }

    #[test]
    fn a_page_is_known_by_its_normal_form_and_kept_by_its_spelling() {
        let plain = Page::of(&request("GET", "/~u/b?q=%2f", &["WWW.example.TEST"])).unwrap();
        let escaped = Page::of(&request("HEAD", "/a/../%7Eu/b?q=%2F", &["www.example.test:80"])).unwrap();
        assert_eq!(plain.url.key(), "www.example.test/~u/b?q=%2F");
        assert_eq!(plain.url.key(), escaped.url.key());
        assert_ne!(plain.key, escaped.key);
        for (host, key) in [
            ("www.example.test:443", "www.example.test/"),
            ("www.example.test:80", "www.example.test/"),
            ("www.example.test:8443", "www.example.test:8443/"),
        ] {
            let page = Page::of(&request("GET", "/", &[host])).unwrap();
            assert_eq!((page.url.key(), page.key.as_slice()), (key, key.as_bytes()));
        }
    }

    #[test]
    fn what_cannot_be_purged_is_not_for_the_cache() {
        for (method, target, hosts) in [
            ("POST", "/", &["a.test"][..]),
            ("GET", "/", &[]),
            ("GET", "/", &["a.test", "b.test"]),
            ("GET", "/", &["a.test/x"]),
            ("GET", "/", &["not a host"]),
            ("GET", "http://b.test/", &["a.test"]),
        ] {
            assert!(Page::of(&request(method, target, hosts)).is_none(), "{method} {target} {hosts:?}");
        }
    }
}
