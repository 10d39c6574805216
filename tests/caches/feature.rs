//! The rows of the table.

/// Something that a cache can do, shown by one story of the suite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feature {
    /// An answer is stored and served again.
    Fill,
    /// By URL, nothing beside it.
    Url,
    /// Whatever way of writing a URL a visitor chose.
    Spelling,
    /// All variants of a URL.
    Variants,
    /// By prefix.
    Prefix,
    /// By tag.
    Tag,
    /// An object with more tags than are indexed: by every tag of its site.
    Overflow,
    /// A URL whose port the visitor, or the purge, names in another way.
    Ports,
    /// By hostname.
    Host,
    /// Everything of a site.
    Everything,
    /// Nothing is kept under hostnames that no site owns; a dot behind a hostname makes no other one.
    Unowned,
    /// Soft: stale, not gone.
    Soft,
    /// What the origin takes back after a soft purge is not served stale.
    Withdrawn,
    /// A soft purge of what must not be served stale is a hard one.
    MustRevalidate,
    /// A fill whose header is still to come when a URL is purged.
    RaceHeaderUrl,
    /// A fill whose header is still to come when a tag is purged.
    RaceHeaderTag,
    /// A fill whose header is still to come when a prefix is purged.
    RaceHeaderPrefix,
    /// A fill in the middle of its body.
    RaceBody,
    /// Strict: nothing is served from cache when the daemon is dead.
    FenceDaemon,
    /// Strict: nothing is served from cache when the control plane is gone.
    FenceControl,
    /// Available: it goes on serving.
    Available,
    /// Purges while the daemon is down take effect when it is back.
    DaemonRestart,
    /// Purges while the cache is down take effect when it is back.
    CacheRestart,
    /// A state directory of another node is no state.
    ForeignState,
    /// Many purges in a row.
    Burst,
    /// One purge that hits many objects.
    Many,
    /// Behind a parent of the same kind that has not applied a purge yet.
    TierHard,
    /// Behind a parent of the same kind that serves stale after a soft purge.
    TierSoft,
    /// Behind a parent of the same kind that the configuration does not name: its check finds it.
    TierUndeclared,
    /// A `Host` that is not in normal form, or differs from the target's, puts nothing under another name.
    HostSpelling,
    /// The answer to a `GET` with a body is nobody else's.
    BodyInGet,
    /// `POST`, `PUT` and `DELETE` take the page (RFC 9111, 4.4).
    Methods,
    /// So do `PATCH` and methods that nobody knows.
    OtherMethods,
    /// `TRACE` does not reach the origin.
    Trace,
}

impl Feature {
    /// All of them, in the order of the table.
    pub const ALL: [Self; 34] = [
        Self::Fill,
        Self::Url,
        Self::Spelling,
        Self::Variants,
        Self::Prefix,
        Self::Tag,
        Self::Overflow,
        Self::Ports,
        Self::Host,
        Self::Everything,
        Self::Unowned,
        Self::Soft,
        Self::Withdrawn,
        Self::MustRevalidate,
        Self::RaceHeaderUrl,
        Self::RaceHeaderTag,
        Self::RaceHeaderPrefix,
        Self::RaceBody,
        Self::FenceDaemon,
        Self::FenceControl,
        Self::Available,
        Self::DaemonRestart,
        Self::CacheRestart,
        Self::ForeignState,
        Self::Burst,
        Self::Many,
        Self::TierHard,
        Self::TierSoft,
        Self::TierUndeclared,
        Self::HostSpelling,
        Self::BodyInGet,
        Self::Methods,
        Self::OtherMethods,
        Self::Trace,
    ];

    /// As the table calls the row.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Fill => "stored and served again",
            Self::Url => "purge by URL, neighbors untouched",
            Self::Spelling => "every spelling of a URL",
            Self::Variants => "every variant (`Vary`)",
            Self::Prefix => "by prefix",
            Self::Tag => "by tag, other sites untouched",
            Self::Overflow => "overflow of tags: by every tag of the site",
            Self::Ports => "ports",
            Self::Host => "by hostname",
            Self::Everything => "everything of a site",
            Self::Unowned => "hosts of no site, and the dot behind a host",
            Self::Soft => "soft purge",
            Self::Withdrawn => "soft purge, then the origin takes the page back",
            Self::MustRevalidate => "soft purge of `must-revalidate` is hard",
            Self::RaceHeaderUrl => "fill race before the header, URL",
            Self::RaceHeaderTag => "fill race before the header, tag",
            Self::RaceHeaderPrefix => "fill race before the header, prefix",
            Self::RaceBody => "fill race in the body",
            Self::FenceDaemon => "strict: fenced when the daemon dies",
            Self::FenceControl => "strict: fenced when the control plane is gone",
            Self::Available => "available: serves on without both",
            Self::DaemonRestart => "purges while the daemon was down",
            Self::CacheRestart => "purges while the cache was down",
            Self::ForeignState => "a state directory of another node",
            Self::Burst => "a burst of purges",
            Self::Many => "one purge of many objects",
            Self::TierHard => "tiers: behind a parent that is behind",
            Self::TierSoft => "tiers: what a parent serves stale",
            Self::TierUndeclared => "tiers: a parent that is not declared is found",
            Self::HostSpelling => "a `Host` that is not in normal form",
            Self::BodyInGet => "a `GET` with a body",
            Self::Methods => "`POST`, `PUT` and `DELETE` take the page",
            Self::OtherMethods => "`PATCH` and unknown methods take the page",
            Self::Trace => "`TRACE` stays here",
        }
    }

    /// Whether it takes two caches.
    pub const fn is_of_tiers(self) -> bool {
        matches!(self, Self::TierHard | Self::TierSoft)
    }
}
