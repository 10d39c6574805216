//! The rows of accounts: read anew each time, so that whatever any replica has written holds at once; changed by
//! compare-and-set, so that nobody's change is lost.

use std::sync::Arc;

use batoff_log::{CasError, Expect, Key, Kv, Store, StoreError, Version, Write};

use super::account::AccountName;
use super::row::{self, StoredAccount};
use crate::store::rows;

/// Under this prefix are the accounts: `console/accounts/<name>`.
const ACCOUNTS: &str = "console/accounts/";

/// The names of accounts that are operators and not disabled, as a list. Each of them is one; an account may be one and
/// not stand here when a process has ended between two writes. So who looks here whether another operator is left
/// refuses rather once too often.
const OPERATORS: &str = "console/operators";

/// How often a write is tried again that another one came before.
const TRIES_MAX: usize = 32;

/// The accounts of the store.
#[derive(Clone)]
pub(super) struct AccountTable {
    store: Arc<dyn Store>,
}

/// Without this account there would be no operator.
#[derive(Debug)]
pub(super) struct LastOperator;

impl AccountTable {
    pub(super) fn new(store: Arc<dyn Store>) -> Self {
        Self { store }
    }

    pub(super) fn kv(&self) -> &dyn Kv {
        self.store.kv()
    }

    pub(super) async fn get(&self, name: &AccountName) -> Result<Option<StoredAccount>, StoreError> {
        rows::get(self.kv(), &key_of(name), |value| row::decode_account(name.as_str(), value)).await
    }

    /// By name.
    pub(super) async fn all(&self) -> Result<Vec<StoredAccount>, StoreError> {
        rows::all_under(self.kv(), ACCOUNTS, row::decode_account).await
    }

    /// `false` when there is one of that name.
    pub(super) async fn create(&self, stored: &StoredAccount) -> Result<bool, StoreError> {
        let (key, value) = (key_of(&stored.account.name), row::encode_account(stored).into());
        match self.kv().cas(&key, Expect::Absent, Write::Put { value, ttl: None }).await {
            Ok(_) => Ok(true),
            Err(CasError::Conflict(_)) => Ok(false),
            Err(CasError::Store(error)) => Err(error),
        }
    }

    /// Changes an account as `how` says, which is asked again when somebody else was faster; on its error nothing is
    /// changed. `None`: there is no such account.
    pub(super) async fn change<E: From<StoreError>>(
        &self,
        name: &AccountName,
        mut how: impl FnMut(&mut StoredAccount) -> Result<(), E>,
    ) -> Result<Option<StoredAccount>, E> {
        let key = key_of(name);
        for _ in 0..TRIES_MAX {
            let Some((mut stored, version)) = self.versioned(name, &key).await? else { return Ok(None) };
            let before = stored.clone();
            how(&mut stored)?;
            if stored == before {
                return Ok(Some(stored));
            }
            let value = row::encode_account(&stored).into();
            match self.kv().cas(&key, Expect::Version(version), Write::Put { value, ttl: None }).await {
                Ok(_) => return Ok(Some(stored)),
                Err(CasError::Conflict(_)) => {}
                Err(CasError::Store(error)) => return Err(error.into()),
            }
        }
        Err(contended().into())
    }

    pub(super) async fn delete(&self, name: &AccountName) -> Result<(), StoreError> {
        rows::delete(self.kv(), &key_of(name)).await
    }

    /// The account is an operator now.
    pub(super) async fn enters_operators(&self, name: &AccountName) -> Result<(), StoreError> {
        let entering = |names: &mut Vec<String>| {
            if !names.iter().any(|one| one == name.as_str()) {
                names.push(name.to_string());
            }
            Ok(())
        };
        self.change_operators(entering).await.map(|_: Result<(), LastOperator>| ())
    }

    /// The account is no operator any more, whoever else is one.
    pub(super) async fn left_operators(&self, name: &AccountName) -> Result<(), StoreError> {
        let leaving = |names: &mut Vec<String>| {
            names.retain(|one| one != name.as_str());
            Ok(())
        };
        self.change_operators(leaving).await.map(|_: Result<(), LastOperator>| ())
    }

    /// The account is about to be an operator no longer; it must stay one unless this is granted.
    pub(super) async fn leaves_operators(
        &self,
        name: &AccountName,
    ) -> Result<Result<(), LastOperator>, StoreError> {
        let leaving = |names: &mut Vec<String>| {
            names.retain(|one| one != name.as_str());
            if names.is_empty() { Err(LastOperator) } else { Ok(()) }
        };
        self.change_operators(leaving).await
    }

    async fn change_operators(
        &self,
        how: impl Fn(&mut Vec<String>) -> Result<(), LastOperator>,
    ) -> Result<Result<(), LastOperator>, StoreError> {
        let key = Key::from(OPERATORS);
        for _ in 0..TRIES_MAX {
            let row = self.kv().get(&key).await?;
            let mut names: Vec<String> = match &row {
                Some(row) => serde_json::from_slice(&row.value)
                    .map_err(|_| rows::unreadable(&key, "is no list of names"))?,
                None => Vec::new(),
            };
            if let Err(refused) = how(&mut names) {
                return Ok(Err(refused));
            }
            let expect = row.map_or(Expect::Absent, |row| Expect::Version(row.version));
            let value = serde_json::json!(names).to_string().into();
            match self.kv().cas(&key, expect, Write::Put { value, ttl: None }).await {
                Ok(_) => return Ok(Ok(())),
                Err(CasError::Conflict(_)) => {}
                Err(CasError::Store(error)) => return Err(error),
            }
        }
        Err(contended())
    }

    async fn versioned(
        &self,
        name: &AccountName,
        key: &Key,
    ) -> Result<Option<(StoredAccount, Version)>, StoreError> {
        let Some(row) = self.kv().get(key).await? else { return Ok(None) };
        let stored = row::decode_account(name.as_str(), &row.value);
        Ok(Some((stored.map_err(|why| rows::unreadable(key, why))?, row.version)))
    }
}

fn key_of(name: &AccountName) -> Key {
    Key::from(format!("{ACCOUNTS}{name}"))
}

fn contended() -> StoreError {
    StoreError::Unavailable { retry_after: std::time::Duration::from_secs(1) }
}
