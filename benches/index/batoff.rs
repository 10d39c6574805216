use std::hint::black_box;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use batoff_index::{Entry, Index, IndexConfig, Match, Matches, Variant};
use batoff_types::{
    Body, CacheTags, FillToken, HostPattern, Purge, PurgeUrl, Record, SEMANTICS_VERSION, Selector,
    SiteChange, SiteId, SiteLimits, TaskId, UnixMillis,
};

use super::measure::{Figures, batches, dependent_load, median, processor_time, quantile, resident};
use super::workload::{CHUNK, Workload, random, tag};

/// Matches asked for at once.
const BATCH: usize = 1_000;

/// Objects in the tree that rules are drawn from when only rules are asked.
const TREE: usize = 10_000_000;

/// Purges whose time to be in force is measured.
const PURGES: usize = 201;

pub struct Node {
    pub index: Index<NonZeroU32>,
    pub site: SiteId,
    pub work: Workload,
}

pub fn measure(entries: usize) -> anyhow::Result<Figures> {
    let mut figures = Figures::new();
    let node = Node::filled(entries, &mut figures)?;
    node.lookups(&mut figures);
    node.rules_in_force(&mut figures)?;
    Node::checks(&mut figures)?;
    node.cleaned_up(&mut figures)?;
    node.lookups_during_a_sweep(&mut figures)?;
    node.flushes(&mut figures);
    Ok(figures)
}

impl Node {
    pub fn new(entries: usize) -> anyhow::Result<Self> {
        let node = Self {
            index: Index::new(IndexConfig::default()),
            site: "shop".parse()?,
            work: Workload::new(entries),
        };
        let hostnames: Vec<HostPattern> = vec!["*.example.com".parse()?];
        drop(node.apply(Body::Site(SiteChange {
            site: node.site.clone(),
            hostnames: Some(hostnames.clone()),
            affected: hostnames,
            limits: SiteLimits::default(),
        }))?);
        Ok(node)
    }

    fn filled(entries: usize, figures: &mut Figures) -> anyhow::Result<Self> {
        let node = Self::new(entries)?;
        let before = resident();
        let mut inserting = Duration::ZERO;
        let chunk = (entries / 100).min(CHUNK);
        for from in (0..entries).step_by(chunk) {
            let made: Vec<_> = (from..(from + chunk).min(entries)).map(|at| node.entry(at)).collect();
            let started = processor_time();
            for entry in made {
                node.index.insert(entry)?;
            }
            inserting += processor_time().saturating_sub(started);
        }
        let stats = node.index.stats();
        figures.insert("bytes an entry, resident".into(), (resident() - before) / entries as f64);
        figures.insert("bytes an entry, stats()".into(), stats.bytes.total() as f64 / entries as f64);
        figures.insert("inserts a second".into(), entries as f64 / inserting.as_secs_f64());
        Ok(node)
    }

    /// With a locator of four bytes.
    pub fn entry(&self, at: usize) -> Entry<NonZeroU32> {
        Entry {
            url: self.work.url(at),
            variant: Variant::MAIN,
            tags: self.work.tags(at).into(),
            token: self.index.begin_fill(),
            locator: NonZeroU32::MIN.saturating_add(at as u32),
        }
    }

    pub fn record(&self, body: Body) -> Record {
        let seq = self.index.applied().next();
        Record {
            seq,
            accepted_at: UnixMillis(0),
            task: TaskId::from_bytes([seq.get() as u8; 16]),
            request_id: "bench".into(),
            semantics: SEMANTICS_VERSION,
            trace: None,
            body,
        }
    }

    pub fn apply(&self, body: Body) -> anyhow::Result<Matches<NonZeroU32>> {
        Ok(self.index.apply(&self.record(body)))
    }

    pub fn purge(&self, selector: Selector) -> Body {
        Body::Purge(Purge { site: self.site.clone(), selectors: vec![selector], soft: false })
    }

    /// A mixture: of ten, four URLs, four tags, two prefixes (a product's directory).
    pub fn any_selector(&self, number: usize) -> anyhow::Result<Selector> {
        let at = random(number) as usize % self.work.entries();
        Ok(match number % 10 {
            0..=3 => Selector::Url(self.work.url(at)),
            // Rare ones. A purge of the most common hits half of what is asked for, and says little of the rest.
            4..=7 => Selector::Tag(tag(1_000 + random(number + 7) as usize % 999_000).parse()?),
            _ => {
                let key = self.work.key(at);
                let directory = key.rfind('/').map_or(key.len(), |end| end + 1);
                Selector::Prefix(format!("https://{}", &key[..directory]).parse()?)
            }
        })
    }

    fn hit_prefix(&self, block: usize) -> anyhow::Result<Selector> {
        Ok(Selector::Prefix(format!("https://{}", self.work.prefix(block)).parse()?))
    }

    fn lookups(&self, figures: &mut Figures) {
        let bytes = self.index.stats().bytes.total() as usize;
        figures.insert("a dependent load, ns".into(), dependent_load(bytes));
        let urls = self.some_urls();
        let durations = batches(urls.len(), 100, |at| {
            black_box(self.index.lookup(&urls[at], Variant::MAIN));
        });
        figures.insert("lookup, p50 ns".into(), median(durations, 100));
    }

    fn some_urls(&self) -> Vec<PurgeUrl> {
        (0..100_000).map(|number| self.work.url(random(number) as usize)).collect()
    }

    /// Objects whose fetch began before all the rules: none can be skipped by its age.
    fn checks(figures: &mut Figures) -> anyhow::Result<()> {
        let asker = Self::new(TREE)?;
        let old = FillToken { applied: batoff_types::Cursor::new(1), ..asker.index.begin_fill() };
        let hot: Vec<(PurgeUrl, CacheTags)> = (0..512)
            .map(|number| random(number + TREE) as usize)
            .map(|at| (asker.work.url(at), asker.work.tags(at).into()))
            .collect();
        for rules in [100, 10_000, 100_000] {
            while (asker.index.stats().rules as usize) < rules {
                let number = asker.index.applied().get() as usize;
                drop(asker.apply(asker.purge(asker.any_selector(number)?))?);
            }
            let mut gone = 0;
            let durations = batches(500_000, 100, |at| {
                let (url, tags) = &hot[at % hot.len()];
                gone += usize::from(asker.index.check(url, tags, old) != batoff_index::Verdict::Fresh);
            });
            let share = gone as f64 / 500_000.0 * 100.0;
            figures.insert(format!("check at {rules} rules, not fresh, %"), share);
            figures.insert(format!("check at {rules} rules, p50 ns"), median(durations, 100));
        }
        let bytes = asker.index.stats().bytes.rules as f64;
        figures.insert("bytes a rule, stats()".into(), bytes / asker.index.stats().rules as f64);
        Ok(())
    }

    /// Purges of tags and prefixes that hit many objects, until `apply` returns.
    fn rules_in_force(&self, figures: &mut Figures) -> anyhow::Result<()> {
        for (name, of_tags) in [("tag", true), ("prefix", false)] {
            let mut durations = Vec::new();
            for number in 0..PURGES {
                let selector = match (of_tags, number) {
                    (true, 0) => Selector::Tag(Workload::hit_tag().parse()?),
                    (true, _) => Selector::Tag(tag(number).parse()?),
                    (false, _) => self.hit_prefix(number)?,
                };
                // Soft: every object stays, for what is measured next.
                let body = Purge { site: self.site.clone(), selectors: vec![selector], soft: true };
                let record = self.record(Body::Purge(body));
                let started = Instant::now();
                let matches = self.index.apply(&record);
                durations.push(started.elapsed());
                drop(matches);
            }
            figures.insert(format!("{name} in force, p50 ns"), median(durations.clone(), 1));
            figures.insert(format!("{name} in force, p99 ns"), quantile(durations, 0.99));
        }
        while self.index.sweep(BATCH).is_some() {}
        Ok(())
    }

    /// What one purge hit, listed and removed.
    fn cleaned_up(&self, figures: &mut Figures) -> anyhow::Result<()> {
        for (name, selector) in
            [("prefix", self.hit_prefix(1)?), ("tag", Selector::Tag(Workload::hit_tag().parse()?))]
        {
            let mut matches = self.apply(self.purge(selector))?;
            let mut calls = Vec::new();
            let started = processor_time();
            loop {
                let begun = processor_time();
                let batch: Option<Vec<Match<NonZeroU32>>> = matches.next_batch(BATCH);
                calls.push(processor_time().saturating_sub(begun));
                if black_box(batch).is_none() {
                    break;
                }
            }
            let taken = processor_time().saturating_sub(started);
            let each = taken.as_secs_f64() / matches.found() as f64;
            figures.insert(format!("{name}: objects hit"), matches.found() as f64);
            figures.insert(format!("{name}: 100 k listed and removed, ms"), each * 100_000.0 * 1_000.0);
            figures.insert(format!("{name}: longest call for {BATCH}, us"), quantile(calls, 1.0) / 1_000.0);
        }
        Ok(())
    }

    /// Nothing is swept in between: each meets all objects that are left.
    fn flushes(&self, figures: &mut Figures) {
        let timed = (0..PURGES).map(|_| {
            let started = Instant::now();
            self.index.flush();
            started.elapsed()
        });
        let durations: Vec<_> = timed.collect();
        figures.insert("flush in force, p50 ns".into(), median(durations.clone(), 1));
        figures.insert("flush in force, p99 ns".into(), quantile(durations, 0.99));
    }

    fn lookups_during_a_sweep(&self, figures: &mut Figures) -> anyhow::Result<()> {
        let urls = self.some_urls();
        let wanted = (self.work.entries() / 2).min(1_000_000).div_ceil(self.work.hit());
        let selectors: Result<Vec<_>, _> = (0..wanted).map(|block| self.hit_prefix(block)).collect();
        let body = Purge { site: self.site.clone(), selectors: selectors?, soft: false };
        let mut matches = self.apply(Body::Purge(body))?;
        let swept = AtomicBool::new(false);
        let mut durations = Vec::new();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while matches.next_batch(BATCH).is_some() {}
                swept.store(true, Relaxed);
            });
            'sweeping: loop {
                for some in urls.chunks(100) {
                    let started = Instant::now();
                    for url in some {
                        black_box(self.index.lookup(url, Variant::MAIN));
                    }
                    durations.push(started.elapsed());
                    if swept.load(Relaxed) {
                        break 'sweeping;
                    }
                }
            }
        });
        figures.insert("objects swept meanwhile".into(), matches.found() as f64);
        figures.insert("lookup while sweeping, p50 ns".into(), median(durations, 100));
        Ok(())
    }
}
