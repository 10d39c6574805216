use std::time::SystemTime;

use jiff::Timestamp;

use crate::exit::Failure;

/// A time, or a period before `now` (`15m`), as the API writes times.
pub fn past(text: &str, now: SystemTime) -> Result<String, Failure> {
    moment(text, |period| now.checked_sub(period))
}

/// A time, or a period after `now` (`90d`), as the API writes times.
pub fn future(text: &str, now: SystemTime) -> Result<String, Failure> {
    moment(text, |period| now.checked_add(period))
}

/// A second of Unix time as the API writes times.
pub fn rfc3339(second: u64) -> String {
    let second = i64::try_from(second).unwrap_or(i64::MAX);
    Timestamp::from_second(second).unwrap_or(Timestamp::MAX).strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn moment(text: &str, at: impl Fn(std::time::Duration) -> Option<SystemTime>) -> Result<String, Failure> {
    let moment = match humantime::parse_duration(text) {
        Ok(period) => at(period).and_then(|at| Timestamp::try_from(at).ok()),
        Err(_) => text.parse().ok(),
    };
    let moment = moment.ok_or_else(|| {
        Failure::Usage(format!(
            "{text:?} is neither a time like 2027-01-01T00:00:00Z nor a period like 90s, 15m, 24h or 7d"
        ))
    })?;
    Ok(moment.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    #[test]
    fn a_period_and_a_time_are_both_times() {
        let now = UNIX_EPOCH + Duration::from_secs(86_400);
        assert_eq!(past("15m", now).unwrap(), "1970-01-01T23:45:00Z");
        assert_eq!(future("1d", now).unwrap(), "1970-01-03T00:00:00Z");
        assert_eq!(past("2026-04-20T10:12:31+02:00", now).unwrap(), "2026-04-20T08:12:31Z");
        assert!(matches!(past("yesterday", now), Err(Failure::Usage(_))));
    }
}
