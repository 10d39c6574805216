//! The world model: how long a purge takes to 335 PoPs at the coordinates of real cities.
//!
//! Distance decides, and loss: a message takes the great circle at 200,000 km/s (light in glass) × 1.5 (cables are not
//! straight) + 2 ms, with jitter; one in a thousand is lost and comes after a retransmission. `Roster`, `Outbox` and
//! `Feeds` are the real ones, with the default times. Nodes put a purge in force 0.1 ms after it came, which is far more
//! than the index takes; queues, disks and busy processors are not in it: this is what geography leaves.
//!
//! Several control planes stand in one city and know of a record at the same moment; the streams of a node to them lose
//! messages independently of one another. What one states the others know at once.

mod cities;
mod feeds;
mod model;
mod path;
mod plot;
mod table;

use std::fmt;

use batoff_delivery::PromptFeeds;

use self::cities::{CITIES, City};
pub use self::feeds::{ComparedFeeds, FeedsCase};

/// A part of the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Region {
    /// With Istanbul and Nicosia.
    Europe,
    /// With Central America, the Caribbean and Hawaii.
    NorthAmerica,
    /// South America.
    SouthAmerica,
    /// With the Caucasus.
    Asia,
    /// Australia and the islands of the Pacific.
    Oceania,
    /// Africa.
    Africa,
    /// The Middle East.
    MiddleEast,
}

impl Region {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Europe,
        Self::NorthAmerica,
        Self::SouthAmerica,
        Self::Asia,
        Self::Oceania,
        Self::Africa,
        Self::MiddleEast,
    ];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Europe => "Europe",
            Self::NorthAmerica => "North America",
            Self::SouthAmerica => "South America",
            Self::Asia => "Asia",
            Self::Oceania => "Oceania",
            Self::Africa => "Africa",
            Self::MiddleEast => "Middle East",
        }
    }
}

impl fmt::Display for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What to model.
#[derive(Clone, Debug)]
pub struct Globe {
    /// The city where the control plane stands.
    pub control: String,
    /// How many purges, ten a second.
    pub purges: usize,
    /// Share of messages that are lost, and come after a retransmission.
    pub loss: f64,
    /// How many control planes stand there.
    pub replicas: u8,
    /// Of how many the streams bring records at once.
    pub feeds: PromptFeeds,
    /// Decides everything else.
    pub seed: u64,
}

/// Durations in milliseconds, sorted.
#[derive(Clone, Debug, Default)]
pub struct Millis(Vec<f64>);

impl Millis {
    fn new(mut all: Vec<f64>) -> Self {
        all.sort_by(f64::total_cmp);
        Self(all)
    }

    /// The least that is not less than this share of all; 1.0: the longest.
    pub fn quantile(&self, share: f64) -> f64 {
        let last = self.0.len().saturating_sub(1);
        self.0.get((share * last as f64).round() as usize).copied().unwrap_or_default()
    }
}

/// How long purges took that were submitted from one region.
#[derive(Clone, Debug)]
pub struct FromRegion {
    /// The region.
    pub region: Region,
    /// How many purges.
    pub purges: usize,
    /// From acceptance until the rule was in force at the last node.
    pub in_force: Millis,
    /// From acceptance until the control plane knew that: completed.
    pub completed: Millis,
    /// From when the client sent it until it was completed.
    pub submitted: Millis,
    /// The same for light in glass along great circles, for the median client.
    pub submitted_by_light: f64,
}

/// What geography leaves of a purge's time.
#[derive(Clone, Debug)]
pub struct Propagation {
    /// Where the control plane stood.
    pub control: String,
    /// How many nodes, one a PoP.
    pub nodes: usize,
    /// Share of messages that were lost.
    pub loss: f64,
    /// Records sent to nodes, each on each stream.
    pub records_sent: u64,
    /// From acceptance until in force, at each node.
    pub at_each: Millis,
    /// From acceptance until in force at the last node.
    pub in_force: Millis,
    /// From acceptance until completed.
    pub completed: Millis,
    /// Light in glass from the control plane to the farthest node, in milliseconds.
    pub in_force_by_light: f64,
    /// And back.
    pub completed_by_light: f64,
    /// By where the client was.
    pub regions: Vec<FromRegion>,
}

impl Globe {
    /// Runs the model. An error names a city that is not in the table.
    pub fn run(&self) -> anyhow::Result<Propagation> {
        let Some(control) = CITIES.iter().find(|city| city.0.eq_ignore_ascii_case(&self.control)) else {
            let names: Vec<_> = CITIES.iter().map(|city| city.0).collect();
            anyhow::bail!("no city is named {:?}; there are {}", self.control, names.join(", "));
        };
        Ok(model::run(self, control))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_335_pops_and_every_region_has_some() {
        assert_eq!(CITIES.iter().map(|city| city.4).sum::<u32>(), 335);
        for region in Region::ALL {
            assert!(CITIES.iter().any(|city| city.1 == region), "{region}");
        }
        assert!(CITIES.iter().all(|city| city.2.abs() <= 90.0 && city.3.abs() <= 180.0));
    }

    #[test]
    fn nothing_is_faster_than_light_and_nothing_takes_two_seconds() {
        let feeds = PromptFeeds::default();
        let globe =
            Globe { control: "Frankfurt".into(), purges: 40, loss: 0.001, replicas: 1, feeds, seed: 1 };
        let world = globe.run().unwrap();
        assert_eq!(world.nodes, 335);
        assert!(world.in_force.quantile(0.0) > world.in_force_by_light);
        assert!(world.completed.quantile(0.0) > world.completed_by_light);
        assert!(world.completed.quantile(1.0) < 2_000.0);
        assert!(world.in_force.quantile(0.5) < world.completed.quantile(0.5));
        assert!(globe.run().unwrap().to_markdown() == world.to_markdown(), "a seed decides everything");
    }

    #[test]
    fn two_feeds_cost_two_thirds_of_three_and_lose_hardly_anything_to_lost_packets() {
        let run = |replicas, feeds| {
            let feeds = PromptFeeds::count(feeds).unwrap();
            let globe =
                Globe { control: "Frankfurt".into(), purges: 40, loss: 0.02, replicas, feeds, seed: 1 };
            globe.run().unwrap()
        };
        let (one, two, three) = (run(1, 1), run(3, 2), run(3, 3));
        let slowest = |world: &Propagation| world.at_each.quantile(0.98);
        assert!(slowest(&two) < slowest(&one) - 100.0, "{} {}", slowest(&two), slowest(&one));
        assert!(slowest(&three) <= slowest(&two) + 1.0);
        let share = |world: &Propagation| world.records_sent as f64 / (40.0 * 335.0);
        assert!((0.99..1.01).contains(&share(&one)), "{}", share(&one));
        assert!((1.9..2.4).contains(&share(&two)), "{}", share(&two));
        assert!(share(&three) > 2.7, "{}", share(&three));
    }
}
