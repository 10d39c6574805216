//! One suite for every cache: what a purge means is shown on the real server, driven by the real daemon, following a
//! real control plane, in front of an origin whose answers are numbered.
//!
//! A cache is added by a file with a [`Subject`](subject::Subject) and `conformance!`. Where a cache cannot do
//! something it says why ([`Subject::lacks`](subject::Subject::lacks)), and the table that the stories write says so
//! too: `BATOFF_CACHE_MATRIX=<folder> ./tests/run --test caches`.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]
#![allow(dead_code, reason = "each cache uses a part of the frame")]

mod daemon;
mod feature;
mod link;
mod matrix;
mod origin;
mod plane;
#[path = "../../crates/types/tests/types/ports/cases.rs"]
mod port_cases;
mod process;
mod stage;
mod subject;
mod suite;

mod haproxy;
mod local;
mod nginx;
mod proxy;
mod purge_by_url;
mod trafficserver;
mod varnish;

/// Runs the whole suite on one kind of cache: a test for each story, named by its claim.
macro_rules! conformance {
    ($subject:ty) => {
        $crate::conformance!($subject;
            an_answer_is_stored_and_served_again,
            a_purge_by_url_leaves_its_neighbors_alone,
            every_spelling_of_a_url_goes_with_it,
            every_variant_goes_with_its_url,
            a_prefix_takes_what_begins_with_it,
            a_tag_takes_what_carries_it_and_only_of_its_site,
            an_object_with_more_tags_than_are_indexed_goes_with_every_tag,
            a_port_means_the_same_to_visitors_and_purges,
            a_hostname_goes_whole,
            everything_of_a_site_goes_and_no_other_sites,
            what_no_site_owns_is_not_served_after_purges,
            a_soft_purge_brings_the_next_version,
            what_the_origin_takes_back_is_not_served_stale,
            a_soft_purge_of_what_must_not_be_stale_is_a_hard_one,
            a_fill_before_its_header_does_not_survive_a_purge_by_url,
            a_fill_before_its_header_does_not_survive_a_purge_by_tag,
            a_fill_before_its_header_does_not_survive_a_purge_by_prefix,
            a_fill_in_its_body_does_not_survive_a_purge,
            a_strict_node_is_fenced_when_its_daemon_dies,
            a_strict_node_is_fenced_when_the_control_plane_is_gone,
            an_available_node_serves_on,
            purges_while_the_daemon_was_down_take_effect,
            purges_while_the_cache_was_down_take_effect,
            the_state_of_another_node_is_not_believed,
            a_burst_of_purges_takes_effect,
            one_purge_takes_many_objects,
            a_child_does_not_keep_what_a_parent_that_is_behind_still_has,
            a_child_does_not_keep_what_a_parent_serves_stale,
            a_parent_that_is_not_declared_is_found,
            no_spelling_of_a_host_puts_a_page_under_another_name,
            the_answer_to_a_get_with_a_body_is_nobody_elses,
            a_method_that_changes_the_page_takes_it,
            a_method_that_nobody_knows_takes_the_page,
            trace_does_not_reach_the_origin,
        );
    };
    ($subject:ty; $($story:ident),* $(,)?) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $story() {
                $crate::suite::$story::<$subject>().await;
            }
        )*
    };
}
use conformance;
