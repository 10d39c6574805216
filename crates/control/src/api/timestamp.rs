//! `X-Batoff-Timestamp`: seconds since the Unix epoch, decimal, with up to nine decimals.

use std::time::Duration;

use batoff_types::UnixMillis;

/// Digits before the point: enough for the next three thousand years, and no arithmetic overflows.
const WHOLE_DIGITS_MAX: usize = 11;

/// Nanoseconds, as the header's grammar has them.
const DECIMALS_MAX: usize = 9;

/// When a client says that it signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timestamp(UnixMillis);

/// The header is not a timestamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "X-Batoff-Timestamp must be seconds since the Unix epoch in decimal, with up to {DECIMALS_MAX} decimals"
)]
pub struct MalformedTimestamp;

/// The client's clock and ours are too far apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Skewed {
    /// By how much, rounded up to whole seconds.
    pub by_secs: u64,
    /// Whether the client's clock is behind ours.
    pub behind: bool,
    /// What is allowed.
    pub max: Duration,
}

impl Timestamp {
    /// The instant, to the millisecond.
    pub const fn millis(self) -> UnixMillis {
        self.0
    }

    /// Whether it is within `max` of `now`.
    pub fn check(self, now: UnixMillis, max: Duration) -> Result<(), Skewed> {
        let apart = now.0.abs_diff(self.0.0);
        if u128::from(apart) <= max.as_millis() {
            return Ok(());
        }
        Err(Skewed { by_secs: apart.div_ceil(1_000), behind: self.0 < now, max })
    }
}

impl std::str::FromStr for Timestamp {
    type Err = MalformedTimestamp;

    fn from_str(text: &str) -> Result<Self, MalformedTimestamp> {
        let digits = |text: &str, max: usize| {
            (1..=max).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit())
        };
        let (whole, decimals) = match text.split_once('.') {
            Some((whole, decimals)) if digits(decimals, DECIMALS_MAX) => (whole, decimals),
            Some(_) => return Err(MalformedTimestamp),
            None => (text, ""),
        };
        if !digits(whole, WHOLE_DIGITS_MAX) {
            return Err(MalformedTimestamp);
        }
        let seconds: u64 = whole.parse().map_err(|_| MalformedTimestamp)?;
        let millis: u64 = format!("{decimals:0<3}")[..3].parse().map_err(|_| MalformedTimestamp)?;
        Ok(Self(UnixMillis(seconds * 1_000 + millis)))
    }
}

impl std::fmt::Display for Skewed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let side = if self.behind { "behind" } else { "ahead of" };
        write!(
            f,
            "the timestamp is {} s {side} the server's clock (see Date); at most {} s are allowed: set the clock",
            self.by_secs,
            self.max.as_secs()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_seconds_with_up_to_nine_decimals() {
        let millis = |text: &str| text.parse::<Timestamp>().map(|t| t.millis().0);
        assert_eq!(millis("1745145600"), Ok(1_745_145_600_000));
        assert_eq!(millis("1745145600.5"), Ok(1_745_145_600_500));
        assert_eq!(millis("1745145600.123456789"), Ok(1_745_145_600_123));
        assert_eq!(millis("0"), Ok(0));
        assert_eq!(millis("99999999999.999"), Ok(99_999_999_999_999));
        let malformed = [
            "",
            " ",
            "-1",
            "+1",
            "1.",
            ".5",
            "1.1234567890",
            "1e9",
            "0x10",
            "1 ",
            "1.2.3",
            "１２３",
            "nan",
            "100000000000",
            "1_000",
        ];
        for text in malformed {
            assert_eq!(millis(text), Err(MalformedTimestamp), "{text:?}");
        }
    }

    #[test]
    fn a_skew_of_exactly_the_limit_passes_and_one_beyond_is_told_in_seconds() {
        let max = Duration::from_secs(300);
        let at: Timestamp = "1000000".parse().unwrap();
        assert_eq!(at.check(UnixMillis(1_000_300_000), max), Ok(()));
        assert_eq!(at.check(UnixMillis(999_700_000), max), Ok(()));
        let late = at.check(UnixMillis(1_000_300_001), max).unwrap_err();
        assert_eq!((late.by_secs, late.behind), (301, true));
        let early = at.check(UnixMillis(998_588_000), max).unwrap_err();
        assert!(early.to_string().contains("1412 s ahead of the server's clock"), "{early}");
    }
}
