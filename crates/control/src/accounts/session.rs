//! Sessions: under the hash of a cookie's secret a row that says whose it is, and until when.

use std::net::IpAddr;
use std::time::Duration;

use batoff_types::UnixMillis;
use zeroize::Zeroizing;

use super::cookie::{SessionId, attributes, cookie_name};
use super::viewer::Viewer;

/// How long sessions last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionTimes {
    /// A session that nobody uses ends after this time.
    pub idle: Duration,
    /// Every session ends after this time.
    pub absolute: Duration,
}

/// A session that has just begun: the only time that its secret exists outside of the browser.
#[derive(Clone, Debug)]
pub struct NewSession {
    /// Who is signed in.
    pub viewer: Viewer,
    /// What the cookie holds.
    pub cookie_value: Zeroizing<String>,
    /// For how long a browser may keep it.
    pub lasts: Duration,
}

impl NewSession {
    /// The value of `Set-Cookie`: for this host alone, not for scripts, and not sent along by other sites' forms.
    pub fn set_cookie(&self, is_secure: bool) -> String {
        format!(
            "{}={}; Max-Age={}{}",
            cookie_name(is_secure),
            *self.cookie_value,
            self.lasts.as_secs(),
            attributes(is_secure)
        )
    }
}

/// A session of one's own, as it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionReport {
    /// Its name.
    pub id: SessionId,
    /// When it began.
    pub began_at: UnixMillis,
    /// When it was used last, to the minute.
    pub seen_at: UnixMillis,
    /// From where it was used last.
    pub address: IpAddr,
}

/// A session as its row says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct StoredSession {
    /// The account's name; text, for the row says nothing about whether there is such an account.
    pub account: String,
    /// The account's [`era`](super::row::StoredAccount::era) when it began.
    pub era: u64,
    pub began_at: UnixMillis,
    pub seen_at: UnixMillis,
    pub address: IpAddr,
}

impl StoredSession {
    /// What is left of it now; `None`: it is over. A clock that was put back makes nothing younger than new.
    pub(super) fn left(&self, now: UnixMillis, times: SessionTimes) -> Option<Duration> {
        let age = |since: UnixMillis| Duration::from_millis(now.0.saturating_sub(since.0));
        let left = times.absolute.checked_sub(age(self.began_at))?;
        (!left.is_zero() && age(self.seen_at) < times.idle).then_some(left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_ends_when_it_is_idle_and_when_its_time_is_over() {
        let times = SessionTimes { idle: Duration::from_secs(100), absolute: Duration::from_secs(1_000) };
        let session = |seen: u64| StoredSession {
            account: "anna".to_owned(),
            era: 1,
            began_at: UnixMillis(1_000_000),
            seen_at: UnixMillis(seen),
            address: "192.0.2.1".parse().unwrap(),
        };
        let left = |seen: u64, now: u64| session(seen).left(UnixMillis(now), times);
        assert_eq!(left(1_000_000, 1_000_000), Some(Duration::from_secs(1_000)));
        assert_eq!(left(1_000_000, 1_099_999), Some(Duration::from_millis(900_001)));
        assert_eq!(left(1_000_000, 1_100_000), None, "idle");
        assert_eq!(left(1_950_000, 1_999_999), Some(Duration::from_millis(1)));
        assert_eq!(left(1_950_000, 2_000_000), None, "its time is over, although it was used");
        assert_eq!(left(1_000_000, 5), Some(Duration::from_secs(1_000)), "the clock was put back");
    }
}
