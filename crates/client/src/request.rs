use serde::{Deserialize, Serialize};

/// Items in one request; a request with more is refused whole.
pub const ITEMS_PER_REQUEST_MAX: usize = 200;

/// Prefixes, hosts and *everything* together in one request: the burst of their quota, so more could never pass.
pub const PREFIXES_PER_REQUEST_MAX: usize = 60;

/// Bytes of one request's body; a larger one is refused.
pub const REQUEST_BYTES_MAX: usize = 1024 * 1024;

/// What to purge: the body of a submission. All of it is taken, or nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PurgeRequest {
    /// Exact URLs; each hits all its variants, under `http` and `https`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub urls: Vec<String>,
    /// Beginnings of URLs, compared byte by byte.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub prefixes: Vec<String>,
    /// Tags that the origin gave in `Cache-Tag`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// Hostnames of the site.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<String>,
    /// Everything of the site; stands alone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub everything: bool,
    /// Mark stale instead of removing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub soft: bool,
    /// Refuse the purge if it would hit more cached objects than this. It is a guard: unless every node that may serve
    /// has said how much it would lose, the answer is 503 `count_unavailable`, and nothing was queued.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_objects: Option<u64>,
}

impl PurgeRequest {
    /// And this URL.
    pub fn url(mut self, url: impl Into<String>) -> Self {
        self.urls.push(url.into());
        self
    }

    /// And every URL that begins so.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefixes.push(prefix.into());
        self
    }

    /// And everything that carries this tag.
    pub fn tag(mut self, tag: impl Into<String>) -> Self {
        self.tags.push(tag.into());
        self
    }

    /// And everything under this hostname.
    pub fn host(mut self, host: impl Into<String>) -> Self {
        self.hosts.push(host.into());
        self
    }

    /// Mark stale instead of removing.
    pub fn soft(mut self) -> Self {
        self.soft = true;
        self
    }

    /// How many items it names.
    pub fn items(&self) -> usize {
        self.urls.len() + self.tags.len() + self.prefix_like()
    }

    /// How many of them count against the prefix quota.
    pub fn prefix_like(&self) -> usize {
        self.prefixes.len() + self.hosts.len() + usize::from(self.everything)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_asked_for_is_sent() {
        let request = PurgeRequest::default().url("https://www.example.com/a").soft();
        let body = serde_json::to_string(&request).unwrap();
        assert_eq!(body, r#"{"urls":["https://www.example.com/a"],"soft":true}"#);
    }
}
