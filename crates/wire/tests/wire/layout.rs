//! The layout of the contract: these bytes are what other implementations, and logs on disk, hold.

use std::time::Duration;

use batoff_types::message::{
    Ack, Count, Counted, FromNode, GoAway, GoAwayReason, Heartbeat, Hello, IndexSize, LeaseGrant,
    LeasePolicy, Overflowed, Parents, Position, RecordReport, ReplicaAt, Reset, ResetReason, ToNode, Trouble,
    Welcome, Whereabouts,
};
use batoff_types::{
    Body, Cursor, InstanceId, LogId, Moment, NodeName, Purge, Record, Replica, ReplicaSet, Selector, Seq,
    SiteChange, SiteLimits, SiteTable, TaskId, Term, TraceParent, UnixMillis,
};
use batoff_wire::{
    Requester, RequesterIdentity, decode_from_node, decode_record, decode_requested, decode_to_node,
    encode_from_node, encode_record, encode_requested, encode_to_node,
};

use super::raw::{Raw, raw};

const ULID: [u8; 16] = *b"0123456789abcdef";

fn selectors() -> Vec<Selector> {
    vec![
        Selector::Url("http://a.example/x?y".parse().unwrap()),
        Selector::Prefix("https://a.example/im".parse().unwrap()),
        Selector::Tag("product:42".parse().unwrap()),
        Selector::Host("a.example".parse().unwrap()),
        Selector::Everything,
    ]
}

fn with_selectors(message: Raw, field: u32) -> Raw {
    message
        .bytes(field, raw().bytes(1, "http://a.example/x?y"))
        .bytes(field, raw().bytes(2, "https://a.example/im"))
        .bytes(field, raw().bytes(3, "product:42"))
        .bytes(field, raw().bytes(4, "a.example"))
        .bytes(field, raw().bytes(5, raw()))
}

fn record(body: Body) -> Record {
    Record {
        seq: Seq::FIRST,
        accepted_at: UnixMillis(1_776_672_751_000),
        task: TaskId::from_bytes(ULID),
        request_id: "req-1".into(),
        semantics: 1,
        trace: None,
        body,
    }
}

fn raw_record() -> Raw {
    raw().varint(1, 1_776_672_751_000).bytes(2, ULID).bytes(3, "req-1").varint(4, 1)
}

#[test]
fn a_record_is_laid_out_as_the_contract_says() {
    let check = |body, expected: Raw| assert_eq!(encode_record(&record(body)), expected.as_ref());

    check(
        Body::Purge(Purge { site: "shop".parse().unwrap(), selectors: selectors(), soft: true }),
        raw_record().bytes(5, with_selectors(raw().bytes(1, "shop"), 2).varint(3, 1)),
    );
    check(
        Body::Site(SiteChange {
            site: "shop".parse().unwrap(),
            hostnames: Some(vec!["a.example".parse().unwrap(), "*.b.example".parse().unwrap()]),
            affected: vec!["*.b.example".parse().unwrap()],
            limits: SiteLimits {
                items_per_minute: Some(7),
                prefixes_per_minute: Some(0),
                tags_per_response: Some(64),
            },
        }),
        raw_record().bytes(
            6,
            raw()
                .bytes(1, "shop")
                .bytes(2, raw().bytes(1, "a.example").bytes(1, "*.b.example"))
                .bytes(3, "*.b.example")
                .bytes(4, raw().varint(1, 7).varint(2, 0).varint(3, 64)),
        ),
    );
    check(
        Body::Site(SiteChange {
            site: "shop".parse().unwrap(),
            hostnames: None,
            affected: vec![],
            limits: SiteLimits::default(),
        }),
        raw_record().bytes(6, raw().bytes(1, "shop")),
    );
    let node = NodeName::new("fra1", "edge-03").unwrap();
    let raw_node = raw().bytes(1, "fra1").bytes(2, "edge-03");
    check(Body::NodeRegistered(node.clone()), raw_record().bytes(7, &raw_node));
    check(Body::NodeRemoved(node), raw_record().bytes(8, &raw_node));
    let set = ReplicaSet::new([1, 2, 200].map(Replica)).unwrap();
    check(Body::ReplicaSet(set), raw_record().bytes(9, raw().bytes(1, [1, 2, 200, 1])));
    check(Body::Unknown, raw_record());
}

#[test]
fn who_asked_stands_behind_the_record_and_changes_nothing_for_who_does_not_read_it() {
    let record = record(Body::Purge(Purge {
        site: "shop".parse().unwrap(),
        selectors: vec![Selector::Everything],
        soft: false,
    }));
    let purge = raw().bytes(1, "shop").bytes(2, raw().bytes(5, raw()));
    let plain = encode_record(&record);
    for (address, octets, more) in [
        ("192.0.2.7", vec![192, 0, 2, 7], 26),
        ("::ffff:192.0.2.7", vec![192, 0, 2, 7], 26),
        ("2001:db8::7", [&[0x20, 1, 0xd, 0xb8], [0; 11].as_slice(), &[7]].concat(), 38),
    ] {
        let identity = RequesterIdentity::Token(ULID);
        let requester = Requester { identity, address: address.parse().unwrap() };
        let expected =
            raw_record().bytes(5, &purge).bytes(15, raw().bytes(1, ULID).bytes(2, octets.as_slice()));
        let encoded = encode_requested(&record, &requester);
        assert_eq!(encoded, expected.as_ref(), "{address}");
        assert_eq!(encoded.len() - plain.len(), more, "{address}");
        assert_eq!(decode_record(Seq::FIRST, &encoded), Ok(record.clone()));
        let canonical = Requester { address: requester.address.to_canonical(), ..requester };
        assert_eq!(decode_requested(Seq::FIRST, &encoded), Ok((record.clone(), Some(canonical))));
    }
    assert_eq!(decode_requested(Seq::FIRST, &plain), Ok((record.clone(), None)));
    let identity = RequesterIdentity::Account("anna".to_owned());
    let requester = Requester { identity, address: "192.0.2.7".parse().unwrap() };
    let encoded = encode_requested(&record, &requester);
    let raw_requester = raw().bytes(2, [192, 0, 2, 7].as_slice()).bytes(3, "anna");
    assert_eq!(encoded, raw_record().bytes(5, &purge).bytes(15, raw_requester).as_ref());
    assert_eq!(decode_requested(Seq::FIRST, &encoded), Ok((record.clone(), Some(requester))));
    // Who asked may be damaged or of a later form; what is purged is not.
    for requester in [raw(), raw().bytes(1, "short"), raw().bytes(1, ULID).bytes(2, "five!")] {
        let odd = raw_record().bytes(5, &purge).bytes(15, requester);
        assert_eq!(decode_requested(Seq::FIRST, odd.as_ref()), Ok((record.clone(), None)));
    }
}

#[test]
fn a_trace_stands_behind_the_record_and_what_is_none_changes_nothing() {
    let purge = Body::Purge(Purge {
        site: "shop".parse().unwrap(),
        selectors: vec![Selector::Everything],
        soft: false,
    });
    let plain = record(purge);
    let raw_purge = raw().bytes(1, "shop").bytes(2, raw().bytes(5, raw()));
    let ids = *b"0123456789abcdefghijklmn";
    let traced = Record { trace: TraceParent::from_bytes(&ids), ..plain.clone() };
    let expected = raw_record().bytes(5, &raw_purge).bytes(16, ids);
    let encoded = encode_record(&traced);
    assert_eq!(encoded, expected.as_ref());
    assert_eq!(encoded.len() - encode_record(&plain).len(), 27);
    assert_eq!(decode_record(Seq::FIRST, &encoded), Ok(traced));
    for odd in [&ids[..23], &[0; 24], b""] {
        let odd = raw_record().bytes(5, &raw_purge).bytes(16, odd);
        assert_eq!(decode_record(Seq::FIRST, odd.as_ref()), Ok(plain.clone()));
    }
}

#[test]
fn messages_of_a_node_are_laid_out_as_the_contract_says() {
    let check = |message, expected: Raw| {
        assert_eq!(encode_from_node(&message), expected.as_ref());
        assert_eq!(decode_from_node(expected.as_ref()), Ok(message));
    };

    let hello = |protocol, connection| {
        FromNode::Hello(Hello {
            node: NodeName::new("fra1", "edge-03").unwrap(),
            instance: InstanceId::from_bytes(ULID),
            position: Some(Position {
                log_id: LogId::from_bytes(ULID),
                cursor: Cursor::new(300),
                task: Some(TaskId::from_bytes(ULID)),
            }),
            protocol,
            semantics: 2,
            version: "0.1.0".to_owned(),
            caches: vec!["nginx".to_owned(), "varnish".to_owned()],
            policy: LeasePolicy::Revalidate,
            parents: vec!["lon1/shield-1".parse().unwrap(), "ams1".parse().unwrap()],
            connection,
        })
    };
    let raw_hello = |protocol| {
        raw()
            .bytes(1, raw().bytes(1, "fra1").bytes(2, "edge-03"))
            .bytes(2, ULID)
            .bytes(3, raw().bytes(1, ULID).varint(2, 300).bytes(3, ULID))
            .varint(4, protocol)
            .varint(5, 2)
            .bytes(6, "0.1.0")
            .bytes(7, "nginx")
            .bytes(7, "varnish")
            .varint(8, 2)
            .bytes(9, raw().bytes(1, "lon1").bytes(2, "shield-1"))
            .bytes(9, raw().bytes(1, "ams1"))
    };
    check(hello(1, None), raw().bytes(1, raw_hello(1)));
    check(hello(2, Some(300)), raw().bytes(1, raw_hello(2).varint(10, 300)));
    check(
        FromNode::Heartbeat(Heartbeat {
            sent_at: Moment::from_micros(1_000),
            cursor: Cursor::new(3),
            index: None,
            fill_in_after: None,
        }),
        raw().bytes(2, raw().varint(1, 1_000).varint(2, 3)),
    );
    check(
        FromNode::Heartbeat(Heartbeat {
            sent_at: Moment::from_micros(1_000),
            cursor: Cursor::new(3),
            index: Some(IndexSize { objects: 300, bytes: 5_000_000 }),
            fill_in_after: None,
        }),
        raw().bytes(
            2,
            raw().varint(1, 1_000).varint(2, 3).bytes(3, raw().varint(1, 300).varint(2, 5_000_000)),
        ),
    );
    check(
        FromNode::Heartbeat(Heartbeat {
            sent_at: Moment::from_micros(1_000),
            cursor: Cursor::new(3),
            index: None,
            fill_in_after: Some(Duration::from_millis(150)),
        }),
        raw().bytes(2, raw().varint(1, 1_000).varint(2, 3).varint(4, 150_000)),
    );
    check(
        FromNode::Ack(Ack {
            cursor: Cursor::new(3),
            reports: vec![RecordReport {
                seq: Seq::FIRST,
                objects: 2,
                last: true,
                in_force_after: Duration::from_micros(40),
                evicted_after: Duration::from_millis(5),
            }],
            overflowed: vec![Overflowed {
                site: "shop".parse().unwrap(),
                objects: 7,
                since: Duration::from_micros(9),
            }],
        }),
        raw().bytes(
            3,
            raw()
                .varint(1, 3)
                .bytes(2, raw().varint(1, 1).varint(2, 2).varint(3, 1).varint(4, 40).varint(5, 5_000))
                .bytes(3, raw().bytes(1, "shop").varint(2, 7).varint(3, 9)),
        ),
    );
    check(
        FromNode::Counted(Counted { id: 9, objects: vec![1, 2], uncounted: vec!["varnish".to_owned()] }),
        raw().bytes(4, raw().varint(1, 9).bytes(2, [1, 2]).bytes(3, "varnish")),
    );
    check(
        FromNode::Trouble(Trouble {
            cache: "nginx".to_owned(),
            message: "refused".to_owned(),
            stuck: Some(Seq::FIRST),
        }),
        raw().bytes(5, raw().bytes(1, "nginx").bytes(2, "refused").varint(3, 1)),
    );
}

#[test]
fn messages_to_a_node_are_laid_out_as_the_contract_says() {
    let check = |message, expected: Raw| {
        assert_eq!(encode_to_node(&message), expected.as_ref());
        assert_eq!(decode_to_node(expected.as_ref()), Ok(message));
    };

    let welcome = |replica, set| {
        ToNode::Welcome(Welcome {
            log_id: LogId::from_bytes(ULID),
            term: Term(4),
            tail: Cursor::new(300),
            lease: Duration::from_secs(1),
            heartbeat_interval: Duration::from_millis(250),
            reconnect_min: Duration::from_millis(50),
            reconnect_max: Duration::from_secs(5),
            sites: {
                let mut sites = SiteTable::default();
                sites.set(&"shop".parse().unwrap(), Some(&["*.a.example".parse().unwrap()]));
                sites.set_tags_per_response("shop", Some(64));
                sites
            },
            replica,
            set,
        })
    };
    let raw_welcome = || {
        raw()
            .bytes(1, ULID)
            .varint(2, 4)
            .varint(3, 300)
            .varint(4, 1_000_000)
            .varint(5, 250_000)
            .varint(6, 50_000)
            .varint(7, 5_000_000)
            .bytes(8, raw().bytes(1, "shop").bytes(2, "*.a.example").varint(3, 64))
    };
    let set = |members: &[u8]| ReplicaSet::new(members.iter().copied().map(Replica)).unwrap();
    // One that is alone says no more than those did that knew of no others.
    check(welcome(Replica::ONLY, ReplicaSet::only()), raw().bytes(1, raw_welcome()));
    let of_three = raw_welcome().varint(9, 2).bytes(10, [1, 2, 3]);
    check(welcome(Replica(2), set(&[1, 2, 3])), raw().bytes(1, of_three));
    // A learner, which does not count yet.
    check(welcome(Replica(2), set(&[1])), raw().bytes(1, raw_welcome().varint(9, 2).bytes(10, [1])));
    let endpoint = "https://cp2.example:7443";
    check(
        ToNode::Replicas(Whereabouts {
            replicas: vec![ReplicaAt { replica: Replica(2), endpoint: endpoint.into() }],
        }),
        raw().bytes(8, raw().bytes(1, raw().varint(1, 2).bytes(2, endpoint))),
    );
    check(
        ToNode::Records(vec![Record { seq: Seq::new(300).unwrap(), ..record(Body::Unknown) }]),
        raw().bytes(2, raw().varint(1, 300).bytes(2, raw_record())),
    );
    check(
        ToNode::LeaseGrant(LeaseGrant {
            echo: Moment::from_micros(7),
            duration: Duration::from_secs(1),
            term: Term(4),
            parents_through: None,
            tail: None,
        }),
        raw().bytes(3, raw().varint(1, 7).varint(2, 1_000_000).varint(3, 4)),
    );
    check(
        ToNode::LeaseGrant(LeaseGrant {
            echo: Moment::from_micros(7),
            duration: Duration::from_secs(1),
            term: Term(4),
            parents_through: Some(Cursor::START),
            tail: None,
        }),
        raw().bytes(3, raw().varint(1, 7).varint(2, 1_000_000).varint(3, 4).varint(4, 0)),
    );
    check(
        ToNode::LeaseGrant(LeaseGrant {
            echo: Moment::from_micros(7),
            duration: Duration::from_secs(1),
            term: Term(4),
            parents_through: None,
            tail: Some(Cursor::new(300)),
        }),
        raw().bytes(3, raw().varint(1, 7).varint(2, 1_000_000).varint(3, 4).varint(5, 300)),
    );
    check(
        ToNode::Parents(Parents { through: Cursor::new(300), why: "w".to_owned() }),
        raw().bytes(7, raw().varint(1, 300).bytes(2, "w")),
    );
    check(
        ToNode::Reset(Reset {
            log_id: LogId::from_bytes(ULID),
            cursor: Cursor::new(5),
            reason: ResetReason::Trimmed,
        }),
        raw().bytes(4, raw().bytes(1, ULID).varint(2, 5).varint(3, 3)),
    );
    check(
        ToNode::Count(Count {
            id: 9,
            site: "shop".parse().unwrap(),
            selectors: selectors(),
            answer_within: Some(Duration::from_secs(1)),
        }),
        raw().bytes(5, with_selectors(raw().varint(1, 9).bytes(2, "shop"), 3).varint(4, 1_000_000)),
    );
    check(
        ToNode::GoAway(GoAway {
            reason: GoAwayReason::Removed,
            reconnect_after: Duration::from_secs(2),
            endpoints: vec!["https://b.example:7443".into()],
        }),
        raw().bytes(6, raw().varint(1, 3).varint(2, 2_000_000).bytes(3, "https://b.example:7443")),
    );
}
