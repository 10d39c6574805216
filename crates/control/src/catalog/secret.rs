//! The master key, and the signing secrets that are derived from it and never stored.

use std::fmt;

use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::Zeroizing;

use super::token::{SECRET_PREFIX, TokenId, base62};

/// Bytes of the master key.
pub const MASTER_KEY_BYTES: usize = 32;

/// Bytes derived for one signing secret; 32 bytes are about 43 characters of base 62.
const SECRET_BYTES: usize = 32;

/// Bytes of an authenticator's secret: as many as SHA-1 has (RFC 4226, 4).
const TOTP_BYTES: usize = 20;

/// Bytes of a key's fingerprint.
const FINGERPRINT_BYTES: usize = 16;

/// The key that all signing secrets are derived from. Kept in a file of mode 0600, apart from the database: whoever
/// steals the database can neither present a token nor sign.
#[derive(Clone)]
pub struct MasterKey(Zeroizing<[u8; MASTER_KEY_BYTES]>);

impl MasterKey {
    /// The key in `bytes`.
    pub fn new(bytes: [u8; MASTER_KEY_BYTES]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// A new random key.
    pub fn generate() -> Self {
        Self::new(rand::random())
    }

    /// The key as the file holds it: 64 hex digits.
    pub fn to_hex(&self) -> Zeroizing<String> {
        Zeroizing::new(hex::encode(self.0.as_slice()))
    }

    /// From the file's text, white space around it ignored.
    pub fn from_hex(text: &str) -> Option<Self> {
        let mut bytes = Zeroizing::new([0; MASTER_KEY_BYTES]);
        hex::decode_to_slice(text.trim(), bytes.as_mut_slice()).ok()?;
        Some(Self(bytes))
    }

    /// Tells this key from another, and nothing about it: what the store keeps to know its key by.
    pub fn fingerprint(&self) -> String {
        let mut bytes = [0; FINGERPRINT_BYTES];
        #[expect(clippy::expect_used, reason = "HKDF-SHA-256 yields up to 8,160 bytes; 16 are asked for")]
        Hkdf::<Sha256>::new(None, self.0.as_slice())
            .expand(b"batoff master key fingerprint v1", &mut bytes)
            .expect("16 bytes are within HKDF's bound");
        hex::encode(bytes)
    }

    /// Tells `message` from another one, and nothing about it to who has not the key: HKDF-SHA-256 with `salt`, of which
    /// half as many bytes are kept as of a fingerprint.
    pub fn mark(&self, salt: &[u8], message: &[u8]) -> String {
        let mut bytes = [0; FINGERPRINT_BYTES / 2];
        #[expect(clippy::expect_used, reason = "HKDF-SHA-256 yields up to 8,160 bytes; 8 are asked for")]
        Hkdf::<Sha256>::new(Some(salt), self.0.as_slice())
            .expand(&[b"batoff mark v1 ".as_slice(), message].concat(), &mut bytes)
            .expect("8 bytes are within HKDF's bound");
        hex::encode(bytes)
    }

    /// The signing secret of a token: HKDF-SHA-256 over its id.
    pub fn signing_secret(&self, token: TokenId) -> Zeroizing<String> {
        let mut bytes = Zeroizing::new([0; SECRET_BYTES]);
        let info = [b"batoff signing secret v1 ".as_slice(), &token.to_bytes()].concat();
        #[expect(clippy::expect_used, reason = "HKDF-SHA-256 yields up to 8,160 bytes; 32 are asked for")]
        Hkdf::<Sha256>::new(None, self.0.as_slice())
            .expand(&info, bytes.as_mut_slice())
            .expect("32 bytes are within HKDF's bound");
        Zeroizing::new(format!("{SECRET_PREFIX}{}", base62(bytes.as_slice())))
    }
}

impl MasterKey {
    /// The secret of an authenticator (TOTP) by its random id: HKDF-SHA-256, as of a token.
    pub fn totp_secret(&self, id: &[u8; 16]) -> Zeroizing<[u8; TOTP_BYTES]> {
        let mut bytes = Zeroizing::new([0; TOTP_BYTES]);
        let info = [b"batoff totp secret v1 ".as_slice(), id].concat();
        #[expect(clippy::expect_used, reason = "HKDF-SHA-256 yields up to 8,160 bytes; 20 are asked for")]
        Hkdf::<Sha256>::new(None, self.0.as_slice())
            .expand(&info, bytes.as_mut_slice())
            .expect("20 bytes are within HKDF's bound");
        bytes
    }
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MasterKey(…)")
    }
}

#[cfg(test)]
mod tests {
    use ulid::Ulid;

    use super::*;

    #[test]
    fn a_secret_depends_on_key_and_token_and_on_nothing_else() {
        let (key, other) = (MasterKey::new([7; 32]), MasterKey::new([8; 32]));
        let (a, b) = (TokenId::from_ulid(Ulid::from(1u128)), TokenId::from_ulid(Ulid::from(2u128)));
        assert_eq!(key.signing_secret(a), MasterKey::from_hex(&key.to_hex()).unwrap().signing_secret(a));
        assert_ne!(key.signing_secret(a), key.signing_secret(b));
        assert_ne!(key.signing_secret(a), other.signing_secret(a));
        assert!(key.signing_secret(a).starts_with(SECRET_PREFIX));
        assert!(key.signing_secret(a).len() > 45);
    }
}
