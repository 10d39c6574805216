//! The chain: each entry's hash covers its own bytes and the hash before it, so that nothing can be changed, taken out
//! or put in without every later hash becoming another one.
//!
//! ```text
//!  hash 0 = SHA-256("batoff audit chain 1\n" replica "\n" log id "\n")
//!  hash n = SHA-256(hash n-1, the canonical bytes of entry n)
//! ```

use std::fmt;
use std::str::FromStr;

use sha2::{Digest, Sha256};

/// A SHA-256.
pub type ChainHash = [u8; 32];

/// The hash before the first entry.
pub fn genesis(replica: &str, log_id: &str) -> ChainHash {
    Sha256::digest(format!("batoff audit chain 1\n{replica}\n{log_id}\n")).into()
}

/// The hash of an entry that follows one with the hash `previous`.
pub fn link(previous: &ChainHash, line: &str) -> ChainHash {
    Sha256::new().chain_update(previous).chain_update(line.as_bytes()).finalize().into()
}

/// A place in a chain, and everything before it in 32 bytes. Who keeps one elsewhere can tell later that nothing up to
/// there was changed, cut off or put back. As text: `1:4711:` and 64 hex digits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainHead {
    /// Whose chain it is.
    pub replica: String,
    /// The number of its last entry; 0 before the first.
    pub number: u64,
    /// That entry's hash.
    pub hash: ChainHash,
}

impl fmt::Display for ChainHead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.replica, self.number, hex::encode(self.hash))
    }
}

impl FromStr for ChainHead {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (front, digits) = text.rsplit_once(':').ok_or(())?;
        let (replica, number) = front.rsplit_once(':').ok_or(())?;
        Ok(Self {
            replica: replica.to_owned(),
            number: number.parse().map_err(|_| ())?,
            hash: hash_of(digits).ok_or(())?,
        })
    }
}

/// The hash that 64 hex digits say.
pub(super) fn hash_of(digits: &str) -> Option<ChainHash> {
    let mut hash = [0; 32];
    hex::decode_to_slice(digits, &mut hash).ok()?;
    Some(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_written_and_read() {
        let head = ChainHead { replica: "1".to_owned(), number: 4_711, hash: genesis("1", "log") };
        assert_eq!(head.to_string().parse(), Ok(head.clone()));
        for text in ["", "1:2", "1:x:00", "1:2:00", &format!("{head}0")] {
            assert_eq!(text.parse::<ChainHead>(), Err(()), "{text}");
        }
    }

    #[test]
    fn a_hash_covers_the_bytes_and_all_before_them() {
        let start = genesis("1", "a");
        assert_ne!(start, genesis("1", "b"));
        assert_ne!(start, genesis("2", "a"));
        let (one, two) = (link(&start, "one"), link(&start, "two"));
        assert_ne!(link(&one, "two"), link(&two, "one"));
    }
}
