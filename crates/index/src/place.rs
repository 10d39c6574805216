use std::sync::Arc;

use batoff_types::{HostPattern, Selector, Seq, SiteId, Tag};
use memchr::{memchr, memchr2};

/// Where a rule stands: what it hits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// Every object, whoever owns its hostname.
    Whole,
    /// Every object under the hostnames that the site owns at evaluation.
    Site(SiteId),
    /// Every object under these names, on any port.
    Host(HostPattern),
    /// Every object whose [`key`](batoff_types::PurgeUrl::key) begins with these bytes.
    Prefix(Arc<str>),
    /// Every variant under this [`key`](batoff_types::PurgeUrl::key).
    Url(Arc<str>),
    /// Every object that carries the tag, under the hostnames that the site owns at evaluation.
    Tag(SiteId, Tag),
}

impl Place {
    /// Where a purge of `site` with that selector leaves its rule.
    pub fn of(site: &SiteId, selector: &Selector) -> Self {
        match selector {
            Selector::Url(url) => Self::Url(url.key().into()),
            Selector::Prefix(prefix) => Self::Prefix(prefix.key().into()),
            Selector::Tag(tag) => Self::Tag(site.clone(), tag.clone()),
            Selector::Host(host) => Self::Host(HostPattern::Exact(host.clone())),
            Selector::Everything => Self::Site(site.clone()),
        }
    }

    /// The bytes of its names.
    pub(crate) fn text_bytes(&self) -> usize {
        match self {
            Self::Whole => 0,
            Self::Site(site) => site.as_str().len(),
            Self::Host(HostPattern::Exact(name) | HostPattern::Under(name)) => name.as_str().len(),
            Self::Prefix(text) | Self::Url(text) => text.len(),
            Self::Tag(site, tag) => site.as_str().len() + tag.as_str().len(),
        }
    }
}

/// One rule as plain data: in a [`Snapshot`](crate::Snapshot).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rule {
    /// What it hits.
    pub place: Place,
    /// An object whose fetch began before this record is Gone.
    pub hard: Option<Seq>,
    /// An object whose fetch began before this record is at least Stale.
    pub soft: Option<Seq>,
}

/// The hostname in a key `host[:port]/path`; an IPv6 literal keeps its brackets.
#[inline]
pub(crate) fn host_of(key: &str) -> &str {
    let from = if key.starts_with('[') { memchr(b']', key.as_bytes()).unwrap_or(0) } else { 0 };
    let end = memchr2(b':', b'/', &key.as_bytes()[from..]).map_or(key.len(), |at| from + at);
    &key[..end]
}

/// The authority `host[:port]` in a key or a prefix.
#[inline]
pub(crate) fn authority_of(key: &str) -> &str {
    &key[..memchr(b'/', key.as_bytes()).unwrap_or(key.len())]
}
