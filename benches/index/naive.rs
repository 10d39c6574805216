//! What one would write first: a hash map, an order, and a set of URLs for each tag.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hint::black_box;
use std::ops::Bound;
use std::time::Duration;

use super::measure::{Figures, batches, median, processor_time, resident};
use super::workload::{CHUNK, Workload, random};

struct Object {
    tags: Vec<String>,
    locator: u32,
}

#[derive(Default)]
struct Naive {
    objects: HashMap<String, Object>,
    order: BTreeMap<String, ()>,
    tagged: HashMap<String, HashSet<String>>,
}

impl Naive {
    fn insert(&mut self, key: String, tags: Vec<String>, locator: u32) {
        for tag in &tags {
            self.tagged.entry(tag.clone()).or_default().insert(key.clone());
        }
        self.order.insert(key.clone(), ());
        self.objects.insert(key, Object { tags, locator });
    }

    fn remove(&mut self, key: &str) -> Option<u32> {
        let object = self.objects.remove(key)?;
        self.order.remove(key);
        for tag in &object.tags {
            if let Some(keys) = self.tagged.get_mut(tag) {
                keys.remove(key);
                if keys.is_empty() {
                    self.tagged.remove(tag);
                }
            }
        }
        Some(object.locator)
    }

    fn purge_tag(&mut self, tag: &str) -> usize {
        let keys: Vec<_> = self.tagged.get(tag).into_iter().flatten().cloned().collect();
        keys.iter().filter_map(|key| self.remove(key)).count()
    }

    fn purge_prefix(&mut self, prefix: &str) -> usize {
        let range = self.order.range::<str, _>((Bound::Included(prefix), Bound::Unbounded));
        let keys: Vec<_> =
            range.map(|(key, ())| key).take_while(|key| key.starts_with(prefix)).cloned().collect();
        keys.iter().filter_map(|key| self.remove(key)).count()
    }
}

pub fn measure(entries: usize) -> Figures {
    let mut figures = Figures::new();
    let work = Workload::new(entries);
    let before = resident();
    let mut naive = Naive::default();
    let mut inserting = Duration::ZERO;
    let chunk = (entries / 100).min(CHUNK);
    for from in (0..entries).step_by(chunk) {
        let made: Vec<_> = (from..(from + chunk).min(entries))
            .map(|at| (work.key(at), work.tag_texts(at).to_vec(), at as u32))
            .collect();
        let started = processor_time();
        for (key, tags, locator) in made {
            naive.insert(key, tags, locator);
        }
        inserting += processor_time().saturating_sub(started);
    }
    figures.insert("bytes an entry, resident".into(), (resident() - before) / entries as f64);
    figures.insert("inserts a second".into(), entries as f64 / inserting.as_secs_f64());
    let keys: Vec<_> = (0..100_000).map(|number| work.key(random(number) as usize)).collect();
    let durations = batches(keys.len(), 100, |at| {
        black_box(naive.objects.get(&keys[at]).map(|object| object.locator));
    });
    figures.insert("lookup, p50 ns".into(), median(durations, 100));

    let started = processor_time();
    let found = naive.purge_prefix(&work.prefix(1));
    figures.insert("prefix: objects hit".into(), found as f64);
    in_force_when_removed(&mut figures, "prefix", processor_time().saturating_sub(started), found);
    let started = processor_time();
    let found = naive.purge_tag(Workload::hit_tag());
    figures.insert("tag: objects hit".into(), found as f64);
    in_force_when_removed(&mut figures, "tag", processor_time().saturating_sub(started), found);
    figures
}

/// Where there are no rules, a purge is in force when its last object is gone.
pub fn in_force_when_removed(figures: &mut Figures, name: &str, taken: Duration, found: usize) {
    let hundred_thousand = taken.as_secs_f64() / found.max(1) as f64 * 100_000.0;
    figures.insert(format!("{name}: 100 k listed and removed, ms"), hundred_thousand * 1_000.0);
    figures.insert(format!("{name} in force, p50 ns"), hundred_thousand * 1e9);
}
