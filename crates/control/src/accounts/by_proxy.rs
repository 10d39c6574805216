//! Is it he? A proxy that signs people in says so: no password, no account, no session, nothing in the store. It says with
//! each request who asks and in which groups he is, so it is over here when it is over there.

use std::net::IpAddr;

use batoff_log::StoreError;

use super::account::{AccountName, BadAccountName};
use super::signed_in::Accounts;
use super::viewer::{Grant, Viewer};
use crate::audit::{AuditAction, AuditEntry};

/// Characters of what somebody may do, as an entry tells it.
const TOLD_CHARS_MAX: usize = 200;

/// Why somebody whom the proxy names is not let in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProxiedRefused {
    /// The name is none that the audit log could tell.
    #[error("the name that the proxy gives {0}")]
    BadName(#[from] BadAccountName),
    /// Somebody signs in with a password under that name: who did what could not be told apart.
    #[error("{0} is the name of an account with a password here; one of the two must go")]
    HasAccount(AccountName),
    /// None of his groups may do anything.
    #[error("none of the groups that the proxy gives for {0} may use this console")]
    NoGroup(AccountName),
    /// The store, or the audit log in it, does not do its work.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl ProxiedRefused {
    /// As the audit log tells it.
    fn code(&self) -> &'static str {
        match self {
            Self::BadName(_) => "bad_name",
            Self::HasAccount(_) => "has_account",
            Self::NoGroup(_) => "no_group",
            Self::Store(_) => "unavailable",
        }
    }
}

impl Accounts {
    /// Somebody whom the proxy called `through` names, with what his groups may do.
    ///
    /// # Errors
    /// See [`ProxiedRefused`].
    pub async fn named_by_proxy(
        &self,
        name: &str,
        grants: Vec<Grant>,
        through: &str,
        from: IpAddr,
    ) -> Result<Viewer, ProxiedRefused> {
        let outcome = self.admit_named(name, grants, through, from).await;
        if let Err(refused) = &outcome {
            tracing::warn!(named = %name.escape_debug(), %from, through, %refused, "whom the proxy names is not let in");
            self.note_stranger(refused.code(), name.parse().ok(), from);
        }
        outcome
    }

    async fn admit_named(
        &self,
        name: &str,
        grants: Vec<Grant>,
        through: &str,
        from: IpAddr,
    ) -> Result<Viewer, ProxiedRefused> {
        let name: AccountName = name.parse()?;
        if self.table.get(&name).await?.is_some() {
            return Err(ProxiedRefused::HasAccount(name));
        }
        if grants.is_empty() {
            return Err(ProxiedRefused::NoGroup(name));
        }
        if !self.proxied.is_here(&name, &grants, self.clock.wall(), self.times) {
            let _turn = self.proxied.writing.lock().await;
            let now = self.clock.wall();
            if !self.proxied.is_here(&name, &grants, now, self.times) {
                // Written down first: nobody is signed in of whom the audit log does not tell.
                let entry = self.entry(name.actor(), AuditAction::UserSignIn, &name, from);
                let what = Some(format!("through {through}: {}", told(&grants)));
                self.audit.record(AuditEntry { what, ..entry }).await?;
                self.proxied.remember(name.clone(), grants.clone(), now);
                tracing::info!(account = %name, %from, through, "signed in by the proxy");
            }
        }
        Ok(Viewer { name, grants, language: None, session: None, must_change_password: false })
    }

    /// A request was refused, for it is not certain that it is the proxy's, or whom that names: `code` says which.
    pub fn note_uncertain(&self, code: &'static str, from: IpAddr) {
        self.note_stranger(code, None, from);
    }
}

/// `manager of shop, blog; viewer of news`
fn told(grants: &[Grant]) -> String {
    let one = |grant: &Grant| {
        let sites: Vec<&str> = grant.sites.iter().map(|site| site.as_str()).collect();
        match sites.is_empty() {
            true => grant.role.as_str().to_owned(),
            false => format!("{} of {}", grant.role.as_str(), sites.join(", ")),
        }
    };
    let all: Vec<String> = grants.iter().map(one).collect();
    all.join("; ").chars().take(TOLD_CHARS_MAX).collect()
}
