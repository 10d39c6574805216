//! Who looks things up in the caches: visitors, and the oracle behind them.

use batoff_index::Verdict;

use crate::cache::{Cache, Fill, Filled, Key, VARIANTS};
use crate::catalog::{Catalog, URLS};
use crate::node::QUEUE_RECORDS;
use crate::oracle::{Judged, Oracle, Violation};
use crate::shield;
use crate::switch::Switch;
use crate::world::{Event, World};

/// Visitors of one node at a time.
const VISITORS: usize = 3;

impl World {
    pub(crate) fn look(&mut self, index: usize) {
        self.judge_cache(index);
        for _ in 0..VISITORS {
            // Two of them of eight are for a tenth of the URLs.
            let among = if self.random.chance(0.4) { URLS / 10 } else { URLS };
            let key = (self.random.below(among), self.random.below(usize::from(VARIANTS)) as u8);
            self.visit(index, key);
        }
        self.tidy(index);
        let next = self.random.between(0.005, 0.05);
        self.after(next, Event::Look(index));
    }

    fn visit(&mut self, index: usize, key: Key) {
        let (now, node) = (self.now, &self.nodes[index]);
        self.outcome.lookups += 1;
        self.outcome.lookups_under_lease += u64::from(node.is_leased(now));
        let verdict = node.cache.verdict(&self.catalog, key);
        // The last step of a hit.
        let served =
            node.may_serve(now).then_some(verdict).flatten().filter(|verdict| *verdict < Verdict::Gone);
        self.outcome.hits += u64::from(served.is_some());
        let (leased, runs) = (node.may_serve(now), node.runs(now));
        if !runs || served == Some(Verdict::Fresh) {
            return;
        }
        // A node that may not serve what it has may not hand out what it fetched for somebody else either.
        let joins = leased && self.nodes[index].cache.join_fill(&self.catalog, key);
        if !joins && !self.nodes[index].cache.is_filling(key) {
            self.fetch(index, key);
        }
    }

    fn fetch(&mut self, index: usize, key: Key) {
        let tags = Catalog::some_tags(&mut self.random);
        let (now, token) = (self.now, self.token(index));
        let void = !self.upstreams[self.nodes[index].identity].asked.is_empty()
            && !self.nodes[index].inbox.has_caught_up();
        self.judge_vouching(index);
        let node = &mut self.nodes[index];
        let fill = Fill {
            key,
            token,
            tags,
            fetched_at: now,
            position: node.inbox.vouches_for(),
            joined: 0,
            marked: false,
            void,
        };
        let (fill, life) = (node.cache.begin_fill(fill), node.life);
        self.outcome.fills += 1;
        if self.shield && index != 0 {
            let way = self.random.between(0.002, 0.04);
            self.after(way, Event::Asked { child: index, life, fill });
        } else {
            self.ask_parents(index, life, fill);
        }
    }

    pub(crate) fn fetch_from_origin(&mut self, node: usize, life: u64, fill: u64) {
        let takes = match self.random.below(8) {
            0..5 => self.random.between(0.005, 0.1),
            5..7 => self.random.between(0.05, 0.6),
            _ => self.random.between(0.3, 3.0),
        };
        self.after(takes, Event::Filled { node, life, fill });
    }

    /// The parent answers from its cache if it may, and sends the child to the origin otherwise.
    pub(crate) fn asked(&mut self, child: usize, life: u64, id: u64) {
        let now = self.now;
        let (parents, children) = self.nodes.split_at_mut(1);
        let (parent, asking) = (&parents[0], &mut children[child - 1]);
        let Some(fill) = asking.cache.fills.get_mut(&id).filter(|_| asking.life == life) else { return };
        let compared = self.without == Some(Switch::ParentSeq)
            || shield::may_answer(fill.position, parent.inbox.position());
        let fresh = parent.cache.verdict(&self.catalog, fill.key) == Some(Verdict::Fresh);
        let object = parent.cache.objects.get(&fill.key);
        match object.filter(|_| compared && fresh && parent.may_serve(now)) {
            Some(object) => {
                (fill.fetched_at, fill.tags) = (object.fetched_at, object.tags);
                self.outcome.fills_from_parent += 1;
                let way = self.random.between(0.002, 0.04);
                self.after(way, Event::Filled { node: child, life, fill: id });
            }
            None => self.fetch_from_origin(child, life, id),
        }
    }

    pub(crate) fn filled(&mut self, index: usize, life: u64, fill: u64) {
        let node = &mut self.nodes[index];
        if !node.up || node.life != life {
            return;
        }
        if node.frozen_until > self.now {
            let thawed = node.frozen_until;
            return self.at(thawed, Event::Filled { node: index, life, fill });
        }
        let Some(filled) = node.cache.finish_fill(&self.catalog, fill) else { return };
        self.outcome.fills_refused += u64::from(!filled.stored);
        if filled.given > 0 && node.may_serve(self.now) {
            self.outcome.joined += filled.given;
            self.judge_given(index, filled);
        }
    }

    /// I1 for those who waited for a fetch that was begun for somebody else.
    fn judge_given(&mut self, index: usize, filled: Filled) {
        let mut judged = Judged::default();
        self.oracle.judge(self.now, &mut judged, filled.key.0, filled.tags, filled.fetched_at);
        if let Some(number) = judged.hard.or(judged.soft) {
            let (name, url) = (&self.nodes[index].name, &self.catalog.urls[filled.key.0]);
            let fetched_at = filled.fetched_at as f64 / 1e6;
            let seq = self.oracle.truths[number].seq;
            let what = format!(
                "{name} gives {url}, whose fetch began at {fetched_at:.6}, to who waited for it, though #{seq} is completed"
            );
            self.fail(Violation::Served(what));
        }
    }

    /// What a daemon does beside: clean-up, and forgetting old rules. And I5.
    fn tidy(&mut self, index: usize) {
        let (sweeps, forgets, discards) =
            (self.random.chance(0.5), self.random.chance(0.02), self.random.chance(0.2));
        let key = (self.random.below(URLS), self.random.below(usize::from(VARIANTS)) as u8);
        let back = self.random.below(6) as u64;
        let node = &mut self.nodes[index];
        if !node.runs(self.now) {
            return;
        }
        if sweeps {
            node.cache.sweep(&self.catalog, 1);
        }
        if forgets {
            let through = node.cache.index.applied().get().saturating_sub(back);
            node.cache.forget(&self.catalog, batoff_types::Cursor::new(through));
        }
        if discards {
            node.cache.discard(&self.catalog, key);
        }
        let bounded = node.cache.is_bounded() && node.inbox.queued() < QUEUE_RECORDS + 8;
        if !bounded {
            let what = format!(
                "{}: {} records queued, {:?}",
                node.name,
                node.inbox.queued(),
                node.cache.index.stats()
            );
            self.fail(Violation::Memory(what));
        }
    }

    /// The oracle of I1: whatever a visitor could be given now, is anything in it that was declared purged everywhere?
    pub(crate) fn judge_cache(&mut self, index: usize) {
        let now = self.now;
        let node = &mut self.nodes[index];
        if node.frozen_until > now {
            return;
        }
        let moment = node.clock(now);
        node.orphans.retain(|orphan| moment < orphan.until);
        for orphan in &mut node.orphans {
            judge(&self.catalog, &mut self.oracle, now, &mut orphan.cache, &|| {
                format!("{}, an orphaned cache,", node.name)
            });
        }
        if node.may_serve(now) {
            let who = || format!("{} ({:?})", node.name, node.policy);
            judge(&self.catalog, &mut self.oracle, now, &mut node.cache, &who);
        }
    }
}

fn judge(catalog: &Catalog, oracle: &mut Oracle, now: u64, cache: &mut Cache, who: &dyn Fn() -> String) {
    let mut damned = Vec::new();
    for (key, object) in &mut cache.objects {
        oracle.judge(now, &mut object.judged, key.0, object.tags, object.fetched_at);
        if object.judged.hard.is_some() || object.judged.soft.is_some() {
            damned.push((*key, object.judged, object.fetched_at, object.token));
        }
    }
    for (key, judged, fetched_at, token) in damned {
        let verdict = cache.verdict(catalog, key);
        let broken = match verdict {
            Some(Verdict::Fresh) => judged.hard.or(judged.soft),
            Some(Verdict::Stale) => judged.hard,
            Some(Verdict::Gone) | None => None,
        };
        if let Some(number) = broken {
            let truth = &oracle.truths[number];
            let what = format!(
                "{} may serve {} ({verdict:?}), fetched at {:.6} with {token:?}, though #{} was accepted at {:.6} and completed at {:.6}",
                who(),
                catalog.urls[key.0],
                fetched_at as f64 / 1e6,
                truth.seq,
                truth.accepted as f64 / 1e6,
                truth.completed.unwrap_or(0) as f64 / 1e6,
            );
            oracle.fail(Violation::Served(what));
        }
    }
}
