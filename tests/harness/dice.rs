/// Random numbers that repeat with their seed (SplitMix64).
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// The seed of this run: `BATOFF_FAULTS_SEED`, or another one each time. Printed, so that a run can be repeated.
    pub fn seeded(what: &str) -> Self {
        let given = std::env::var("BATOFF_FAULTS_SEED").ok();
        let seed = given.map_or_else(fresh, |seed| seed.parse().expect("BATOFF_FAULTS_SEED is a number"));
        eprintln!("{what}: repeat with BATOFF_FAULTS_SEED={seed}");
        Self(seed)
    }

    /// With a seed of the caller's.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Another one, for somebody who throws independently.
    #[must_use]
    pub fn fork(&mut self) -> Self {
        Self(self.throw())
    }

    /// The next number.
    pub fn throw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number from `low` to `high`, `high` not included.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.throw() % (high - low)
    }

    /// True once in `sides` times.
    pub fn one_in(&mut self, sides: u64) -> bool {
        self.throw().is_multiple_of(sides)
    }
}

fn fresh() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Dice(u64::from(now.subsec_nanos()) ^ now.as_secs()).throw() % 1_000_000_000
}

/// How long a turmoil lasts in the gate, in seconds.
const SECONDS: u64 = 10;

/// How long a turmoil lasts: `BATOFF_FAULTS_SECONDS`, or as long as the gate can wait.
pub fn fault_time() -> std::time::Duration {
    let seconds = std::env::var("BATOFF_FAULTS_SECONDS").ok();
    let seconds = seconds.map_or(SECONDS, |text| text.parse().expect("BATOFF_FAULTS_SECONDS is a number"));
    std::time::Duration::from_secs(seconds)
}
