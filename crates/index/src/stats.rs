use batoff_types::Cursor;

/// How large an index is, and how far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Objects registered, each variant one; those that are Gone and not yet swept among them.
    pub entries: u64,
    /// Of those, objects under hostnames that no site owns any more: they are Gone and not yet swept.
    pub unowned: u64,
    /// Distinct URLs.
    pub urls: u64,
    /// Distinct tags that some object carries.
    pub tags: u64,
    /// Objects whose tags overflow: every purge of a tag of their site hits them.
    pub overflowing: u64,
    /// Rules in force.
    pub rules: u64,
    /// Records (and folded rules) whose objects have not all been swept.
    pub backlog: u64,
    /// Rules that were widened because there were more than
    /// [`IndexConfig::rules_max`](crate::IndexConfig::rules_max), since the start.
    pub folded: u64,
    /// What was applied.
    pub applied: Cursor,
    /// See [`Index::forget`](crate::Index::forget).
    pub forgotten_through: Cursor,
    /// Memory by part.
    pub bytes: Bytes,
}

/// How large an index is, in two figures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Size {
    /// As [`Stats::entries`].
    pub entries: u64,
    /// As [`Bytes::total`].
    pub bytes: u64,
}

/// Memory, in bytes, as it is allocated: whole capacities, without the allocator's own overhead and without what locators
/// own themselves. Only the rules' and the ordered sets' nodes are estimated, by their number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bytes {
    /// The objects' records, with the part of their URLs that is their own, and the table that finds them.
    pub urls: u64,
    /// The directories, and their order by host, for prefixes.
    pub order: u64,
    /// Tags and which entries carry them.
    pub tags: u64,
    /// Rules.
    pub rules: u64,
    /// What of the above is unused at the moment, and kept for objects to come: a purge frees memory for the next fills,
    /// and gives it back to the system when nothing is held any more.
    pub free: u64,
}

impl Bytes {
    /// All parts together.
    pub const fn total(&self) -> u64 {
        self.urls + self.order + self.tags + self.rules
    }
}
