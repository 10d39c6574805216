//! Tokens: what they look like, what they may do, and that a mistyped one is known by its check.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;

use batoff_types::{SiteId, UnixMillis};
use sha2::{Digest, Sha256};
use ulid::Ulid;
use zeroize::Zeroizing;

use super::signing_key::SigningKeySlot;

const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Random characters of a token: 30 of base 62 are 178 bits, above the 160 that make a plain hash safe to store.
const RANDOM_CHARS: usize = 30;

/// Characters of base 62 that hold a CRC-32.
const CHECK_CHARS: usize = 6;

/// What a token starts with; the secret that belongs to it starts with [`SECRET_PREFIX`].
pub const TOKEN_PREFIX: &str = "bto_live_";

/// What a signing secret starts with.
pub const SECRET_PREFIX: &str = "bts_live_";

/// What the operator's token starts with.
pub const ADMIN_PREFIX: &str = "bto_admin_";

/// The public name of a token, as lists and revocations use it. Not secret; the signing secret is derived from it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TokenId(Ulid);

impl TokenId {
    /// Wraps a ULID made by [`crate::ids::TaskIds`] or read from the store.
    pub const fn from_ulid(ulid: Ulid) -> Self {
        Self(ulid)
    }

    /// The ULID inside.
    pub const fn ulid(self) -> Ulid {
        self.0
    }

    /// The 16 bytes, most significant first.
    pub const fn to_bytes(self) -> [u8; 16] {
        self.0.to_bytes()
    }
}

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for TokenId {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Ulid::from_string(text).map(Self).map_err(|_| ())
    }
}

/// What a token may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// Submit purges, and everything that [`Scope::Read`] may.
    Purge,
    /// Read status and lists, and make dry runs.
    Read,
}

impl Scope {
    /// The scope's name in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Purge => "purge",
            Self::Read => "read",
        }
    }

    /// The scope with that name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Purge, Self::Read].into_iter().find(|scope| scope.as_str() == name)
    }
}

/// A token as the control plane keeps it: never the token itself, only its SHA-256.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// Its public name.
    pub id: TokenId,
    /// The only site it is for.
    pub site: SiteId,
    /// What the operator calls it.
    pub label: Arc<str>,
    /// What it may do; sorted, never empty.
    pub scopes: Vec<Scope>,
    /// When it was issued.
    pub created_at: UnixMillis,
    /// From when on it is refused.
    pub expires_at: Option<UnixMillis>,
    /// Who issued it; `None` when nobody noted it.
    pub created_by: Option<Arc<str>>,
    /// SHA-256 of the token as text.
    pub hash: [u8; 32],
    /// What its requests are checked with, once the first has come.
    pub(super) signing: SigningKeySlot,
}

impl Token {
    /// Whether it may do what `scope` names ([`Scope::Purge`] includes [`Scope::Read`]).
    pub fn allows(&self, scope: Scope) -> bool {
        self.scopes.contains(&scope) || self.scopes.contains(&Scope::Purge)
    }
}

/// A token was accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenUse {
    /// When: up to a minute before the very last time.
    pub at: UnixMillis,
    /// From where.
    pub address: IpAddr,
}

/// A token that is none any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RevokedToken {
    /// As it was.
    pub token: Arc<Token>,
    /// When it was revoked.
    pub revoked_at: UnixMillis,
    /// By whom.
    pub revoked_by: Arc<str>,
    /// When it was used last, and from where.
    pub last_use: Option<TokenUse>,
}

/// A new token with its secret: the only time that either exists as text.
#[derive(Clone)]
pub struct IssuedToken {
    /// What the control plane keeps.
    pub token: Arc<Token>,
    /// The text that a client sends.
    pub text: Zeroizing<String>,
    /// The text that a client signs with.
    pub secret: Zeroizing<String>,
}

/// Makes the text of a new token: prefix, random characters, and a check of both.
pub fn generate(prefix: &str) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(prefix.len() + RANDOM_CHARS + CHECK_CHARS));
    text.push_str(prefix);
    for _ in 0..RANDOM_CHARS {
        let at = rand::random_range(0..ALPHABET.len());
        text.push(char::from(ALPHABET[at]));
    }
    let check = check_chars(text.as_bytes());
    text.push_str(&check);
    text
}

/// Whether `text` has the form of a token with this prefix, its check included. A mistyped token is told from a revoked
/// one here, without a look-up.
pub fn well_formed(prefix: &str, text: &str) -> bool {
    let Some(rest) = text.strip_prefix(prefix) else { return false };
    if rest.len() < RANDOM_CHARS + CHECK_CHARS
        || rest.len() > 128
        || !rest.bytes().all(|b| ALPHABET.contains(&b))
    {
        return false;
    }
    let (front, check) = text.split_at(text.len() - CHECK_CHARS);
    check_chars(front.as_bytes()) == check
}

/// SHA-256 of a token as text, as the store keeps it.
pub fn hash(text: &str) -> [u8; 32] {
    Sha256::digest(text.as_bytes()).into()
}

/// The base-62 characters of as many values as `bytes` has, for secrets derived from a master key.
pub(super) fn base62(bytes: &[u8]) -> String {
    // 62 of 256 values do not divide evenly; six bits and a rejection would need an unbounded source, so the bytes are
    // read as one big number and divided, which spreads them evenly but for a factor of 2^-bits.
    let mut number = bytes.to_vec();
    let mut digits = Vec::new();
    while number.iter().any(|&b| b != 0) {
        let mut rest = 0u32;
        for byte in &mut number {
            let value = rest * 256 + u32::from(*byte);
            *byte = (value / 62) as u8;
            rest = value % 62;
        }
        digits.push(ALPHABET[rest as usize]);
    }
    digits.iter().rev().map(|&b| char::from(b)).collect()
}

fn check_chars(bytes: &[u8]) -> String {
    let mut value = crc32fast::hash(bytes);
    let mut chars = [b'0'; CHECK_CHARS];
    for slot in chars.iter_mut().rev() {
        *slot = ALPHABET[(value % 62) as usize];
        value /= 62;
    }
    chars.iter().map(|&b| char::from(b)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generated_token_is_well_formed_and_a_mistyped_one_is_not() {
        for _ in 0..200 {
            let text = generate(TOKEN_PREFIX);
            assert!(well_formed(TOKEN_PREFIX, &text));
            assert!(!well_formed(ADMIN_PREFIX, &text));
            for at in TOKEN_PREFIX.len()..text.len() {
                let mut typo = text.as_bytes().to_vec();
                typo[at] = if typo[at] == b'a' { b'b' } else { b'a' };
                assert!(!well_formed(TOKEN_PREFIX, &String::from_utf8(typo).unwrap()));
            }
        }
    }

    #[test]
    fn texts_that_are_no_tokens_are_refused_without_a_panic() {
        for text in ["", "bto_live_", "bto_live_x", "bto_live_ЖЖЖЖЖЖЖЖЖЖЖЖЖЖЖЖЖЖЖЖЖЖЖЖЖЖЖ", "Bearer x"]
        {
            assert!(!well_formed(TOKEN_PREFIX, text), "{text}");
        }
        assert!(!well_formed(TOKEN_PREFIX, &format!("{TOKEN_PREFIX}{}", "0".repeat(4096))));
    }
}
