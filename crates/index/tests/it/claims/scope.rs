//! Whose an object is.

use batoff_index::Verdict::{Fresh, Gone};
use batoff_types::Selector;

use crate::fixture::*;

#[test]
fn a_tag_belongs_to_a_site() {
    let node = node();
    node.hold("one.test/a", &["t"]);
    node.hold("two.test/a", &["t"]);
    assert_eq!(node.purge("one", by_tag("t")), 1);
    assert_eq!(node.verdict("two.test/a"), Some(Fresh));
}

#[test]
fn whose_a_hostname_is_is_asked_at_evaluation() {
    let node = node();
    node.purge("two", by_tag("t"));
    node.hear(ownership("two", Some(&["two.test", "moved.test"]), &["moved.test"])).next_batch(9);
    node.hold("moved.test/a", &["t"]);
    assert_eq!(node.verdict("moved.test/a"), Some(Fresh), "filled after all of two's purges");
    assert_eq!(node.purge("two", by_tag("t")), 1);
}

#[test]
fn nothing_cached_under_one_owner_is_served_under_the_next() {
    let node = node();
    node.hold("two.test/a", &[]);
    let token = node.begin_fill();
    let found =
        all(node.hear(ownership("one", Some(&["one.test", "two.test"]), &["two.test", "*.one.test"])));
    assert_eq!(found.len(), 1);
    assert_eq!(node.check(&url("two.test/other"), &[], token), Gone);
    assert_eq!(node.check(&url("www.one.test/"), &[], token), Gone, "a wildcard that was given up");
    assert_eq!(node.check(&url("one.test/"), &[], token), Fresh);
}

#[test]
fn a_hostname_that_moves_is_purged_even_if_the_record_does_not_say_so() {
    let node = node();
    node.hold("two.test/a", &[]);
    node.hold("www.one.test/a", &[]);
    node.hold("one.test/a", &[]);
    assert_eq!(all(node.hear(ownership("one", Some(&["one.test", "two.test"]), &[]))).len(), 2);
    assert_eq!(node.verdict("one.test/a"), Some(Fresh));
}

#[test]
fn under_a_host_that_no_site_owns_only_names_hit() {
    for (selector, hits) in [
        (by_tag("t"), 0),
        (Selector::Everything, 0),
        (by_url("nobody.test/a"), 1),
        (by_prefix("nobody.test/"), 1),
        (by_host("nobody.test"), 1),
    ] {
        let node = node();
        node.hold("nobody.test/a", &["t"]);
        node.hold("one.test/b", &[]);
        assert_eq!(node.stats().unowned, 1);
        let _ = node.count(&site("one"), &selector);
        let found = all(node.hear(purge("one", vec![selector.clone()], false)));
        let hit = found.iter().filter(|found| found.url.host() == "nobody.test").count();
        assert_eq!(hit, hits, "{selector:?}");
        assert_eq!(node.stats().unowned, 1 - hits as u64);
    }
}

#[test]
fn a_prefix_ends_where_its_bytes_end_and_a_host_does_not_reach_its_neighbours() {
    let node = node();
    let held = ["one.test/a", "one.test:8080/a", "one.test.evil.test/a", "one.tes/a"];
    held.iter().for_each(|text| node.hold(text, &[]));
    assert_eq!(node.purge("one", by_prefix("one.test")), 1);
    assert_eq!(node.purge("one", by_host("one.test")), 1, "the other port");
    assert_eq!(node.stats().entries, 2);
}
