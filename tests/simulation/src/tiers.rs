//! Tiers: nodes that fetch through one another, and whose fills count from where those are that they fetch through.

use batoff_index::Verdict;
use batoff_types::{FillToken, NodeName, Parent};

use crate::cache::Key;
use crate::catalog::parse;
use crate::random::Random;
use crate::switch::Switch;
use crate::world::{Event, World};

/// Nodes that a request goes through, at most; then it is sent to the origin. A ring would send it round for ever.
const HOPS_MAX: u8 = 4;

/// What lies between a node and the origin.
#[derive(Clone, Debug, Default)]
pub(crate) struct Upstream {
    /// As its `Hello` says.
    pub(crate) named: Vec<Parent>,
    /// The registered nodes that it asks, one of them each time.
    pub(crate) asked: Vec<usize>,
}

impl Upstream {
    /// A tree of nodes, or a PoP through which the others fetch, which has one node in front of the origin.
    pub(crate) fn draw(random: &mut Random, names: &[NodeName]) -> Vec<Self> {
        let by_pop = random.chance(0.4);
        let draw = |(index, name): (usize, &NodeName)| {
            if index == 0 {
                return Self::default();
            }
            if by_pop && name.pop() != names[0].pop() {
                let pop: Parent = parse(names[0].pop());
                let asked = (0..names.len()).filter(|other| names[*other].pop() == names[0].pop()).collect();
                return Self { named: vec![pop], asked };
            }
            // Some straight to the origin, so that a tree is not always one tree.
            if random.chance(0.1) {
                return Self::default();
            }
            let asked = if by_pop { 0 } else { random.below(index.min(3)) };
            Self { named: vec![Parent::Node(names[asked].clone())], asked: vec![asked] }
        };
        names.iter().enumerate().map(draw).collect()
    }
}

impl World {
    /// The token of a fill of that node which begins now.
    pub(crate) fn token(&self, index: usize) -> FillToken {
        let node = &self.nodes[index];
        let own = node.cache.index.begin_fill();
        if self.upstreams[node.identity].asked.is_empty() || self.without == Some(Switch::PathToken) {
            return own;
        }
        FillToken { applied: own.applied.min(node.inbox.parents().through), ..own }
    }

    /// A child's request goes on from the node `from` to what it fetches through, or to the origin.
    pub(crate) fn ask_further(&mut self, child: usize, life: u64, fill: u64, from: usize, hops: u8) {
        let asked = &self.upstreams[from].asked;
        if asked.is_empty() || hops == 0 {
            return self.fetch_from_origin(child, life, fill);
        }
        let at = asked[self.random.below(asked.len())];
        let way = self.random.between(0.002, 0.04);
        self.after(way, Event::Passed { child, life, fill, at, hops: hops - 1 });
    }

    /// A node asks those that it fetches through.
    pub(crate) fn ask_parents(&mut self, child: usize, life: u64, fill: u64) {
        let from = self.nodes[child].identity;
        self.ask_further(child, life, fill, from, HOPS_MAX);
    }

    /// A child's request is at the node `at`, which answers from its cache if it may, and passes it on otherwise.
    pub(crate) fn passed(&mut self, child: usize, life: u64, id: u64, at: usize, hops: u8) {
        let asking = &self.nodes[child];
        let Some(fill) = asking.cache.fills.get(&id).filter(|_| asking.life == life) else { return };
        let answers = self.answers(at, fill.key);
        let chosen = if answers.is_empty() { None } else { Some(self.random.pick(&answers)) };
        let Some((verdict, tags, fetched_at)) = chosen else {
            return self.ask_further(child, life, id, at, hops);
        };
        if let Some(fill) = self.nodes[child].cache.fills.get_mut(&id) {
            (fill.tags, fill.fetched_at, fill.marked) = (tags, fetched_at, verdict == Verdict::Stale);
        }
        self.outcome.fills_from_parent += 1;
        let way = self.random.between(0.002, 0.04);
        self.after(way, Event::Filled { node: child, life, fill: id });
    }

    /// Whatever answers under the name of the node `at`: its cache, that of a daemon that died, that of a second daemon.
    fn answers(&self, at: usize, key: Key) -> Vec<(Verdict, u8, u64)> {
        let now = self.now;
        let mut answers = Vec::new();
        for node in self.nodes.iter().filter(|node| node.identity == at && node.frozen_until <= now) {
            let own = node.may_serve(now).then_some(&node.cache);
            let clock = node.clock(now);
            let orphans =
                node.orphans.iter().filter(|orphan| clock < orphan.until).map(|orphan| &orphan.cache);
            for cache in own.into_iter().chain(orphans) {
                let verdict = cache.verdict(&self.catalog, key).filter(|verdict| *verdict < Verdict::Gone);
                if let (Some(verdict), Some(object)) = (verdict, cache.objects.get(&key)) {
                    answers.push((verdict, object.tags, object.fetched_at));
                }
            }
        }
        answers
    }
}
