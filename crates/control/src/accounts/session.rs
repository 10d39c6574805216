//! Sessions: a secret in a cookie, and under its hash a row that says whose it is and until when.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use batoff_types::UnixMillis;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::viewer::Viewer;

/// Bytes of a session's secret; in the cookie they stand as hex digits.
const SECRET_BYTES: usize = 32;

/// The cookie's name over TLS. The prefix makes browsers refuse it from other hosts and over plain HTTP (RFC 6265bis,
/// 4.1.3.2).
pub const COOKIE: &str = "__Host-batoff";

/// Its name over plain HTTP on loopback, where browsers keep no cookie that is `Secure`.
pub const PLAIN_COOKIE: &str = "batoff";

/// How long sessions last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionTimes {
    /// A session that nobody uses ends after this time.
    pub idle: Duration,
    /// Every session ends after this time.
    pub absolute: Duration,
}

/// Names a session; not its secret, which cannot be found out from it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(String);

impl SessionId {
    /// Of the secret in a cookie.
    pub(super) fn of(cookie_value: &str) -> Self {
        Self(hex::encode(Sha256::digest(cookie_value.as_bytes())))
    }

    /// As a row's key says it.
    pub(super) fn from_key(rest: &str) -> Self {
        Self(rest.to_owned())
    }

    /// The hex digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.get(..8).unwrap_or(&self.0))
    }
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

/// The cookie's name, over TLS or not.
pub const fn cookie_name(is_secure: bool) -> &'static str {
    if is_secure { COOKIE } else { PLAIN_COOKIE }
}

/// The value of `Set-Cookie` that takes the cookie away.
pub fn clear_cookie(is_secure: bool) -> String {
    format!("{}=; Max-Age=0{}", cookie_name(is_secure), attributes(is_secure))
}

/// What of a request's `Cookie` lines is the session's secret.
pub fn cookie_value<'a>(lines: impl IntoIterator<Item = &'a str>, is_secure: bool) -> Option<&'a str> {
    let pairs = lines.into_iter().flat_map(|line| line.split(';'));
    let mut named = pairs
        .filter_map(|pair| pair.trim().split_once('='))
        .filter(|(name, _)| *name == cookie_name(is_secure));
    named.next().map(|(_, value)| value)
}

fn attributes(is_secure: bool) -> &'static str {
    if is_secure { "; Path=/; Secure; HttpOnly; SameSite=Lax" } else { "; Path=/; HttpOnly; SameSite=Lax" }
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
pub(super) struct Session {
    /// The account's name; text, for the row says nothing about whether there is such an account.
    pub account: String,
    /// The account's [`era`](super::row::StoredAccount::era) when it began.
    pub era: u64,
    pub began_at: UnixMillis,
    pub seen_at: UnixMillis,
    pub address: IpAddr,
}

impl Session {
    /// What is left of it now; `None`: it is over. A clock that was put back makes nothing younger than new.
    pub(super) fn left(&self, now: UnixMillis, times: SessionTimes) -> Option<Duration> {
        let age = |since: UnixMillis| Duration::from_millis(now.0.saturating_sub(since.0));
        let left = times.absolute.checked_sub(age(self.began_at))?;
        (!left.is_zero() && age(self.seen_at) < times.idle).then_some(left)
    }
}

/// A new secret.
pub(super) fn secret() -> Zeroizing<String> {
    let bytes = Zeroizing::new(rand::random::<[u8; SECRET_BYTES]>());
    Zeroizing::new(hex::encode(bytes.as_slice()))
}

/// Whether a cookie can be one of ours; others need no look-up.
pub(super) fn is_secret(text: &str) -> bool {
    text.len() == 2 * SECRET_BYTES && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_ends_when_it_is_idle_and_when_its_time_is_over() {
        let times = SessionTimes { idle: Duration::from_secs(100), absolute: Duration::from_secs(1_000) };
        let session = |seen: u64| Session {
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

    #[test]
    fn the_cookie_is_found_among_others_by_its_whole_name() {
        let lines = ["a=1; xbatoff=2", "batoff=3 ; __Host-batoff=4"];
        assert_eq!(cookie_value(lines, true), Some("4"));
        assert_eq!(cookie_value(lines, false), Some("3"));
        assert_eq!(cookie_value(["batoffx=1", "batoff"], false), None);
        assert!(
            clear_cookie(true)
                .starts_with("__Host-batoff=; Max-Age=0; Path=/; Secure; HttpOnly; SameSite=Lax")
        );
        assert!(!clear_cookie(false).contains("Secure"));
    }

    #[test]
    fn secrets_are_random_and_known_by_their_form() {
        let (one, other) = (secret(), secret());
        assert_ne!(one, other);
        assert!(
            is_secret(&one) && !is_secret("") && !is_secret(&one.to_uppercase()) && !is_secret(&one[1..])
        );
        assert_ne!(SessionId::of(&one).as_str(), one.as_str());
    }
}
