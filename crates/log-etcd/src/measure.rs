use std::time::Duration;

use batoff_types::Cursor;
use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};

// The same names as the embedded store's: whoever watches a log need not know which engine it is in.
const COMMIT_SECONDS: &str = "batoff_control_commit_seconds";
const COMMIT_BATCH_RECORDS: &str = "batoff_control_commit_batch_records";
const LOG_TAIL_SEQ: &str = "batoff_control_log_tail_seq";
const CONFLICTS_TOTAL: &str = "batoff_control_etcd_conflicts_total";
const IN_USE_BYTES: &str = "batoff_control_etcd_in_use_bytes";
const UNKNOWN_TOTAL: &str = "batoff_control_etcd_unknown_outcomes_total";

/// Describes the metrics of the store. Call once, after the recorder is installed.
pub fn describe_metrics() {
    describe_histogram!(
        COMMIT_SECONDS,
        Unit::Seconds,
        "Time to make one group of writes to the purge log durable, conflicts with other replicas included"
    );
    describe_histogram!(
        COMMIT_BATCH_RECORDS,
        Unit::Count,
        "New records of the purge log made durable by one transaction"
    );
    describe_gauge!(LOG_TAIL_SEQ, Unit::Count, "Number of the newest durable record of the purge log");
    describe_gauge!(
        IN_USE_BYTES,
        Unit::Bytes,
        "What etcd holds, pages that it may use again apart; appends are refused from 85 per cent of its quota on"
    );
    describe_counter!(
        CONFLICTS_TOTAL,
        Unit::Count,
        "Groups that were decided anew because another replica's was in the log first"
    );
    describe_counter!(
        UNKNOWN_TOTAL,
        Unit::Count,
        "Answers of etcd to a group that were lost, and whose outcome had to be found out"
    );
}

pub(crate) fn room(used: u64) {
    gauge!(IN_USE_BYTES).set(used as f64);
}

pub(crate) fn committed(took: Duration, new_records: usize) {
    histogram!(COMMIT_SECONDS).record(took.as_secs_f64());
    if new_records > 0 {
        histogram!(COMMIT_BATCH_RECORDS).record(new_records as f64);
    }
}

pub(crate) fn tail(tail: Cursor) {
    gauge!(LOG_TAIL_SEQ).set(tail.get() as f64);
}

pub(crate) fn conflict() {
    counter!(CONFLICTS_TOTAL).increment(1);
}

pub(crate) fn unknown_outcome() {
    counter!(UNKNOWN_TOTAL).increment(1);
}
