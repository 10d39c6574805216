//! The URLs alone in a Patricia tree: no tags, no tokens, no threads.

use std::hint::black_box;
use std::time::Duration;

use patricia_tree::StringPatriciaMap;

use super::measure::{Figures, batches, median, processor_time, resident};
use super::naive::in_force_when_removed;
use super::workload::{CHUNK, Workload, random};

pub fn measure(entries: usize) -> Figures {
    let mut figures = Figures::new();
    let work = Workload::new(entries);
    let before = resident();
    let mut tree = StringPatriciaMap::<u32>::new();
    let mut inserting = Duration::ZERO;
    let chunk = (entries / 100).min(CHUNK);
    for from in (0..entries).step_by(chunk) {
        let made: Vec<_> = (from..(from + chunk).min(entries)).map(|at| (work.key(at), at as u32)).collect();
        let started = processor_time();
        for (key, locator) in made {
            tree.insert(key, locator);
        }
        inserting += processor_time().saturating_sub(started);
    }
    figures.insert("bytes an entry, resident".into(), (resident() - before) / entries as f64);
    figures.insert("inserts a second".into(), entries as f64 / inserting.as_secs_f64());
    let keys: Vec<_> = (0..100_000).map(|number| work.key(random(number) as usize)).collect();
    let durations = batches(keys.len(), 100, |at| {
        black_box(tree.get(&keys[at]).copied());
    });
    figures.insert("lookup, p50 ns".into(), median(durations, 100));

    let started = processor_time();
    let subtree = tree.split_by_prefix(work.prefix(1));
    figures
        .insert("prefix in force, p50 ns".into(), processor_time().saturating_sub(started).as_nanos() as f64);
    let found = subtree.into_iter().map(black_box).count();
    figures.insert("prefix: objects hit".into(), found as f64);
    let in_force = figures.get("prefix in force, p50 ns").copied();
    in_force_when_removed(&mut figures, "prefix", processor_time().saturating_sub(started), found);
    figures.extend(in_force.map(|in_force| ("prefix in force, p50 ns".to_owned(), in_force)));
    figures
}
