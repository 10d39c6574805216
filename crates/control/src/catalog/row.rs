//! Tokens and changes of sites, as the store keeps them.

use batoff_types::{SiteChange, SiteLimits, UnixMillis};
use serde::{Deserialize, Serialize};

use super::token::{Scope, Token};

/// A token as the store keeps it.
#[derive(Serialize, Deserialize)]
struct TokenRow {
    id: String,
    site: String,
    label: String,
    scopes: Vec<String>,
    created_at: u64,
    expires_at: Option<u64>,
    sha256: String,
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
    json(&TokenRow {
        id: token.id.to_string(),
        site: token.site.to_string(),
        label: token.label.to_string(),
        scopes: token.scopes.iter().map(|scope| scope.as_str().to_owned()).collect(),
        created_at: token.created_at.0,
        expires_at: token.expires_at.map(|end| end.0),
        sha256: hex::encode(token.hash),
    })
}

pub(super) fn decode_token(bytes: &[u8]) -> Result<Token, &'static str> {
    let row: TokenRow = serde_json::from_slice(bytes).map_err(|_| "is not the JSON of a token")?;
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
        hash,
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

fn json(row: &impl Serialize) -> Vec<u8> {
    #[expect(
        clippy::expect_used,
        reason = "rows are structs of strings and numbers, which always have a JSON form"
    )]
    serde_json::to_vec(row).expect("a struct of strings and numbers")
}
