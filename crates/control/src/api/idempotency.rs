//! What makes a later submission a repeat of an earlier one: the same signature, or the same `Idempotency-Key`.

use std::time::Duration;

use batoff_log::Dedupe;
use batoff_types::UnixMillis;
use sha2::{Digest, Sha256};

use super::admission::{self, Admitted};
use super::problem::{Code, ItemError, Problem};
use super::signature::IDEMPOTENCY_HEADER;
use crate::catalog::TokenId;

/// The longest key, in characters.
pub const KEY_LENGTH_MAX: usize = 255;

/// A resent signature is a new purge within this time of the first. A client whose timestamps tick in seconds may edit,
/// purge, edit and purge again within one; swallowing the second would leave stale content behind a 202.
const SIGNATURE_FRESH_MS: u64 = 2_000;

/// How long after its timestamp a signature is remembered: beyond the time that it can still be accepted.
const SIGNATURE_KEPT: Duration = Duration::from_secs(600);

/// How long a key is remembered.
const KEY_KEPT: Duration = Duration::from_secs(24 * 3_600);

/// The keys of a submission: one of its signature and, when it was sent, one of its `Idempotency-Key`.
pub fn keys(admitted: &Admitted, now: UnixMillis) -> Result<Vec<Dedupe>, Problem> {
    let body_hash = admitted.body.sha256;
    let token = admitted.token.id;
    let mut keys = vec![Dedupe {
        key: scoped(b"signature", token, admitted.signature.as_bytes()),
        body_hash,
        fresh_for_ms: SIGNATURE_FRESH_MS,
        expires_at: after(admitted.timestamp.millis(), SIGNATURE_KEPT),
    }];
    if admitted.headers().contains_key(IDEMPOTENCY_HEADER) {
        let key = admission::single(admitted.headers(), IDEMPOTENCY_HEADER)
            .filter(|key| is_valid(key))
            .ok_or_else(malformed)?;
        keys.push(Dedupe {
            key: scoped(b"idempotency", token, key.as_bytes()),
            body_hash,
            fresh_for_ms: 0,
            expires_at: after(now, KEY_KEPT),
        });
    }
    Ok(keys)
}

fn is_valid(key: &str) -> bool {
    (1..=KEY_LENGTH_MAX).contains(&key.len()) && key.bytes().all(|b| b.is_ascii_graphic())
}

fn malformed() -> Problem {
    let detail = format!("send one key of 1 to {KEY_LENGTH_MAX} visible ASCII characters");
    Problem::of_item(Code::InvalidRequest, ItemError::parameter("Idempotency-Key", detail))
}

/// Scope and token have fixed lengths or end in a zero byte, so no two inputs run together.
fn scoped(scope: &[u8], token: TokenId, value: &[u8]) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(scope);
    hash.update([0]);
    hash.update(token.to_bytes());
    hash.update(value);
    hash.finalize().into()
}

fn after(start: UnixMillis, time: Duration) -> UnixMillis {
    UnixMillis(start.0.saturating_add(u64::try_from(time.as_millis()).unwrap_or(u64::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_1_to_255_visible_characters() {
        assert!(is_valid("8e03978e-40d5-43dd-bc93-6894a57f9324"));
        assert!(is_valid("\"quoted\""));
        assert!(is_valid(&"x".repeat(255)));
        for key in ["", " ", "a b", "ключ", "a\tb", &"x".repeat(256)] {
            assert!(!is_valid(key), "{key:?}");
        }
    }

    #[test]
    fn scopes_and_tokens_do_not_share_keys() {
        let token = |n: u128| TokenId::from_ulid(ulid::Ulid::from(n));
        let key = scoped(b"idempotency", token(1), b"k");
        assert_ne!(key, scoped(b"signature", token(1), b"k"));
        assert_ne!(key, scoped(b"idempotency", token(2), b"k"));
        assert_ne!(key, scoped(b"idempotency", token(1), b"l"));
    }
}
