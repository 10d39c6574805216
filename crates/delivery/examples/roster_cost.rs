//! What the roster costs with many nodes: time an ack, a heartbeat, an append and an idle second; memory a node.
//!
//! `cargo run --release -p batoff-delivery --example roster_cost [NODES]`

use std::time::{Duration, Instant};

use batoff_delivery::{LeaseTimes, Recovered, RecoveredNode, Resume, Roster};
use batoff_types::message::{Heartbeat, Hello, LeasePolicy};
use batoff_types::{Cursor, InstanceId, Moment, NodeName, Seq, Term};

fn main() {
    let nodes: u64 = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(10_000);
    let names: Vec<NodeName> = (0..nodes)
        .filter_map(|node| NodeName::new(&format!("pop{}", node / 30), &format!("edge-{node}")).ok())
        .collect();
    let before = resident_bytes();
    let (mut roster, mut now) = roster(&names);
    let after = resident_bytes();
    println!("{nodes} nodes");
    println!("memory a node, names included once: about {} B", (after.saturating_sub(before)) / nodes);

    // Each round: one record, acknowledged by every node in turn, so that places move through the whole range.
    let rounds = 100;
    let mut acks = Duration::ZERO;
    let mut completed = 0;
    for _ in 0..rounds {
        let tail = Cursor::after(roster.tail().next());
        roster.handle_appended(now, tail);
        let begin = Instant::now();
        for name in &names {
            roster.handle_ack(now, name, 1, tail);
        }
        acks += begin.elapsed();
        completed += roster.poll_completed().map_or(0, |range| range.through.get() - range.after.get());
        now = now + Duration::from_millis(2);
    }
    println!("ack: {} ns ({completed} of {rounds} records completed)", per(acks, rounds * nodes));

    // Every node at another place, the worst case for the ordered multiset.
    let tail = Cursor::new(roster.tail().get() + 2 * nodes);
    roster.handle_appended(now, tail);
    let spread = Cursor::new(tail.get() - 2 * nodes);
    for (index, name) in names.iter().enumerate() {
        roster.handle_ack(now, name, 1, Cursor::new(spread.get() + index as u64));
    }
    let begin = Instant::now();
    for (index, name) in names.iter().enumerate() {
        roster.handle_ack(now, name, 1, Cursor::new(spread.get() + nodes + index as u64));
    }
    println!("ack, every node at another place: {} ns", per(begin.elapsed(), nodes));
    for name in &names {
        roster.handle_ack(now, name, 1, tail);
    }

    let heartbeats = 40;
    let begin = Instant::now();
    for _ in 0..heartbeats {
        now = now + Duration::from_millis(250);
        for name in &names {
            roster.handle_heartbeat(now, name, 1, &Heartbeat { sent_at: now, cursor: tail });
        }
    }
    println!("heartbeat with a lease renewed: {} ns", per(begin.elapsed(), heartbeats * nodes));

    let begin = Instant::now();
    let appends = 100_000;
    for step in 1..=appends {
        now = now + Duration::from_micros(1);
        roster.handle_appended(now, Cursor::new(tail.get() + step));
    }
    println!("append: {} ns", per(begin.elapsed(), appends));
    let begin = Instant::now();
    let counts = roster.counts_at(tail.next());
    println!("counts of one record: {:?} ({counts:?})", begin.elapsed());
}

fn roster(names: &[NodeName]) -> (Roster, Moment) {
    let recovered = Recovered {
        tail: Cursor::new(1),
        term: Term(1),
        max_lease_granted: Duration::from_secs(1),
        completed: Cursor::START,
        nodes: Vec::from_iter(names.iter().map(|name| RecoveredNode {
            name: name.clone(),
            registered: Seq::FIRST,
            confirmed: Cursor::new(1),
            policy: Some(LeasePolicy::Revalidate),
            removed: false,
        })),
    };
    let mut roster = Roster::new(LeaseTimes::default(), Moment::ZERO, recovered);
    let mut now = Moment::ZERO + Duration::from_secs(2);
    for (index, node) in names.iter().enumerate() {
        let hello = Hello {
            node: node.clone(),
            instance: InstanceId::from_bytes((index as u128).to_be_bytes()),
            position: None,
            protocol: 1,
            semantics: 1,
            version: String::new(),
            caches: Vec::new(),
            policy: LeasePolicy::Revalidate,
        };
        let cursor = Cursor::new(1);
        let _ = roster.handle_hello(now, &hello, &Resume::At(cursor), 1);
        roster.handle_heartbeat(now, node, 1, &Heartbeat { sent_at: now, cursor });
    }
    now = now + Duration::from_millis(1);
    (roster, now)
}

fn per(time: Duration, count: u64) -> u128 {
    time.as_nanos() / u128::from(count.max(1))
}

/// Resident memory of this process; 0 where `/proc` does not tell.
fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|text| text.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0) * 1024
}
