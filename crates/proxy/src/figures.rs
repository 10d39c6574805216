//! What the proxy counts.

use metrics::{counter, describe_counter, describe_gauge, gauge};

use crate::answer::Answer;

/// Why an object left. The label `reason` of `batoff_proxy_left_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Left {
    /// A purge hit it.
    Purged,
    /// A newer response took its place.
    Replaced,
    /// There was no room.
    Room,
    /// Its origin gave something else that is not kept (RFC 9111, section 4.3.3).
    Withdrawn,
    /// A visitor changed the page (RFC 9111, section 4.4).
    Changed,
}

/// Why a response was not stored. The label `reason` of `batoff_proxy_not_stored_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotStored {
    /// A purge hit it while it was being fetched.
    Purged,
    /// It is larger than `proxy.object_bytes_max`.
    TooLarge,
    /// It came through a parent that may not have applied a purge that this node has.
    NotVouchedFor,
    /// A parent served it stale.
    Stale,
    /// A visitor changed the page while it was being fetched (RFC 9111, section 4.4).
    Changed,
    /// No site owns its host, so that no purge could reach it.
    NoOwner,
}

/// Which deadline a visitor has missed. The label `reason` of `batoff_proxy_overdue_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Overdue {
    /// No byte came.
    FirstByte,
    /// The header was not whole.
    Header,
}

impl Overdue {
    const ALL: [Self; 2] = [Self::FirstByte, Self::Header];

    const fn as_str(self) -> &'static str {
        match self {
            Self::FirstByte => "first_byte",
            Self::Header => "header",
        }
    }
}

impl Left {
    const ALL: [Self; 5] = [Self::Purged, Self::Replaced, Self::Room, Self::Withdrawn, Self::Changed];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Purged => "purged",
            Self::Replaced => "replaced",
            Self::Room => "room",
            Self::Withdrawn => "withdrawn",
            Self::Changed => "changed",
        }
    }
}

impl NotStored {
    const ALL: [Self; 6] =
        [Self::Purged, Self::TooLarge, Self::NotVouchedFor, Self::Stale, Self::Changed, Self::NoOwner];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Purged => "purged",
            Self::TooLarge => "too_large",
            Self::NotVouchedFor => "not_vouched_for",
            Self::Stale => "stale_at_a_parent",
            Self::Changed => "changed",
            Self::NoOwner => "no_owner",
        }
    }
}

/// Declares the figures at 0.
pub fn declare() {
    describe_counter!("batoff_proxy_requests_total", "Answers by what X-Cache said");
    describe_counter!("batoff_proxy_left_total", "Objects that left the cache");
    describe_counter!("batoff_proxy_not_stored_total", "Cacheable responses that were not stored");
    describe_counter!(
        "batoff_proxy_undeclared_parent_total",
        "Answers that came from another cache, though neither [path] parents nor an origin says that there is one"
    );
    describe_counter!(
        "batoff_proxy_children_passed_total",
        "Objects that were not given to a child because it knew of more purges"
    );
    describe_counter!("batoff_proxy_overdue_total", "Visitors' connections closed because they were silent");
    describe_counter!(
        "batoff_proxy_connections_refused_total",
        "Connections closed because their address had too many"
    );
    describe_gauge!("batoff_proxy_cache_bytes", "Bytes that cached objects count for");
    describe_gauge!("batoff_proxy_cache_objects", "Cached objects");
    for answer in Answer::ALL {
        answered(answer, 0);
    }
    for reason in Left::ALL {
        left(reason, 0);
    }
    for reason in NotStored::ALL {
        counter!("batoff_proxy_not_stored_total", "reason" => reason.as_str()).increment(0);
    }
    for reason in Overdue::ALL {
        counter!("batoff_proxy_overdue_total", "reason" => reason.as_str()).increment(0);
    }
    counter!("batoff_proxy_connections_refused_total").increment(0);
    undeclared_parent(0);
    child_passed(0);
    gauge!("batoff_proxy_cache_bytes").set(0.0);
    gauge!("batoff_proxy_cache_objects").set(0.0);
}

pub(crate) fn answered(answer: Answer, requests: u64) {
    counter!("batoff_proxy_requests_total", "result" => answer.label()).increment(requests);
}

pub(crate) fn left(reason: Left, objects: u64) {
    counter!("batoff_proxy_left_total", "reason" => reason.as_str()).increment(objects);
}

pub(crate) fn not_stored(reason: NotStored) {
    counter!("batoff_proxy_not_stored_total", "reason" => reason.as_str()).increment(1);
}

pub(crate) fn overdue(reason: Overdue) {
    counter!("batoff_proxy_overdue_total", "reason" => reason.as_str()).increment(1);
}

pub(crate) fn connection_refused() {
    counter!("batoff_proxy_connections_refused_total").increment(1);
}

/// An answer carries another cache's marks, and no parent is declared.
pub(crate) fn undeclared_parent(answers: u64) {
    counter!("batoff_proxy_undeclared_parent_total").increment(answers);
}

pub(crate) fn child_passed(objects: u64) {
    counter!("batoff_proxy_children_passed_total").increment(objects);
}
