//! The figures of a node. Each is there from the start, at 0, so that its absence is an alarm and not a habit.

use batoff_delivery::Arrivals;
use batoff_types::{Body, Record, Replica};
use metrics::{counter, describe_counter, describe_gauge, gauge};

/// Why objects left because of a record. The label `reason` of `batoff_edge_evicted_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EvictReason {
    /// A hard purge.
    Purge,
    /// A soft purge; the object stays and is stale.
    SoftPurge,
    /// A hostname changed hands.
    SiteChange,
    /// A record that this build does not know, applied as a flush.
    Unknown,
    /// A reset, or a rule that was widened to keep their number bounded.
    Leftover,
}

impl EvictReason {
    /// That of what this record hits.
    pub const fn of(record: &Record) -> Self {
        match &record.body {
            Body::Purge(purge) if purge.soft => Self::SoftPurge,
            Body::Purge(_) => Self::Purge,
            Body::Site(_) => Self::SiteChange,
            Body::NodeRegistered(_) | Body::NodeRemoved(_) | Body::ReplicaSet(_) | Body::Unknown => {
                Self::Unknown
            }
        }
    }

    const ALL: [Self; 5] = [Self::Purge, Self::SoftPurge, Self::SiteChange, Self::Unknown, Self::Leftover];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Purge => "purge",
            Self::SoftPurge => "soft_purge",
            Self::SiteChange => "site_change",
            Self::Unknown => "unknown",
            Self::Leftover => "leftover",
        }
    }
}

/// Gauges that have no value until there is something to tell.
const GAUGES: [(&str, &str); 8] = [
    ("batoff_edge_index_part_bytes", "Memory of the index in bytes, by what it is for, estimated"),
    ("batoff_edge_index_urls", "URLs of the objects in the index"),
    ("batoff_edge_index_tags", "Tags of the objects in the index"),
    ("batoff_edge_trouble", "1 while a cache cannot be reached or refuses"),
    ("batoff_edge_replica_connected", "1 while this control plane has welcomed this node"),
    ("batoff_edge_replica_lease_remaining_seconds", "Seconds until the lease of this control plane ends"),
    (
        "batoff_edge_replica_prompt",
        "1 while this control plane is to bring records at once, 0 while it is only to fill in",
    ),
    (
        "batoff_edge_replica_behind_seconds",
        "How much later than another one this control plane brought the last record that it brought; 0 when it was first",
    ),
];

/// Declares the node's figures at 0.
pub(crate) fn declare() {
    describe_gauge!("batoff_edge_applied_seq", "The last record whose rule is in force on this node");
    describe_gauge!(
        "batoff_edge_acked_seq",
        "The last record that can certainly not be served by any cache here"
    );
    describe_counter!("batoff_edge_evicted_total", "Objects made unservable (or stale) by a record");
    describe_gauge!("batoff_edge_index_entries", "Objects in the index");
    describe_gauge!("batoff_edge_index_bytes", "Memory of the index in bytes, estimated");
    describe_gauge!("batoff_edge_index_rules", "Rules in force");
    describe_gauge!(
        "batoff_edge_index_overflowing",
        "Objects in the index with tags that are not indexed, so that every purge of a tag of their site hits them"
    );
    describe_counter!(
        "batoff_edge_tags_overflowed_total",
        "Objects that came with more tags than their site allows, or with malformed ones"
    );
    describe_gauge!("batoff_edge_sweep_backlog", "Records whose objects are still being removed");
    describe_gauge!("batoff_edge_lease_remaining_seconds", "Seconds until the lease ends; 0 without one");
    GAUGES.into_iter().for_each(|(name, help)| describe_gauge!(name, help));
    describe_counter!("batoff_edge_cache_restarts_total", "Times a cache was found to have started anew");
    describe_counter!(
        "batoff_edge_reconnects_total",
        "Attempts to open a stream to the control plane after one that failed or ended"
    );
    describe_counter!("batoff_edge_gaps_total", "Gaps in the order of records; must stay 0");
    describe_counter!("batoff_edge_resets_total", "Times this node had to drop everything");
    describe_gauge!(
        "batoff_edge_certificate_expires_timestamp_seconds",
        "When the node's certificate (cert), or the last authority it trusts (ca), ends, in seconds of Unix time"
    );
    describe_gauge!(
        "batoff_edge_certificate_refused",
        "1 while the certificates' files cannot be used; those of before are in use, if there are any"
    );
    describe_gauge!("batoff_edge_connected", "1 while a control plane has welcomed this node");
    describe_counter!(
        "batoff_edge_replica_first_total",
        "Records that this control plane was the first to bring"
    );
    describe_counter!(
        "batoff_edge_replica_filled_in_total",
        "Records that this control plane brought because those that were to bring them at once had not"
    );
    describe_gauge!(
        "batoff_edge_parents_seq",
        "The last record that no node between this one and the origins can serve any more; 0 when that is not known, and \
         without parents"
    );
    for name in [
        "batoff_edge_applied_seq",
        "batoff_edge_parents_seq",
        "batoff_edge_acked_seq",
        "batoff_edge_index_entries",
        "batoff_edge_index_bytes",
        "batoff_edge_index_rules",
        "batoff_edge_sweep_backlog",
        "batoff_edge_lease_remaining_seconds",
        "batoff_edge_connected",
        "batoff_edge_certificate_refused",
    ] {
        gauge!(name).set(0.0);
    }
    for name in [
        "batoff_edge_reconnects_total",
        "batoff_edge_gaps_total",
        "batoff_edge_resets_total",
        "batoff_edge_tags_overflowed_total",
    ] {
        counter!(name).absolute(0);
    }
    for reason in EvictReason::ALL {
        evicted(reason, 0);
    }
}

pub(crate) fn evicted(reason: EvictReason, objects: u64) {
    counter!("batoff_edge_evicted_total", "reason" => reason.as_str()).increment(objects);
}

/// When the node's certificate and its authorities end, in seconds of Unix time.
pub(crate) fn certificate_ends(cert: Option<u64>, ca: Option<u64>) {
    for (file, end) in [("cert", cert), ("ca", ca)] {
        let Some(end) = end else { continue };
        gauge!("batoff_edge_certificate_expires_timestamp_seconds", "file" => file).set(end as f64);
    }
}

pub(crate) fn certificate_refused(is_refused: bool) {
    gauge!("batoff_edge_certificate_refused").set(f64::from(u8::from(is_refused)));
}

pub(crate) fn replica_connected(replica: Replica, is_connected: bool) {
    let connected = f64::from(u8::from(is_connected));
    gauge!("batoff_edge_replica_connected", "replica" => replica.0.to_string()).set(connected);
}

/// What one control plane grants and brings.
pub(crate) fn replica(
    replica: Replica,
    leased_for: std::time::Duration,
    is_prompt: bool,
    arrivals: Arrivals,
) {
    let label = replica.0.to_string();
    gauge!("batoff_edge_replica_lease_remaining_seconds", "replica" => label.clone())
        .set(leased_for.as_secs_f64());
    gauge!("batoff_edge_replica_behind_seconds", "replica" => label.clone())
        .set(arrivals.behind.as_secs_f64());
    gauge!("batoff_edge_replica_prompt", "replica" => label.clone()).set(f64::from(u8::from(is_prompt)));
    counter!("batoff_edge_replica_filled_in_total", "replica" => label.clone()).absolute(arrivals.filled_in);
    counter!("batoff_edge_replica_first_total", "replica" => label).absolute(arrivals.first);
}

pub(crate) fn parents(through: batoff_types::Cursor) {
    gauge!("batoff_edge_parents_seq").set(through.get() as f64);
}

pub(crate) fn tags_overflowed() {
    counter!("batoff_edge_tags_overflowed_total").increment(1);
}

/// A cache, or something that one depends on, cannot be reached or refuses; or does so no longer.
pub fn trouble(cache: &str, in_trouble: bool) {
    gauge!("batoff_edge_trouble", "cache" => cache.to_owned()).set(f64::from(u8::from(in_trouble)));
}

pub(crate) fn applied(cursor: batoff_types::Cursor) {
    gauge!("batoff_edge_applied_seq").set(cursor.get() as f64);
}

pub(crate) fn index(stats: &batoff_index::Stats) {
    gauge!("batoff_edge_index_entries").set(stats.entries as f64);
    gauge!("batoff_edge_index_bytes").set(stats.bytes.total() as f64);
    let bytes = &stats.bytes;
    let parts = [("urls", bytes.urls), ("order", bytes.order), ("tags", bytes.tags), ("rules", bytes.rules)];
    for (part, bytes) in parts.into_iter().chain([("free", bytes.free)]) {
        gauge!("batoff_edge_index_part_bytes", "part" => part).set(bytes as f64);
    }
    gauge!("batoff_edge_index_urls").set(stats.urls as f64);
    gauge!("batoff_edge_index_tags").set(stats.tags as f64);
    gauge!("batoff_edge_index_overflowing").set(stats.overflowing as f64);
    gauge!("batoff_edge_index_rules").set(stats.rules as f64);
    gauge!("batoff_edge_sweep_backlog").set(stats.backlog as f64);
    gauge!("batoff_edge_applied_seq").set(stats.applied.get() as f64);
}

pub(crate) fn lease_remaining(remaining: std::time::Duration) {
    gauge!("batoff_edge_lease_remaining_seconds").set(remaining.as_secs_f64());
}
