//! What a request asks for, as the purge side sees it.

use batoff_types::{PurgeUrl, Scheme};
use http::{HeaderMap, Method, header};
use pingora::http::RequestHeader;

/// A page: known by its URL in normal form, which purges name, and by the bytes that were asked for, which the origin
/// answers to. Two spellings of one target are two objects, and one purge hits both.
///
/// Of a host there is one spelling only: key and origin get the same, or a visitor could store the answer to
/// `www%2Eexample.test` under the name that everybody uses.
#[derive(Clone, Debug)]
pub struct Page {
    /// What a purge calls it.
    pub url: PurgeUrl,
    /// What its primary cache key can be: the host in normal form, and the target as it was asked for.
    pub key: Vec<u8>,
}

impl Page {
    /// The page that `request` asks for, when it is for the cache. `None` with
    ///
    /// * another method than `GET` and `HEAD`, an upgrade;
    /// * a body: it would be part of the question and not of the key;
    /// * a field that `Connection` takes away from the origin (RFC 9110, section 7.6.1) while `Vary` may key on it;
    /// * a `Host` that is not literally in normal form, because it is sent on as it is. A proxy that sends
    ///   [`Page::authority`] on can write it into the request first;
    /// * whatever [`Page::named`] has no name for.
    pub fn of(request: &RequestHeader) -> Option<Self> {
        if !Self::is_all_that_is_asked(request) {
            return None;
        }
        Self::named(request).filter(|page| authority(request) == Some(page.authority()))
    }

    /// Whether a page is all that `request` asks for: the first three points of [`Page::of`], for a proxy that has the
    /// page's name already and has written its host into the request.
    pub fn is_all_that_is_asked(request: &RequestHeader) -> bool {
        let headers = &request.headers;
        matches!(request.method, Method::GET | Method::HEAD)
            && !headers.contains_key(header::UPGRADE)
            && !has_body(headers)
            && !takes_fields_away(headers)
    }

    /// The page that `request` names, whatever it wants of it and however it spells its host. `None` with a target that
    /// is no path (an absolute one, too), a `Host` that is missing or doubled, and a URL that has no normal form and so
    /// could not be purged.
    pub fn named(request: &RequestHeader) -> Option<Self> {
        let target = std::str::from_utf8(request.raw_path()).ok().filter(|target| target.starts_with('/'))?;
        if request.uri.authority().is_some() {
            return None;
        }
        let authority = authority(request)?;
        // Visitors may come through TLS that ends before us, so either default port says nothing.
        let scheme = if authority.ends_with(":443") { Scheme::Https } else { Scheme::Http };
        let url = PurgeUrl::of_request(scheme, authority, target).ok()?;
        let authority = authority_of(&url);
        let mut key = Vec::with_capacity(authority.len() + target.len());
        key.extend_from_slice(authority.as_bytes());
        key.extend_from_slice(target.as_bytes());
        Some(Self { url, key })
    }

    /// Its host in normal form, with its port: what `Host` has to say to the origin, because the key says it.
    pub fn authority(&self) -> &str {
        authority_of(&self.url)
    }
}

fn authority_of(url: &PurgeUrl) -> &str {
    url.key().split_once('/').map_or(url.key(), |(authority, _)| authority)
}

/// The one `Host` of a request, with its port.
pub fn authority(request: &RequestHeader) -> Option<&str> {
    let mut hosts = request.headers.get_all(header::HOST).iter();
    match (hosts.next(), hosts.next()) {
        (Some(host), None) => host.to_str().ok(),
        _ => None,
    }
}

fn has_body(headers: &HeaderMap) -> bool {
    headers.contains_key(header::TRANSFER_ENCODING)
        || headers.get_all(header::CONTENT_LENGTH).iter().any(|length| length.as_bytes() != b"0")
}

/// Whether `Connection` names a field that is not taken from every request anyway.
fn takes_fields_away(headers: &HeaderMap) -> bool {
    const ALWAYS_TAKEN: [&[u8]; 8] = [
        b"close",
        b"keep-alive",
        b"te",
        b"trailer",
        b"upgrade",
        b"http2-settings",
        b"proxy-connection",
        b"connection",
    ];
    let lines = headers.get_all(header::CONNECTION).iter();
    lines.flat_map(|line| line.as_bytes().split(|&byte| byte == b',')).map(<[u8]>::trim_ascii).any(|option| {
        !option.is_empty() && !ALWAYS_TAKEN.iter().any(|taken| option.eq_ignore_ascii_case(taken))
    })
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
    fn a_page_is_known_by_its_normal_form_and_kept_by_the_spelling_of_its_target() {
        let plain = Page::of(&request("GET", "/~u/b?q=%2f", &["www.example.test"])).unwrap();
        let escaped = Page::named(&request("HEAD", "/a/../%7Eu/b?q=%2F", &["WWW.example.test:80"])).unwrap();
        assert_eq!(plain.url.key(), "www.example.test/~u/b?q=%2F");
        assert_eq!(plain.url.key(), escaped.url.key());
        assert_ne!(plain.key, escaped.key);
    }

    #[test]
    fn a_host_has_one_spelling_for_the_key_and_for_the_origin() {
        for (host, authority) in [
            ("www.example.test", "www.example.test"),
            ("www.example.test:8443", "www.example.test:8443"),
            ("WWW.example.TEST", "www.example.test"),
            ("www%2Eexample.test", "www.example.test"),
            ("www.example.test:443", "www.example.test"),
            ("www.example.test:80", "www.example.test"),
            ("www.example.test:", "www.example.test"),
            ("www.example.test:08443", "www.example.test:8443"),
        ] {
            let mut asked = request("GET", "/", &[host]);
            let page = Page::named(&asked).unwrap();
            assert_eq!(
                (page.authority(), page.key.as_slice()),
                (authority, format!("{authority}/").as_bytes())
            );
            assert_eq!(Page::of(&asked).is_some(), host == authority, "{host}");
            asked.insert_header(header::HOST, page.authority()).unwrap();
            assert_eq!(Page::of(&asked).unwrap().key, page.key, "{host}");
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

    #[test]
    fn what_the_key_does_not_say_of_a_request_is_not_for_the_cache() {
        let is_for_the_cache = |name: &'static str, value: &str| {
            let mut request = request("GET", "/", &["a.test"]);
            request.append_header(name, value).unwrap();
            Page::of(&request).is_some()
        };
        for (name, value, expected) in [
            ("content-length", "0", true),
            ("content-length", "3", false),
            ("transfer-encoding", "chunked", false),
            ("connection", "Keep-Alive, close,", true),
            ("connection", "close, Accept-Language", false),
            ("connection", "cookie", false),
            ("upgrade", "websocket", false),
        ] {
            assert_eq!(is_for_the_cache(name, value), expected, "{name}: {value}");
        }
    }
}
