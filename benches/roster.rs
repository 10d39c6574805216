//! What the roster costs with 10,000 nodes and 1,000 purges a second: CPU an ack, a heartbeat and a completion, memory a
//! node. `cargo bench -p batoff-benches --bench roster [-- NODES]`

use std::hint::black_box;
use std::time::{Duration, Instant};

use anyhow::Context;
use batoff_delivery::{LeaseTimes, Recovered, RecoveredNode, Resume, Roster};
use batoff_types::message::{Heartbeat, Hello, LeasePolicy};
use batoff_types::{Cursor, InstanceId, Moment, NodeName, Seq, Term};

/// Purges in a second of the roster's time.
const PURGES: u64 = 1_000;

/// Acks of a node in that second: records are gathered for up to 50 ms under such a load.
const ACKS: u64 = 20;

/// Heartbeats of a node in that second.
const HEARTBEATS: u64 = 4;

/// Seconds of the roster's time.
const SECONDS: u64 = 2;

fn main() -> anyhow::Result<()> {
    let nodes = std::env::args().skip(1).find_map(|text| text.parse().ok()).unwrap_or(10_000_u64);
    let names = (0..nodes)
        .map(|node| NodeName::new(&format!("pop{}", node / 30), &format!("edge-{node}")))
        .collect::<Result<Vec<_>, _>>()
        .context("names of nodes")?;
    let before = resident_bytes();
    let mut fleet = Fleet::start(names)?;
    let memory = resident_bytes().saturating_sub(before) / nodes;

    println!("| the roster with {nodes} nodes | |\n| --- | --: |");
    println!("| memory a node, its name included | {memory} B |");
    let load = fleet.live()?;
    println!("| an ack | {} ns |", load.acks.each());
    println!("| a heartbeat, with its lease renewed | {} ns |", load.heartbeats.each());
    println!("| a purge: made known, and found to be completed | {} ns |", load.purges.each());
    let busy = load.acks.time + load.heartbeats.time + load.purges.time;
    let share = 100.0 * busy.as_secs_f64() / SECONDS as f64;
    println!(
        "| {PURGES} purges, {} acks and {} heartbeats a second | {share:.0} % of a core |",
        ACKS * nodes,
        HEARTBEATS * nodes
    );
    let (spread, scan) = fleet.spread();
    println!("| an ack while every node stands at another place | {} ns |", spread.each());
    println!(
        "| … against looking for the last one among all | {} ns, ratio {:.4} |",
        scan.each(),
        spread.each() as f64 / scan.each().max(1) as f64
    );
    Ok(())
}

/// Time spent on so many of something, by the clock: run it on a machine with nothing else to do.
#[derive(Clone, Copy, Default)]
struct Spent {
    time: Duration,
    count: u64,
}

impl Spent {
    fn on<T>(&mut self, count: u64, work: impl FnOnce() -> T) -> T {
        let begun = Instant::now();
        let outcome = work();
        self.time += begun.elapsed();
        self.count += count;
        outcome
    }

    fn each(self) -> u128 {
        self.time.as_nanos() / u128::from(self.count.max(1))
    }
}

#[derive(Default)]
struct Load {
    acks: Spent,
    heartbeats: Spent,
    purges: Spent,
}

struct Fleet {
    names: Vec<NodeName>,
    roster: Roster,
    now: Moment,
}

impl Fleet {
    /// All of them strict, connected and leased.
    fn start(names: Vec<NodeName>) -> anyhow::Result<Self> {
        let recovered = Recovered {
            tail: Cursor::new(1),
            term: Term(1),
            max_lease_granted: Duration::ZERO,
            completed: Cursor::START,
            nodes: Vec::from_iter(names.iter().map(|name| RecoveredNode {
                name: name.clone(),
                registered: Seq::FIRST,
                confirmed: Cursor::new(1),
                policy: Some(LeasePolicy::Revalidate),
                parents: None,
                removed: false,
            })),
        };
        let now = Moment::from_micros(1_000_000);
        let mut fleet = Self { roster: Roster::new(LeaseTimes::default(), now, recovered), names, now };
        // Until leases of earlier control planes have run out.
        fleet.pass(Duration::from_millis(200));
        for (index, node) in fleet.names.iter().enumerate() {
            let hello = Hello {
                node: node.clone(),
                instance: InstanceId::from_bytes((index as u128).to_be_bytes()),
                position: None,
                protocol: 1,
                semantics: 1,
                version: String::new(),
                caches: Vec::new(),
                policy: LeasePolicy::Revalidate,
                parents: Vec::new(),
                connection: None,
            };
            let cursor = Cursor::new(1);
            fleet.roster.handle_hello(fleet.now, &hello, &Resume::At(cursor), 1)?;
            let heartbeat = Heartbeat { sent_at: fleet.now, cursor, index: None, fill_in_after: None };
            let grant = fleet.roster.handle_heartbeat(fleet.now, node, 1, &heartbeat);
            anyhow::ensure!(grant.is_some_and(|grant| !grant.duration.is_zero()), "{node} got no lease");
        }
        Ok(fleet)
    }

    fn pass(&mut self, time: Duration) {
        self.now = self.now + time;
        self.roster.handle_tick(self.now);
    }

    /// A few seconds under full load. Nodes acknowledge one after another, so most purges are completed by the last.
    fn live(&mut self) -> anyhow::Result<Load> {
        let mut load = Load::default();
        let mut completed = 0;
        let step = Duration::from_secs(1) / u32::try_from(ACKS)?;
        for round in 0..SECONDS * ACKS {
            self.pass(step);
            let tail = Cursor::new(self.roster.tail().get() + PURGES / ACKS);
            let now = self.now;
            load.purges.on(PURGES / ACKS, || {
                for seq in self.roster.tail().get() + 1..=tail.get() {
                    self.roster.handle_appended(now, Cursor::new(seq));
                }
            });
            load.acks.on(self.names.len() as u64, || {
                for node in &self.names {
                    self.roster.handle_ack(now, node, 1, tail);
                }
            });
            load.purges.on(0, || {
                while let Some(range) = self.roster.poll_completed() {
                    completed += range.through.get() - range.after.get();
                }
            });
            if round % (ACKS / HEARTBEATS) == 0 {
                load.heartbeats.on(self.names.len() as u64, || {
                    for node in &self.names {
                        let heartbeat =
                            Heartbeat { sent_at: now, cursor: tail, index: None, fill_in_after: None };
                        black_box(self.roster.handle_heartbeat(now, node, 1, &heartbeat));
                    }
                });
            }
        }
        anyhow::ensure!(completed >= SECONDS * PURGES, "only {completed} purges were completed");
        Ok(load)
    }

    /// The worst case for what finds the last one: no two nodes stand at the same place. Beside it a plain search.
    fn spread(&mut self) -> (Spent, Spent) {
        let nodes = self.names.len() as u64;
        let base = self.roster.tail().get();
        self.roster.handle_appended(self.now, Cursor::new(base + 2 * nodes));
        for (place, node) in (1..).zip(&self.names) {
            self.roster.handle_ack(self.now, node, 1, Cursor::new(base + place));
        }
        let (mut spread, mut scan) = (Spent::default(), Spent::default());
        spread.on(nodes, || {
            for (place, node) in (1..).zip(&self.names) {
                self.roster.handle_ack(self.now, node, 1, Cursor::new(base + nodes + place));
            }
        });
        let mut places: Vec<u64> = (1..=nodes).collect();
        let acks = nodes.min(1_000);
        scan.on(acks, || {
            for node in 0..acks as usize {
                places[node] += nodes;
                black_box(places.iter().min());
            }
        });
        (spread, scan)
    }
}

/// Resident memory of this process; 0 where `/proc` does not tell.
fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|text| text.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0) * 1024
}
