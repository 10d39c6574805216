//! What every implementation of the traits must pass: one suite, as functions over a [`Store`].
//!
//! `conformance_suite!(subject)` makes a test of each, where `async fn subject() -> Subject` gives a new, empty store.
//! The functions panic when a promise is broken; the message says which.

mod append;
mod dedupe;
mod kv;
mod read;
mod tail;
mod tasks;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use batoff_types::{Seq, SiteId, TaskId, UnixMillis};
use bytes::Bytes;

pub use self::append::*;
pub use self::dedupe::*;
pub use self::kv::*;
pub use self::read::*;
pub use self::tail::*;
pub use self::tasks::*;
use crate::purge_log::{Appended, Dedupe, NewRecord, NewTask, PurgeLog};
use crate::store::{Clock, Store};

/// How long something may take before the suite calls it hanging. Not a figure that anything is held to.
const PATIENCE: Duration = Duration::from_secs(30);

/// A store to be tested, and the clock it was given.
pub struct Subject {
    /// New and empty.
    pub store: Arc<dyn Store>,
    /// The clock that was passed to the store.
    pub clock: ManualClock,
    /// What must live as long as the store, such as its directory.
    pub keep: Box<dyn Send + Sync>,
}

impl Subject {
    fn log(&self) -> &dyn PurgeLog {
        self.store.log()
    }

    async fn append_one(&self, record: NewRecord) -> Appended {
        let answers = self.log().append(vec![record]).await.expect("an append to a sound store succeeds");
        assert_eq!(answers.len(), 1, "an append answers each record");
        answers[0]
    }

    async fn append_new(&self, record: NewRecord) -> Seq {
        match self.append_one(record).await {
            Appended::New { seq } => seq,
            other => panic!("expected a new record, got {other:?}"),
        }
    }

    /// Appends `count` records in batches.
    async fn fill(&self, count: u32) {
        for number in 0..count.div_ceil(100) {
            let batch =
                (number * 100..count.min((number + 1) * 100)).map(|n| record(&n.to_string())).collect();
            self.log().append(batch).await.expect("an append to a sound store succeeds");
        }
    }
}

/// A wall clock that moves only when it is told to.
#[derive(Clone)]
pub struct ManualClock(Arc<AtomicU64>);

impl Default for ManualClock {
    /// Begins on an arbitrary day.
    fn default() -> Self {
        Self(Arc::new(AtomicU64::new(1_800_000_000_000)))
    }
}

impl ManualClock {
    /// The clock to pass to the store.
    pub fn clock(&self) -> Clock {
        let now = Arc::clone(&self.0);
        Arc::new(move || UnixMillis(now.load(Ordering::SeqCst)))
    }

    /// The time it shows.
    pub fn now(&self) -> UnixMillis {
        UnixMillis(self.0.load(Ordering::SeqCst))
    }

    /// Moves it forward.
    pub fn advance_ms(&self, by: u64) {
        self.0.fetch_add(by, Ordering::SeqCst);
    }
}

/// Makes a `#[tokio::test]` of each function of the suite; `$subject` is an `async fn() -> Subject`.
#[macro_export]
macro_rules! conformance_suite {
    ($subject:path) => {
        $crate::conformance_suite! { $subject:
            numbers_are_contiguous_under_64_appenders
            a_batch_is_contiguous
            a_refused_batch_leaves_nothing
            an_empty_batch_writes_nothing
            a_cancelled_append_can_be_repeated
            the_state_includes_every_answered_append
            a_repeat_gets_the_first_ones_place_and_task
            a_repeat_while_the_first_is_fresh_is_new
            another_body_under_the_same_key_is_a_conflict
            any_conflict_wins_over_any_duplicate
            repeats_inside_one_batch_are_recognised
            concurrent_repeats_are_recognised
            a_key_can_be_used_again_once_it_has_expired
            keys_that_were_absent_are_stored_with_a_new_record
            pages_respect_their_bounds
            a_position_ahead_of_the_log_is_told
            trimming_is_monotone_and_bounded_by_the_tail
            an_empty_log_goes_on_where_it_was_trimmed
            the_first_record_since_a_time_is_found
            a_tail_is_gapless_from_the_past_to_the_present
            a_slow_tail_misses_nothing
            a_trim_overtakes_a_slow_tail
            a_tail_ahead_of_the_log_ends
            a_tail_begins_at_the_next_record
            tasks_are_listed_newest_first_in_pages
            completions_are_found_with_their_tasks
            tasks_outlive_trimming_until_they_are_forgotten
            the_first_record_of_a_task_keeps_it
            of_many_swaps_one_wins_each_round
            a_pair_holds_what_was_expected_of_it
            a_pair_expires_not_before_its_time
            a_watch_tells_the_snapshot_then_changes
            a_watch_hears_of_an_expiry
            pairs_are_scanned_in_order
            presence_tells_of_this_replica
            a_closed_store_refuses_and_ends_its_streams
        }
    };
    ($subject:path: $($claim:ident)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $claim() {
                $crate::conformance::$claim($subject().await).await;
            }
        )*
    };
}

async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("{what} did not happen within {PATIENCE:?}"),
    }
}

fn seq(number: u64) -> Seq {
    Seq::new(number).expect("a record's number is not 0")
}

fn site(name: &str) -> SiteId {
    name.parse().expect("the suite's site names are valid")
}

fn task_id(number: u64) -> TaskId {
    TaskId::from_bytes(u128::from(number).to_be_bytes())
}

fn record(body: &str) -> NewRecord {
    NewRecord {
        body: Bytes::copy_from_slice(body.as_bytes()),
        accepted_at: UnixMillis(1_000),
        task: None,
        dedupe: Vec::new(),
    }
}

fn task_record(body: &str, site_name: &str, task: u64) -> NewRecord {
    let task =
        NewTask { site: site(site_name), task: task_id(task), meta: Bytes::from(format!("meta of {body}")) };
    NewRecord { task: Some(task), ..record(body) }
}

/// A key that expires after ten minutes and is a duplicate at once.
fn key(name: u8, body: u8, now: UnixMillis) -> Dedupe {
    Dedupe {
        key: [name; 32],
        body_hash: [body; 32],
        fresh_for_ms: 0,
        expires_at: UnixMillis(now.0 + 600_000),
    }
}
