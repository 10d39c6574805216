//! What one may change of one's own account.

use std::future::Future;
use std::net::IpAddr;
use std::time::Duration;

use batoff_log::StoreError;
use zeroize::Zeroizing;

use super::password::{self, HashError, WeakPassword};
use super::row::StoredAccount;
use super::session::NewSession;
use super::signed_in::{Accounts, new_era};
use super::totp::{Offer, TotpOffer};
use super::viewer::Viewer;
use crate::audit::{AuditAction, AuditEntry, AuditResult};
use crate::language::Language;

/// Why something of one's own account was not changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OwnAccountRefused {
    /// The password that was given to prove who it is.
    #[error("the present password is wrong")]
    Wrong,
    /// The new password.
    #[error("the new password {0}")]
    Weak(#[from] WeakPassword),
    /// The new password is the old one.
    #[error("the new password is the present one")]
    Same,
    /// The code is none, was used before, or the authenticator was offered too long ago.
    #[error("the code is wrong, or came too late; take the next one")]
    WrongCode,
    /// There is an authenticator already.
    #[error("an authenticator is set up already; remove it first")]
    AlreadySetUp,
    /// Too many were wrong before.
    #[error("too many wrong passwords; try again in {} s", retry_after.as_secs() + 1)]
    Throttled {
        /// How long to wait.
        retry_after: Duration,
    },
    /// Others' passwords are being hashed.
    #[error("too many sign in at this moment; try again in {} s", retry_after.as_secs())]
    Busy {
        /// How long to wait.
        retry_after: Duration,
    },
    /// The account was removed or changed at this moment.
    #[error("the account was changed by somebody else; sign in again")]
    Changed,
    /// The store, or the audit log in it, does not do its work.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<HashError> for OwnAccountRefused {
    fn from(error: HashError) -> Self {
        if let HashError::Failed(_) = &error {
            tracing::error!(%error, "a password cannot be compared or changed");
        }
        Self::Busy { retry_after: Duration::from_secs(2) }
    }
}

impl Accounts {
    /// Changes the viewer's password. All sessions of the account end, and a new one begins for who has changed it.
    ///
    /// # Errors
    /// See [`OwnAccountRefused`].
    pub async fn change_password(
        &self,
        viewer: &Viewer,
        present: &str,
        new: &str,
        from: IpAddr,
    ) -> Result<NewSession, OwnAccountRefused> {
        let known = self.proven(viewer, present, from).await?;
        password::check(&viewer.name, new)?;
        if present == new {
            return Err(OwnAccountRefused::Same);
        }
        let hash = self.hashing.hash(new).await?;
        let (table, name) = (self.table.clone(), viewer.name.clone());
        let changing = async move {
            let change = |stored: &mut StoredAccount| {
                if stored.password != known.password {
                    return Err(OwnAccountRefused::Changed);
                }
                stored.password.clone_from(&hash);
                stored.era = new_era();
                stored.account.must_change_password = false;
                stored.account.password_ends_at = None;
                Ok(())
            };
            table.change(&name, change).await?.ok_or(OwnAccountRefused::Changed)
        };
        let account = self.written_down(viewer, AuditAction::UserPassword, from, changing).await?;
        self.end_sessions(&viewer.name, |_| true).await?;
        Ok(self.begin_session(&account, from).await?)
    }

    /// Offers an authenticator: from here on [`Accounts::totp_offer`] tells its secret, until its first code comes to
    /// [`Accounts::totp_confirm`], for a quarter of an hour.
    ///
    /// # Errors
    /// See [`OwnAccountRefused`].
    pub async fn totp_begin(
        &self,
        viewer: &Viewer,
        password: &str,
        from: IpAddr,
    ) -> Result<TotpOffer, OwnAccountRefused> {
        let known = self.proven(viewer, password, from).await?;
        let now = self.clock.wall();
        let offering = |stored: &mut StoredAccount| {
            if stored.authenticator.is_some() {
                return Err(OwnAccountRefused::AlreadySetUp);
            }
            if stored.password != known.password {
                return Err(OwnAccountRefused::Changed);
            }
            stored.offer = Some(Offer::new(now));
            Ok(())
        };
        let stored = self.table.change(&viewer.name, offering).await?;
        let offer = stored.and_then(|stored| stored.offer).ok_or(OwnAccountRefused::Changed)?;
        offer.told(&self.master, &viewer.name).ok_or(OwnAccountRefused::WrongCode)
    }

    /// The authenticator that waits for its first code, if one does.
    ///
    /// # Errors
    /// The store cannot say.
    pub async fn totp_offer(&self, viewer: &Viewer) -> Result<Option<TotpOffer>, StoreError> {
        let now = self.clock.wall();
        let offer = self.table.get(&viewer.name).await?.and_then(|stored| stored.offer);
        Ok(offer.filter(|offer| offer.holds(now)).and_then(|offer| offer.told(&self.master, &viewer.name)))
    }

    /// Sets up the authenticator that was offered: from now on a sign-in takes a code of it. Returns the recovery codes,
    /// each good for one sign-in without it: the only time that they are shown.
    ///
    /// # Errors
    /// See [`OwnAccountRefused`].
    pub async fn totp_confirm(
        &self,
        viewer: &Viewer,
        code: &str,
        from: IpAddr,
    ) -> Result<Vec<Zeroizing<String>>, OwnAccountRefused> {
        let begun = self.throttle.begin(self.clock.now(), Some(&viewer.name), from, true);
        let attempt = begun.map_err(|retry_after| OwnAccountRefused::Throttled { retry_after })?;
        let (table, name, master) = (self.table.clone(), viewer.name.clone(), self.master.clone());
        let (code, now) = (code.to_owned(), self.clock.wall());
        let confirming = async move {
            let mut codes = Vec::new();
            let confirm = |stored: &mut StoredAccount| {
                if stored.authenticator.is_some() {
                    return Err(OwnAccountRefused::AlreadySetUp);
                }
                let offer = stored.offer.take().filter(|offer| offer.holds(now));
                let confirmed = offer.and_then(|offer| offer.confirm(&master, &name, &code, now));
                let (authenticator, recovery) = confirmed.ok_or(OwnAccountRefused::WrongCode)?;
                stored.account.recovery_codes = Some(recovery.len());
                stored.authenticator = Some(authenticator);
                codes = recovery;
                Ok(())
            };
            table.change(&name, confirm).await?.ok_or(OwnAccountRefused::Changed)?;
            Ok(codes)
        };
        let outcome = self.written_down(viewer, AuditAction::UserCodesOn, from, confirming).await;
        match &outcome {
            Err(OwnAccountRefused::WrongCode) => {}
            _ => self.throttle.undone(self.clock.now(), &attempt),
        }
        outcome
    }

    /// Takes the authenticator and its recovery codes away: a sign-in takes the password alone.
    ///
    /// # Errors
    /// See [`OwnAccountRefused`].
    pub async fn totp_remove(
        &self,
        viewer: &Viewer,
        password: &str,
        from: IpAddr,
    ) -> Result<(), OwnAccountRefused> {
        let known = self.proven(viewer, password, from).await?;
        let (table, name) = (self.table.clone(), viewer.name.clone());
        let removing = async move {
            let remove = |stored: &mut StoredAccount| {
                if stored.password != known.password {
                    return Err(OwnAccountRefused::Changed);
                }
                (stored.authenticator, stored.offer, stored.account.recovery_codes) = (None, None, None);
                Ok(())
            };
            table.change(&name, remove).await?.map(drop).ok_or(OwnAccountRefused::Changed)
        };
        self.written_down(viewer, AuditAction::UserCodesOff, from, removing).await
    }

    /// In which language the viewer is answered from now on; `None`: in the one that the browser prefers.
    ///
    /// # Errors
    /// The store failed.
    pub async fn set_language(&self, viewer: &Viewer, language: Option<Language>) -> Result<(), StoreError> {
        let changing = |stored: &mut StoredAccount| {
            stored.account.language = language;
            Ok::<_, StoreError>(())
        };
        self.table.change(&viewer.name, changing).await.map(drop)
    }

    /// The viewer's account, if this is its password.
    async fn proven(
        &self,
        viewer: &Viewer,
        password: &str,
        from: IpAddr,
    ) -> Result<StoredAccount, OwnAccountRefused> {
        let begun = self.throttle.begin(self.clock.now(), Some(&viewer.name), from, true);
        let attempt = begun.map_err(|retry_after| OwnAccountRefused::Throttled { retry_after })?;
        let outcome = self.compared(viewer, password).await;
        match &outcome {
            Ok(_) => self.throttle.succeeded(self.clock.now(), attempt),
            Err(OwnAccountRefused::Wrong) => {}
            Err(_) => self.throttle.undone(self.clock.now(), &attempt),
        }
        outcome
    }

    async fn compared(&self, viewer: &Viewer, password: &str) -> Result<StoredAccount, OwnAccountRefused> {
        let known = self.table.get(&viewer.name).await?.ok_or(OwnAccountRefused::Changed)?;
        let is_right = self.hashing.verify(password, Some(&known.password)).await?;
        if is_right { Ok(known) } else { Err(OwnAccountRefused::Wrong) }
    }

    /// Makes a change whose entry stands in the audit log before it is made, and after with what came of it: to its end,
    /// even if whoever waits for it goes away.
    async fn written_down<T: Send + 'static>(
        &self,
        viewer: &Viewer,
        action: AuditAction,
        from: IpAddr,
        change: impl Future<Output = Result<T, OwnAccountRefused>> + Send + 'static,
    ) -> Result<T, OwnAccountRefused> {
        let (audit, entry) = (self.audit.clone(), self.entry(viewer.actor(), action, &viewer.name, from));
        let changing = tokio::spawn(async move {
            let mut begun = audit.begin(hex::encode(rand::random::<[u8; 16]>()), entry).await?;
            let outcome = change.await;
            let result = match &outcome {
                Ok(_) => AuditResult::Done,
                Err(OwnAccountRefused::Store(StoreError::Unknown { .. })) => AuditResult::Unknown,
                Err(_) => AuditResult::Refused,
            };
            begun.entry = AuditEntry { result: result.as_str().into(), ..begun.entry };
            audit.finish(begun).await;
            outcome
        });
        match changing.await {
            Ok(outcome) => outcome,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            // The runtime is ending.
            Err(_) => Err(StoreError::Unknown { retry_after: Duration::from_secs(1) }.into()),
        }
    }
}
