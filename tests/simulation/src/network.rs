use std::collections::{BTreeMap, BTreeSet};

use crate::random::Random;
use crate::world::seconds;

/// Which way a message goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Direction {
    Up,
    Down,
}

/// How bad the network of a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Weather {
    /// Mostly short delays, losses rare: nodes hold leases.
    Mild,
    /// Long delays, and a stream breaks every few hundred messages.
    Rough,
    /// No faults any more.
    Clear,
}

/// Streams between the nodes and the control plane: each delivers in order, or breaks.
#[derive(Debug)]
pub(crate) struct Network {
    pub(crate) weather: Weather,
    cut_until: BTreeMap<(usize, Direction), u64>,
    /// When the last message of a stream arrives.
    arrives: BTreeMap<(u64, Direction), u64>,
    /// A segment was lost for good: nothing more comes through.
    broken: BTreeSet<(u64, Direction)>,
    pub(crate) lost: u64,
    pub(crate) messages: u64,
}

impl Network {
    pub(crate) fn new(weather: Weather) -> Self {
        let (cut_until, arrives, broken) = Default::default();
        Self { weather, cut_until, arrives, broken, lost: 0, messages: 0 }
    }

    /// Nothing comes through in that direction until then.
    pub(crate) fn cut(&mut self, node: usize, direction: Direction, until: u64) {
        let cut = self.cut_until.entry((node, direction)).or_insert(0);
        *cut = until.max(*cut);
    }

    /// Whether nothing more comes through on that stream.
    pub(crate) fn is_broken(&self, connection: u64, direction: Direction) -> bool {
        self.broken.contains(&(connection, direction))
    }

    /// When a message that is sent now arrives; `None`: never, and no later one of its stream.
    pub(crate) fn send(
        &mut self,
        random: &mut Random,
        now: u64,
        node: usize,
        connection: u64,
        direction: Direction,
    ) -> Option<u64> {
        self.messages += 1;
        let lost = random.chance(match self.weather {
            Weather::Mild => 0.0003,
            Weather::Rough => 0.003,
            Weather::Clear => 0.0,
        });
        let cut = self.cut_until.get(&(node, direction)).is_some_and(|until| *until > now);
        if lost || cut {
            self.lost += 1;
            self.broken.insert((connection, direction));
        }
        if self.broken.contains(&(connection, direction)) {
            return None;
        }
        let earliest = now + seconds(self.delay(random));
        let arrives = self.arrives.entry((connection, direction)).or_insert(0);
        *arrives = earliest.max(*arrives);
        Some(*arrives)
    }

    /// Seconds that one message is on its way.
    pub(crate) fn delay(&self, random: &mut Random) -> f64 {
        match (self.weather, random.below(9)) {
            (Weather::Mild, 0..4) | (Weather::Rough, 0..2) | (Weather::Clear, 0..5) => {
                random.between(0.001, 0.01)
            }
            (Weather::Mild, 4..8) | (Weather::Rough, 2..6) | (Weather::Clear, _) => {
                random.between(0.02, 0.15)
            }
            (Weather::Mild, _) => random.around(0.25),
            (Weather::Rough, _) => random.around(0.5),
        }
    }
}
