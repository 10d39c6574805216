//! Matches: what must be cleaned up.

use batoff_index::Variant;
use batoff_index::Verdict::{Fresh, Gone};
use batoff_types::Selector;

use crate::fixture::*;

#[test]
fn a_purge_is_in_force_before_anything_is_swept() {
    let node = node();
    (0..1_000).for_each(|n| node.hold(&format!("one.test/{n}"), &[]));
    let mut matches = node.hear(purge("one", vec![by_prefix("one.test/")], false));
    assert_eq!(node.verdict("one.test/7"), Some(Gone));
    assert_eq!(node.stats().entries, 1_000);
    assert_eq!(matches.next_batch(10).unwrap().len(), 10);
    assert_eq!(node.stats().entries, 990);
    assert_eq!(node.stats().backlog, 1);
    assert_eq!(all(matches).len(), 990);
    assert_eq!(node.stats().backlog, 0);
}

/// Everything else has gone meanwhile, and with it the memory that the sweep has names of.
#[test]
fn a_sweep_goes_on_when_the_cache_drops_all_it_holds() {
    let node = node();
    (0..1_000).for_each(|n| node.hold(&format!("one.test/{n}"), &["t"]));
    let mut matches = node.hear(purge("one", vec![by_tag("t")], false));
    assert_eq!(matches.next_batch(10).unwrap().len(), 10);
    for n in 0..1_000 {
        node.remove(&url(&format!("one.test/{n}")), Variant::MAIN);
    }
    assert_eq!(node.stats().entries, 0);
    assert!(all(matches).is_empty());
    node.hold("one.test/new", &["t"]);
    assert_eq!(node.purge("one", by_tag("t")), 1);
}

#[test]
fn an_object_that_several_selectors_hit_counts_once() {
    let node = node();
    node.hold("one.test/a", &["t", "u"]);
    let selectors =
        vec![by_url("one.test/a"), by_tag("t"), by_tag("u"), by_prefix("one.test/"), Selector::Everything];
    assert_eq!(all(node.hear(purge("one", selectors.clone(), true))).len(), 1);
    assert_eq!(all(node.hear(purge("one", selectors, false))).len(), 1);
}

#[test]
fn an_object_counts_for_the_record_that_hit_it_first_in_whatever_order_they_are_swept() {
    let node = node();
    node.hold("one.test/a", &["t"]);
    let first = node.hear(purge("one", vec![by_tag("t")], false));
    node.hold("one.test/b", &[]);
    let second = node.hear(purge("one", vec![Selector::Everything], false));
    assert_eq!(all(second).len(), 1);
    assert_eq!(node.verdict("one.test/a"), Some(Gone));
    assert_eq!(all(first).len(), 1);
    assert_eq!(node.stats().entries, 0);
}

#[test]
fn soft_purges_count_what_was_fresh_and_hard_ones_what_was_not_gone() {
    let node = node();
    node.hold("one.test/a", &[]);
    assert_eq!(node.soft_purge("one", by_url("one.test/a")), 1);
    assert_eq!(node.soft_purge("one", by_prefix("one.test/")), 0);
    assert_eq!(node.count(&site("one"), &by_host("one.test")), 1, "a stale object can still be purged");
    assert_eq!(node.purge("one", by_host("one.test")), 1);
    assert_eq!(node.purge("one", by_host("one.test")), 0);
}

#[test]
fn a_newer_fill_survives_the_sweep_of_the_older_purge() {
    let node = node();
    node.hold("one.test/a", &["t"]);
    let matches = node.hear(purge("one", vec![by_tag("t"), by_url("one.test/a")], false));
    node.hold("one.test/a", &["t"]);
    assert!(all(matches).is_empty());
    assert_eq!(node.verdict("one.test/a"), Some(Fresh));
}

#[test]
fn what_is_left_of_dropped_matches_the_sweeper_finds() {
    let node = node();
    (0..100).for_each(|n| node.hold(&format!("one.test/{n}"), &["t"]));
    let mut matches = node.hear(purge("one", vec![by_tag("t")], false));
    let taken = matches.next_batch(30).unwrap().len();
    drop(matches);
    assert_eq!(node.stats().backlog, 1);
    assert_eq!(taken + node.sweep_all().len(), 100);
    assert_eq!((node.stats().backlog, node.stats().entries), (0, 0));
}

#[test]
fn matches_dropped_by_the_thousand_become_one_sweep_over_everything() {
    let node = node();
    (0..5_000).for_each(|n| node.hold(&format!("one.test/{n}"), &[]));
    for n in 0..5_000 {
        drop(node.hear(purge("one", vec![by_url(&format!("one.test/{n}"))], n % 2 == 0)));
    }
    assert!(node.stats().backlog < 4_100);
    assert_eq!(node.sweep_all().len(), 5_000);
    assert_eq!((node.stats().backlog, node.stats().entries), (0, 2_500));
}

#[test]
fn an_index_without_objects_has_nothing_to_sweep() {
    let node = node();
    for n in 0..100 {
        assert!(node.hear(purge("one", vec![by_url(&format!("one.test/{n}"))], false)).is_finished());
    }
    node.flush();
    assert_eq!(node.stats().backlog, 0);
    assert_eq!(node.sweep(1), None);
}

#[test]
fn a_reset_makes_pending_matches_void_and_hands_all_to_the_sweeper() {
    let node = node();
    (0..10).for_each(|n| node.hold(&format!("one.test/{n}"), &[]));
    let matches = node.hear(purge("one", vec![Selector::Everything], false));
    node.flush();
    assert!(all(matches).is_empty());
    assert_eq!(node.sweep_all().len(), 10);
    assert_eq!((node.stats().backlog, node.stats().entries), (0, 0));
}

#[test]
fn objects_are_listed_by_selector_with_their_verdicts() {
    let node = node();
    (0..600).for_each(|n| node.hold(&format!("one.test/{n:03}"), if n < 300 { &["t"] } else { &[] }));
    node.hold("two.test/a", &["t"]);
    node.soft_purge("one", by_url("one.test/007"));
    assert_eq!(node.iter().count(), 601);
    assert_eq!(node.list(&site("one"), &by_tag("t")).count(), 300);
    let mut listed: Vec<_> = node.list(&site("one"), &by_prefix("one.test/00")).collect();
    listed.sort_unstable_by(|a, b| a.url.cmp(&b.url));
    assert_eq!(listed.len(), 10);
    assert_eq!(listed[7].url.key(), "one.test/007");
    assert_eq!(listed[7].verdict, batoff_index::Verdict::Stale);
    assert_eq!(listed[7].tags, tags(&["t"]));
}

#[test]
fn an_object_that_was_stored_anew_hundreds_of_times_is_swept_once() {
    // The memory of what was replaced is used again at once: after 256 times, names of before look like those of now.
    for stored in [256, 257, 300, 511, 512, 600] {
        let node = node();
        let page = |n: usize| format!("one.test/pages/{n:03}");
        for n in 0..stored {
            node.hold(&page(n), &["hot"]);
            node.hold(&page(n), &["hot"]);
        }
        // One lies where the replaced ones lay, and another one leaves that place empty.
        node.remove(&url(&page(stored - 1)), Variant::MAIN);
        node.hold(&page(stored - 1), &["hot"]);
        node.hold(&page(stored), &["hot"]);
        let mut matches = node.hear(purge("one", vec![by_tag("hot")], false));
        let batch = matches.next_batch(2 * stored).unwrap();
        assert_eq!(batch.len() + all(matches).len(), stored + 1, "{stored} pages");
        assert_eq!(node.stats().entries, 0);
    }
}

#[test]
fn a_sweep_passes_by_where_an_object_was() {
    for stored in [256, 257, 300, 511, 512, 600] {
        let node = node();
        let page = |n: usize| format!("one.test/pages/{n:03}");
        for n in 0..stored {
            node.hold(&page(n), &["hot"]);
            node.hold(&page(n), &["hot"]);
        }
        // Free memory that says where the next free one is, and nothing of a directory.
        node.remove(&url(&page(stored - 1)), Variant::MAIN);
        node.hold(&page(stored), &["hot"]);
        node.hold(&page(stored), &["hot"]);
        node.remove(&url(&page(stored)), Variant::MAIN);
        assert_eq!(node.purge("one", by_tag("hot")), stored - 1, "{stored} pages");
        assert_eq!(node.stats().entries, 0);
    }
}
