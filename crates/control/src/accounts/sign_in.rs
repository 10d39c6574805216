//! Is it he? A name, a password, and what is told to whoever is wrong: as little as possible.

use std::net::IpAddr;
use std::time::Duration;

use batoff_log::StoreError;
use batoff_types::UnixMillis;

use super::account::{AccountName, SignIn};
use super::password::{self, HashError};
use super::row::StoredAccount;
use super::session::NewSession;
use super::signed_in::Accounts;
use super::throttle::Attempt;
use super::totp::SecondFactor;
use crate::audit::{AuditAction, AuditEntry, AuditResult};

/// Who the audit log says tried to sign in: nobody knows yet.
const STRANGER: &str = "stranger";

/// Why somebody was not signed in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignInRefused {
    /// There is no such account, it is disabled, the password is another, or it was a one-time one whose time is over.
    /// Which of them is not told.
    #[error("the name or the password is wrong")]
    Wrong,
    /// The password is right, and a code of the authenticator, or a recovery code, is needed, too.
    #[error("a code of the authenticator is needed, too")]
    CodeNeeded,
    /// The password is right, and the code is none, or was used before.
    #[error("the code is wrong, or was used before")]
    WrongCode,
    /// Too many failed before, of this account or from this address.
    #[error("too many failed sign-ins; try again in {} s", seconds(*retry_after))]
    Throttled {
        /// How long to wait.
        retry_after: Duration,
    },
    /// So many sign in at this moment that it was not this one's turn.
    #[error("too many sign in at this moment; try again in {} s", seconds(*retry_after))]
    Busy {
        /// How long to wait.
        retry_after: Duration,
    },
    /// The store, or the audit log in it, does not do its work.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl SignInRefused {
    /// How long to wait before trying again, where that is known.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Throttled { retry_after } | Self::Busy { retry_after } => Some(*retry_after),
            Self::Store(error) => error.retry_after(),
            Self::Wrong | Self::CodeNeeded | Self::WrongCode => None,
        }
    }

    /// As the audit log tells it.
    fn code(&self) -> &'static str {
        match self {
            Self::Wrong => "wrong_password",
            Self::CodeNeeded => "code_needed",
            Self::WrongCode => "wrong_code",
            Self::Throttled { .. } => "throttled",
            Self::Busy { .. } => "busy",
            Self::Store(_) => "unavailable",
        }
    }
}

/// Whole seconds, rounded up.
fn seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

impl Accounts {
    /// Signs in: a new session for whoever knows the password of that account.
    ///
    /// # Errors
    /// See [`SignInRefused`]; refused sign-ins are throttled, by account and by address.
    pub async fn sign_in(
        &self,
        name: &str,
        password: &str,
        code: Option<&str>,
        from: IpAddr,
    ) -> Result<NewSession, SignInRefused> {
        let name: Option<AccountName> = name.parse().ok();
        let known = match &name {
            Some(name) => self.table.get(name).await?,
            None => None,
        };
        let outcome = self.try_sign_in(name.as_ref(), known.as_ref(), password, code, from).await;
        if let Err(refused) = &outcome {
            // The typed name is told only where there is such an account: people type passwords into the wrong field.
            self.note_refused(known.map(|known| known.account.name), refused, from);
        }
        outcome
    }

    async fn try_sign_in(
        &self,
        name: Option<&AccountName>,
        known: Option<&StoredAccount>,
        password: &str,
        code: Option<&str>,
        from: IpAddr,
    ) -> Result<NewSession, SignInRefused> {
        let last = known.and_then(|known| known.account.last_sign_in);
        let is_home = last.is_some_and(|last| last.address == from);
        let begun = self.throttle.begin(self.clock.now(), name, from, is_home);
        let attempt = begun.map_err(|retry_after| SignInRefused::Throttled { retry_after })?;
        let outcome = self.admit(known, password, code, from).await;
        match &outcome {
            Ok(_) => self.throttle.succeeded(self.clock.now(), attempt),
            Err(refused) => self.settle(refused, &attempt),
        }
        outcome
    }

    /// A refusal that says nothing about who tried is no failure of his; nor is the first half of a sign-in with a code.
    fn settle(&self, refused: &SignInRefused, attempt: &Attempt) {
        match refused {
            SignInRefused::Wrong | SignInRefused::WrongCode => {}
            SignInRefused::CodeNeeded
            | SignInRefused::Throttled { .. }
            | SignInRefused::Busy { .. }
            | SignInRefused::Store(_) => {
                self.throttle.undone(self.clock.now(), attempt);
            }
        }
    }

    async fn admit(
        &self,
        known: Option<&StoredAccount>,
        password: &str,
        code: Option<&str>,
        from: IpAddr,
    ) -> Result<NewSession, SignInRefused> {
        let hash = known.map(|known| known.password.as_str());
        let is_right = self.hashing.verify(password, hash).await?;
        let now = self.clock.wall();
        let known = known.filter(|known| is_right && may_sign_in(known, now)).ok_or(SignInRefused::Wrong)?;
        let rehashed = match password::is_outdated(&known.password) {
            true => Some(self.hashing.hash(password).await?),
            false => None,
        };
        let mut proof = None;
        let signing_in = |stored: &mut StoredAccount| {
            // Another password meanwhile, or no right to sign in any more.
            if stored.password != known.password || !may_sign_in(stored, now) {
                return Err(SignInRefused::Wrong);
            }
            proof = match &mut stored.authenticator {
                Some(authenticator) => Some(match code.map(str::trim).filter(|code| !code.is_empty()) {
                    Some(code) => authenticator
                        .take(&self.master, &stored.account.name, code, now)
                        .ok_or(SignInRefused::WrongCode)?,
                    None => return Err(SignInRefused::CodeNeeded),
                }),
                None => None,
            };
            stored.account.last_sign_in = Some(SignIn { at: now, address: from });
            if let Some(hash) = &rehashed {
                stored.password.clone_from(hash);
            }
            Ok(())
        };
        let name = &known.account.name;
        let account = self.table.change(name, signing_in).await?.ok_or(SignInRefused::Wrong)?;
        // Written down first: nobody is signed in of whom the audit log does not tell.
        let entry = self.entry(name.actor(), AuditAction::UserSignIn, name, from);
        let what = proof.map(|proof| match proof {
            SecondFactor::Code => "with a code".to_owned(),
            SecondFactor::RecoveryCode => "with a recovery code".to_owned(),
        });
        self.audit.record(AuditEntry { what, ..entry }).await?;
        let session = self.begin_session(&account, from).await?;
        tracing::info!(account = %name, %from, "signed in");
        Ok(session)
    }

    /// A sign-in that was refused, unless too many were of late.
    pub(super) fn note_stranger(&self, code: &'static str, name: Option<AccountName>, from: IpAddr) {
        let now = self.clock.wall();
        let Some(unlisted) = self.refused.listed(now) else { return };
        let entry = AuditEntry {
            object: name.map(|name| name.to_string()),
            address: Some(from),
            result: AuditResult::Refused.as_str().into(),
            code: Some(code.to_owned()),
            unlisted: Some(unlisted).filter(|unlisted| *unlisted > 0),
            ..AuditEntry::new(now, STRANGER, AuditAction::UserSignIn)
        };
        self.audit.note(entry);
    }

    fn note_refused(&self, name: Option<AccountName>, refused: &SignInRefused, from: IpAddr) {
        // The page asks for the code next.
        if *refused == SignInRefused::CodeNeeded {
            return;
        }
        tracing::info!(account = name.as_ref().map_or("-", AccountName::as_str), %from, %refused, "sign-in refused");
        self.note_stranger(refused.code(), name, from);
    }
}

/// Whether somebody who knows the password may sign in.
fn may_sign_in(stored: &StoredAccount, now: UnixMillis) -> bool {
    let account = &stored.account;
    !account.is_disabled && account.password_ends_at.is_none_or(|end| now < end)
}

impl From<HashError> for SignInRefused {
    fn from(error: HashError) -> Self {
        match error {
            HashError::Busy => Self::Busy { retry_after: Duration::from_secs(2) },
            HashError::Failed(_) => {
                tracing::error!(%error, "nobody can sign in with this password");
                Self::Wrong
            }
        }
    }
}
