//! Codes from an authenticator (TOTP, RFC 6238), and codes for who has lost it.
//!
//! An authenticator's secret is derived from the master key and a random id, as the signing secrets of tokens are: the
//! store holds the id alone, and who steals it can make no code. With another master key no authenticator fits any more;
//! recovery codes do, and an operator can take the codes away (`batoff users reset --codes`).

use batoff_types::UnixMillis;
use sha2::{Digest, Sha256};
use totp_rs::{Algorithm, Builder, Totp};
use zeroize::Zeroizing;

use super::account::AccountName;
use super::password::random_groups;
use crate::catalog::MasterKey;

/// What authenticators show as the one who asks for the code.
const ISSUER: &str = "Batoff Purge";

/// Digits of a code. With [`STEP_SECONDS`] and SHA-1 what every authenticator knows.
const DIGITS: u8 = 6;

/// How long a code is shown, in seconds.
const STEP_SECONDS: u64 = 30;

/// Codes before and after the present one that are taken, too: clocks differ, and typing takes time (RFC 6238, 5.2).
const SKEW_STEPS: u16 = 1;

/// How many recovery codes there are.
pub const RECOVERY_CODES: usize = 10;

/// Groups of four characters in a recovery code: 16 of 31 are 79 bits, so that a plain hash of one is safe to store.
const RECOVERY_GROUPS: usize = 4;

/// How long an offered authenticator waits for its first code.
const OFFER_MILLIS: u64 = 15 * 60 * 1_000;

/// Names an authenticator's secret, which is derived from it.
pub(super) type KeyId = [u8; 16];

/// An account's authenticator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Authenticator {
    pub key: KeyId,
    /// The step of the last code that was taken; codes of it and of earlier ones are taken no more.
    pub last_step: u64,
    /// The hashes of the recovery codes that were not used.
    pub recovery: Vec<String>,
}

/// An authenticator that waits for its first code, to show that somebody has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Offer {
    pub key: KeyId,
    pub at: UnixMillis,
}

/// What an authenticator is told: shown until its first code was typed, and never again.
#[derive(Clone, Debug)]
pub struct TotpOffer {
    /// `otpauth://totp/…`, as a QR code says it.
    pub uri: Zeroizing<String>,
    /// The secret alone, in base 32, to be typed.
    pub secret: Zeroizing<String>,
}

/// How somebody showed that he has the authenticator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SecondFactor {
    Code,
    RecoveryCode,
}

impl Offer {
    pub(super) fn new(now: UnixMillis) -> Self {
        Self { key: rand::random(), at: now }
    }

    pub(super) fn holds(&self, now: UnixMillis) -> bool {
        now.0.saturating_sub(self.at.0) < OFFER_MILLIS
    }

    pub(super) fn told(&self, master: &MasterKey, name: &AccountName) -> Option<TotpOffer> {
        let totp = totp(master, self.key, name)?;
        let secret = Zeroizing::new(totp.secret().to_base32());
        Some(TotpOffer { uri: Zeroizing::new(totp.to_url().ok()?), secret })
    }

    /// The authenticator, if this is a code of it, with recovery codes.
    pub(super) fn confirm(
        &self,
        master: &MasterKey,
        name: &AccountName,
        code: &str,
        now: UnixMillis,
    ) -> Option<(Authenticator, Vec<Zeroizing<String>>)> {
        let step = totp(master, self.key, name)?.check(&digits(code), now.as_secs())?;
        let codes: Vec<_> = (0..RECOVERY_CODES).map(|_| random_groups(RECOVERY_GROUPS)).collect();
        let recovery = codes.iter().map(|code| hash(name, code)).collect();
        Some((Authenticator { key: self.key, last_step: step, recovery }, codes))
    }
}

impl Authenticator {
    /// Takes a code or a recovery code, each only once. `None`: it is none, or was taken before.
    pub(super) fn take(
        &mut self,
        master: &MasterKey,
        name: &AccountName,
        code: &str,
        now: UnixMillis,
    ) -> Option<SecondFactor> {
        let is_code = digits(code);
        if is_code.len() == usize::from(DIGITS) && is_code.bytes().all(|b| b.is_ascii_digit()) {
            let step = totp(master, self.key, name)?.check(&is_code, now.as_secs())?;
            if step <= self.last_step {
                return None;
            }
            self.last_step = step;
            return Some(SecondFactor::Code);
        }
        // Looked up by hash: how long it takes says nothing about the codes.
        let hash = hash(name, code);
        let place = self.recovery.iter().position(|known| *known == hash)?;
        self.recovery.remove(place);
        Some(SecondFactor::RecoveryCode)
    }
}

fn totp(master: &MasterKey, key: KeyId, name: &AccountName) -> Option<Totp> {
    let built = Builder::new()
        .with_algorithm(Algorithm::SHA1)
        .with_digits(DIGITS)
        .with_skew(SKEW_STEPS)
        .with_step_duration(STEP_SECONDS)
        .with_secret(*master.totp_secret(&key))
        .with_account_name(name.as_str())
        .with_issuer(Some(ISSUER))
        .build();
    // Cannot be: all of it is ours and within the bounds. A code is refused then, which is the safe side.
    built.inspect_err(|error| tracing::error!(%error, "codes cannot be checked")).ok()
}

/// Authenticators show a code in two groups.
fn digits(code: &str) -> String {
    code.chars().filter(|c| !c.is_whitespace()).collect()
}

/// Of a recovery code, however its hyphens and capitals were typed. With the name in it, no table fits two accounts.
fn hash(name: &AccountName, code: &str) -> String {
    let plain: String = code.to_ascii_lowercase().chars().filter(char::is_ascii_alphanumeric).collect();
    hex::encode(Sha256::digest(format!("batoff recovery code v1 {name} {plain}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMillis = UnixMillis(1_776_672_751_000);

    fn later(seconds: u64) -> UnixMillis {
        UnixMillis(NOW.0 + seconds * 1_000)
    }

    #[test]
    fn a_code_is_taken_once_and_only_near_its_time() {
        let (master, name) = (MasterKey::new([7; 32]), "anna".parse().unwrap());
        let offer = Offer::new(NOW);
        let code_at =
            |at: UnixMillis| totp(&master, offer.key, &name).unwrap().generate(at.as_secs()).to_string();
        assert!(offer.confirm(&master, &name, &code_at(later(120)), NOW).is_none());
        let (mut authenticator, _) = offer.confirm(&master, &name, &code_at(NOW), NOW).unwrap();
        let mut take = |code: &str, at| authenticator.take(&master, &name, code, at);
        assert_eq!(take(&code_at(NOW), NOW), None, "the one that confirmed it is used");
        let next = code_at(later(30));
        assert_eq!(take(&format!(" {} {} ", &next[..3], &next[3..]), later(30)), Some(SecondFactor::Code));
        assert_eq!(take(&next, later(31)), None, "twice");
        assert_eq!(
            take(&code_at(later(90)), later(60)),
            Some(SecondFactor::Code),
            "a clock may be a step ahead"
        );
        assert_eq!(take(&code_at(later(60)), later(91)), None, "and then no earlier one is taken");
        assert_eq!(take(&code_at(later(600)), later(500)), None);
        for nonsense in ["", "000", "1234567", "١٢٣٤٥٦", "      "] {
            assert_eq!(take(nonsense, later(500)), None, "{nonsense}");
        }
    }

    #[test]
    fn a_recovery_code_is_taken_once_as_it_is_typed() {
        let (master, name) = (MasterKey::new([7; 32]), "anna".parse().unwrap());
        let offer = Offer::new(NOW);
        let code = totp(&master, offer.key, &name).unwrap().generate(NOW.as_secs()).to_string();
        let (mut authenticator, codes) = offer.confirm(&master, &name, &code, NOW).unwrap();
        assert_eq!((codes.len(), codes[0].len()), (RECOVERY_CODES, 19));
        let typed = format!(" {} ", codes[3].to_uppercase().replace('-', " "));
        let other = MasterKey::new([8; 32]);
        assert_eq!(authenticator.take(&other, &name, &typed, NOW), Some(SecondFactor::RecoveryCode));
        assert_eq!(authenticator.take(&master, &name, &codes[3], NOW), None);
        assert_eq!(authenticator.recovery.len(), RECOVERY_CODES - 1);
        assert!(authenticator.recovery.iter().all(|hash| !codes.iter().any(|code| hash.contains(&***code))));
    }

    #[test]
    fn the_uri_is_what_authenticators_read_and_the_secret_is_derived() {
        let (master, name) = (MasterKey::new([7; 32]), "anna.k@example.com".parse().unwrap());
        let offer = Offer { key: [1; 16], at: NOW };
        let told = offer.told(&master, &name).unwrap();
        assert!(told.uri.starts_with("otpauth://totp/Batoff%20Purge:anna"), "{}", *told.uri);
        assert!(
            told.uri.contains(&format!("secret={}", *told.secret))
                && told.uri.contains("issuer=Batoff%20Purge")
        );
        assert_eq!(told.secret.len(), 32);
        assert_eq!(offer.told(&master, &name).unwrap().secret, told.secret);
        assert_ne!(Offer { key: [2; 16], at: NOW }.told(&master, &name).unwrap().secret, told.secret);
        assert_ne!(offer.told(&MasterKey::new([8; 32]), &name).unwrap().secret, told.secret);
        assert!(offer.holds(later(899)) && !offer.holds(later(900)));
    }

    #[test]
    fn codes_are_those_of_the_standard() {
        // RFC 6238, appendix B, SHA-1: of eight digits the last six.
        for (seconds, code) in [(59, "287082"), (1_111_111_109, "081804"), (20_000_000_000, "353130")] {
            let totp = Builder::new().with_secret(*b"12345678901234567890").build().unwrap();
            assert_eq!(totp.generate(seconds).to_string(), code);
        }
    }
}
