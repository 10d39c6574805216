//! A token's signing secret as a signature is checked with it: derived and scheduled once, when the token's first request
//! comes, and gone with the token.

use std::fmt;
use std::sync::OnceLock;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// A key of HMAC-SHA-256 that is ready for its messages.
#[derive(Clone)]
pub struct SigningKey(Hmac<Sha256>);

impl SigningKey {
    /// The key that is this secret as a whole.
    pub fn of(secret: &[u8]) -> Self {
        #[expect(clippy::expect_used, reason = "HMAC takes keys of any length")]
        Self(Hmac::new_from_slice(secret).expect("HMAC takes keys of any length"))
    }

    /// Whether `code` is that of the message which `tell` writes. Takes the same time wherever it differs.
    pub fn verify(&self, code: &[u8; 32], tell: impl FnOnce(&mut dyn FnMut(&[u8]))) -> bool {
        let mut mac = self.0.clone();
        tell(&mut |part| mac.update(part));
        mac.verify_slice(code).is_ok()
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKey(…)")
    }
}

/// Where a token keeps its key. It follows from the token, so tokens with and without one are equal.
#[derive(Clone, Debug, Default)]
pub(super) struct SigningKeySlot(OnceLock<Box<SigningKey>>);

impl SigningKeySlot {
    pub(super) fn get_or_derive(&self, secret: impl FnOnce() -> SigningKey) -> &SigningKey {
        self.0.get_or_init(|| Box::new(secret()))
    }
}

impl PartialEq for SigningKeySlot {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for SigningKeySlot {}
