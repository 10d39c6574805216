//! Accounts and sessions, as the store keeps them.

use std::net::IpAddr;

use batoff_types::UnixMillis;
use serde::{Deserialize, Serialize};

use super::account::{Account, AccountName, Role, SignIn};
use super::session::StoredSession;
use super::totp::{Authenticator, KeyId, Offer};
use crate::language::Language;
use crate::store::rows::json;

/// An account with what is not shown of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct StoredAccount {
    pub account: Account,
    /// The hash of its password.
    pub password: String,
    /// Sessions of another era are over. Drawn anew, not counted: an account that was removed and added again has none of
    /// the sessions from before.
    pub era: u64,
    /// Whose codes a sign-in takes.
    pub authenticator: Option<Authenticator>,
    /// Waits for its first code.
    pub offer: Option<Offer>,
}

#[derive(Serialize, Deserialize)]
struct AccountRow {
    role: String,
    #[serde(default)]
    sites: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    language: Option<String>,
    password: String,
    #[serde(default)]
    one_time: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    password_ends_at: Option<u64>,
    era: u64,
    #[serde(default)]
    disabled: bool,
    created_at: u64,
    created_by: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last_sign_in: Option<SignInRow>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    authenticator: Option<AuthenticatorRow>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    offer: Option<OfferRow>,
}

#[derive(Serialize, Deserialize)]
struct AuthenticatorRow {
    key: String,
    last_step: u64,
    recovery: Vec<String>,
}

#[derive(Serialize, Deserialize)]
struct OfferRow {
    key: String,
    at: u64,
}

#[derive(Serialize, Deserialize)]
struct SignInRow {
    at: u64,
    address: IpAddr,
}

#[derive(Serialize, Deserialize)]
struct SessionRow {
    account: String,
    era: u64,
    began_at: u64,
    seen_at: u64,
    address: IpAddr,
}

pub(super) fn encode_account(stored: &StoredAccount) -> Vec<u8> {
    let account = &stored.account;
    json(&AccountRow {
        role: account.role.as_str().to_owned(),
        sites: account.sites.iter().map(ToString::to_string).collect(),
        language: account.language.map(|language| language.tag().to_owned()),
        password: stored.password.clone(),
        one_time: account.must_change_password,
        password_ends_at: account.password_ends_at.map(|at| at.0),
        era: stored.era,
        disabled: account.is_disabled,
        created_at: account.created_at.0,
        created_by: account.created_by.to_string(),
        last_sign_in: account.last_sign_in.map(|last| SignInRow { at: last.at.0, address: last.address }),
        authenticator: stored.authenticator.as_ref().map(|known| AuthenticatorRow {
            key: hex::encode(known.key),
            last_step: known.last_step,
            recovery: known.recovery.clone(),
        }),
        offer: stored.offer.as_ref().map(|offer| OfferRow { key: hex::encode(offer.key), at: offer.at.0 }),
    })
}

/// `name` is the rest of the row's key.
pub(super) fn decode_account(name: &str, bytes: &[u8]) -> Result<StoredAccount, &'static str> {
    let row: AccountRow = serde_json::from_slice(bytes).map_err(|_| "is not the JSON of an account")?;
    let name: AccountName = name.parse().map_err(|_| "its key ends in no account's name")?;
    let authenticator = match row.authenticator {
        Some(known) => {
            let AuthenticatorRow { key, last_step, recovery } = known;
            Some(Authenticator { key: key_id(&key)?, last_step, recovery })
        }
        None => None,
    };
    let offer = match row.offer {
        Some(OfferRow { key, at }) => Some(Offer { key: key_id(&key)?, at: UnixMillis(at) }),
        None => None,
    };
    let sites = row.sites.iter().map(|site| site.parse()).collect::<Result<Vec<_>, _>>();
    Ok(StoredAccount {
        account: Account {
            name,
            role: Role::from_name(&row.role).ok_or("its role is none that this build knows")?,
            sites: sites.map_err(|_| "one of its sites is no site's name")?,
            language: row.language.as_deref().and_then(Language::from_tag),
            must_change_password: row.one_time,
            password_ends_at: row.password_ends_at.map(UnixMillis),
            recovery_codes: authenticator.as_ref().map(|known| known.recovery.len()),
            is_disabled: row.disabled,
            created_at: UnixMillis(row.created_at),
            created_by: row.created_by.into(),
            last_sign_in: row
                .last_sign_in
                .map(|last| SignIn { at: UnixMillis(last.at), address: last.address }),
        },
        password: row.password,
        era: row.era,
        authenticator,
        offer,
    })
}

fn key_id(text: &str) -> Result<KeyId, &'static str> {
    let mut id = KeyId::default();
    hex::decode_to_slice(text, &mut id).map_err(|_| "the id of an authenticator is not 32 hex digits")?;
    Ok(id)
}

pub(super) fn encode_session(session: &StoredSession) -> Vec<u8> {
    json(&SessionRow {
        account: session.account.clone(),
        era: session.era,
        began_at: session.began_at.0,
        seen_at: session.seen_at.0,
        address: session.address,
    })
}

pub(super) fn decode_session(bytes: &[u8]) -> Result<StoredSession, &'static str> {
    let row: SessionRow = serde_json::from_slice(bytes).map_err(|_| "is not the JSON of a session")?;
    Ok(StoredSession {
        account: row.account,
        era: row.era,
        began_at: UnixMillis(row.began_at),
        seen_at: UnixMillis(row.seen_at),
        address: row.address,
    })
}
