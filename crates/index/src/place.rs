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
    /// Every object whose tags [overflow](batoff_types::CacheTags::overflows), under the hostnames that the site owns at
    /// evaluation. Each purge of a tag of the site leaves a rule here too.
    Overflow(SiteId),
}

/// The tag that an object carries here in the place of all those that nobody knows: no tag has a comma, so none is this
/// one. What asks for tags asks for this among them, and an object without overflow costs nothing more.
pub(crate) const OVERFLOW: &str = ",";

impl Place {
    /// Where what the selector names lies; [`Place::all_of`] says where else its rule is needed.
    pub(crate) fn of(site: &SiteId, selector: &Selector) -> Self {
        match selector {
            Selector::Url(url) => Self::Url(url.key().into()),
            Selector::Prefix(prefix) => Self::Prefix(prefix.key().into()),
            Selector::Tag(tag) => Self::Tag(site.clone(), tag.clone()),
            Selector::Host(host) => Self::Host(HostPattern::Exact(host.clone())),
            Selector::Everything => Self::Site(site.clone()),
        }
    }

    /// All the places in which a purge of `site` with that selector leaves a rule.
    pub fn all_of(site: &SiteId, selector: &Selector) -> impl Iterator<Item = Self> + use<> {
        let overflow = matches!(selector, Selector::Tag(_)).then(|| Self::Overflow(site.clone()));
        std::iter::once(Self::of(site, selector)).chain(overflow)
    }

    /// The place in a cache whose keys have no port.
    #[must_use]
    pub fn without_port(self) -> Self {
        let cut = |key: &str| -> Option<Arc<str>> {
            let (host, authority) = (host_of(key), authority_of(key));
            (host.len() < authority.len()).then(|| [host, &key[authority.len()..]].concat().into())
        };
        match &self {
            Self::Url(key) => cut(key).map(Self::Url),
            Self::Prefix(key) => cut(key).map(Self::Prefix),
            Self::Whole | Self::Site(_) | Self::Host(_) | Self::Tag(..) | Self::Overflow(_) => None,
        }
        .unwrap_or(self)
    }

    /// The bytes of its names.
    pub(crate) fn text_bytes(&self) -> usize {
        match self {
            Self::Whole => 0,
            Self::Site(site) | Self::Overflow(site) => site.as_str().len(),
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
