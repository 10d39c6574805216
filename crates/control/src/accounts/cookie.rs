//! What a browser keeps: a secret, in a cookie that goes nowhere else.

use std::fmt;

use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

/// Bytes of a session's secret; in the cookie they stand as hex digits.
const SECRET_BYTES: usize = 32;

/// The cookie's name over TLS. The prefix makes browsers refuse it from other hosts and over plain HTTP (RFC 6265bis,
/// 4.1.3.2).
pub const COOKIE: &str = "__Host-batoff";

/// Its name over plain HTTP on loopback, where browsers keep no cookie that is `Secure`.
pub const PLAIN_COOKIE: &str = "batoff";

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

pub(super) fn attributes(is_secure: bool) -> &'static str {
    if is_secure { "; Path=/; Secure; HttpOnly; SameSite=Lax" } else { "; Path=/; HttpOnly; SameSite=Lax" }
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
