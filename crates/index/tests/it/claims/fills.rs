//! Tokens: what was known when the fetch began.

use batoff_index::Verdict::{Fresh, Gone};
use batoff_index::{Entry, Refused, Variant};
use batoff_types::{Cursor, Generation};

use crate::fixture::*;

#[test]
fn a_fill_that_began_before_a_purge_and_ends_after_it_is_refused() {
    let node = node();
    let token = node.begin_fill();
    node.purge("one", by_tag("t"));
    assert!(!node.hold_from("one.test/a", &["t"], token));
    assert!(node.hold_from("one.test/b", &["u"], token));
    assert!(node.hold_from("one.test/a", &["t"], node.begin_fill()));
}

#[test]
fn a_fill_that_began_before_a_soft_purge_is_stored_as_stale_and_not_counted() {
    let node = node();
    let token = node.begin_fill();
    node.soft_purge("one", by_url("one.test/a"));
    assert!(node.hold_from("one.test/a", &[], token));
    assert_eq!(node.verdict("one.test/a"), Some(batoff_index::Verdict::Stale));
    assert_eq!(node.soft_purge("one", by_url("one.test/a")), 0);
    assert_eq!(node.purge("one", by_url("one.test/a")), 1);
}

#[test]
fn a_refused_fill_leaves_what_was_registered_before() {
    let node = node();
    let old = node.begin_fill();
    node.purge("one", by_url("one.test/a"));
    node.hold("one.test/a", &[]);
    assert!(!node.hold_from("one.test/a", &[], old));
    assert_eq!(node.verdict("one.test/a"), Some(Fresh));
}

#[test]
fn a_token_of_another_generation_is_void() {
    let node = node();
    let token = node.begin_fill();
    node.hold("one.test/a", &[]);
    let sites = node.sites();
    node.reset(Generation(7), Cursor::new(1), (*sites).clone());
    assert_eq!((node.generation(), node.applied(), node.task()), (Generation(7), Cursor::new(1), None));
    assert_eq!(node.check(&url("one.test/b"), &tags(&[]), token), Gone);
    assert_eq!(node.verdict("one.test/a"), Some(Gone));
    let entry = Entry { url: url("one.test/a"), variant: Variant::MAIN, tags: tags(&[]), token, locator: 0 };
    assert_eq!(node.insert(entry), Err(Refused::Gone));
    assert_eq!(node.sweep_all().len(), 1);
    assert_eq!(node.stats().entries, 0);
}

#[test]
fn a_flush_takes_even_what_was_filled_just_now_and_keeps_the_place() {
    let node = node();
    node.hold("one.test/a", &[]);
    let (applied, task) = (node.applied(), node.task());
    assert_eq!(node.flush(), Generation(1));
    assert_eq!((node.applied(), node.task()), (applied, task));
    assert_eq!(node.verdict("one.test/a"), Some(Gone));
    node.hold("one.test/a", &[]);
    assert!(node.sweep_all().is_empty(), "the new object took the old one's name");
    assert_eq!(node.verdict("one.test/a"), Some(Fresh));
}

#[test]
fn a_variant_is_replaced_by_itself_only_and_a_url_takes_all() {
    let node = node();
    for (variant, locator) in [(1, 10), (2, 20), (1, 11)] {
        let entry = Entry {
            url: url("one.test/a"),
            variant: Variant(variant),
            tags: tags(&["t"]),
            token: node.begin_fill(),
            locator,
        };
        node.insert(entry).unwrap();
    }
    assert_eq!(node.lookup(&url("one.test/a"), Variant(1)), Some((Fresh, 11)));
    assert_eq!((node.stats().entries, node.stats().urls, node.stats().tags), (2, 1, 1));
    let mut gone: Vec<_> = all(node.hear(purge("one", vec![by_url("one.test/a")], false)))
        .into_iter()
        .map(|found| found.locator)
        .collect();
    gone.sort_unstable();
    assert_eq!(gone, [11, 20]);
    assert_eq!((node.stats().entries, node.stats().urls, node.stats().tags), (0, 0, 0));
}

#[test]
fn what_a_cache_dropped_by_itself_is_not_a_match() {
    let node = node();
    node.hold("one.test/a", &["t"]);
    assert_eq!(node.remove(&url("one.test/a"), Variant::MAIN), Some(0));
    assert_eq!(node.remove(&url("one.test/a"), Variant::MAIN), None);
    assert_eq!(node.purge("one", by_tag("t")), 0);
}

#[test]
fn a_removal_that_is_heard_late_spares_the_newer_fill() {
    let node = node();
    let old = node.begin_fill();
    node.hear(purge("one", vec![by_url("one.test/b")], false)).next_batch(1);
    node.hold("one.test/a", &[]);
    assert_eq!(node.remove_if(&url("one.test/a"), Variant::MAIN, |_, token| token == old), None);
    assert_eq!(node.verdict("one.test/a"), Some(Fresh));
}
