//! An older node takes away more than was asked, never less.

use batoff_types::message::{FromNode, GoAwayReason, LeasePolicy, ResetReason, ToNode};
use batoff_types::{
    Body, CacheTags, HostPattern, Object, Purge, Replica, ReplicaSet, SEMANTICS_VERSION, Selector, Seq,
};
use batoff_wire::{decode_from_node, decode_record, decode_to_node, encode_record};
use proptest::prelude::*;

use super::raw::{Raw, raw};
use super::strategies;

const ULID: [u8; 16] = [7; 16];
const LATER: u64 = SEMANTICS_VERSION as u64 + 1;

fn record(semantics: u64) -> Raw {
    raw().bytes(2, ULID).varint(4, semantics)
}

fn body(record: &Raw) -> Body {
    decode_record(Seq::FIRST, record.as_ref()).unwrap().body
}

fn selectors(purge: Raw) -> Vec<Selector> {
    match body(&record(1).bytes(5, purge)) {
        Body::Purge(purge) => purge.selectors,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_selector_that_is_not_understood_is_everything_for_the_site() {
    let known = || raw().bytes(1, "shop").bytes(2, raw().bytes(3, "a"));
    let tag = || Selector::Tag("a".parse().unwrap());
    let check =
        |selector: Raw| assert_eq!(selectors(known().bytes(2, selector)), [tag(), Selector::Everything]);

    check(raw());
    check(raw().bytes(6, "a new kind"));
    check(raw().varint(1_500, 1));
    check(raw().bytes(1, "gopher://a.example/"));
    check(raw().bytes(1, "https://user@a.example/"));
    check(raw().bytes(1, ""));
    check(raw().bytes(2, "https://a.example/%D0%B"));
    check(raw().bytes(3, "a b"));
    check(raw().bytes(3, ""));
    check(raw().bytes(4, "not a host"));
    check(raw().bytes(5, raw().bytes(1, "details of a later version")));
}

#[test]
fn a_purge_without_selectors_is_everything_for_the_site() {
    assert_eq!(selectors(raw().bytes(1, "shop")), [Selector::Everything]);
    assert_eq!(selectors(raw().bytes(1, "shop").bytes(9, "selectors of a new kind")), [Selector::Everything]);
}

#[test]
fn values_that_are_not_in_our_normal_form_are_brought_into_it() {
    let purge = raw()
        .bytes(1, "shop")
        .bytes(2, raw().bytes(1, "HTTPS://Пример.рф:443/a/../caf%c3%a9/%7E#x"))
        .bytes(2, raw().bytes(2, "http://A.example:80/%6D"))
        .bytes(2, raw().bytes(4, "A.Example"));
    assert_eq!(
        selectors(purge),
        [
            Selector::Url("https://xn--e1afmkfd.xn--p1ai/caf%C3%A9/~".parse().unwrap()),
            Selector::Prefix("http://a.example/m".parse().unwrap()),
            Selector::Host("a.example".parse().unwrap()),
        ]
    );
}

#[test]
fn a_record_of_an_unknown_kind_is_a_flush() {
    assert_eq!(body(&record(1)), Body::Unknown);
    assert_eq!(body(&record(1).bytes(10, "a new kind")), Body::Unknown);
    assert_eq!(body(&record(LATER).bytes(10, "a new kind")), Body::Unknown);
}

#[test]
fn later_semantics_make_a_purge_a_hard_one_of_everything_for_its_site() {
    let purge = raw().bytes(1, "shop").bytes(2, raw().bytes(3, "a")).varint(3, 1);
    assert_eq!(
        body(&record(LATER).bytes(5, &purge)),
        Body::Purge(Purge {
            site: "shop".parse().unwrap(),
            selectors: vec![Selector::Everything],
            soft: false
        })
    );
    // Without a site that can be read, whatever it may be: a flush.
    assert_eq!(body(&record(LATER).bytes(5, raw().bytes(1, "sites/of/later"))), Body::Unknown);
}

#[test]
fn later_semantics_keep_the_table_of_sites_in_step_and_purge_all_names_of_the_site() {
    let hostnames = raw().bytes(1, "a.example").bytes(1, "*.b.example");
    let change = raw().bytes(1, "shop").bytes(2, hostnames).bytes(3, "a.example").bytes(3, "c.example");
    let Body::Site(change) = body(&record(LATER).bytes(6, change)) else { panic!("a change of a site") };

    let patterns =
        |names: &[&str]| -> Vec<HostPattern> { names.iter().map(|n| n.parse().unwrap()).collect() };
    assert_eq!(change.hostnames, Some(patterns(&["a.example", "*.b.example"])));
    assert_eq!(change.affected, patterns(&["a.example", "c.example", "*.b.example"]));

    let unreadable = raw().bytes(1, "shop").bytes(2, raw().bytes(1, "~pattern~ of/later"));
    assert_eq!(body(&record(LATER).bytes(6, unreadable)), Body::Unknown);
}

#[test]
fn later_semantics_make_anything_else_a_flush() {
    let node = raw().bytes(1, "fra1").bytes(2, "edge-03");
    assert_eq!(body(&record(LATER).bytes(7, &node)), Body::Unknown);
    assert_eq!(body(&record(LATER).bytes(8, &node)), Body::Unknown);
}

#[test]
fn later_semantics_keep_the_set_of_control_planes_in_step_and_never_lose_it() {
    let set = |members: &[u8]| raw().bytes(9, raw().bytes(1, members));
    for semantics in [3, LATER] {
        let read = |raw: Raw| {
            let record = [record(semantics).as_ref(), raw.as_ref()].concat();
            decode_record(Seq::FIRST, &record).map(|record| record.body)
        };
        let three = ReplicaSet::new([1, 2, 3].map(Replica)).unwrap();
        assert_eq!(read(set(&[3, 1, 2])), Ok(Body::ReplicaSet(three)));
        assert_eq!(read(set(&[])).unwrap_err().field, "replica_set.members");
        assert_eq!(read(set(&[1, 0])).unwrap_err().field, "replica_set.members[1]");
    }
}

proptest! {
    #[test]
    fn later_semantics_never_hit_less(record in strategies::record(Seq::FIRST)) {
        let mut later = record.clone();
        later.semantics = SEMANTICS_VERSION + 1;
        let read = decode_record(Seq::FIRST, &encode_record(&later)).unwrap();
        prop_assert_eq!(read.semantics, later.semantics);
        match (record.body, read.body) {
            (_, Body::Unknown) => {}
            (Body::Purge(asked), Body::Purge(applied)) => {
                prop_assert_eq!(&asked.site, &applied.site);
                prop_assert!(!applied.soft);
                for selector in &asked.selectors {
                    let Selector::Url(url) = selector else { continue };
                    let object = Object { site: Some(&asked.site), url, tags: &CacheTags::default() };
                    prop_assert!(applied.selectors.iter().any(|wider| wider.matches(&applied.site, &object)));
                }
            }
            (Body::Site(asked), Body::Site(applied)) => {
                prop_assert_eq!(&asked.hostnames, &applied.hostnames);
                prop_assert!(asked.affected.iter().all(|name| applied.affected.contains(name)));
            }
            (Body::ReplicaSet(asked), Body::ReplicaSet(applied)) => prop_assert_eq!(asked, applied),
            (asked, applied) => prop_assert!(false, "{asked:?} became {applied:?}"),
        }
    }

    #[test]
    fn unknown_fields_are_ignored(record in strategies::record(Seq::FIRST), field in 20_u32..1_000) {
        let mut bytes = encode_record(&record).to_vec();
        bytes.extend_from_slice(raw().bytes(field, "later").varint(field + 1, 7).as_ref());
        prop_assert_eq!(decode_record(Seq::FIRST, &bytes), Ok(record));
    }
}

#[test]
fn a_count_with_an_unknown_selector_counts_everything() {
    let count = raw().bytes(5, raw().bytes(2, "shop").bytes(3, raw().bytes(6, "a new kind")));
    match decode_to_node(count.as_ref()) {
        Ok(ToNode::Count(count)) => assert_eq!(count.selectors, [Selector::Everything]),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_node_with_an_unknown_policy_is_never_counted_as_fenced() {
    let node = raw().bytes(1, "fra1").bytes(2, "edge-03");
    for policy in [0, 3, 99] {
        let hello = raw().bytes(1, raw().bytes(1, &node).bytes(2, ULID).varint(8, policy));
        match decode_from_node(hello.as_ref()) {
            Ok(FromNode::Hello(hello)) => assert_eq!(hello.policy, LeasePolicy::Serve),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn an_unknown_reason_changes_nothing() {
    let reset = raw().bytes(4, raw().bytes(1, ULID).varint(3, 77));
    match decode_to_node(reset.as_ref()) {
        Ok(ToNode::Reset(reset)) => assert_eq!(reset.reason, ResetReason::Other),
        other => panic!("{other:?}"),
    }
    match decode_to_node(raw().bytes(6, raw().varint(1, 77)).as_ref()) {
        Ok(ToNode::GoAway(go_away)) => assert_eq!(go_away.reason, GoAwayReason::Draining),
        other => panic!("{other:?}"),
    }
}
