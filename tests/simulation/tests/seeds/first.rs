//! Seeds that nobody has seen before.

use std::time::{SystemTime, UNIX_EPOCH};

/// `BATOFF_SIMULATION_FIRST`: the gate derives it from the commit, so that every change meets seeds of its own and the same
/// commit always the same. Otherwise the time of day.
pub fn first_seed() -> u64 {
    match std::env::var("BATOFF_SIMULATION_FIRST") {
        Ok(text) => text.parse().expect("BATOFF_SIMULATION_FIRST is a number"),
        Err(_) => {
            let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970");
            since.as_millis() as u64
        }
    }
}
