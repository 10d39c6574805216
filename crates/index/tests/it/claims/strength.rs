//! Gone, Stale, Fresh.

use batoff_index::Verdict::{Fresh, Gone, Stale};
use batoff_types::{Body, NodeName, Purge, ReplicaSet, SEMANTICS_VERSION, Selector};

use crate::fixture::*;

#[test]
fn each_selector_makes_gone_what_it_names_and_nothing_else() {
    for (selector, hit) in [
        (by_url("one.test/a/1"), &["one.test/a/1"][..]),
        (by_prefix("one.test/a"), &["one.test/a", "one.test/a/1", "one.test/ab?c"]),
        (by_prefix("one.test/ab?"), &["one.test/ab?c"]),
        (by_tag("t"), &["one.test/a/1", "www.one.test/a"]),
        (by_host("one.test"), &["one.test/a", "one.test/a/1", "one.test/ab?c", "one.test:8080/a"]),
        (
            Selector::Everything,
            &["one.test/a", "one.test/a/1", "one.test/ab?c", "one.test:8080/a", "www.one.test/a"],
        ),
    ] {
        let node = node();
        let held = [
            ("one.test/a", &[][..]),
            ("one.test/a/1", &["t", "u"]),
            ("one.test/ab?c", &["u"]),
            ("one.test:8080/a", &[]),
            ("www.one.test/a", &["t"]),
            ("two.test/a", &["t"]),
        ];
        held.iter().for_each(|(text, carried)| node.hold(text, carried));
        let token = node.begin_fill();
        assert_eq!(node.count(&site("one"), &selector), hit.len() as u64, "{selector:?}");
        assert_eq!(node.purge("one", selector.clone()), hit.len(), "{selector:?}");
        for (text, carried) in held {
            let expected = if hit.contains(&text) { Gone } else { Fresh };
            assert_eq!(node.check(&url(text), &tags(carried), token), expected, "{selector:?} {text}");
            assert_eq!(node.verdict(text), (expected == Fresh).then_some(Fresh), "{selector:?} {text}");
        }
    }
}

#[test]
fn a_purge_hits_both_schemes_and_every_variant() {
    let node = node();
    node.hold("one.test/a", &[]);
    assert_eq!(
        node.hear(purge("one", vec![Selector::Url("http://one.test/a".parse().unwrap())], false)).found(),
        0
    );
    assert_eq!(node.verdict("one.test/a"), Some(Gone));
}

#[test]
fn a_soft_purge_makes_stale_and_the_next_fill_is_fresh() {
    let node = node();
    node.hold("one.test/a", &[]);
    assert_eq!(node.soft_purge("one", by_url("one.test/a")), 1);
    assert_eq!(node.verdict("one.test/a"), Some(Stale));
    node.hold("one.test/a", &[]);
    assert_eq!(node.verdict("one.test/a"), Some(Fresh));
}

#[test]
fn a_later_soft_purge_does_not_weaken_an_earlier_hard_one() {
    let node = node();
    let token = node.begin_fill();
    node.purge("one", by_url("one.test/a"));
    let between = node.begin_fill();
    node.soft_purge("one", by_url("one.test/a"));
    assert_eq!(node.check(&url("one.test/a"), &tags(&[]), token), Gone);
    assert_eq!(node.check(&url("one.test/a"), &tags(&[]), between), Stale);
}

#[test]
fn a_record_that_comes_twice_or_late_changes_nothing() {
    let (in_order, shuffled) = (node(), node());
    let token = in_order.begin_fill();
    let log = [
        record(3, purge("one", vec![by_prefix("one.test/")], true)),
        record(4, purge("one", vec![by_url("one.test/a")], false)),
        record(5, purge("one", vec![by_tag("t")], true)),
    ];
    log.iter().for_each(|record| drop(in_order.apply(record)));
    for at in [2, 0, 1, 1, 2, 0] {
        drop(shuffled.apply(&log[at]));
    }
    assert_eq!(in_order.applied(), shuffled.applied());
    assert_eq!(in_order.task(), shuffled.task());
    for (text, carried) in [("one.test/a", &[][..]), ("one.test/b", &[]), ("one.test/b", &["t"])] {
        let ask = |node: &Node| node.check(&url(text), &tags(carried), token);
        assert_eq!(ask(&in_order), ask(&shuffled));
    }
}

#[test]
fn an_unknown_record_is_a_flush_of_everything() {
    let node = node();
    let held = ["one.test/a", "two.test/a"];
    held.iter().for_each(|text| node.hold(text, &[]));
    assert_eq!(all(node.hear(Body::Unknown)).len(), 2);
    node.hold("one.test/a", &[]);
    assert_eq!(node.verdict("one.test/a"), Some(Fresh));
}

#[test]
fn a_purge_of_later_semantics_takes_everything_of_its_site_even_if_it_says_soft() {
    let node = node();
    ["one.test/a", "www.one.test/b", "two.test/a"].iter().for_each(|text| node.hold(text, &[]));
    let body = Body::Purge(Purge { site: site("one"), selectors: vec![by_url("one.test/a")], soft: true });
    let mut record = record(node.applied().next().get(), body);
    record.semantics = SEMANTICS_VERSION + 1;
    assert_eq!(all(node.apply(&record)).len(), 2);
    assert_eq!(node.verdict("two.test/a"), Some(Fresh));
}

#[test]
fn nodes_and_control_planes_that_come_and_go_only_move_the_cursor() {
    let node = node();
    node.hold("one.test/a", &[]);
    let before = node.applied();
    let name = NodeName::new("fra1", "edge-1").unwrap();
    assert!(node.hear(Body::NodeRegistered(name.clone())).is_finished());
    assert!(node.hear(Body::NodeRemoved(name)).is_finished());
    assert!(node.hear(Body::ReplicaSet(ReplicaSet::only())).is_finished());
    assert_eq!(node.applied().get(), before.get() + 3);
    assert_eq!(node.verdict("one.test/a"), Some(Fresh));
    assert_eq!(node.stats().rules, 3, "only those of the hostnames that got an owner");
}
