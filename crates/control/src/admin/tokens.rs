//! Tokens: issue, list, revoke.

use std::net::IpAddr;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::Response;
use batoff_types::{SiteId, UnixMillis};
use http::{Request, StatusCode};
use serde::{Deserialize, Serialize};

use super::audit::AboutObject;
use super::body;
use super::refusal::AdminRefusal;
use crate::api::problem::{Code, ItemError, Problem, store_error};
use crate::api::reply::{json, no_content};
use crate::audit::OPERATOR;
use crate::catalog::{IssueError, NewToken, RevokedToken, Scope, Token, TokenUse};
use crate::clock::rfc3339;
use crate::service::Services;

/// Bytes of a label.
const LABEL_BYTES_MAX: usize = 200;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct IssueToken {
    #[serde(default)]
    label: String,
    #[serde(default = "to_purge")]
    scopes: Vec<String>,
    /// RFC 3339.
    expires_at: Option<String>,
}

#[derive(Serialize)]
struct TokenDocument {
    token_id: String,
    site_id: String,
    label: String,
    scopes: Vec<&'static str>,
    created_at: String,
    /// Absent of a token from before this was noted.
    #[serde(skip_serializing_if = "Option::is_none")]
    created_by: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<String>,
    /// To the minute.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_used_at: Option<String>,
    /// The client's address.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_used_from: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    revoked_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    revoked_by: Option<String>,
}

#[derive(Serialize)]
struct IssuedDocument<'a> {
    #[serde(flatten)]
    about: TokenDocument,
    /// Shown this once.
    token: &'a str,
    /// Shown this once.
    secret: &'a str,
}

fn to_purge() -> Vec<String> {
    vec![Scope::Purge.as_str().to_owned()]
}

pub(super) async fn list(
    State(services): State<Arc<Services>>,
    Path(site): Path<String>,
) -> Result<Response, AdminRefusal> {
    services.catalog.site(&site).ok_or_else(|| AdminRefusal::no_such("site", &site))?;
    let used = |token: &Arc<Token>| TokenDocument::from(&**token).used(services.catalog.last_use(token.id));
    let tokens: Vec<TokenDocument> = services.catalog.tokens(&site).iter().map(used).collect();
    let revoked: Vec<TokenDocument> =
        services.catalog.revoked(&site).iter().map(|revoked| TokenDocument::from(&**revoked)).collect();
    Ok(json(StatusCode::OK, &serde_json::json!({ "tokens": tokens, "revoked": revoked })))
}

pub(super) async fn issue(
    State(services): State<Arc<Services>>,
    Path(site): Path<String>,
    request: Request<Body>,
) -> Result<Response, AdminRefusal> {
    let (_, wanted) = body::read::<IssueToken>(request).await?;
    let site: SiteId = site.parse().map_err(|_| AdminRefusal::no_such("site", &site))?;
    let name = site.clone();
    let new = NewToken {
        site,
        scopes: scopes(&wanted.scopes)?,
        expires_at: wanted
            .expires_at
            .as_deref()
            .map(|text| future(text, services.clock.wall()))
            .transpose()?,
        label: label(wanted.label)?,
        created_by: OPERATOR.to_owned(),
    };
    let issued = services.catalog.issue(new).await.map_err(|error| match error {
        IssueError::NoSuchSite => AdminRefusal::no_such("site", &name),
        IssueError::TooMany => AdminRefusal::conflict(error.to_string()),
        IssueError::Store(error) => store_error(error).into(),
    })?;
    tracing::info!(site = %issued.token.site, token = %issued.token.id, label = &*issued.token.label, "token issued");
    let about = TokenDocument::from(&*issued.token);
    let issued_id = AboutObject(about.token_id.clone());
    let document = IssuedDocument { about, token: &issued.text, secret: &issued.secret };
    let mut response = json(StatusCode::CREATED, &document);
    response.extensions_mut().insert(issued_id);
    Ok(response)
}

pub(super) async fn revoke(
    State(services): State<Arc<Services>>,
    Path((site, token)): Path<(String, String)>,
) -> Result<Response, AdminRefusal> {
    let id = token.parse().map_err(|()| AdminRefusal::no_such("token", &token))?;
    if !services.catalog.revoke(&site, id, OPERATOR).await.map_err(store_error)? {
        return Err(AdminRefusal::no_such("token", &token));
    }
    tracing::info!(site, token, "token revoked");
    Ok(no_content())
}

fn scopes(names: &[String]) -> Result<Vec<Scope>, Problem> {
    let read = |(index, name): (usize, &String)| {
        Scope::from_name(name).ok_or_else(|| {
            ItemError::at(format!("/scopes/{index}"), "must be purge or read").with_value(name)
        })
    };
    let scopes: Result<Vec<_>, _> = names.iter().enumerate().map(read).collect();
    match scopes {
        Ok(scopes) if scopes.is_empty() => Err(Problem::of_item(
            Code::InvalidRequest,
            ItemError::at("/scopes", "at least one of purge and read"),
        )),
        Ok(scopes) => Ok(scopes),
        Err(error) => Err(Problem::of_item(Code::InvalidRequest, error)),
    }
}

fn label(text: String) -> Result<String, Problem> {
    if text.len() <= LABEL_BYTES_MAX && !text.contains(char::is_control) {
        return Ok(text);
    }
    let detail = format!("at most {LABEL_BYTES_MAX} bytes, and no control characters");
    Err(Problem::of_item(Code::InvalidRequest, ItemError::at("/label", detail)))
}

fn future(text: &str, now: UnixMillis) -> Result<UnixMillis, Problem> {
    let at: Option<jiff::Timestamp> = text.parse().ok();
    let at = at.and_then(|at| u64::try_from(at.as_millisecond()).ok()).map(UnixMillis);
    at.filter(|at| *at > now).ok_or_else(|| {
        let detail = "must be a time in the future, as 2027-01-01T00:00:00Z";
        Problem::of_item(Code::InvalidRequest, ItemError::at("/expires_at", detail).with_value(text))
    })
}

impl From<&Token> for TokenDocument {
    fn from(token: &Token) -> Self {
        Self {
            token_id: token.id.to_string(),
            site_id: token.site.to_string(),
            label: token.label.to_string(),
            scopes: token.scopes.iter().map(|scope| scope.as_str()).collect(),
            created_at: rfc3339(token.created_at),
            created_by: token.created_by.as_ref().map(ToString::to_string),
            expires_at: token.expires_at.map(rfc3339),
            last_used_at: None,
            last_used_from: None,
            revoked_at: None,
            revoked_by: None,
        }
    }
}

impl From<&RevokedToken> for TokenDocument {
    fn from(revoked: &RevokedToken) -> Self {
        Self {
            revoked_at: Some(rfc3339(revoked.revoked_at)),
            revoked_by: Some(revoked.revoked_by.to_string()),
            ..Self::from(&*revoked.token).used(revoked.last_use)
        }
    }
}

impl TokenDocument {
    fn used(self, last: Option<TokenUse>) -> Self {
        let last_used_at = last.map(|last| rfc3339(last.at));
        Self { last_used_at, last_used_from: last.map(|last| last.address), ..self }
    }
}
