//! Whose an object is.

use batoff_index::Verdict::{Fresh, Gone, Stale};
use batoff_index::{Entry, IndexConfig, Refused, Variant};
use batoff_types::{CacheTags, Cursor, FillToken, Generation};

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
    assert_eq!(node.check(&url("two.test/other"), &tags(&[]), token), Gone);
    assert_eq!(node.check(&url("www.one.test/"), &tags(&[]), token), Gone, "a wildcard that was given up");
    assert_eq!(node.check(&url("one.test/"), &tags(&[]), token), Fresh);
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
fn under_a_host_that_no_site_owns_nothing_is_kept() {
    let node = node();
    let now = node.begin_fill();
    for host in ["nobody.test", "one.test.evil.test", "[::1]", "127.0.0.1"] {
        let (url, carried) = (url(&format!("{host}/a")), tags(&["t"]));
        assert_eq!(node.admit(&url, &carried, now), Err(Refused::Unowned), "{host}");
        let entry = Entry { url, variant: Variant::MAIN, tags: carried, token: now, locator: 0 };
        assert_eq!(node.insert(entry), Err(Refused::Unowned), "{host}");
    }
    node.hold("www.one.test./a", &["t"]);
    assert_eq!(node.purge("one", by_url("www.one.test/a")), 1, "one dot at the end is the same name");
    node.hold("two.test/a", &["t"]);
    let given_up = all(node.hear(ownership("two", None, &[])));
    assert_eq!((given_up.len(), node.stats().entries), (1, 0), "what was kept goes with the owner");
}

#[test]
fn an_object_with_more_tags_than_are_known_is_hit_by_every_tag_of_its_site() {
    let node = node();
    let hold = |node: &Node, text: &str, tags: CacheTags| {
        let token = node.begin_fill();
        node.insert(Entry { url: url(text), variant: Variant::MAIN, tags, token, locator: 0 }).unwrap();
    };
    let before = node.begin_fill();
    hold(&node, "one.test/over", overflowing(&["t"]));
    hold(&node, "one.test/other", overflowing(&[]));
    hold(&node, "one.test/plain", tags(&["t"]));
    hold(&node, "two.test/over", overflowing(&["t"]));
    assert_eq!((node.stats().overflowing, node.stats().tags), (3, 1));
    assert_eq!(node.count(&site("one"), &by_tag("t")), 3, "each counts once");
    assert_eq!(node.count(&site("one"), &by_tag("unseen")), 2);
    let listed = node.list(&site("one"), &by_tag("t")).map(|object| object.tags.overflows());
    assert_eq!(listed.filter(|overflows| *overflows).count(), 2);

    assert_eq!(node.soft_purge("one", by_tag("unseen")), 2);
    assert_eq!(node.verdict("one.test/over"), Some(Stale));
    assert_eq!(node.verdict("one.test/plain"), Some(Fresh));
    assert_eq!(node.verdict("two.test/over"), Some(Fresh), "another site's");
    assert_eq!(node.purge("one", by_tag("t")), 3);
    let asked = |tags: &CacheTags| node.check(&url("one.test/over"), tags, before);
    assert_eq!((asked(&overflowing(&[])), asked(&tags(&["v"]))), (Gone, Fresh));
    let restored = Node::restore(IndexConfig::default(), node.snapshot());
    assert_eq!(restored.check(&url("one.test/over"), &overflowing(&[]), before), Gone, "after a restart");
}

#[test]
fn a_cache_whose_keys_have_no_port_is_hit_by_purges_of_any() {
    let node = node_with(IndexConfig { keys_have_ports: false, ..IndexConfig::default() });
    for selector in
        [by_url("one.test:8443/a"), by_url("one.test/a"), by_prefix("one.test:81/"), by_host("one.test")]
    {
        node.hold("one.test:8080/a", &[]);
        let token = node.begin_fill();
        assert_eq!(node.verdict("one.test/a"), Some(Fresh));
        assert_eq!(node.count(&site("one"), &selector), 1, "{selector:?}");
        assert_eq!(node.purge("one", selector.clone()), 1, "{selector:?}");
        assert_eq!(node.check(&url("one.test:1/a"), &tags(&[]), token), Gone, "{selector:?}");
    }
}

#[test]
fn a_token_that_was_not_given_out_keeps_nothing() {
    let node = node();
    let FillToken { generation, applied } = node.begin_fill();
    for token in [
        FillToken { generation, applied: Cursor::new(applied.get() + 1) },
        FillToken { generation: Generation(generation.0 + 1), applied },
    ] {
        assert_eq!(node.admit(&url("one.test/a"), &tags(&[]), token), Err(Refused::Future));
        assert!(!node.hold_from("one.test/a", &[], token));
        assert_eq!(node.check(&url("one.test/a"), &tags(&[]), token), Gone);
    }
}

#[test]
fn a_prefix_ends_where_its_bytes_end_and_a_host_does_not_reach_its_neighbours() {
    let node = node();
    let names = ["one.test.evil.test", "one.tes"];
    let _ = node.hear(ownership("evil", Some(&names), &names));
    let held = ["one.test/a", "one.test:8080/a", "one.test.evil.test/a", "one.tes/a"];
    held.iter().for_each(|text| node.hold(text, &[]));
    assert_eq!(node.purge("one", by_prefix("one.test")), 1);
    assert_eq!(node.purge("one", by_host("one.test")), 1, "the other port");
    assert_eq!(node.stats().entries, 2);
}
