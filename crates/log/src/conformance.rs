//! What every implementation of the traits must pass: one suite, as functions over a [`Store`].
//!
//! `conformance_suite!(subject)` makes a test of each, where `async fn subject() -> Subject` gives a new, empty store.
//! The functions panic when a promise is broken; the message says which.

mod append;
mod dedupe;
mod kv;
mod read;
mod subject;
mod tail;
mod tasks;

pub use self::append::*;
pub use self::dedupe::*;
pub use self::kv::*;
pub use self::read::*;
pub use self::subject::{ManualClock, Subject};
pub use self::tail::*;
pub use self::tasks::*;

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
            a_repeat_is_recognised_without_an_append
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
            a_completion_is_changed_only_by_who_knows_what_it_says
            tasks_outlive_trimming_until_they_are_forgotten
            the_first_record_of_a_task_keeps_it
            of_many_swaps_one_wins_each_round
            a_pair_holds_what_was_expected_of_it
            a_guarded_pair_is_written_while_its_guard_holds
            a_pair_expires_not_before_its_time
            a_watch_tells_the_snapshot_then_changes
            a_watch_without_news_says_that_it_is_current
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
