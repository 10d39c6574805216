//! What Prometheus sees of the control plane. Names that users rely on are present at 0 from the start.

use std::sync::LazyLock;
use std::time::Duration;

use batoff_delivery::NodeState;
use batoff_program::figures::{self, BuildError, PrometheusHandle};
use batoff_program::handshake::HandshakeReason;
use batoff_types::message::{IndexSize, ResetReason};
use batoff_types::{Cursor, NodeName, Replica, SelectorKind};
use metrics::{
    Counter, Histogram, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};

/// Upper bounds in seconds; 2.0, the target, is among them.
const PROPAGATION_BUCKETS: [f64; 13] = [0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0];

/// Upper bounds in seconds of the time that one group commit takes, or one submission waits for its own.
const COMMIT_BUCKETS: [f64; 11] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0];

/// Upper bounds of the records in one group commit.
const BATCH_BUCKETS: [f64; 8] = [1.0, 2.0, 4.0, 16.0, 64.0, 256.0, 1_024.0, 4_096.0];

const ACCEPTED: &str = "batoff_control_purges_accepted_total";
const REPLAYED: &str = "batoff_control_purges_replayed_total";
const REJECTED: &str = "batoff_control_requests_rejected_total";
const PROPAGATION: &str = "batoff_control_propagation_seconds";
const BREACHES: &str = "batoff_control_sla_breaches_total";
const NODES: &str = "batoff_control_nodes";
const LAG_SECONDS: &str = "batoff_control_node_lag_seconds";
const LAG_RECORDS: &str = "batoff_control_node_lag_records";
const INDEX_OBJECTS: &str = "batoff_control_index_objects";
const INDEX_BYTES: &str = "batoff_control_index_bytes";
const TAIL: &str = "batoff_control_log_tail_seq";
const WATERMARK: &str = "batoff_control_watermark_seq";
const COMMIT: &str = "batoff_control_commit_seconds";
const COMMIT_BATCH: &str = "batoff_control_commit_batch_records";
const SUBMISSION: &str = "batoff_control_submission_seconds";
const CONNECTIONS: &str = "batoff_control_node_connections";
const RESETS: &str = "batoff_control_node_resets_total";
const LEASES_LOST: &str = "batoff_control_node_leases_lost_total";
const PROTOCOL_ERRORS: &str = "batoff_control_node_protocol_errors_total";
const CONFLICTS: &str = "batoff_control_node_identity_conflicts_total";
const LIVE_TASKS: &str = "batoff_control_live_tasks";
const SHED: &str = "batoff_control_submissions_shed_total";
const REPORTS_LOST: &str = "batoff_control_reports_lost_total";
const UNREADABLE: &str = "batoff_control_unreadable_records_total";
const AUDIT_ENTRIES: &str = "batoff_control_audit_entries_total";
const CERTIFICATE_ENDS: &str = "batoff_control_certificate_expires_timestamp_seconds";
const NODE_CERTIFICATE_ENDS: &str = "batoff_control_node_certificate_expires_timestamp_seconds";
const CERTIFICATE_REFUSED: &str = "batoff_control_certificate_refused";
const REVOKED_ENTRIES: &str = "batoff_control_revoked_entries";
const REVOKED_REFUSED: &str = "batoff_control_revoked_refused_total";
const HANDSHAKES_FAILED: &str = "batoff_control_handshakes_failed_total";
const AUDIT_FAILURES: &str = "batoff_control_audit_failures_total";
const STATED: &str = "batoff_control_replica_stated_seq";
const HEARD: &str = "batoff_control_replica_heard_seconds";
const COUNTS: &str = "batoff_control_replica_counts";
const DIFFERS: &str = "batoff_control_replica_setting_differs";
const DONE: &str = "batoff_control_done_seq";
const DONE_LAG: &str = "batoff_control_done_lag_records";
const DECLARED: &str = "batoff_control_records_declared_total";
const NEWS_FAILURES: &str = "batoff_control_console_news_failures_total";
const REPLICA_ID: &str = "batoff_replica_id";
const SEAT_SECONDS: &str = "batoff_replica_seat_held_seconds";
const SEAT_LOST: &str = "batoff_replica_stood_down";

/// What every purge is recorded with, looked up once: by then the recorder is there.
struct OfEachPurge {
    /// In the order of [`SelectorKind::ALL`].
    accepted: [Counter; SelectorKind::ALL.len()],
    submission: Histogram,
    propagation: Histogram,
}

static OF_EACH_PURGE: LazyLock<OfEachPurge> = LazyLock::new(|| OfEachPurge {
    accepted: SelectorKind::ALL.map(|kind| counter!(ACCEPTED, "kind" => kind.as_str())),
    submission: histogram!(SUBMISSION),
    propagation: histogram!(PROPAGATION),
});

/// Installs the process's one recorder. What is recorded before is lost, so this comes first in `main`. `codes` are those
/// that a request may be refused with.
pub fn install(codes: impl IntoIterator<Item = &'static str>) -> Result<PrometheusHandle, BuildError> {
    let handle = figures::install(&[
        (PROPAGATION, &PROPAGATION_BUCKETS),
        (COMMIT, &COMMIT_BUCKETS),
        (SUBMISSION, &COMMIT_BUCKETS),
        (COMMIT_BATCH, &BATCH_BUCKETS),
    ])?;
    describe();
    appear(codes);
    Ok(handle)
}

fn describe() {
    describe_counter!(ACCEPTED, "Purge requests made durable, once for each kind of item they hold");
    describe_counter!(REPLAYED, "Purge requests that repeated an accepted one and did nothing");
    describe_counter!(REJECTED, "Requests refused, by the problem's code");
    describe_histogram!(PROPAGATION, "Seconds from durable to completed");
    describe_counter!(BREACHES, "Purges that were not completed within two seconds of becoming durable");
    describe_gauge!(NODES, "Registered nodes by state");
    describe_gauge!(LAG_SECONDS, "Age of the oldest record that the node has not acknowledged");
    describe_gauge!(LAG_RECORDS, "Records that the node has not acknowledged");
    describe_gauge!(
        INDEX_OBJECTS,
        "Cached objects in the nodes' indexes: of all nodes together, and of the largest"
    );
    describe_gauge!(
        INDEX_BYTES,
        "Memory of the nodes' indexes in bytes: of all nodes together, and of the largest"
    );
    describe_gauge!(TAIL, "Number of the last durable record");
    describe_histogram!(COMMIT, "Seconds that one group commit took");
    describe_histogram!(COMMIT_BATCH, "Records in one group commit");
    describe_gauge!(WATERMARK, "Number of the last record that no node can serve against any more");
    describe_histogram!(SUBMISSION, "Seconds that a submission waited for the purge log");
    describe_counter!(SHED, "Submissions refused because more came than could be made durable in time");
    describe_gauge!(CONNECTIONS, "Open streams of nodes");
    describe_counter!(LEASES_LOST, "Leases of nodes that ran out without being renewed");
    describe_counter!(RESETS, "Nodes told to drop everything, by reason");
    describe_counter!(PROTOCOL_ERRORS, "Streams ended because the node broke the protocol");
    describe_counter!(CONFLICTS, "Times that a node's name was used by two live processes");
    describe_gauge!(LIVE_TASKS, "Tasks whose progress is kept in memory");
    describe_counter!(
        REPORTS_LOST,
        "Reports of evicted objects dropped: too many came at once for old tasks, or their records cannot be read"
    );
    describe_counter!(AUDIT_ENTRIES, "Entries written to the audit log");
    describe_counter!(AUDIT_FAILURES, "Times that the audit log could not be written; it is tried again");
    describe_counter!(
        NEWS_FAILURES,
        "Times that a defect kept something from the console's pages that are open; they can be loaded anew"
    );
    describe_gauge!(
        STATED,
        "Of several control planes: the record through which each has stated that it is completed"
    );
    describe_gauge!(HEARD, "Of several control planes: seconds since each was heard of");
    describe_gauge!(
        DIFFERS,
        "Of several control planes: whether one has a setting that all must have alike, and another than the one that tells this"
    );
    describe_gauge!(
        COUNTS,
        "Of several control planes: 1 for each that is in the set, 0 for one that was, or follows the log"
    );
    describe_gauge!(DONE, "Of several control planes: the record through which all is recorded as completed");
    describe_gauge!(
        DONE_LAG,
        "Of several control planes: records in the log that are not recorded as completed"
    );
    describe_counter!(DECLARED, "Of several control planes: records that this one recorded as completed");
    describe_gauge!(
        CERTIFICATE_ENDS,
        "When a listener's certificate (cert), or the last of its clients' authorities (ca), ends, in seconds of Unix time"
    );
    describe_gauge!(
        NODE_CERTIFICATE_ENDS,
        "When the certificate ends that the node showed last, in seconds of Unix time; 0 once the node is removed"
    );
    describe_gauge!(
        CERTIFICATE_REFUSED,
        "1 while a listener's files cannot be used and the certificates of before are in use"
    );
    describe_gauge!(REPLICA_ID, "Which of the control planes beside one log this one is");
    describe_gauge!(
        SEAT_SECONDS,
        "Seconds for which this control plane may grant leases without hearing from the store; absent where it is alone"
    );
    describe_gauge!(SEAT_LOST, "1 once another process has taken this control plane's place");
    describe_gauge!(REVOKED_ENTRIES, "Entries of the list of revoked certificates that is in force");
    describe_counter!(
        REVOKED_REFUSED,
        "Streams and connections that were refused or ended by it, by listener"
    );
    describe_counter!(HANDSHAKES_FAILED, "TLS handshakes that failed, by listener and reason");
    describe_counter!(UNREADABLE, "Times that a record of the purge log was there and could not be read");
}

/// Makes every name appear at 0, so that a rate over it is right from the first event on.
fn appear(codes: impl IntoIterator<Item = &'static str>) {
    for kind in SelectorKind::ALL {
        counter!(ACCEPTED, "kind" => kind.as_str()).increment(0);
    }
    for code in codes {
        counter!(REJECTED, "code" => code).increment(0);
    }
    for state in NodeState::ALL {
        gauge!(NODES, "state" => state.as_str()).set(0.0);
    }
    index_sizes([]);
    use ResetReason as Reason;
    for reason in
        [Reason::New, Reason::ForeignLog, Reason::Trimmed, Reason::BeyondTail, Reason::RecordDiffers]
    {
        counter!(RESETS, "reason" => reason.as_str()).increment(0);
    }
    for name in [
        REPLAYED,
        SHED,
        BREACHES,
        PROTOCOL_ERRORS,
        CONFLICTS,
        LEASES_LOST,
        REPORTS_LOST,
        UNREADABLE,
        AUDIT_ENTRIES,
        AUDIT_FAILURES,
        NEWS_FAILURES,
    ] {
        counter!(name).increment(0);
    }
    for name in [TAIL, WATERMARK, CONNECTIONS, LIVE_TASKS] {
        gauge!(name).set(0.0);
    }
    for name in [PROPAGATION, COMMIT, COMMIT_BATCH, SUBMISSION] {
        let _ = histogram!(name);
    }
}

/// When a certificate of a listener ends, in seconds of Unix time.
pub(crate) fn certificate_ends(listener: &'static str, file: &'static str, at: u64) {
    gauge!(CERTIFICATE_ENDS, "listener" => listener, "file" => file).set(at as f64);
}

/// A listener speaks TLS: its figures are there from now on.
pub(crate) fn tls_listener(listener: &'static str) {
    certificate_refused(listener, false);
    for reason in HandshakeReason::ALL {
        counter!(HANDSHAKES_FAILED, "listener" => listener, "reason" => reason.as_str()).increment(0);
    }
}

/// Whether a listener's files cannot be used.
pub(crate) fn certificate_refused(listener: &'static str, is_refused: bool) {
    gauge!(CERTIFICATE_REFUSED, "listener" => listener).set(f64::from(u8::from(is_refused)));
}

/// So many entries has the list of revoked certificates.
pub(crate) fn revoked_entries(count: usize) {
    gauge!(REVOKED_ENTRIES).set(count as f64);
}

/// Somebody with a revoked certificate was refused, or sent away.
pub(crate) fn revoked_refused(listener: &'static str) {
    counter!(REVOKED_REFUSED, "listener" => listener).increment(1);
}

/// A TLS handshake came to nothing.
pub(crate) fn handshake_failed(listener: &'static str, reason: HandshakeReason) {
    counter!(HANDSHAKES_FAILED, "listener" => listener, "reason" => reason.as_str()).increment(1);
}

/// So many entries are durable in the audit log.
pub fn audit_entries(count: usize) {
    counter!(AUDIT_ENTRIES).increment(count as u64);
}

/// The audit log could not be written.
pub fn audit_failure() {
    counter!(AUDIT_FAILURES).increment(1);
}

/// A defect has kept news from the console's pages.
pub(crate) fn console_news_failure() {
    counter!(NEWS_FAILURES).increment(1);
}

/// A purge was accepted that holds items of these kinds.
pub fn purge_accepted(kinds: &[SelectorKind]) {
    for (kind, counter) in SelectorKind::ALL.iter().zip(&OF_EACH_PURGE.accepted) {
        if kinds.contains(kind) {
            counter.increment(1);
        }
    }
}

/// A purge was a repeat.
pub fn purge_replayed() {
    counter!(REPLAYED).increment(1);
}

/// A request was refused with one of the codes that [`install`] was told.
pub(crate) fn request_rejected(code: &'static str) {
    counter!(REJECTED, "code" => code).increment(1);
}

/// A purge was completed.
pub(crate) fn propagation(took: Duration) {
    OF_EACH_PURGE.propagation.record(took);
}

/// The target passed with the purge not completed.
pub(crate) fn sla_breach() {
    counter!(BREACHES).increment(1);
}

/// The number of nodes in that state.
pub(crate) fn nodes(state: NodeState, count: usize) {
    gauge!(NODES, "state" => state.as_str()).set(count as f64);
}

/// How far a node is behind.
pub(crate) fn node_lag(node: &NodeName, age: Duration, records: u64) {
    let (pop, name) = (node.pop().to_owned(), node.node().to_owned());
    gauge!(LAG_SECONDS, "pop" => pop.clone(), "node" => name.clone()).set(age.as_secs_f64());
    gauge!(LAG_RECORDS, "pop" => pop, "node" => name).set(records as f64);
}

/// How large the indexes are of those nodes that have said so.
pub(crate) fn index_sizes(sizes: impl IntoIterator<Item = IndexSize>) {
    let (mut all, mut largest) = (IndexSize::default(), IndexSize::default());
    for IndexSize { objects, bytes } in sizes {
        all = IndexSize {
            objects: all.objects.saturating_add(objects),
            bytes: all.bytes.saturating_add(bytes),
        };
        largest = IndexSize { objects: largest.objects.max(objects), bytes: largest.bytes.max(bytes) };
    }
    for (nodes, size) in [("all", all), ("largest", largest)] {
        gauge!(INDEX_OBJECTS, "nodes" => nodes).set(size.objects as f64);
        gauge!(INDEX_BYTES, "nodes" => nodes).set(size.bytes as f64);
    }
}

/// When the certificate ends that a node showed last, in seconds of Unix time; 0 when it counts no longer.
pub(crate) fn node_certificate_ends(node: &NodeName, at: u64) {
    let (pop, name) = (node.pop().to_owned(), node.node().to_owned());
    gauge!(NODE_CERTIFICATE_ENDS, "pop" => pop, "node" => name).set(at as f64);
}

/// The watermark. (The tail is the log's own to tell.)
pub(crate) fn watermark(watermark: Cursor) {
    gauge!(WATERMARK).set(watermark.get() as f64);
}

/// Of several control planes: what one has stated, and how long ago it was heard of.
pub(crate) fn replica_heard(replica: Replica, stated: Option<u64>, silent: Duration) {
    let number = replica.0.to_string();
    if let Some(stated) = stated {
        gauge!(STATED, "replica" => number.clone()).set(stated as f64);
    }
    gauge!(HEARD, "replica" => number).set(silent.as_secs_f64());
}

/// Of several control planes: whether one is in the newest set.
pub(crate) fn replica_counts(replica: Replica, counts: bool) {
    gauge!(COUNTS, "replica" => replica.0.to_string()).set(if counts { 1.0 } else { 0.0 });
}

/// Of several control planes: whether another has this setting, which all must have alike, not as it is here.
pub(crate) fn replica_differs(replica: Replica, setting: &str, differs: bool) {
    let (replica, setting) = (replica.0.to_string(), setting.to_owned());
    gauge!(DIFFERS, "replica" => replica, "setting" => setting).set(if differs { 1.0 } else { 0.0 });
}

/// Of several control planes: through where all is recorded as completed, and how much is not.
pub(crate) fn done(done: Cursor, lag: u64) {
    gauge!(DONE).set(done.get() as f64);
    gauge!(DONE_LAG).set(lag as f64);
}

/// This control plane has recorded so many records as completed.
pub(crate) fn declared(records: u64) {
    counter!(DECLARED).increment(records);
}

/// How long one submission waited for the log.
pub(crate) fn submission_seconds(took: Duration) {
    OF_EACH_PURGE.submission.record(took);
}

/// A submission was refused for want of capacity.
pub(crate) fn submission_shed() {
    counter!(SHED).increment(1);
}

/// A stream was opened (1) or has ended (-1).
pub(crate) fn connections(change: f64) {
    gauge!(CONNECTIONS).increment(change);
}

/// So many leases have run out since the start without being renewed.
pub(crate) fn leases_lost(count: u64) {
    counter!(LEASES_LOST).absolute(count);
}

/// A node was reset.
pub(crate) fn node_reset(reason: ResetReason) {
    counter!(RESETS, "reason" => reason.as_str()).increment(1);
}

/// A node broke the protocol.
pub(crate) fn protocol_error() {
    counter!(PROTOCOL_ERRORS).increment(1);
}

/// Two live processes use one name.
pub(crate) fn identity_conflict() {
    counter!(CONFLICTS).increment(1);
}

/// Tasks in memory.
pub(crate) fn live_tasks(count: usize) {
    gauge!(LIVE_TASKS).set(count as f64);
}

/// A record of the log cannot be read.
pub(crate) fn unreadable_record() {
    counter!(UNREADABLE).increment(1);
}

/// Reports that found no room.
pub(crate) fn reports_lost(count: u64) {
    counter!(REPORTS_LOST).increment(count);
}

/// Which replica this process is, which has a seat.
pub(crate) fn replica(replica: Replica) {
    gauge!(REPLICA_ID).set(f64::from(replica.0));
}

/// For how long this process may act without another proof that its seat is its own.
pub(crate) fn seat_held_for(left: Duration) {
    gauge!(SEAT_SECONDS).set(left.as_secs_f64());
}

/// Whether another process has taken the seat.
pub(crate) fn seat_lost(is_lost: bool) {
    gauge!(SEAT_LOST).set(if is_lost { 1.0 } else { 0.0 });
}
