use std::time::Duration;

use batoff_types::Cursor;
use metrics::{Unit, describe_gauge, describe_histogram, gauge, histogram};

const COMMIT_SECONDS: &str = "batoff_control_commit_seconds";
const COMMIT_BATCH_RECORDS: &str = "batoff_control_commit_batch_records";
const LOG_TAIL_SEQ: &str = "batoff_control_log_tail_seq";

/// Describes the metrics of the store. Call once, after the recorder is installed.
pub fn describe_metrics() {
    describe_histogram!(
        COMMIT_SECONDS,
        Unit::Seconds,
        "Time to make one group of writes to the purge log durable, from the start of its transaction to the end of its flush"
    );
    describe_histogram!(
        COMMIT_BATCH_RECORDS,
        Unit::Count,
        "New records of the purge log made durable by one flush"
    );
    describe_gauge!(LOG_TAIL_SEQ, Unit::Count, "Number of the newest durable record of the purge log");
}

pub(super) fn committed(took: Duration, new_records: usize) {
    histogram!(COMMIT_SECONDS).record(took.as_secs_f64());
    if new_records > 0 {
        histogram!(COMMIT_BATCH_RECORDS).record(new_records as f64);
    }
}

pub(super) fn tail(tail: Cursor) {
    gauge!(LOG_TAIL_SEQ).set(tail.get() as f64);
}
