//! How a submission is signed.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

/// The header that carries the time of signing.
pub const TIMESTAMP_HEADER: &str = "x-batoff-timestamp";

/// The header that carries the signature.
pub const SIGNATURE_HEADER: &str = "x-batoff-signature";

/// When a request was signed: Unix time in the decimal form that is sent, with nine decimals.
///
/// Sub-second on purpose: two purges of the same page within one second are two requests with two signatures, not one
/// and its replay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timestamp(String);

impl Timestamp {
    /// The system clock's time. A clock more than 300 s off is refused by the control plane.
    pub fn now() -> Self {
        Self::after_epoch(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
    }

    /// That long after the Unix epoch.
    pub fn after_epoch(elapsed: Duration) -> Self {
        Self(format!("{}.{:09}", elapsed.as_secs(), elapsed.subsec_nanos()))
    }

    /// As it stands in the header and in the signed text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The value of `X-Batoff-Signature`: `sha256=` and 64 lower-case hex digits.
///
/// HMAC-SHA-256, keyed with the whole signing secret, over four lines joined by `\n` without one at the end: the
/// timestamp as sent, the method, path and query exactly as sent, and the hex SHA-256 of the raw body (of the empty
/// string when there is none). A request with an `Idempotency-Key` has a fifth line, the key.
pub fn sign(
    secret: &str,
    timestamp: &str,
    method: &str,
    path_and_query: &str,
    body: &[u8],
    idempotency_key: Option<&str>,
) -> String {
    #[expect(clippy::expect_used, reason = "HMAC takes keys of any length")]
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("any key length");
    let body_hash = hex::encode(Sha256::digest(body));
    for part in [timestamp, "\n", method, "\n", path_and_query, "\n", &body_hash] {
        mac.update(part.as_bytes());
    }
    if let Some(key) = idempotency_key {
        mac.update(b"\n");
        mac.update(key.as_bytes());
    }
    format!("sha256={}", hex::encode(mac.finalize().into_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The vectors were computed with openssl 3, not with this code:
    /// `printf '%s\n%s\n%s\n%s' "$T" POST "$P" "$(printf %s "$B" | openssl dgst -sha256 -r | cut -d' ' -f1)" |
    /// openssl dgst -sha256 -hmac "$S" -r`.
    #[test]
    fn signatures_are_those_that_openssl_computes() {
        let secret = "bts_live_0123456789abcdefghijABCDEFGHIJ";
        let submit = sign(
            secret,
            "1745145600.123456789",
            "POST",
            "/v1/sites/shop/purge?dry_run=true",
            br#"{"urls":["https://www.example.com/index.html"]}"#,
            None,
        );
        assert_eq!(submit, "sha256=02b486af07ccb4f55afc256794c4ca5f299c12fc2ce1e4605d0faba86db5ae19");
        let status = sign(secret, "1745145600", "GET", "/v1/sites/shop/purges", b"", None);
        assert_eq!(status, "sha256=07d7f868f1625a9e6cec336ea52e8747476f401519d9e38f4bbbe1096d1af726");
        let with_key = sign(
            secret,
            "1745145600",
            "POST",
            "/v1/sites/shop/purge",
            br#"{"tags":["a"]}"#,
            Some("deploy-17"),
        );
        assert_eq!(with_key, "sha256=4dd66f163fa24b2669afd536e336003d4f0fd7e611a3bb08e633cebc862e0f33");
    }

    #[test]
    fn a_timestamp_keeps_its_leading_zeros_after_the_point() {
        assert_eq!(Timestamp::after_epoch(Duration::new(1_745_145_600, 42)).as_str(), "1745145600.000000042");
    }

    #[test]
    fn two_signings_in_a_row_differ() {
        let (first, second) = (Timestamp::now(), Timestamp::now());
        assert_eq!(first.as_str().split_once('.').map(|(_, decimals)| decimals.len()), Some(9));
        assert!(second.as_str() >= first.as_str());
    }
}
