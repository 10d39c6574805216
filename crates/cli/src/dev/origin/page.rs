use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

use http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use parking_lot::Mutex;

/// Pages that are counted one by one; when there are more, counting begins anew.
const COUNTED_PAGES_MAX: usize = 100_000;

/// What a path of the origin asks for.
#[derive(Debug, PartialEq, Eq)]
pub struct PageSpec {
    /// Host, path and query (and the language where it matters): what is counted.
    pub name: String,
    host: String,
    path: String,
    /// `/status/<code>/…`, otherwise 200.
    pub status: StatusCode,
    /// `/slow/<ms>/…`
    pub slow_ms: Option<u64>,
    /// `/vary/…`: the visitor's languages.
    pub language: Option<String>,
    /// `/product/<n>`: its `Cache-Tag`.
    pub tags: Option<HeaderValue>,
}

impl PageSpec {
    /// The page at `uri` for a visitor who sends `headers`.
    pub fn of(uri: &Uri, headers: &HeaderMap) -> Self {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let host = text(header::HOST).to_owned();
        let path = uri.path_and_query().map_or_else(|| "/".to_owned(), ToString::to_string);
        let mut segments = uri.path().trim_start_matches('/').split('/');
        let (kind, argument) = (segments.next().unwrap_or_default(), segments.next().unwrap_or_default());
        let language = (kind == "vary").then(|| text(header::ACCEPT_LANGUAGE).to_owned());
        Self {
            name: format!("{host}{path} {}", language.as_deref().unwrap_or_default()),
            status: if kind == "status" { status(argument) } else { StatusCode::OK },
            slow_ms: if kind == "slow" { argument.parse().ok() } else { None },
            tags: if kind == "product" { tags(argument) } else { None },
            language,
            host,
            path,
        }
    }

    /// The same for every answer of this start of the origin; weak, as the body counts.
    pub fn etag(&self, modified: &str) -> String {
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        for byte in self.name.bytes().chain(modified.bytes()) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        format!("W/\"{hash:016x}\"")
    }

    /// Names the path and says how often it was asked for.
    pub fn body(&self, number: u64) -> String {
        let language =
            self.language.as_ref().map(|language| format!("language: {language}\n")).unwrap_or_default();
        format!("batoff dev origin\nhost: {}\npath: {}\n{language}request: {number}\n", self.host, self.path)
    }
}

fn status(argument: &str) -> StatusCode {
    let code = argument.parse().ok().filter(|code| (200..=599).contains(code));
    code.and_then(|code| StatusCode::from_u16(code).ok()).unwrap_or(StatusCode::BAD_REQUEST)
}

fn tags(product: &str) -> Option<HeaderValue> {
    if product.is_empty() || product.contains(',') {
        return None;
    }
    HeaderValue::from_str(&format!("product:{product}, catalog")).ok()
}

/// How often each page was asked for.
#[derive(Debug, Default)]
pub struct Counters {
    counts: Mutex<HashMap<u64, u64>>,
    hasher: RandomState,
}

impl Counters {
    /// Counts a request; its number, from 1.
    pub fn count(&self, page: &str) -> u64 {
        let key = self.hasher.hash_one(page);
        let mut counts = self.counts.lock();
        if counts.len() >= COUNTED_PAGES_MAX && !counts.contains_key(&key) {
            counts.clear();
        }
        let count = counts.entry(key).or_default();
        *count += 1;
        *count
    }
}
