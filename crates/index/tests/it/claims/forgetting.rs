//! Keeping the rules few.

use batoff_index::IndexConfig;
use batoff_index::Verdict::{Fresh, Gone, Stale};
use batoff_types::{Cursor, Selector};

use crate::fixture::*;

#[test]
fn forgetting_spares_what_is_registered_and_refuses_what_arrives_late() {
    let node = node();
    let token = node.begin_fill();
    node.hold("one.test/keep", &["t"]);
    node.hold("one.test/soft", &[]);
    node.hold("one.test/gone", &[]);
    node.purge("one", by_url("one.test/gone"));
    node.soft_purge("one", by_url("one.test/soft"));
    assert_eq!(node.forget(node.applied()), node.applied());
    assert_eq!(node.stats().rules, 0);

    assert_eq!(node.verdict("one.test/keep"), Some(Fresh));
    assert_eq!(node.verdict("one.test/soft"), Some(Stale));
    assert_eq!(node.check_registered(&url("one.test/keep"), &tags(&["t"]), token), Fresh);
    assert_eq!(node.check(&url("one.test/keep"), &tags(&["t"]), token), Gone, "this caller may know nothing");
    assert!(!node.hold_from("one.test/late", &[], token));
    node.hold("one.test/new", &[]);
    assert_eq!(node.purge("one", Selector::Everything), 3);
}

#[test]
fn a_rule_is_forgotten_only_when_what_it_hit_is_swept() {
    let node = node();
    node.hold("one.test/a", &[]);
    let mut matches = node.hear(purge("one", vec![Selector::Everything], false));
    let before = Cursor::before(node.applied().last().unwrap());
    assert_eq!(node.forget(node.applied()), before);
    assert_eq!(node.verdict("one.test/a"), Some(Gone));
    while matches.next_batch(1).is_some() {}
    assert_eq!(node.forget(node.applied()), node.applied());
}

#[test]
fn forgetting_stops_where_it_is_told_and_never_goes_back() {
    let node = node();
    let token = node.begin_fill();
    node.purge("one", by_url("one.test/a"));
    let between = node.begin_fill();
    node.purge("one", by_url("one.test/b"));
    assert_eq!(node.forget(between.applied), between.applied);
    assert_eq!(node.forget(token.applied), between.applied);
    assert_eq!(node.stats().rules, 1);
    assert_eq!(node.check(&url("one.test/a"), &tags(&[]), between), Fresh);
    assert_eq!(node.check(&url("one.test/b"), &tags(&[]), between), Gone);
}

#[test]
fn over_the_limit_the_oldest_rule_is_folded_into_its_hosts() {
    let node = node_with(IndexConfig { rules_max: 5, ..IndexConfig::default() });
    let tokens: Vec<_> = (0..4)
        .map(|n| {
            let token = node.begin_fill();
            node.purge("one", by_url(&format!("one.test/{n}")));
            token
        })
        .collect();
    assert_eq!((node.stats().rules, node.stats().folded), (5, 2), "three hosts, two URLs");
    let other = url("one.test/other");
    let verdicts = tokens.iter().map(|&token| node.check(&other, &tags(&[]), token));
    assert_eq!(verdicts.collect::<Vec<_>>(), [Gone, Gone, Fresh, Fresh]);
    assert_eq!(node.check(&url("two.test/other"), &tags(&[]), tokens[0]), Fresh);
}

#[test]
fn a_folded_tag_hits_its_site_and_what_it_hits_besides_is_swept() {
    let node = node_with(IndexConfig { rules_max: 8, ..IndexConfig::default() });
    node.hold("www.one.test/a", &[]);
    node.hold("two.test/a", &[]);
    ["t", "u", "v", "w"].iter().for_each(|tag| assert_eq!(node.purge("one", by_tag(tag)), 0));
    assert_eq!(node.verdict("www.one.test/a"), Some(Fresh));
    assert_eq!(node.purge("one", by_tag("x")), 0);
    assert_eq!(node.verdict("www.one.test/a"), Some(Gone));
    assert_eq!(node.sweep_all().len(), 1);
    assert_eq!(node.verdict("two.test/a"), Some(Fresh));
}

#[test]
fn a_wildcard_is_folded_into_everything_for_its_names_may_belong_to_others() {
    let node = Node::new(IndexConfig { rules_max: 1, ..IndexConfig::default() });
    let token = node.begin_fill();
    let _ = node.hear(ownership("one", Some(&["*.w.test"]), &[]));
    let _ = node.hear(ownership("two", Some(&["w.test"]), &[]));
    assert_eq!(node.stats().folded, 1);
    assert_eq!(node.check(&url("x.w.test/"), &tags(&[]), token), Gone);
}

#[test]
fn many_hosts_do_not_make_every_purge_one_of_a_host() {
    let node = node_with(IndexConfig { rules_max: 20, ..IndexConfig::default() });
    let names: Vec<_> = (0..30).map(|n| format!("h{n}.test")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let _ = node.hear(ownership("many", Some(&names), &[]));
    let token = node.begin_fill();
    node.purge("one", by_url("one.test/a"));
    assert_eq!(node.check(&url("one.test/b"), &tags(&[]), token), Fresh);
    assert!(node.stats().rules <= 20);
}

#[test]
fn folding_keeps_soft_soft_and_hard_hard() {
    let node = Node::new(IndexConfig { rules_max: 1, ..IndexConfig::default() });
    let token = node.begin_fill();
    node.soft_purge("one", by_url("one.test/a"));
    node.soft_purge("one", by_url("one.test/b"));
    assert_eq!(node.check(&url("one.test/c"), &tags(&[]), token), Stale);
    let token = node.begin_fill();
    node.purge("one", by_url("one.test/a"));
    node.soft_purge("one", by_url("one.test/a"));
    assert_eq!(node.check(&url("one.test/c"), &tags(&[]), token), Gone);
}

#[test]
fn without_room_for_any_rule_every_purge_is_a_flush() {
    let node = node_with(IndexConfig { rules_max: 0, ..IndexConfig::default() });
    let token = node.begin_fill();
    node.purge("one", by_url("one.test/a"));
    assert_eq!(node.check(&url("two.test/b"), &tags(&[]), token), Gone);
    assert_eq!(node.check(&url("one.test/a"), &tags(&[]), node.begin_fill()), Fresh);
    assert_eq!(node.stats().rules, 0);
}

#[test]
fn an_index_says_when_rules_are_soon_to_be_folded() {
    let node = node_with(IndexConfig { rules_max: 8, ..IndexConfig::default() });
    for n in 0.. {
        assert!(node.stats().folded == 0, "it was said before");
        if node.is_crowded() {
            break;
        }
        node.purge("one", by_url(&format!("one.test/{n}")));
    }
    node.forget(node.applied());
    assert!(!node.is_crowded());
}

#[test]
fn records_go_on_while_many_rules_are_forgotten() {
    let node = node();
    (0..5_000)
        .for_each(|n| drop(node.hear(purge("one", vec![by_url(&format!("one.test/{n}"))], n % 2 == 0))));
    let old = node.applied();
    std::thread::scope(|scope| {
        scope.spawn(|| node.forget(old));
        for n in 0..200 {
            let token = node.begin_fill();
            node.purge("one", by_url(&format!("one.test/new-{n}")));
            assert_eq!(node.check(&url(&format!("one.test/new-{n}")), &tags(&[]), token), Gone);
        }
    });
    assert_eq!(node.stats().rules, 200);
}
