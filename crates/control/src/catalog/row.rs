//! Tokens and changes of sites, as the store keeps them.

use std::net::IpAddr;
use std::sync::Arc;

use batoff_types::{SiteChange, SiteLimits, UnixMillis};
use serde::{Deserialize, Serialize};

use super::signing_key::SigningKeySlot;
use super::token::{RevokedToken, Scope, Token, TokenUse};
use crate::store::rows::json;

/// A token as the store keeps it.
#[derive(Serialize, Deserialize)]
struct TokenRow {
    id: String,
    site: String,
    label: String,
    scopes: Vec<String>,
    created_at: u64,
    expires_at: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    created_by: Option<String>,
    sha256: String,
}

/// A revoked token as the store keeps it.
#[derive(Serialize, Deserialize)]
struct RevokedRow {
    token: TokenRow,
    revoked_at: u64,
    revoked_by: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last_use: Option<UseRow>,
}

/// When a token was used last, as the store keeps it.
#[derive(Serialize, Deserialize)]
struct UseRow {
    at: u64,
    address: IpAddr,
}

/// A change of a site as the store keeps it beside the log.
#[derive(Serialize, Deserialize)]
struct ChangeRow {
    site: String,
    hostnames: Option<Vec<String>>,
    items_per_minute: Option<u32>,
    prefixes_per_minute: Option<u32>,
    #[serde(default)]
    tags_per_response: Option<u32>,
}

pub(super) fn encode_token(token: &Token) -> Vec<u8> {
    json(&row_of(token))
}

pub(super) fn encode_revoked(revoked: &RevokedToken) -> Vec<u8> {
    json(&RevokedRow {
        token: row_of(&revoked.token),
        revoked_at: revoked.revoked_at.0,
        revoked_by: revoked.revoked_by.to_string(),
        last_use: revoked.last_use.map(|last| UseRow { at: last.at.0, address: last.address }),
    })
}

pub(super) fn encode_use(last: TokenUse) -> Vec<u8> {
    json(&UseRow { at: last.at.0, address: last.address })
}

pub(super) fn decode_use(bytes: &[u8]) -> Result<TokenUse, &'static str> {
    let row: UseRow = serde_json::from_slice(bytes).map_err(|_| "is not the JSON of a token's use")?;
    Ok(TokenUse { at: UnixMillis(row.at), address: row.address })
}

pub(super) fn decode_revoked(bytes: &[u8]) -> Result<RevokedToken, &'static str> {
    let row: RevokedRow = serde_json::from_slice(bytes).map_err(|_| "is not the JSON of a revoked token")?;
    Ok(RevokedToken {
        token: Arc::new(token_of(row.token)?),
        revoked_at: UnixMillis(row.revoked_at),
        revoked_by: row.revoked_by.into(),
        last_use: row.last_use.map(|last| TokenUse { at: UnixMillis(last.at), address: last.address }),
    })
}

fn row_of(token: &Token) -> TokenRow {
    TokenRow {
        id: token.id.to_string(),
        site: token.site.to_string(),
        label: token.label.to_string(),
        scopes: token.scopes.iter().map(|scope| scope.as_str().to_owned()).collect(),
        created_at: token.created_at.0,
        expires_at: token.expires_at.map(|end| end.0),
        created_by: token.created_by.as_ref().map(ToString::to_string),
        sha256: hex::encode(token.hash),
    }
}

pub(super) fn decode_token(bytes: &[u8]) -> Result<Token, &'static str> {
    token_of(serde_json::from_slice(bytes).map_err(|_| "is not the JSON of a token")?)
}

fn token_of(row: TokenRow) -> Result<Token, &'static str> {
    let mut hash = [0; 32];
    hex::decode_to_slice(&row.sha256, &mut hash).map_err(|_| "its hash is not 64 hex digits")?;
    // A scope that this build does not know is left out: narrower is the safe side for rights.
    let scopes = row.scopes.iter().filter_map(|name| Scope::from_name(name)).collect();
    Ok(Token {
        id: row.id.parse().map_err(|()| "its id is not a ULID")?,
        site: row.site.parse().map_err(|_| "its site is not a site's name")?,
        label: row.label.into(),
        scopes,
        created_at: UnixMillis(row.created_at),
        expires_at: row.expires_at.map(UnixMillis),
        created_by: row.created_by.map(Into::into),
        hash,
        signing: SigningKeySlot::default(),
    })
}

pub(super) fn encode_change(change: &SiteChange) -> Vec<u8> {
    let hostnames = change.hostnames.as_ref();
    json(&ChangeRow {
        site: change.site.to_string(),
        hostnames: hostnames.map(|names| names.iter().map(ToString::to_string).collect()),
        items_per_minute: change.limits.items_per_minute,
        prefixes_per_minute: change.limits.prefixes_per_minute,
        tags_per_response: change.limits.tags_per_response,
    })
}

/// Without the affected names: those matter once, when the record is applied.
pub(super) fn decode_change(bytes: &[u8]) -> Option<SiteChange> {
    let row: ChangeRow = serde_json::from_slice(bytes).ok()?;
    let hostnames = match row.hostnames {
        Some(names) => Some(names.iter().map(|name| name.parse().ok()).collect::<Option<Vec<_>>>()?),
        None => None,
    };
    Some(SiteChange {
        site: row.site.parse().ok()?,
        hostnames,
        affected: Vec::new(),
        limits: SiteLimits {
            items_per_minute: row.items_per_minute,
            prefixes_per_minute: row.prefixes_per_minute,
            tags_per_response: row.tags_per_response,
        },
    })
}
