//! Where an API listens, whom to trust there, and the connections to it.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use reqwest::{Certificate, Identity, Method, Request, Url, header};

use crate::Error;

/// A connection that is not there after this long is given up; the call counts as `Unavailable`.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// An answer that has not come after this long is given up (a wait asked of the API is added to it).
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// The same where there is another control plane to ask. One that works answers within five seconds, and be it that it does
/// not know.
const ANSWER_TIMEOUT_OF_SEVERAL: Duration = Duration::from_secs(8);

/// A connection to one of several that is not there after this long is given up for another's.
const CONNECT_TIMEOUT_OF_SEVERAL: Duration = Duration::from_secs(2);

/// Where an API listens, and whom to trust there: one control plane, or several that share a store. Of several, one is
/// asked as long as it answers, and then the next.
#[derive(Clone)]
pub struct Endpoint {
    /// At least one; all with the same path, for it is a part of what is signed.
    bases: Vec<Url>,
    text: String,
    roots: Option<Vec<Certificate>>,
    identity: Option<Identity>,
    language: Option<&'static str>,
}

impl Endpoint {
    /// The API's base, such as `https://purge.example.net/v1`; without a path, `/v1` is meant. Of several control planes,
    /// their bases with commas between them; they must have the same path.
    pub fn new(base: &str) -> Result<Self, Error> {
        Self::with_default_path(base, "/v1")
    }

    /// The admin API's base, such as `http://127.0.0.1:8082`; without a path, `/admin/v1` is meant. Of several control planes,
    /// their bases with commas between them.
    pub fn admin(base: &str) -> Result<Self, Error> {
        Self::with_default_path(base, "/admin/v1")
    }

    fn with_default_path(text: &str, path: &str) -> Result<Self, Error> {
        let bases = text.split(',').map(|one| base(one.trim(), path)).collect::<Result<Vec<_>, _>>()?;
        if let Some(other) = bases.iter().find(|other| other.path() != bases[0].path()) {
            return Err(Error::Unusable(format!(
                "{other} has another path than {}: a request that is signed for one must be good for all; give them the same",
                bases[0]
            )));
        }
        let text = bases.iter().map(Url::as_str).collect::<Vec<_>>().join(",");
        Ok(Self { bases, text, roots: None, identity: None, language: None })
    }

    /// Trust the certificates in this PEM file *instead of* the system's: for an API with a private authority.
    pub fn with_ca_file(mut self, path: &Path) -> Result<Self, Error> {
        let unusable = |why: &dyn fmt::Display| Error::Unusable(format!("CA file {}: {why}", path.display()));
        let pem = std::fs::read(path).map_err(|e| unusable(&e))?;
        let roots = Certificate::from_pem_bundle(&pem).map_err(|e| unusable(&e))?;
        if roots.is_empty() {
            return Err(unusable(&"it holds no certificate in PEM form"));
        }
        self.roots = Some(roots);
        Ok(self)
    }

    /// Show this certificate chain and key (PEM files) to a server that asks for them: an admin API beyond loopback does.
    pub fn with_identity_files(mut self, cert: &Path, key: &Path) -> Result<Self, Error> {
        let read = |path: &Path| {
            std::fs::read(path)
                .map_err(|e| Error::Unusable(format!("client certificate {}: {e}", path.display())))
        };
        let mut pem = read(key)?;
        pem.push(b'\n');
        pem.extend(read(cert)?);
        let identity = Identity::from_pem(&pem).map_err(|e| {
            Error::Unusable(format!("{} with {}: {}", cert.display(), key.display(), causes(&e)))
        })?;
        self.identity = Some(identity);
        Ok(self)
    }

    /// Asks for refusals in this language, such as `ru`, where the API has them.
    pub fn with_language(mut self, language: &'static str) -> Self {
        self.language = Some(language);
        self
    }

    /// Whether tokens would cross a network in the clear.
    pub fn is_plaintext_beyond_loopback(&self) -> bool {
        self.bases.iter().any(|base| base.scheme() == "http" && !is_loopback(base))
    }

    /// The API's base, without a slash at the end; of several all, with commas between them.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether there is more than one control plane to ask.
    pub(crate) fn is_several(&self) -> bool {
        self.bases.len() > 1
    }

    /// How long an answer is waited for that the API gives at once.
    pub(crate) fn answer_timeout(&self) -> Duration {
        if self.is_several() { ANSWER_TIMEOUT_OF_SEVERAL } else { ANSWER_TIMEOUT }
    }

    /// A request under the base; segments and values are escaped here, so nothing escapes its place.
    pub(crate) fn request(&self, method: Method, segments: &[&str], query: &[(&str, String)]) -> Request {
        let mut url = self.bases[0].clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.extend(segments);
        }
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let mut request = Request::new(method, url);
        *request.timeout_mut() = Some(self.answer_timeout());
        request
    }

    pub(crate) fn connect(&self) -> Result<Connections, Error> {
        if rustls::crypto::CryptoProvider::get_default().is_none() {
            // Another thread may have been faster; then its provider is in force, which is as good.
            let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        }
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("batoff-client/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(if self.is_several() { CONNECT_TIMEOUT_OF_SEVERAL } else { CONNECT_TIMEOUT })
            .redirect(reqwest::redirect::Policy::none());
        if self.bases.iter().all(|base| base.scheme() == "http") {
            // Without TLS no roots are needed, and a machine without any must not fail over them.
            builder = builder.tls_certs_only([]);
        } else if let Some(roots) = &self.roots {
            builder = builder.tls_certs_only(roots.iter().cloned());
        }
        if let Some(identity) = &self.identity {
            builder = builder.identity(identity.clone());
        }
        if let Some(language) = self.language {
            let languages = [(header::ACCEPT_LANGUAGE, header::HeaderValue::from_static(language))];
            builder = builder.default_headers(languages.into_iter().collect());
        }
        if self.bases.iter().all(is_loopback) {
            builder = builder.no_proxy();
        }
        let http = builder
            .build()
            .map_err(|e| Error::Unusable(format!("no HTTP client for {}: {}", self.text, causes(&e))))?;
        Ok(Connections { http, bases: self.bases.clone().into(), at: Arc::default() })
    }
}

fn base(text: &str, path: &str) -> Result<Url, Error> {
    let unusable = |why: &dyn fmt::Display| {
        Error::Unusable(format!(
            "{text:?} is not the address of an API ({why}); give one like https://host{path}"
        ))
    };
    let mut base = Url::parse(text).map_err(|e| unusable(&e))?;
    if !matches!(base.scheme(), "http" | "https") || !base.has_host() {
        return Err(unusable(&"it must begin with https:// or http://"));
    }
    if base.query().is_some() || base.fragment().is_some() || !base.username().is_empty() {
        return Err(unusable(&"it must have no user, query or fragment"));
    }
    if base.path() == "/" {
        base.set_path(path);
    }
    let trimmed = base.path().trim_end_matches('/').to_owned();
    base.set_path(&trimmed);
    Ok(base)
}

fn is_loopback(base: &Url) -> bool {
    match base.host_str() {
        Some("localhost") => true,
        Some(host) => {
            let host = host.trim_start_matches('[').trim_end_matches(']');
            host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
        }
        None => false,
    }
}

/// The connections to an endpoint, shared by all clones.
#[derive(Clone)]
pub(crate) struct Connections {
    pub http: reqwest::Client,
    bases: Arc<[Url]>,
    /// Who is asked.
    at: Arc<AtomicUsize>,
}

impl Connections {
    /// How many control planes there are.
    pub(crate) fn count(&self) -> usize {
        self.bases.len()
    }

    /// Which of them is asked now.
    pub(crate) fn at(&self) -> usize {
        self.at.load(Ordering::Relaxed) % self.bases.len()
    }

    /// That one is of no use; the next is asked, unless somebody else has said so already.
    pub(crate) fn leave(&self, at: usize) {
        let next = (at + 1) % self.bases.len();
        let _ = self.at.compare_exchange(at, next, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// The same request, to one of them.
    pub(crate) fn addressed(&self, request: &Request, at: usize) -> Option<Request> {
        let mut copy = request.try_clone()?;
        if at > 0 {
            let mut url = self.bases[at].clone();
            url.set_path(request.url().path());
            url.set_query(request.url().query());
            *copy.url_mut() = url;
        }
        Some(copy)
    }
}

impl fmt::Debug for Connections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.bases.iter().map(Url::as_str)).finish()
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Endpoint({})", self.text)
    }
}

/// An error with all its causes in one line: reqwest's own text hides the interesting half.
pub(crate) fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_address_gets_its_version() {
        assert_eq!(Endpoint::new("https://api.example.net").unwrap().as_str(), "https://api.example.net/v1");
        assert_eq!(
            Endpoint::new("https://api.example.net/v1/").unwrap().as_str(),
            "https://api.example.net/v1"
        );
        assert_eq!(Endpoint::new("https://h/eu/v1").unwrap().as_str(), "https://h/eu/v1");
        assert_eq!(
            Endpoint::admin("http://127.0.0.1:8082").unwrap().as_str(),
            "http://127.0.0.1:8082/admin/v1"
        );
    }

    #[test]
    fn what_is_no_address_is_refused_with_an_example() {
        for bad in ["", "api.example.net", "ftp://x/v1", "https://u@x/v1", "https://x/v1?a=b"] {
            let error = Endpoint::new(bad).unwrap_err().to_string();
            assert!(error.contains("https://"), "{bad}: {error}");
        }
    }

    #[test]
    fn several_have_one_path_and_get_the_same_bytes() {
        let endpoint = Endpoint::new("https://a.test, https://b.test:8443/v1/").unwrap();
        assert_eq!(endpoint.as_str(), "https://a.test/v1,https://b.test:8443/v1");
        let error = Endpoint::new("https://a.test/v1,https://b.test/eu/v1").unwrap_err().to_string();
        assert!(error.contains("https://b.test/eu/v1 has another path"), "{error}");
        assert!(Endpoint::new("https://a.test,").is_err());
        let connection = Endpoint::new("http://127.0.0.1:1,http://127.0.0.1:2").unwrap().connect().unwrap();
        let query = [("cursor", "a&b=c d".to_owned())];
        let request = Endpoint::new("http://127.0.0.1:1,http://127.0.0.1:2").unwrap();
        let request = request.request(Method::GET, &["sites", "a/../b?x", "purges"], &query);
        let url = |at| connection.addressed(&request, at).unwrap().url().to_string();
        assert_eq!(url(0), "http://127.0.0.1:1/v1/sites/a%2F..%2Fb%3Fx/purges?cursor=a%26b%3Dc+d");
        assert_eq!(url(1), url(0).replace(":1/", ":2/"));
        connection.leave(0);
        connection.leave(0);
        assert_eq!(connection.at(), 1);
        connection.leave(1);
        assert_eq!(connection.at(), 0);
    }

    #[test]
    fn names_stay_in_their_segment() {
        let endpoint = Endpoint::new("http://127.0.0.1:1/v1").unwrap();
        let query = [("cursor", "a&b=c d".to_owned())];
        let request = endpoint.request(Method::GET, &["sites", "a/../b?x", "purges"], &query);
        assert_eq!(request.url().path(), "/v1/sites/a%2F..%2Fb%3Fx/purges");
        assert_eq!(request.url().query(), Some("cursor=a%26b%3Dc+d"));
    }

    #[test]
    fn plain_http_is_for_loopback() {
        let plain = |text| Endpoint::new(text).unwrap().is_plaintext_beyond_loopback();
        assert!(plain("http://10.0.0.1/v1"));
        assert!(!plain("http://127.0.0.1:8080/v1"));
        assert!(!plain("http://[::1]:8080/v1"));
        assert!(!plain("http://localhost:8080/v1"));
        assert!(!plain("https://10.0.0.1/v1"));
        assert!(plain("https://10.0.0.1/v1,http://10.0.0.2/v1"));
    }
}
