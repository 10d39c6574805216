//! A node's day in minutes: objects come and go, are looked up, purged, swept and forgotten; memory as it goes.

use std::hint::black_box;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use anyhow::Context;
use batoff_index::Variant;
use batoff_types::{Cursor, Selector};

use super::batoff::Node;
use super::measure::resident;
use super::workload::{Workload, random};

const PURGES_A_SECOND: u64 = 20;
const REPORT_EVERY: Duration = Duration::from_secs(10);

/// Rules are forgotten when they are so many records old: here no fill takes longer.
const FORGET_AFTER: u64 = 20_000;

pub fn run(entries: usize, minutes: f64) -> anyhow::Result<()> {
    let node = Node::new(entries)?;
    let before = resident();
    for at in 0..entries {
        node.index.insert(node.entry(at))?;
    }
    let after_fill = resident();
    println!("{entries} objects: {:.1} B an entry resident", (after_fill - before) / entries as f64);
    println!(
        "| minute | resident (MiB) | B an entry | URLs | order | tags | free | entries | rules | backlog | lookups | refilled | \
         purged |"
    );
    println!("|{}", " ---: |".repeat(13));

    let (ended, looked_up, refilled, purged) =
        (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let started = Instant::now();
    let mut largest = after_fill;
    std::thread::scope(|scope| -> anyhow::Result<()> {
        scope.spawn(|| read(&node, &ended, &looked_up));
        scope.spawn(|| refill(&node, &ended, &refilled));
        let purging = scope.spawn(|| purge(&node, &ended, &purged));
        let mut due = REPORT_EVERY;
        while started.elapsed().as_secs_f64() < minutes * 60.0 {
            std::thread::sleep(Duration::from_millis(200));
            if started.elapsed() < due {
                continue;
            }
            due += REPORT_EVERY;
            let (now, stats) = (resident(), node.index.stats());
            largest = largest.max(now);
            println!(
                "| {:.1} | {:.0} | {:.1} | {:.1} | {:.1} | {:.1} | {:.1} | {} | {} | {} | {} | {} | {} |",
                started.elapsed().as_secs_f64() / 60.0,
                now / 1_048_576.0,
                (now - before) / entries as f64,
                stats.bytes.urls as f64 / entries as f64,
                stats.bytes.order as f64 / entries as f64,
                stats.bytes.tags as f64 / entries as f64,
                stats.bytes.free as f64 / entries as f64,
                stats.entries,
                stats.rules,
                stats.backlog,
                looked_up.load(Relaxed),
                refilled.load(Relaxed),
                purged.load(Relaxed)
            );
        }
        ended.store(true, Relaxed);
        purging.join().ok().context("the purging thread panicked")?
    })?;
    println!(
        "\nlargest: {:.1} B an entry, {:+.1} % against right after the fill",
        (largest - before) / entries as f64,
        (largest - after_fill) / (after_fill - before) * 100.0
    );
    Ok(())
}

fn read(node: &Node, ended: &AtomicBool, looked_up: &AtomicU64) {
    let urls: Vec<_> = (0..100_000).map(|number| node.work.url(random(number) as usize)).collect();
    while !ended.load(Relaxed) {
        for url in &urls {
            black_box(node.index.lookup(url, Variant::MAIN));
            if ended.load(Relaxed) {
                break;
            }
        }
        looked_up.fetch_add(urls.len() as u64, Relaxed);
    }
}

/// What was purged comes back, what a cache drops by itself goes and comes back, what is there is replaced.
fn refill(node: &Node, ended: &AtomicBool, refilled: &AtomicU64) {
    let entries = node.work.entries();
    // Every object has its turn, so that none is missing for longer than a round.
    for at in (0..).map(|turn: usize| turn % entries) {
        if ended.load(Relaxed) {
            return;
        }
        let entry = node.entry(at);
        if random(at).is_multiple_of(16) {
            node.index.remove(&entry.url, Variant::MAIN);
        }
        // A purge may have come since its token.
        if node.index.insert(entry).is_ok() {
            refilled.fetch_add(1, Relaxed);
        }
    }
}

fn purge(node: &Node, ended: &AtomicBool, purged: &AtomicU64) -> anyhow::Result<()> {
    let started = Instant::now();
    for number in 0_u64.. {
        while started.elapsed() < Duration::from_millis(number * 1_000 / PURGES_A_SECOND) {
            if ended.load(Relaxed) {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let selector = if number.is_multiple_of(100 * PURGES_A_SECOND) {
            Selector::Prefix(format!("https://{}", node.work.prefix(number as usize / 100 % 8)).parse()?)
        } else if number.is_multiple_of(30 * PURGES_A_SECOND) {
            Selector::Tag(Workload::hit_tag().parse()?)
        } else {
            node.any_selector(number as usize)?
        };
        let mut matches = node.apply(node.purge(selector))?;
        while let Some(batch) = matches.next_batch(1_000) {
            purged.fetch_add(batch.len() as u64, Relaxed);
        }
        if number.is_multiple_of(PURGES_A_SECOND) {
            let applied = node.index.applied().get();
            node.index.forget(Cursor::new(applied.saturating_sub(FORGET_AFTER)));
        }
    }
    Ok(())
}
