//! Threads against each other.

mod churn;

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread;

use batoff_index::{Effect, Entry, Variant, Verdict};
use batoff_types::Selector;

use crate::fixture::*;

/// Fills run into purges of the same objects. Whatever the interleaving: an object that began before a purge is refused,
/// or handed out by the purge's matches, or was replaced; afterwards nothing is served that is older than the purge.
#[test]
fn an_insert_sees_the_rule_or_the_sweep_sees_the_object() {
    const ROUNDS: u64 = 300;
    const WRITERS: u64 = 3;
    for selector in [by_url("one.test/a"), by_prefix("one.test/"), by_tag("t"), Selector::Everything] {
        let node = node();
        let start = Barrier::new(WRITERS as usize + 1);
        let inserted = AtomicU64::new(0);
        // Judged at the end: a panic in between would leave the others at the barrier.
        let (mut evicted, mut left_behind) = (0, 0);
        thread::scope(|scope| {
            for writer in 0..WRITERS {
                let (node, start, inserted) = (&node, &start, &inserted);
                scope.spawn(move || {
                    for _ in 0..ROUNDS {
                        let token = node.begin_fill();
                        start.wait();
                        let entry = Entry {
                            url: url("one.test/a"),
                            variant: Variant(u128::from(writer)),
                            tags: tags(&["t"]),
                            token,
                            locator: 0,
                        };
                        if node.insert(entry).is_ok() {
                            inserted.fetch_add(1, SeqCst);
                        }
                        start.wait();
                        start.wait();
                    }
                });
            }
            for _ in 0..ROUNDS {
                start.wait();
                let found = all(node.hear(purge("one", vec![selector.clone()], false)));
                evicted += found.len() as u64;
                start.wait();
                // All have inserted; all of them began before the purge.
                left_behind += node.stats().entries;
                start.wait();
            }
        });
        assert_eq!((left_behind, inserted.into_inner()), (0, evicted), "{selector:?}");
        assert_eq!(node.sweep(1), None);
    }
}

/// The sweep of an old purge and new fills of the same objects: the new ones stay.
#[test]
fn a_sweep_never_takes_a_newer_fill() {
    let node = node();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(SeqCst) {
                let selectors = vec![by_tag("t"), by_prefix("one.test/")];
                let seq_before = node.applied();
                let mut matches = node.hear(purge("one", selectors, false));
                while let Some(batch) = matches.next_batch(2) {
                    for found in batch {
                        assert_eq!(found.effect, Effect::Evicted);
                        assert!(u64::from(found.locator) <= seq_before.get(), "older than the purge");
                    }
                }
            }
        });
        for n in 0..20_000_u32 {
            let token = node.begin_fill();
            let entry = Entry {
                url: url(&format!("one.test/{}", n % 10)),
                variant: Variant::MAIN,
                tags: tags(&["t"]),
                token,
                locator: token.applied.get() as u32,
            };
            let url = entry.url.clone();
            if node.insert(entry).is_ok()
                && let Some((Verdict::Fresh, found)) = node.lookup(&url, Variant::MAIN)
            {
                assert_eq!(u64::from(found), token.applied.get());
            }
        }
        done.store(true, SeqCst);
    });
    node.sweep_all();
    let held = node.iter().collect::<Vec<_>>();
    assert!(held.iter().all(|object| object.verdict == Verdict::Fresh));
    assert_eq!(held.len() as u64, node.stats().entries);
}

/// A token read while a purge is applied is older than the purge, or the purge is in force for whoever holds it.
#[test]
fn once_applied_rises_the_rule_is_in_force() {
    let node = node();
    let old = node.begin_fill();
    let target = url("one.test/a");
    thread::scope(|scope| {
        let reader = scope.spawn(|| {
            loop {
                let verdict = node.check(&target, &tags(&[]), old);
                let applied = node.applied();
                if verdict == Verdict::Gone {
                    return applied;
                }
                if applied != old.applied {
                    assert_eq!(node.check(&target, &tags(&[]), old), Verdict::Gone);
                }
            }
        });
        node.purge("one", by_url("one.test/a"));
        assert_eq!(reader.join().unwrap(), node.applied());
    });
}

/// Inserts, removals, purges, sweeps and forgetting at once: the three structures agree in the end.
#[test]
fn nothing_is_left_behind_when_all_threads_are_done() {
    let node = node();
    thread::scope(|scope| {
        for worker in 0..4_u32 {
            let node = &node;
            scope.spawn(move || {
                for n in 0..2_000_u32 {
                    let text = format!("h{}.one.test/{}", (n * 7 + worker) % 3, n % 13);
                    match (n + worker) % 5 {
                        0 | 1 => drop(node.hold_from(&text, &["t", "u"], node.begin_fill())),
                        2 => drop(node.remove(&url(&text), Variant::MAIN)),
                        3 => drop(node.sweep(3)),
                        _ if worker == 0 => {
                            drop(node.hear(purge("one", vec![by_tag("t"), by_url(&text)], n % 3 == 0)));
                            node.forget(node.applied());
                        }
                        _ => drop(node.count(&site("one"), &by_tag("u"))),
                    }
                }
            });
        }
    });
    node.sweep_all();
    assert!(node.iter().all(|object| object.verdict < Verdict::Gone));
    assert_eq!(node.iter().count() as u64, node.stats().entries);
    assert_eq!(node.list(&site("one"), &by_tag("t")).count() as u64, node.stats().entries);
    node.purge("one", Selector::Everything);
    let stats = node.stats();
    assert_eq!((stats.entries, stats.urls, stats.tags, stats.backlog), (0, 0, 0, 0));
    assert_eq!(stats.bytes.urls + stats.bytes.order + stats.bytes.tags, 0);
}
