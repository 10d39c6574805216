//! What a purge hits: [`Selector::matches`] is the specification.

use std::fmt;

use crate::{CacheTags, Hostname, PurgeUrl, SiteId, Tag, UrlPrefix};

/// What a purge matches.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Selector {
    /// That URL, with every variant, under `http` and `https`.
    Url(PurgeUrl),
    /// Every URL whose normal form begins with these bytes.
    Prefix(UrlPrefix),
    /// Every object of the site that carries the tag, or may: one whose tags overflow ([`CacheTags::overflows`]).
    Tag(Tag),
    /// Everything under one hostname, on any port.
    Host(Hostname),
    /// Everything of the site.
    Everything,
}

/// The kinds of [`Selector`], as the API and the metrics name them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SelectorKind {
    /// `url`
    Url,
    /// `prefix`
    Prefix,
    /// `tag`
    Tag,
    /// `host`
    Host,
    /// `everything`
    Everything,
}

impl SelectorKind {
    /// All kinds, in the order of the API.
    pub const ALL: [Self; 5] = [Self::Url, Self::Prefix, Self::Tag, Self::Host, Self::Everything];

    /// The kind's name in the API and in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Url => "url",
            Self::Prefix => "prefix",
            Self::Tag => "tag",
            Self::Host => "host",
            Self::Everything => "everything",
        }
    }

    /// The kind with that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}

impl fmt::Display for SelectorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A cached response, as far as a purge can see it.
#[derive(Clone, Copy, Debug)]
pub struct Object<'a> {
    /// The site that owns the object's hostname *now*; `None` when no site does.
    pub site: Option<&'a SiteId>,
    /// Its URL in normal form.
    pub url: &'a PurgeUrl,
    /// Its tags.
    pub tags: &'a CacheTags,
}

impl Selector {
    /// Whether a purge of `site` with this selector hits `object`: **the specification** of invalidation.
    ///
    /// URLs, prefixes and hosts hit by name alone: that the name belongs to the site was checked when the purge was
    /// accepted, and a hostname that changes hands gets a hard rule of its own. A tag, and *everything*, hit only
    /// objects under hostnames that the site owns when the question is asked. An object whose tags overflow carries, as
    /// far as anybody knows, every tag.
    ///
    /// A cache whose keys have no port is asked with URLs and selectors that have none either
    /// ([`PurgeUrl::without_port`], [`UrlPrefix::without_port`]): there, a purge hits whatever port it names.
    pub fn matches(&self, site: &SiteId, object: &Object<'_>) -> bool {
        match self {
            Self::Url(url) => url.key() == object.url.key(),
            Self::Prefix(prefix) => prefix.matches(object.url),
            Self::Tag(tag) => {
                object.site == Some(site) && (object.tags.overflows() || object.tags.tags.contains(tag))
            }
            Self::Host(host) => host.as_str() == object.url.host(),
            Self::Everything => object.site == Some(site),
        }
    }

    /// Which kind of selector this is.
    pub const fn kind(&self) -> SelectorKind {
        match self {
            Self::Url(_) => SelectorKind::Url,
            Self::Prefix(_) => SelectorKind::Prefix,
            Self::Tag(_) => SelectorKind::Tag,
            Self::Host(_) => SelectorKind::Host,
            Self::Everything => SelectorKind::Everything,
        }
    }

    /// The selector's value in normal form, as the API shows it; empty for *everything*.
    pub fn value(&self) -> &str {
        match self {
            Self::Url(url) => url.as_str(),
            Self::Prefix(prefix) => prefix.as_str(),
            Self::Tag(tag) => tag.as_str(),
            Self::Host(host) => host.as_str(),
            Self::Everything => "",
        }
    }
}

/// A request that matching objects be no longer served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Purge {
    /// Whose objects.
    pub site: SiteId,
    /// At least one; an object is hit when any of them matches.
    pub selectors: Vec<Selector>,
    /// Mark stale (a cache may serve while it revalidates) instead of removing.
    pub soft: bool,
}
