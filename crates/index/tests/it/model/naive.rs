use batoff_index::{Effect, Refused, Verdict};
use batoff_types::{
    Body, CacheTags, Cursor, FillToken, Generation, HostPattern, Object, PurgeUrl, Record, SEMANTICS_VERSION,
    Selector, SiteId, SiteTable,
};

/// An object in the model; found by its locator, which is never used twice.
#[derive(Clone, Debug)]
pub struct Held {
    pub url: PurgeUrl,
    pub variant: u128,
    pub tags: CacheTags,
    pub token: FillToken,
    pub locator: u32,
    /// A hard purge hit it while it was held; nobody has taken it out yet.
    pub owed: Option<Effect>,
}

#[derive(Default)]
pub struct Naive {
    pub generation: Generation,
    pub applied: Cursor,
    pub sites: SiteTable,
    /// Of this generation, with the names that changed hands.
    pub log: Vec<(Record, Vec<HostPattern>)>,
    pub floor: Cursor,
    pub held: Vec<Held>,
}

impl Naive {
    pub fn token(&self) -> FillToken {
        FillToken { generation: self.generation, applied: self.applied }
    }

    /// What the record does to an object: nothing, or Stale, or Gone.
    fn effect(
        &self,
        (record, moved): &(Record, Vec<HostPattern>),
        url: &PurgeUrl,
        tags: &CacheTags,
    ) -> Verdict {
        let object = Object { site: self.sites.owner(url.host()), url, tags };
        let foreign = record.semantics > SEMANTICS_VERSION;
        let (hit, soft) = match &record.body {
            Body::Purge(purge) if foreign => (Selector::Everything.matches(&purge.site, &object), false),
            Body::Purge(purge) => {
                (purge.selectors.iter().any(|one| one.matches(&purge.site, &object)), purge.soft)
            }
            Body::Site(change) => {
                let named = change.affected.iter().chain(moved).any(|name| name.matches(&url.hostname()));
                (named || foreign && object.site == Some(&change.site), false)
            }
            Body::Unknown => (true, false),
            Body::NodeRegistered(_) | Body::NodeRemoved(_) | Body::ReplicaSet(_) => (false, false),
        };
        match (hit, soft) {
            (false, _) => Verdict::Fresh,
            (true, true) => Verdict::Stale,
            (true, false) => Verdict::Gone,
        }
    }

    /// The specification.
    pub fn verdict(&self, url: &PurgeUrl, tags: &CacheTags, token: FillToken) -> Verdict {
        if token.generation != self.generation || token.applied > self.applied {
            return Verdict::Gone;
        }
        let later = self.log.iter().filter(|(record, _)| !token.applied.covers(record.seq));
        later.map(|record| self.effect(record, url, tags)).max().unwrap_or(Verdict::Fresh)
    }

    pub fn verdict_on_arrival(&self, url: &PurgeUrl, tags: &CacheTags, token: FillToken) -> Verdict {
        if token.applied < self.floor { Verdict::Gone } else { self.verdict(url, tags, token) }
    }

    /// As what an object that arrives is kept, if it is.
    pub fn admit(&self, url: &PurgeUrl, tags: &CacheTags, token: FillToken) -> Result<Verdict, Refused> {
        if (token.generation, token.applied) > (self.generation, self.applied)
            && token.generation >= self.generation
        {
            return Err(Refused::Future);
        }
        if self.sites.owner(url.host()).is_none() {
            return Err(Refused::Unowned);
        }
        let verdict = self.verdict_on_arrival(url, tags, token);
        if verdict == Verdict::Gone { Err(Refused::Gone) } else { Ok(verdict) }
    }

    pub fn hold(&mut self, object: Held) {
        self.drop_named(&object.url, object.variant);
        self.held.push(object);
    }

    pub fn drop_named(&mut self, url: &PurgeUrl, variant: u128) -> Option<Held> {
        let at = self.held.iter().position(|held| held.url.key() == url.key() && held.variant == variant)?;
        Some(self.held.swap_remove(at))
    }

    /// Applies a record; the locators that it makes Gone, or Stale, and that were not yet.
    pub fn apply(&mut self, record: &Record) -> Vec<(u32, Effect)> {
        let before: Vec<_> = self.held.iter().map(|it| self.verdict(&it.url, &it.tags, it.token)).collect();
        let old = self.sites.clone();
        if let Body::Site(change) = &record.body {
            self.sites.apply(change);
        }
        let moved = all_claims(&old, &self.sites);
        self.log.push((record.clone(), moved));
        self.applied = Cursor::after(record.seq);
        let mut hit = Vec::new();
        for (at, before) in before.into_iter().enumerate() {
            let it = &self.held[at];
            let after = self.verdict(&it.url, &it.tags, it.token);
            let effect = if after == Verdict::Gone { Effect::Evicted } else { Effect::Stale };
            if after > before {
                hit.push((it.locator, effect));
                self.held[at].owed = Some(effect);
            }
        }
        hit
    }

    pub fn reset(&mut self, generation: Generation, cursor: Cursor, sites: SiteTable) {
        self.generation = generation;
        self.applied = cursor;
        self.floor = cursor;
        self.sites = sites;
        self.log.clear();
        self.held.iter_mut().for_each(|held| held.owed = Some(Effect::Evicted));
    }

    pub fn count(&self, site: &SiteId, selector: &Selector) -> u64 {
        let servable =
            self.held.iter().filter(|it| self.verdict(&it.url, &it.tags, it.token) < Verdict::Gone);
        let hit = servable.filter(|it| {
            let owner = self.sites.owner(it.url.host());
            selector.matches(site, &Object { site: owner, url: &it.url, tags: &it.tags })
        });
        hit.count() as u64
    }
}

/// The patterns whose claimant differs between two tables.
fn all_claims(before: &SiteTable, after: &SiteTable) -> Vec<HostPattern> {
    let names = before.iter().chain(after.iter()).flat_map(|(_, names)| names);
    names.filter(|name| before.claimant(name) != after.claimant(name)).cloned().collect()
}
