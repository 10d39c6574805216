//! A cache crate, with the sets of tags that it does not have kept beside it.

use std::collections::{HashMap, HashSet};
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use moka::sync::Cache;

use super::measure::{Figures, batches, median, processor_time, resident};
use super::naive::in_force_when_removed;
use super::workload::{CHUNK, Workload, random};

#[derive(Clone)]
struct Object {
    tags: Arc<[String]>,
    locator: u32,
}

pub fn measure(entries: usize) -> anyhow::Result<Figures> {
    let mut figures = Figures::new();
    let work = Workload::new(entries);
    let before = resident();
    let cache: Cache<Arc<str>, Object> = Cache::builder()
        .max_capacity(2 * entries as u64)
        .initial_capacity(entries)
        .support_invalidation_closures()
        .build();
    let mut tagged: HashMap<String, HashSet<Arc<str>>> = HashMap::new();
    let mut inserting = Duration::ZERO;
    let chunk = (entries / 100).min(CHUNK);
    for from in (0..entries).step_by(chunk) {
        let made: Vec<_> = (from..(from + chunk).min(entries))
            .map(|at| (Arc::<str>::from(work.key(at)), work.tag_texts(at), at as u32))
            .collect();
        let started = processor_time();
        for (key, tags, locator) in made {
            for tag in &tags {
                tagged.entry(tag.clone()).or_default().insert(key.clone());
            }
            cache.insert(key, Object { tags: tags.into(), locator });
        }
        inserting += processor_time().saturating_sub(started);
    }
    cache.run_pending_tasks();
    figures.insert("bytes an entry, resident".into(), (resident() - before) / entries as f64);
    figures.insert("inserts a second".into(), entries as f64 / inserting.as_secs_f64());
    let keys: Vec<_> = (0..100_000).map(|number| work.key(random(number) as usize)).collect();
    let durations = batches(keys.len(), 100, |at| {
        black_box(cache.get(&*keys[at]).map(|object| object.locator));
    });
    figures.insert("lookup, p50 ns".into(), median(durations, 100));

    let started = processor_time();
    let keys = tagged.remove(Workload::hit_tag()).unwrap_or_default();
    for key in &keys {
        let Some(object) = cache.remove(key) else { continue };
        for tag in &*object.tags {
            if let Some(keys) = tagged.get_mut(tag) {
                keys.remove(key);
            }
        }
    }
    figures.insert("tag: objects hit".into(), keys.len() as f64);
    in_force_when_removed(&mut figures, "tag", processor_time().saturating_sub(started), keys.len());

    // It has rules of a kind: a predicate that every object is asked about when it is read, and a scan over all.
    let prefix = work.prefix(1);
    let started = processor_time();
    cache.invalidate_entries_if(move |key, _| key.starts_with(&prefix))?;
    figures
        .insert("prefix in force, p50 ns".into(), processor_time().saturating_sub(started).as_nanos() as f64);
    Ok(figures)
}
