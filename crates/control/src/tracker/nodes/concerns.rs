//! What about nodes needs somebody's attention, with the reason and since when.

use std::sync::Arc;
use std::time::Duration;

use batoff_types::UnixMillis;

use crate::clock::millis;
use crate::tracker::tasks::cause::LateCause;

/// Concerns that are told of one kind; of more the number is told.
pub const CONCERNS_MAX: usize = 50;

/// A node is late when its oldest unacknowledged record is as old as this: half of the target, and more than the grace
/// after which it loses its lease.
pub const LATE_FROM: Duration = Duration::from_secs(1);

/// A certificate is near its end so long before.
pub const CERTIFICATE_NEAR: Duration = Duration::from_secs(14 * 24 * 3_600);

/// What needs attention, the most urgent kind first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConcernKind {
    /// The store takes no writes, or is nearly full.
    Store,
    /// A node has not acknowledged what is a second old or older.
    LateNode,
    /// A cache cannot be reached, or refuses.
    CacheTrouble,
    /// A node has no lease, and nothing to acknowledge.
    NoLease,
    /// A certificate ends soon, or has ended.
    Certificate,
    /// A site was refused purges because of its quota.
    OverQuota,
}

impl ConcernKind {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Store, Self::LateNode, Self::CacheTrouble, Self::NoLease, Self::Certificate, Self::OverQuota];

    /// Its name in the admin API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Store => "store",
            Self::LateNode => "late_node",
            Self::CacheTrouble => "cache_trouble",
            Self::NoLease => "no_lease",
            Self::Certificate => "certificate",
            Self::OverQuota => "over_quota",
        }
    }
}

/// Something that needs attention.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Concern {
    /// What it is.
    pub kind: ConcernKind,
    /// A node (`fra1/edge-1`), a site, a listener, a folder.
    pub subject: Arc<str>,
    /// What keeps a node.
    pub cause: Option<LateCause>,
    /// In words: what a cache said, how many records a node is behind; may be empty.
    pub detail: String,
    /// Since when, as far as this process knows.
    pub since: Option<UnixMillis>,
    /// When it gets worse: when a certificate ends.
    pub until: Option<UnixMillis>,
}

/// The nodes in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FleetCounts {
    /// Those that are registered.
    pub total: usize,
    /// Those that may serve.
    pub leased: usize,
    /// Connected, and without a lease yet.
    pub joining: usize,
    /// Without a lease.
    pub away: usize,
    /// Of which nothing is known since this start.
    pub unknown: usize,
    /// Those with a stream.
    pub connected: usize,
    /// Those that have a lease and nothing to acknowledge that is older than [`LATE_FROM`].
    pub current: usize,
}

/// How the nodes are, at one moment.
#[derive(Clone, Debug, Default)]
pub struct FleetState {
    /// In numbers.
    pub fleet: FleetCounts,
    /// The number of the last durable record; 0 at the start of the log.
    pub tail: u64,
    /// The number of the last record that no node can serve against.
    pub watermark: u64,
    /// Purges in each of the last [`PULSE_SECONDS`](crate::tracker::PULSE_SECONDS) seconds, the oldest first.
    pub per_second: Vec<u32>,
    /// What needs attention: at most [`CONCERNS_MAX`] of each kind, the oldest first.
    pub concerns: Vec<Concern>,
    /// How many more there are.
    pub concerns_more: usize,
}

impl Concern {
    /// That the certificate of a node or a listener ends; `None` while that is far away.
    pub(crate) fn of_certificate(now: UnixMillis, subject: &str, end: UnixMillis) -> Option<Self> {
        (end.0 <= now.0.saturating_add(millis(CERTIFICATE_NEAR))).then(|| Self {
            kind: ConcernKind::Certificate,
            subject: subject.into(),
            cause: None,
            detail: String::new(),
            since: None,
            until: Some(end),
        })
    }
}

/// At most so many of each kind, in their order, and how many are left out.
pub(crate) fn most_urgent(mut concerns: Vec<Concern>) -> (Vec<Concern>, usize) {
    concerns
        .sort_by(|a, b| (a.kind, a.until, a.since, &a.subject).cmp(&(b.kind, b.until, b.since, &b.subject)));
    let all = concerns.len();
    let mut of_kind = 0;
    let mut kind = None;
    concerns.retain(|concern| {
        of_kind = if kind == Some(concern.kind) { of_kind + 1 } else { 1 };
        kind = Some(concern.kind);
        of_kind <= CONCERNS_MAX
    });
    let more = all - concerns.len();
    (concerns, more)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn concern(kind: ConcernKind, subject: &str, since: u64) -> Concern {
        Concern {
            kind,
            subject: subject.into(),
            cause: None,
            detail: String::new(),
            since: Some(UnixMillis(since)),
            until: None,
        }
    }

    #[test]
    fn the_most_urgent_come_first_and_a_flood_of_one_kind_hides_no_other() {
        let mut all: Vec<_> =
            (0..70).map(|at| concern(ConcernKind::NoLease, &format!("fra1/edge-{at}"), 1_000 + at)).collect();
        all.push(concern(ConcernKind::OverQuota, "shop", 5));
        all.push(concern(ConcernKind::LateNode, "waw1/edge-2", 9_000));
        all.push(concern(ConcernKind::LateNode, "waw1/edge-1", 8_000));
        let (told, more) = most_urgent(all);
        assert_eq!((told.len(), more), (2 + CONCERNS_MAX + 1, 20));
        let subjects: Vec<&str> = told.iter().map(|concern| &*concern.subject).collect();
        assert_eq!((subjects[0], subjects[1], subjects[2]), ("waw1/edge-1", "waw1/edge-2", "fra1/edge-0"));
        assert_eq!(subjects.last(), Some(&"shop"));
    }

    #[test]
    fn a_certificate_is_told_of_two_weeks_before_its_end_and_after_it() {
        let day = 24 * 3_600_000;
        let now = UnixMillis(100 * day);
        let told = |end: u64| Concern::of_certificate(now, "grpc", UnixMillis(end * day)).is_some();
        assert_eq!([told(115), told(114), told(99)], [false, true, true]);
    }
}
