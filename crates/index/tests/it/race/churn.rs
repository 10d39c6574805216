//! Objects come and go under walks: directories that are refilled while they are listed, tags whose lists are compacted
//! while they are swept, memory that is used again at once.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;

use batoff_index::{Entry, Variant, Verdict};
use batoff_types::Selector;

use crate::fixture::*;

/// Objects that stay while others churn around them, in the same directories and with the same tags.
const LASTING: u32 = 400;

fn lasting(n: u32) -> String {
    format!("one.test/{}/lasting-{n}", n % 7)
}

fn passing(worker: u32, n: u32) -> String {
    // Names of different lengths, so that one's memory serves another.
    format!("one.test/{}/{}-{worker}-{}", n % 7, "p".repeat((n * 13 % 40) as usize), n % 50)
}

#[test]
fn a_walk_skips_nothing_that_stays_and_shows_it_once() {
    let node = node();
    for n in 0..LASTING {
        node.hold(&lasting(n), &["kept", "shared"]);
    }
    let ended = AtomicBool::new(false);
    thread::scope(|scope| {
        for worker in 0..2 {
            let (node, ended) = (&node, &ended);
            scope.spawn(move || {
                for n in (0..).take_while(|_| !ended.load(SeqCst)) {
                    let text = passing(worker, n);
                    if n % 3 == 0 {
                        let _ = node.remove(&url(&passing(worker, n / 2)), Variant::MAIN);
                    }
                    let carried = if n % 2 == 0 { &["shared", "passing"][..] } else { &["passing"] };
                    let _ = node.hold_from(&text, carried, node.begin_fill());
                    if n % 100 == 0 {
                        drop(node.hear(purge("one", vec![by_tag("passing")], false)));
                    }
                    drop(node.sweep(9));
                }
            });
        }
        let everything = Selector::Everything;
        for round in 0..60 {
            for selector in [&by_tag("shared"), &by_tag("kept"), &by_prefix("one.test/"), &everything] {
                let mut seen = HashMap::<String, u32>::new();
                for object in node.list(&site("one"), selector) {
                    *seen.entry(object.url.key().to_owned()).or_default() += 1;
                }
                for n in 0..LASTING {
                    assert_eq!(seen.get(&lasting(n)), Some(&1), "round {round}: {selector:?}");
                }
            }
        }
        ended.store(true, SeqCst);
    });
    node.sweep_all();
    assert_eq!(node.list(&site("one"), &by_tag("kept")).count() as u32, LASTING);
}

/// What a purge hit is handed out once, however the rest of its tag's list changes under the sweep.
#[test]
fn a_sweep_hands_out_what_was_there_exactly_once() {
    for (round, selector) in
        [by_tag("shared"), by_prefix("one.test/"), Selector::Everything].iter().enumerate()
    {
        let node = node();
        for n in 0..LASTING {
            node.hold(&lasting(n), &["shared"]);
        }
        let ended = AtomicBool::new(false);
        let found = thread::scope(|scope| {
            for worker in 0..2 {
                let (node, ended) = (&node, &ended);
                scope.spawn(move || {
                    for n in (0..).take_while(|_| !ended.load(SeqCst)) {
                        let text = passing(worker, n);
                        let _ = node.hold_from(&text, &["shared", "passing"], node.begin_fill());
                        let _ = node.remove(&url(&passing(worker, n.saturating_sub(20))), Variant::MAIN);
                    }
                });
            }
            let mut found = Vec::new();
            let mut matches = node.hear(purge("one", vec![selector.clone()], false));
            while let Some(batch) = matches.next_batch(3) {
                found.extend(batch.into_iter().map(|found| found.url.key().to_owned()));
            }
            ended.store(true, SeqCst);
            found
        });
        let mut hit: Vec<_> = found.into_iter().filter(|key| key.contains("lasting")).collect();
        hit.sort_unstable();
        let before = hit.len();
        hit.dedup();
        assert_eq!((before, hit.len() as u32), (LASTING as usize, LASTING), "round {round}");
    }
}

/// Memory of objects that went serves others, whatever their length, and the numbers agree.
#[test]
fn memory_is_used_again() {
    let node = node();
    let mut most = 0;
    for round in 0..30_u32 {
        for n in 0..500 {
            let text = format!(
                "one.test/{}/{}",
                n % 20,
                "x".repeat(((n * 7 + round) % 60) as usize) + &n.to_string()
            );
            let entry = Entry {
                url: url(&text),
                variant: Variant(u128::from(n % 2)),
                tags: tags(&["all", if n % 2 == 0 { "even" } else { "odd" }]),
                token: node.begin_fill(),
                locator: n,
            };
            node.insert(entry).unwrap();
        }
        let selector = if round % 2 == 0 { by_tag("all") } else { Selector::Everything };
        assert_eq!(node.count(&site("one"), &selector), 500);
        // The first one is left, so that the memory is not given back meanwhile.
        let kept = node.list(&site("one"), &by_tag("even")).next().unwrap();
        for object in node.iter().collect::<Vec<_>>() {
            assert_eq!(object.verdict, Verdict::Fresh);
            if object.url != kept.url {
                assert_eq!(node.remove(&object.url, object.variant), Some(object.locator));
            }
        }
        assert_eq!(node.count(&site("one"), &by_tag("all")), 1);
        let bytes = node.stats().bytes.total();
        if round == 3 {
            most = bytes;
        }
        assert!(round < 4 || bytes <= most + most / 4, "{bytes} bytes after {most}");
        assert_eq!(node.remove(&kept.url, kept.variant), Some(kept.locator));
        node.hold("two.test/stays", &["other"]);
    }
}
