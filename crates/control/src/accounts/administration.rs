//! Who has an account: for the operator, by command line and API.

use std::sync::Arc;
use std::time::Duration;

use batoff_log::StoreError;
use batoff_types::{SiteId, UnixMillis};
use zeroize::Zeroizing;

use super::account::{Account, AccountName, Role, SITES_MAX};
use super::password::{self, HashError};
use super::row::StoredAccount;
use super::signed_in::{Accounts, new_era};
use super::table::LastOperator;
use crate::audit::{AuditAction, AuditEntry, ITSELF};
use crate::language::Language;

/// Accounts at most.
pub const ACCOUNTS_MAX: usize = 1_000;

/// How long a one-time password is good that somebody is told.
const ONE_TIME_MILLIS: u64 = 7 * 24 * 60 * 60 * 1_000;

/// What a new account is to be.
#[derive(Clone, Debug)]
pub struct NewAccount {
    /// What it signs in with.
    pub name: AccountName,
    /// What it may do.
    pub role: Role,
    /// For which sites; none for an operator.
    pub sites: Vec<SiteId>,
    /// In which language it is answered; `None`: the browser's.
    pub language: Option<Language>,
    /// Who adds it, as the audit log calls them.
    pub created_by: String,
}

/// What is to be changed of an account; `None` stays as it is.
#[derive(Clone, Debug, Default)]
pub struct AccountChange {
    /// What it may do.
    pub role: Option<Role>,
    /// For which sites.
    pub sites: Option<Vec<SiteId>>,
    /// In which language it is answered; `Some(None)`: the browser's.
    pub language: Option<Option<Language>>,
    /// Whether it cannot sign in.
    pub is_disabled: Option<bool>,
}

/// An account with its new one-time password: the only time that this is shown.
#[derive(Clone, Debug)]
pub struct AddedAccount {
    /// As it is now.
    pub account: Account,
    /// To be changed at the first sign-in.
    pub password: Zeroizing<String>,
}

/// Why an account was not added or changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AccountError {
    /// There is one of that name.
    #[error("there is an account {0} already")]
    Exists(AccountName),
    /// There is none of that name.
    #[error("there is no account {0}")]
    NoSuchAccount(AccountName),
    /// There are [`ACCOUNTS_MAX`].
    #[error("there are {ACCOUNTS_MAX} accounts; remove some")]
    TooMany,
    /// An operator is for all sites, and the others are for those that are named.
    #[error("an operator is for all sites: name none")]
    SitesOfOperator,
    /// More than [`SITES_MAX`] sites.
    #[error("an account is for at most {SITES_MAX} sites")]
    TooManySites,
    /// Nobody could administer anything any more.
    #[error("{0} is the last operator: make another account an operator first")]
    LastOperator(AccountName),
    /// Passwords are being hashed for others.
    #[error("too many sign in at this moment; try again in {} s", retry_after.as_secs())]
    Busy {
        /// How long to wait.
        retry_after: Duration,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<HashError> for AccountError {
    fn from(error: HashError) -> Self {
        if let HashError::Failed(_) = &error {
            tracing::error!(%error, "no account can be given a password");
        }
        Self::Busy { retry_after: Duration::from_secs(2) }
    }
}

impl Accounts {
    /// All accounts, by name.
    ///
    /// # Errors
    /// The store cannot say.
    pub async fn list(&self) -> Result<Vec<Account>, StoreError> {
        Ok(self.table.all().await?.into_iter().map(|stored| stored.account).collect())
    }

    /// The account of that name.
    ///
    /// # Errors
    /// The store cannot say.
    pub async fn find(&self, name: &AccountName) -> Result<Option<Account>, StoreError> {
        Ok(self.table.get(name).await?.map(|stored| stored.account))
    }

    /// Adds an account with a one-time password, good for a week; durable when it is returned.
    ///
    /// # Errors
    /// See [`AccountError`].
    pub async fn add(&self, new: NewAccount) -> Result<AddedAccount, AccountError> {
        let ends_at = UnixMillis(self.clock.wall().0.saturating_add(ONE_TIME_MILLIS));
        self.add_with(new, password::one_time(), Some(ends_at)).await
    }

    /// Adds the console's first operator with the one-time password that `batoff-control init` made, for as long as nobody
    /// changes it.
    ///
    /// # Errors
    /// The store failed; so did this.
    pub async fn add_first_operator(&self, name: &str, password: &str) -> Result<(), StoreError> {
        let Ok(name) = name.parse() else {
            return Err(StoreError::Invalid("the first operator's name is no account's name"));
        };
        let created_by = ITSELF.to_owned();
        let new = NewAccount { name, role: Role::Operator, sites: Vec::new(), language: None, created_by };
        match self.add_with(new, Zeroizing::new(password.to_owned()), None).await {
            Ok(added) => {
                let entry = AuditEntry::new(self.clock.wall(), ITSELF, AuditAction::UserAdd);
                self.audit.record(AuditEntry { object: Some(added.account.name.to_string()), ..entry }).await
            }
            // A start before this one has made it, and died.
            Err(AccountError::Exists(_)) => Ok(()),
            Err(AccountError::Store(error)) => Err(error),
            Err(error) => {
                tracing::error!(%error, "the console's first operator cannot be made");
                Err(StoreError::Unavailable { retry_after: Duration::from_secs(2) })
            }
        }
    }

    async fn add_with(
        &self,
        new: NewAccount,
        password: Zeroizing<String>,
        ends_at: Option<UnixMillis>,
    ) -> Result<AddedAccount, AccountError> {
        let sites = checked_sites(new.role, new.sites)?;
        let all = self.table.all().await?;
        if all.iter().any(|known| known.account.name == new.name) {
            return Err(AccountError::Exists(new.name));
        }
        if all.len() >= ACCOUNTS_MAX {
            return Err(AccountError::TooMany);
        }
        let account = Account {
            name: new.name,
            role: new.role,
            sites,
            language: new.language,
            must_change_password: true,
            password_ends_at: ends_at,
            recovery_codes: None,
            is_disabled: false,
            created_at: self.clock.wall(),
            created_by: Arc::from(new.created_by),
            last_sign_in: None,
        };
        let password_hash = self.hashing.hash(&password).await?;
        let stored = StoredAccount {
            account,
            password: password_hash,
            era: new_era(),
            authenticator: None,
            offer: None,
        };
        let account = stored.account.clone();
        if !self.table.create(&stored).await? {
            return Err(AccountError::Exists(account.name));
        }
        self.follow_operators(&account.name).await?;
        Ok(AddedAccount { account, password })
    }
}

impl Accounts {
    /// Changes what is named in `change`. With another role, or disabled, the account's sessions end; other sites hold
    /// from its next request on.
    ///
    /// # Errors
    /// See [`AccountError`].
    pub async fn update(&self, name: &AccountName, change: AccountChange) -> Result<Account, AccountError> {
        let no_such = || AccountError::NoSuchAccount(name.clone());
        let before = self.table.get(name).await?.ok_or_else(no_such)?;
        let mut wanted = before.account.clone();
        change.apply(&mut wanted)?;
        if is_operator(&before.account) && !is_operator(&wanted) {
            self.leave_operators(name).await?;
        }
        let changing = |stored: &mut StoredAccount| {
            let (role, was_disabled) = (stored.account.role, stored.account.is_disabled);
            change.apply(&mut stored.account)?;
            if stored.account.role != role || stored.account.is_disabled != was_disabled {
                stored.era = new_era();
            }
            Ok::<_, AccountError>(())
        };
        let account = self.table.change(name, changing).await?.ok_or_else(no_such)?.account;
        self.follow_operators(name).await?;
        Ok(account)
    }

    /// Gives the account a new one-time password, good for a week, and ends its sessions. With `codes`, a sign-in takes
    /// no code (TOTP) any more, for who has lost them.
    ///
    /// # Errors
    /// See [`AccountError`].
    pub async fn reset(&self, name: &AccountName, codes: bool) -> Result<AddedAccount, AccountError> {
        let password = password::one_time();
        let hash = self.hashing.hash(&password).await?;
        let ends_at = UnixMillis(self.clock.wall().0.saturating_add(ONE_TIME_MILLIS));
        let resetting = |stored: &mut StoredAccount| {
            stored.password.clone_from(&hash);
            stored.era = new_era();
            stored.account.must_change_password = true;
            stored.account.password_ends_at = Some(ends_at);
            if codes {
                (stored.authenticator, stored.offer, stored.account.recovery_codes) = (None, None, None);
            }
            Ok::<_, AccountError>(())
        };
        let stored = self.table.change(name, resetting).await?;
        let account = stored.ok_or_else(|| AccountError::NoSuchAccount(name.clone()))?.account;
        self.throttle.forget(name);
        Ok(AddedAccount { account, password })
    }

    /// A sign-in takes no code (TOTP) any more, for who has lost the authenticator and knows the password.
    ///
    /// # Errors
    /// See [`AccountError`].
    pub async fn drop_codes(&self, name: &AccountName) -> Result<(), AccountError> {
        let dropping = |stored: &mut StoredAccount| {
            (stored.authenticator, stored.offer, stored.account.recovery_codes) = (None, None, None);
            Ok::<_, AccountError>(())
        };
        let changed = self.table.change(name, dropping).await?;
        changed.map(drop).ok_or_else(|| AccountError::NoSuchAccount(name.clone()))
    }

    /// Ends all sessions of the account.
    ///
    /// # Errors
    /// See [`AccountError`].
    pub async fn end_all_of(&self, name: &AccountName) -> Result<(), AccountError> {
        let ending = |stored: &mut StoredAccount| {
            stored.era = new_era();
            Ok::<_, AccountError>(())
        };
        let changed = self.table.change(name, ending).await?;
        changed.ok_or_else(|| AccountError::NoSuchAccount(name.clone()))?;
        // They are over by their era; the rows need not wait for their end.
        Ok(self.end_sessions(name, |_| true).await?)
    }

    /// Removes the account; its sessions end.
    ///
    /// # Errors
    /// See [`AccountError`].
    pub async fn remove(&self, name: &AccountName) -> Result<(), AccountError> {
        let account =
            self.table.get(name).await?.ok_or_else(|| AccountError::NoSuchAccount(name.clone()))?.account;
        if is_operator(&account) {
            self.leave_operators(name).await?;
        }
        self.table.delete(name).await?;
        self.follow_operators(name).await?;
        Ok(self.end_sessions(name, |_| true).await?)
    }

    async fn leave_operators(&self, name: &AccountName) -> Result<(), AccountError> {
        let left = self.table.leaves_operators(name).await?;
        left.map_err(|LastOperator| AccountError::LastOperator(name.clone()))
    }

    /// Makes the list of operators say what the account says, whoever has changed it at the same time: read after the
    /// change, by each who changes.
    async fn follow_operators(&self, name: &AccountName) -> Result<(), StoreError> {
        let account = self.table.get(name).await?;
        if account.is_some_and(|stored| is_operator(&stored.account)) {
            self.table.enters_operators(name).await?;
        } else {
            self.table.left_operators(name).await?;
        }
        Ok(())
    }
}

fn is_operator(account: &Account) -> bool {
    account.role == Role::Operator && !account.is_disabled
}

impl AccountChange {
    fn apply(&self, account: &mut Account) -> Result<(), AccountError> {
        if let Some(role) = self.role {
            account.role = role;
            // An operator's are all.
            if role == Role::Operator && self.sites.is_none() {
                account.sites.clear();
            }
        }
        let sites = self.sites.clone().unwrap_or_else(|| account.sites.clone());
        account.sites = checked_sites(account.role, sites)?;
        account.language = self.language.unwrap_or(account.language);
        account.is_disabled = self.is_disabled.unwrap_or(account.is_disabled);
        Ok(())
    }
}

/// Sorted, each once.
fn checked_sites(role: Role, mut sites: Vec<SiteId>) -> Result<Vec<SiteId>, AccountError> {
    sites.sort_unstable();
    sites.dedup();
    match role {
        Role::Operator if !sites.is_empty() => Err(AccountError::SitesOfOperator),
        _ if sites.len() > SITES_MAX => Err(AccountError::TooManySites),
        _ => Ok(sites),
    }
}
