use std::time::Duration;

use crate::Error;

/// How stubbornly a call is repeated after a 503 or a lost connection. 429 is never repeated here: how long to wait
/// for a quota is the caller's decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    /// Attempts in all, the first one included; of several control planes each attempt asks each of them.
    pub attempts: u32,
    /// The pause before the second attempt; it doubles with each further one.
    pub first_pause: Duration,
    /// The longest pause, also when the API asks for a longer one.
    pub longest_pause: Duration,
}

impl Default for Retry {
    /// Five attempts over about three seconds: a control plane that restarts is back within that.
    fn default() -> Self {
        Self { attempts: 5, first_pause: Duration::from_millis(200), longest_pause: Duration::from_secs(5) }
    }
}

impl Retry {
    /// Each call is tried once.
    pub const NEVER: Self = Self { attempts: 1, first_pause: Duration::ZERO, longest_pause: Duration::ZERO };

    /// The pause after the `failed`-th attempt (from 1) ended in `error`; `None` when it was the last.
    pub(crate) fn pause_after(&self, failed: u32, error: &Error) -> Option<Duration> {
        let repeatable = matches!(error, Error::Unavailable { .. } | Error::OutcomeUnknown { .. });
        if !repeatable || failed >= self.attempts {
            return None;
        }
        let doubled = self.first_pause.saturating_mul(1 << (failed - 1).min(16));
        Some(doubled.max(error.retry_after().unwrap_or_default()).min(self.longest_pause))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unavailable(retry_after: Option<Duration>) -> Error {
        Error::Unavailable { reason: "down".into(), retry_after }
    }

    #[test]
    fn pauses_double_and_end() {
        let retry = Retry { attempts: 4, ..Retry::default() };
        let pauses: Vec<_> = (1..=4).map(|n| retry.pause_after(n, &unavailable(None))).collect();
        let ms = |n| Some(Duration::from_millis(n));
        assert_eq!(pauses, [ms(200), ms(400), ms(800), None]);
    }

    #[test]
    fn the_api_may_ask_for_longer_but_not_for_ever() {
        let retry = Retry::default();
        let asked = |secs| retry.pause_after(1, &unavailable(Some(Duration::from_secs(secs))));
        assert_eq!(asked(2), Some(Duration::from_secs(2)));
        assert_eq!(asked(600), Some(Duration::from_secs(5)));
    }

    #[test]
    fn a_refusal_and_a_quota_are_not_repeated() {
        let refused = Error::Refused(Box::default());
        let limited = Error::RateLimited { problem: Box::default(), retry_after: Duration::from_secs(1) };
        assert_eq!(Retry::default().pause_after(1, &refused), None);
        assert_eq!(Retry::default().pause_after(1, &limited), None);
    }
}
