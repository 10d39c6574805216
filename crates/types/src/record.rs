use std::sync::Arc;

use crate::{
    HostPattern, NodeName, Purge, ReplicaSet, Selector, Seq, SiteId, TaskId, TraceParent, UnixMillis,
};

/// One accepted entry of the purge log, with its place in the order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its number.
    pub seq: Seq,
    /// When it was accepted, by the control plane's wall clock. For people; the proof does not use it.
    pub accepted_at: UnixMillis,
    /// The task that a customer follows, or the identity of an administrative change.
    pub task: TaskId,
    /// The id of the request that caused it, the same in every program's log lines.
    pub request_id: Arc<str>,
    /// The lowest [`crate::SEMANTICS_VERSION`] that understands the record.
    pub semantics: u32,
    /// Where what is done with it is written down, if that is traced. For people.
    pub trace: Option<TraceParent>,
    /// What it says.
    pub body: Body,
}

/// What a record says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// Matching objects must no longer be served.
    Purge(Purge),
    /// A site was created, changed or removed.
    Site(SiteChange),
    /// A node counts from here on: purges before its lease are complete without it, purges after are not.
    NodeRegistered(NodeName),
    /// A node was decommissioned.
    NodeRemoved(NodeName),
    /// These control planes count from here on: for purges after it, and for leases of a node that has come as far as it. It
    /// never concerns objects.
    ReplicaSet(ReplicaSet),
    /// A kind of record that this build does not know. Applied as a flush of everything: wider, never narrower.
    Unknown,
}

impl Body {
    /// The lowest version of the semantics that understands it.
    ///
    /// | version | what came with it |
    /// | --- | --- |
    /// | 1 | all kinds of record and of selector |
    /// | 2 | URLs without the ports 80 and 443 and without a dot behind the host; tags that overflow |
    /// | 3 | the record that says which control planes count |
    pub fn semantics(&self) -> u32 {
        match self {
            // To an older node it is a flush, and the node goes by the set before; so it is not served any more.
            Self::ReplicaSet(_) => 3,
            // An older node keeps objects of one URL under several keys, and knows of none that its tags overflow.
            Self::Purge(purge) if purge.selectors.iter().any(|it| *it != Selector::Everything) => 2,
            Self::Purge(_)
            | Self::Site(_)
            | Self::NodeRegistered(_)
            | Self::NodeRemoved(_)
            | Self::Unknown => 1,
        }
    }
}

/// The new state of a site. On each host of `affected` a hard rule is written, so that nothing cached under an earlier
/// owner is served under the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SiteChange {
    /// Which site.
    pub site: SiteId,
    /// The names it owns from now on; `None` when the site is removed.
    pub hostnames: Option<Vec<HostPattern>>,
    /// Names whose owner changes by this record.
    pub affected: Vec<HostPattern>,
    /// What differs from the defaults; of it, nodes heed `tags_per_response` alone.
    pub limits: SiteLimits,
}

/// A site's limits where they differ from the defaults.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SiteLimits {
    /// URL and tag items a minute (and at once).
    pub items_per_minute: Option<u32>,
    /// Prefix, host and *everything* items a minute (and at once).
    pub prefixes_per_minute: Option<u32>,
    /// Tags indexed of one response, up to [`TAGS_PER_RESPONSE_LIMIT`](crate::TAGS_PER_RESPONSE_LIMIT).
    pub tags_per_response: Option<u32>,
}
