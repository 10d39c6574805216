//! Passwords: which are good enough, how they are hashed, and that guessing costs.

use std::sync::Arc;
use std::time::Duration;

use argon2::{Algorithm, Argon2, Params, PasswordHasher, PasswordVerifier, Version};
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

use super::account::AccountName;

/// Characters of a password at least. Length is what counts (NIST SP 800-63B): nothing is demanded of the characters.
pub const PASSWORD_CHARS_MIN: usize = 12;

/// Bytes of a password at most.
pub const PASSWORD_BYTES_MAX: usize = 1_024;

/// Memory of one hash, in KiB. With [`ITERATIONS`] and [`LANES`] OWASP's first choice for Argon2id (Password Storage
/// Cheat Sheet: m = 19 MiB, t = 2, p = 1; as strong as 46 MiB and one pass).
const MEMORY_KIB: u32 = 19 * 1_024;

/// Passes over that memory.
const ITERATIONS: u32 = 2;

/// Lanes of one hash: one, for several sign-ins share the cores.
const LANES: u32 = 1;

/// Hashes at one time: bounds memory and cores, so that no storm of sign-ins is felt by purges.
const AT_ONCE: usize = 2;

/// How long a sign-in waits for its turn.
const TURN_PATIENCE: Duration = Duration::from_secs(5);

/// Characters of a one-time password: easy to tell apart and to type.
const ONE_TIME_ALPHABET: &[u8; 31] = b"23456789abcdefghjkmnpqrstuvwxyz";

/// Groups of four characters in a one-time password: 20 of 31 are 99 bits.
const ONE_TIME_GROUPS: usize = 5;

/// Passwords that are long enough and in every list of those that are tried first.
const TRIED_FIRST: [&str; 14] = [
    "123456789012",
    "1234567890123",
    "1q2w3e4r5t6y",
    "1qaz2wsx3edc",
    "administrator",
    "changemeplease",
    "correcthorsebatterystaple",
    "iloveyouforever",
    "letmeinletmein",
    "password1234",
    "passwordpassword",
    "qwertyuiop12",
    "qwertyuiop[]",
    "йцукенгшщзхъ",
];

/// Why a password is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WeakPassword {
    /// Fewer than [`PASSWORD_CHARS_MIN`] characters.
    #[error(
        "must have at least {PASSWORD_CHARS_MIN} characters; some words of your own are easy to remember"
    )]
    Short,
    /// More than [`PASSWORD_BYTES_MAX`] bytes.
    #[error("must have at most {PASSWORD_BYTES_MAX} bytes")]
    Long,
    /// The account's name, one piece over and over, or one that is tried first.
    #[error("is easily guessed: it is the account's name, one piece repeated, or a well-known password")]
    Guessable,
}

/// Whether an account may have this password.
pub fn check(name: &AccountName, password: &str) -> Result<(), WeakPassword> {
    if password.chars().count() < PASSWORD_CHARS_MIN {
        return Err(WeakPassword::Short);
    }
    if password.len() > PASSWORD_BYTES_MAX {
        return Err(WeakPassword::Long);
    }
    let lower = password.to_lowercase();
    // What an abbreviation cannot stand for any more: `anna.k@example.com` and that with a `1` behind it.
    let is_name = lower.strip_prefix(name.as_str()).is_some_and(|rest| rest.chars().count() < 4);
    if is_name || TRIED_FIRST.contains(&lower.as_str()) || is_repeated(&lower) {
        return Err(WeakPassword::Guessable);
    }
    Ok(())
}

/// Whether it is one piece of at most four characters over and over, the last time perhaps cut short.
fn is_repeated(text: &str) -> bool {
    let chars: Vec<char> = text.chars().collect();
    (1..=4).any(|piece| chars.iter().zip(chars.iter().skip(piece)).all(|(one, other)| one == other))
}

/// A random password that is to be changed: `xxxx-xxxx-xxxx-xxxx-xxxx`.
pub fn one_time() -> Zeroizing<String> {
    random_groups(ONE_TIME_GROUPS)
}

/// So many groups of four random characters, with hyphens between.
pub(super) fn random_groups(groups: usize) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(groups * 5));
    for place in 0..groups * 4 {
        if place > 0 && place % 4 == 0 {
            text.push('-');
        }
        text.push(char::from(ONE_TIME_ALPHABET[rand::random_range(0..ONE_TIME_ALPHABET.len())]));
    }
    text
}

/// A password cannot be hashed or compared now.
#[derive(Debug, thiserror::Error)]
pub(super) enum HashError {
    /// So many sign in that this one's turn did not come.
    #[error("too many sign in at this moment")]
    Busy,
    /// Memory was refused, or the row holds no hash.
    #[error("a password cannot be hashed: {0}")]
    Failed(String),
}

/// The only place where passwords are hashed: few at a time, and not on the threads that answer.
pub(super) struct Hashing {
    turns: Arc<Semaphore>,
}

impl Default for Hashing {
    fn default() -> Self {
        Self { turns: Arc::new(Semaphore::new(AT_ONCE)) }
    }
}

impl Hashing {
    /// The hash as rows keep it, a PHC string with salt and parameters.
    pub(super) async fn hash(&self, password: &str) -> Result<String, HashError> {
        let password = Zeroizing::new(password.to_owned());
        self.in_turn(move || hash(&password)).await
    }

    /// Whether this is the password of that hash; with none, the work is done all the same, and it is not.
    pub(super) async fn verify(&self, password: &str, hash: Option<&str>) -> Result<bool, HashError> {
        let is_known = hash.is_some();
        let hash = hash.map_or_else(of_nobody, str::to_owned);
        // A text beyond the bound was never taken for a password, and needs not to be hashed.
        let too_long = password.len() > PASSWORD_BYTES_MAX;
        let password = Zeroizing::new(if too_long { String::new() } else { password.to_owned() });
        let is_right = self.in_turn(move || verify(&password, &hash)).await?;
        Ok(is_right && is_known && !too_long)
    }

    async fn in_turn<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, HashError> + Send + 'static,
    ) -> Result<T, HashError> {
        let turn = tokio::time::timeout(TURN_PATIENCE, Arc::clone(&self.turns).acquire_owned()).await;
        // Never closed, so the only error is that it took too long.
        let turn = turn.ok().and_then(Result::ok).ok_or(HashError::Busy)?;
        let worked = tokio::task::spawn_blocking(move || {
            let outcome = work();
            drop(turn);
            outcome
        });
        match worked.await {
            Ok(outcome) => outcome,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            // The runtime is ending.
            Err(_) => Err(HashError::Busy),
        }
    }
}

/// A hash that is compared with where there is no account, so that a wrong name takes the time of a wrong password. Of no
/// password that anybody knows: salt and hash are made up.
fn of_nobody() -> String {
    let (salt, hash) = ("bm9ib2R5J3NzYWx0IQ", "bm9ib2R5J3MgaGFzaCwgb2Ygbm8gcGFzc3dvcmQhISE");
    format!("$argon2id$v=19$m={MEMORY_KIB},t={ITERATIONS},p={LANES}${salt}${hash}")
}

/// Whether the hash was made with other parameters than those of today: it is to be made anew when the password is known.
pub(super) fn is_outdated(hash: &str) -> bool {
    !hash.starts_with(&format!("$argon2id$v=19$m={MEMORY_KIB},t={ITERATIONS},p={LANES}$"))
}

fn hash(password: &str) -> Result<String, HashError> {
    let params = Params::new(MEMORY_KIB, ITERATIONS, LANES, None);
    let params = params.map_err(|error| HashError::Failed(error.to_string()))?;
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    let hash = argon2.hash_password(password.as_bytes());
    hash.map(|hash| hash.to_string()).map_err(|error| HashError::Failed(error.to_string()))
}

fn verify(password: &str, hash: &str) -> Result<bool, HashError> {
    // The parameters are those that stand in the hash.
    match Argon2::default().verify_password(password.as_bytes(), hash) {
        Ok(()) => Ok(true),
        Err(argon2::password_hash::Error::PasswordInvalid) => Ok(false),
        Err(error) => Err(HashError::Failed(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn length_counts_and_what_is_tried_first_does_not() {
        let name: AccountName = "anna.k@example.com".parse().unwrap();
        let of = |password: &str| check(&name, password);
        for good in
            ["three green parrots", "пять зелёных попугаев", "x7-Kq!mv9$zR", &"abcdefghijklm".repeat(78)]
        {
            assert_eq!(of(good), Ok(()), "{good}");
        }
        assert_eq!(of("elevenchars"), Err(WeakPassword::Short));
        assert_eq!(of("одиннадцать"), Err(WeakPassword::Short), "characters count, not bytes");
        assert_eq!(of(&"long enough ".repeat(86)), Err(WeakPassword::Long));
        for guessed in [
            "Anna.K@Example.com",
            "anna.k@example.com12",
            "PasswordPassword",
            "aaaaaaaaaaaaaa",
            "abcabcabcabcab",
        ] {
            assert_eq!(of(guessed), Err(WeakPassword::Guessable), "{guessed}");
        }
    }

    #[test]
    fn one_time_passwords_are_random_and_good_enough() {
        let name: AccountName = "admin".parse().unwrap();
        let (one, other) = (one_time(), one_time());
        assert_ne!(one, other);
        assert_eq!((one.len(), check(&name, &one)), (24, Ok(())));
    }

    #[tokio::test]
    async fn only_the_password_fits_its_hash_and_nobodys_fits_none() {
        let hashing = Hashing::default();
        let hash = hashing.hash("three green parrots").await.unwrap();
        assert!(!is_outdated(&hash), "{hash}");
        assert!(is_outdated(&hash.replace("t=2", "t=1")) && is_outdated("$argon2i$v=19$m=19456,t=2,p=1$a$b"));
        assert!(hashing.verify("three green parrots", Some(&hash)).await.unwrap());
        assert!(!hashing.verify("three green parrot", Some(&hash)).await.unwrap());
        assert!(!hashing.verify("", None).await.unwrap());
        assert!(!hashing.verify(&"x".repeat(1 << 20), Some(&hash)).await.unwrap());
        assert!(matches!(hashing.verify("x", Some("no hash")).await, Err(HashError::Failed(_))));
    }
}
