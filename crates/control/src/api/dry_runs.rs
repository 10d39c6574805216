//! How many dry runs a token, or an account, may make: each keeps every node busy for a while, though it costs nothing of the quotas.

use std::time::Duration;

use batoff_types::Moment;

use super::bucket::Rate;
use super::buckets::{Buckets, RequesterKey};

/// Dry runs that each may make at once.
pub const DRY_RUNS_MAX: u32 = 60;

/// One more a second.
const RATE: Rate = Rate { burst: DRY_RUNS_MAX, per_minute: 60 };

/// Tokens and accounts whose buckets are remembered before full ones are forgotten.
const TOKENS_MAX: usize = 65_536;

/// The buckets of all who ask.
#[derive(Debug)]
pub struct DryRuns(Buckets<RequesterKey>);

impl Default for DryRuns {
    fn default() -> Self {
        Self(Buckets::new(RATE, TOKENS_MAX, None))
    }
}

impl DryRuns {
    /// Takes one, or says when there is one.
    pub fn take(&self, now: Moment, key: RequesterKey) -> Result<(), Duration> {
        self.0.take(now, key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_has_sixty_dry_runs_and_one_more_a_second() {
        let dry_runs = DryRuns::default();
        let at = |secs: u64| Moment::from_micros(secs * 1_000_000);
        let [mine, other] = [[1; 16], [2; 16]];
        for _ in 0..DRY_RUNS_MAX {
            assert_eq!(dry_runs.take(at(0), mine), Ok(()));
        }
        assert_eq!(dry_runs.take(at(0), mine), Err(Duration::from_secs(1)));
        assert_eq!(dry_runs.take(at(0), other), Ok(()));
        assert_eq!(dry_runs.take(at(1), mine), Ok(()));
    }
}
