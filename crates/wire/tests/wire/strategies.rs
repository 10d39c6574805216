//! Any value of each noun, with every field in use now and then.

use std::time::Duration;

use batoff_types::message::{
    Ack, Count, Counted, FromNode, GoAway, GoAwayReason, Heartbeat, Hello, IndexSize, LeaseGrant,
    LeasePolicy, Overflowed, Parents, Position, RecordReport, ReplicaAt, Reset, ResetReason, ToNode, Trouble,
    Welcome, Whereabouts,
};
use batoff_types::{
    Body, Cursor, HostPattern, InstanceId, LogId, Moment, NodeName, Parent, Purge, PurgeUrl, Record, Replica,
    ReplicaSet, SEMANTICS_VERSION, Selector, Seq, SiteChange, SiteId, SiteLimits, SiteTable, Tag, TaskId,
    Term, TraceParent, UnixMillis, UrlPrefix,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

fn site() -> impl Strategy<Value = SiteId> {
    "[a-z0-9-]{1,64}".prop_map(|text| text.parse().unwrap())
}

fn node() -> impl Strategy<Value = NodeName> {
    ("[a-z0-9-]{1,64}", "[a-z0-9-]{1,64}").prop_map(|(pop, node)| NodeName::new(&pop, &node).unwrap())
}

fn parent() -> impl Strategy<Value = Parent> {
    prop_oneof![node().prop_map(Parent::Node), "[a-z0-9-]{1,64}".prop_map(|pop| Parent::pop(&pop).unwrap()),]
}

fn pattern() -> impl Strategy<Value = HostPattern> {
    r"(\*\.)?[a-zа-я]{1,9}\.(example|рф)".prop_map(|text| text.parse().unwrap())
}

fn url_text() -> impl Strategy<Value = String> {
    r"https?://[a-zа-я]{1,9}\.example(:[1-9][0-9]{1,3})?(/[ -~а-я]{0,40})?"
}

fn url() -> impl Strategy<Value = PurgeUrl> {
    url_text().prop_filter_map("the host may be none by IDNA", |text| text.parse().ok())
}

fn prefix() -> impl Strategy<Value = UrlPrefix> {
    url_text().prop_filter_map("may end inside an escape", |text| text.parse().ok())
}

fn tag() -> impl Strategy<Value = Tag> {
    r"[!-+\--~а-я]{1,40}".prop_map(|text| text.parse().unwrap())
}

fn selector() -> impl Strategy<Value = Selector> {
    prop_oneof![
        url().prop_map(Selector::Url),
        prefix().prop_map(Selector::Prefix),
        tag().prop_map(Selector::Tag),
        url().prop_map(|url| Selector::Host(url.hostname())),
        Just(Selector::Everything),
    ]
}

fn site_change() -> impl Strategy<Value = SiteChange> {
    (site(), option::of(vec(pattern(), 0..4)), vec(pattern(), 0..4), any::<[Option<u32>; 3]>()).prop_map(
        |(site, hostnames, affected, [items_per_minute, prefixes_per_minute, tags_per_response])| {
            SiteChange {
                site,
                hostnames,
                affected,
                limits: SiteLimits { items_per_minute, prefixes_per_minute, tags_per_response },
            }
        },
    )
}

fn replica() -> impl Strategy<Value = Replica> {
    (1..=u8::MAX).prop_map(Replica)
}

fn replica_set() -> impl Strategy<Value = ReplicaSet> {
    vec(replica(), 1..=9).prop_map(|members| ReplicaSet::new(members).unwrap())
}

fn body() -> impl Strategy<Value = Body> {
    prop_oneof![
        (site(), vec(selector(), 1..6), any::<bool>())
            .prop_map(|(site, selectors, soft)| Body::Purge(Purge { site, selectors, soft })),
        site_change().prop_map(Body::Site),
        node().prop_map(Body::NodeRegistered),
        node().prop_map(Body::NodeRemoved),
        replica_set().prop_map(Body::ReplicaSet),
        Just(Body::Unknown),
    ]
}

/// A record with that number.
pub fn record(seq: Seq) -> impl Strategy<Value = Record> {
    (any::<u64>(), any::<[u8; 16]>(), ".{0,40}", 0..=SEMANTICS_VERSION, any::<[u8; 24]>(), body()).prop_map(
        move |(accepted_at, task, request_id, semantics, trace, body)| Record {
            seq,
            accepted_at: UnixMillis(accepted_at),
            task: TaskId::from_bytes(task),
            request_id: request_id.into(),
            semantics,
            // One in 256 has none.
            trace: TraceParent::from_bytes(&trace).filter(|_| trace[0] != 0),
            body,
        },
    )
}

/// Up to nine consecutive records.
pub fn records() -> impl Strategy<Value = Vec<Record>> {
    (1..=u64::MAX - 9).prop_flat_map(|first| {
        (0..9_u64).prop_flat_map(move |count| {
            (0..count).map(|i| record(Seq::new(first + i).unwrap())).collect::<Vec<_>>()
        })
    })
}

fn log_id() -> impl Strategy<Value = LogId> {
    any::<[u8; 16]>().prop_map(LogId::from_bytes)
}

fn cursor() -> impl Strategy<Value = Cursor> {
    any::<u64>().prop_map(Cursor::new)
}

fn seq() -> impl Strategy<Value = Seq> {
    (1..=u64::MAX).prop_map(|number| Seq::new(number).unwrap())
}

fn duration() -> impl Strategy<Value = Duration> {
    any::<u64>().prop_map(Duration::from_micros)
}

fn position() -> impl Strategy<Value = Position> {
    (log_id(), cursor(), option::of(any::<[u8; 16]>())).prop_map(|(log_id, cursor, task)| Position {
        log_id,
        cursor,
        task: task.map(TaskId::from_bytes),
    })
}

fn hello() -> impl Strategy<Value = Hello> {
    let policy = prop_oneof![Just(LeasePolicy::Serve), Just(LeasePolicy::Revalidate)];
    let versions = (any::<u32>(), any::<u32>(), ".{0,20}");
    let (caches, parents) = (vec(".{0,20}", 0..3), vec(parent(), 0..3));
    let streams = (any::<[u8; 16]>(), any::<Option<u64>>());
    (node(), streams, option::of(position()), versions, caches, policy, parents).prop_map(
        |(
            node,
            (instance, connection),
            position,
            (protocol, semantics, version),
            caches,
            policy,
            parents,
        )| Hello {
            node,
            instance: InstanceId::from_bytes(instance),
            position,
            protocol,
            semantics,
            version,
            caches,
            policy,
            parents,
            connection,
        },
    )
}

fn report() -> impl Strategy<Value = RecordReport> {
    (seq(), any::<u64>(), any::<bool>(), duration(), duration()).prop_map(
        |(seq, objects, last, in_force_after, evicted_after)| RecordReport {
            seq,
            objects,
            last,
            in_force_after,
            evicted_after,
        },
    )
}

fn overflowed() -> impl Strategy<Value = Overflowed> {
    (site(), any::<u64>(), duration()).prop_map(|(site, objects, since)| Overflowed { site, objects, since })
}

/// Any message of a node.
pub fn from_node() -> impl Strategy<Value = FromNode> {
    prop_oneof![
        hello().prop_map(FromNode::Hello),
        (any::<u64>(), cursor(), option::of((any::<u64>(), any::<u64>())), option::of(duration())).prop_map(
            |(sent_at, cursor, index, fill_in_after)| {
                let index = index.map(|(objects, bytes)| IndexSize { objects, bytes });
                let sent_at = Moment::from_micros(sent_at);
                FromNode::Heartbeat(Heartbeat { sent_at, cursor, index, fill_in_after })
            }
        ),
        (cursor(), vec(report(), 0..4), vec(overflowed(), 0..4))
            .prop_map(|(cursor, reports, overflowed)| FromNode::Ack(Ack { cursor, reports, overflowed })),
        (any::<u64>(), vec(any::<u64>(), 0..4), vec(".{0,20}", 0..3))
            .prop_map(|(id, objects, uncounted)| FromNode::Counted(Counted { id, objects, uncounted })),
        (".{0,20}", ".{0,20}", option::of(seq()))
            .prop_map(|(cache, message, stuck)| FromNode::Trouble(Trouble { cache, message, stuck })),
    ]
}

fn welcome() -> impl Strategy<Value = Welcome> {
    let sites = vec((site(), vec(pattern(), 0..4), any::<Option<u32>>()), 0..4).prop_map(|sites| {
        let mut table = SiteTable::default();
        for (site, hostnames, tags_per_response) in sites {
            table.set(&site, Some(&hostnames));
            table.set_tags_per_response(site.as_str(), tags_per_response);
        }
        table
    });
    let durations = [duration(), duration(), duration(), duration()];
    (log_id(), any::<u64>(), cursor(), durations, sites, replica(), replica_set()).prop_map(
        |(log_id, term, tail, durations, sites, replica, set)| {
            let [lease, heartbeat_interval, reconnect_min, reconnect_max] = durations;
            Welcome {
                log_id,
                term: Term(term),
                tail,
                lease,
                heartbeat_interval,
                reconnect_min,
                reconnect_max,
                sites,
                replica,
                set,
            }
        },
    )
}

fn reset() -> impl Strategy<Value = Reset> {
    let reason = prop::sample::select(vec![
        ResetReason::New,
        ResetReason::ForeignLog,
        ResetReason::Trimmed,
        ResetReason::BeyondTail,
        ResetReason::RecordDiffers,
        ResetReason::Other,
    ]);
    (log_id(), cursor(), reason).prop_map(|(log_id, cursor, reason)| Reset { log_id, cursor, reason })
}

fn go_away() -> impl Strategy<Value = GoAway> {
    let reason = prop::sample::select(vec![
        GoAwayReason::Draining,
        GoAwayReason::Replaced,
        GoAwayReason::Removed,
        GoAwayReason::Protocol,
    ]);
    (reason, duration(), vec(".{0,20}", 0..3)).prop_map(|(reason, reconnect_after, endpoints)| GoAway {
        reason,
        reconnect_after,
        endpoints: endpoints.into_iter().map(Into::into).collect(),
    })
}

/// Any message to a node.
pub fn to_node() -> impl Strategy<Value = ToNode> {
    prop_oneof![
        welcome().prop_map(ToNode::Welcome),
        records().prop_map(ToNode::Records),
        (any::<u64>(), duration(), any::<u64>(), option::of(cursor()), option::of(cursor())).prop_map(
            |(echo, duration, term, parents_through, tail)| {
                let (echo, term) = (Moment::from_micros(echo), Term(term));
                ToNode::LeaseGrant(LeaseGrant { echo, duration, term, parents_through, tail })
            }
        ),
        (cursor(), ".{0,20}").prop_map(|(through, why)| ToNode::Parents(Parents { through, why })),
        reset().prop_map(ToNode::Reset),
        (any::<u64>(), site(), vec(selector(), 0..4), proptest::option::of(duration())).prop_map(
            |(id, site, selectors, answer_within)| {
                ToNode::Count(Count { id, site, selectors, answer_within })
            }
        ),
        go_away().prop_map(ToNode::GoAway),
        vec((replica(), ".{0,20}"), 0..4).prop_map(|replicas| {
            let at = |(replica, endpoint): (_, String)| ReplicaAt { replica, endpoint: endpoint.into() };
            ToNode::Replicas(Whereabouts { replicas: replicas.into_iter().map(at).collect() })
        }),
    ]
}
