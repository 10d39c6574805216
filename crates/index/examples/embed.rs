//! A small cache in memory, with the index in it: `cargo run -p batoff-index --example embed`.
//!
//! It shows what an author of a cache has to do, and all of it: take a token before a fetch, register what was stored,
//! say what was dropped, ask before serving, carry out what a purge hit, sweep when there is time.

use std::collections::{HashMap, VecDeque};
use std::sync::Mutex;

use batoff_index::{Effect, Entry, Index, IndexConfig, Match, Variant, Verdict};
use batoff_types::{
    Body, CacheTags, HostPattern, Purge, PurgeUrl, Record, SEMANTICS_VERSION, Selector, SiteChange,
    SiteLimits, TaskId, UnixMillis,
};

/// Objects that this cache has room for.
const ROOM: usize = 1_000;

/// A cache that drops the oldest object when it is full. A locator is the number of an object.
struct Cache {
    index: Index<u64>,
    objects: Mutex<Objects>,
}

#[derive(Default)]
struct Objects {
    bodies: HashMap<u64, (PurgeUrl, String)>,
    oldest_first: VecDeque<u64>,
    next: u64,
}

/// What an origin sends: a body, and its `Cache-Tag`.
type Origin = fn(&PurgeUrl) -> (String, &'static str);

impl Cache {
    fn new() -> Self {
        Self { index: Index::new(IndexConfig::default()), objects: Mutex::default() }
    }

    /// The body, and whether it was there.
    fn get(&self, url: &PurgeUrl, origin: Origin) -> (String, bool) {
        // What the index does not know, or says is Gone, is not served, whether or not it has been removed yet. A stale
        // one could be served while it is fetched again; this cache just fetches.
        if let Some((Verdict::Fresh, locator)) = self.index.lookup(url, Variant::MAIN)
            && let Some((_, body)) = self.lock().bodies.get(&locator)
        {
            return (body.clone(), true);
        }
        // First the token, then the request: a purge that comes in between hits what is being fetched.
        let token = self.index.begin_fill();
        let (body, header) = origin(url);
        let tags = CacheTags::parse_up_to(self.index.tags_max(url.host()), [header.as_bytes()]);
        let locator = self.store(url, &body);
        let entry = Entry { url: url.clone(), variant: Variant::MAIN, tags, token, locator };
        if self.index.insert(entry).is_err() {
            // Purged while it was fetched, say. This answer may go to those who wait for it, and to nobody else.
            self.lock().bodies.remove(&locator);
        }
        (body, false)
    }

    fn store(&self, url: &PurgeUrl, body: &str) -> u64 {
        let mut objects = self.lock();
        objects.next += 1;
        let locator = objects.next;
        objects.bodies.insert(locator, (url.clone(), body.to_owned()));
        objects.oldest_first.push_back(locator);
        while objects.bodies.len() > ROOM {
            let Some(oldest) = objects.oldest_first.pop_front() else { break };
            if let Some((url, _)) = objects.bodies.remove(&oldest) {
                // A newer object may have the name by now; that one stays registered.
                let _ = self.index.remove_if(&url, Variant::MAIN, |&locator, _| locator == oldest);
            }
        }
        locator
    }

    /// Applies a record of the purge log. It is in force before anything is removed.
    fn hear(&self, body: Body) -> u64 {
        let seq = self.index.applied().next();
        let task = TaskId::from_bytes([seq.get() as u8; 16]);
        let request_id = "example".into();
        let (accepted_at, semantics) = (UnixMillis(0), SEMANTICS_VERSION);
        let record = Record { seq, accepted_at, task, request_id, semantics, trace: None, body };
        let mut matches = self.index.apply(&record);
        while let Some(batch) = matches.next_batch(100) {
            self.carry_out(batch);
        }
        matches.found()
    }

    /// To be called now and then: after a flush, and when rules were folded.
    fn sweep(&self) {
        while let Some(batch) = self.index.sweep(100) {
            self.carry_out(batch);
        }
    }

    fn carry_out(&self, batch: Vec<Match<u64>>) {
        let mut objects = self.lock();
        for found in batch {
            match found.effect {
                Effect::Evicted => drop(objects.bodies.remove(&found.locator)),
                // `lookup` says Stale from now on.
                Effect::Stale => {}
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Objects> {
        self.objects.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let origin: Origin = |url| {
        let shoes = url.key().contains("/shoes/");
        (format!("the page {url}"), if shoes { "category:shoes, shop" } else { "shop" })
    };
    let cache = Cache::new();
    let site: batoff_types::SiteId = "shop".parse()?;
    let hostnames: Vec<HostPattern> = vec!["www.example.com".parse()?];
    let (claimed, affected) = (Some(hostnames.clone()), hostnames);
    let limits = SiteLimits::default();
    cache.hear(Body::Site(SiteChange { site: site.clone(), hostnames: claimed, affected, limits }));

    for round in 1..=2 {
        let mut hits = 0;
        for product in 0..500 {
            let kind = if product % 5 == 0 { "shoes" } else { "books" };
            let url = format!("https://www.example.com/{kind}/{product}").parse()?;
            hits += u32::from(cache.get(&url, origin).1);
        }
        println!("round {round}: {hits} of 500 from the cache");
    }
    for selector in [
        Selector::Tag("category:shoes".parse()?),
        Selector::Prefix("https://www.example.com/books/".parse()?),
        Selector::Everything,
    ] {
        let would = cache.index.count(&site, &selector);
        let purge = Purge { site: site.clone(), selectors: vec![selector.clone()], soft: false };
        let found = cache.hear(Body::Purge(purge));
        println!("{} {:?}: {found} removed ({would} counted before)", selector.kind(), selector.value());
    }
    cache.sweep();
    let stats = cache.index.stats();
    println!("{} objects left, {} rules in force", stats.entries, stats.rules);
    assert_eq!((stats.entries, cache.lock().bodies.len()), (0, 0));
    Ok(())
}
