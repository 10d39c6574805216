//! Tokens: issue, list, revoke.

use std::net::IpAddr;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::Response;
use batoff_types::{SiteId, UnixMillis};
use http::{Request, StatusCode};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::audit::AboutObject;
use super::body;
use super::changing::{self, ChangeAsker, ChangeOf};
use super::refusal::AdminRefusal;
use crate::api::problem::{Code, ItemError, Problem, store_error};
use crate::api::reply::{json, no_content};
use crate::audit::{AuditAction, OPERATOR};
use crate::catalog::{IssueError, IssuedToken, NewToken, RevokedToken, Scope, Token, TokenUse};
use crate::clock::rfc3339;
use crate::service::Services;

/// Bytes of a label.
pub(crate) const LABEL_BYTES_MAX: usize = 200;

/// A token that is wanted.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct IssueToken {
    /// For people: what it is for. At most 200 bytes.
    #[serde(default)]
    #[schema(example = "deploy")]
    label: String,
    /// `purge` (submit and read), `read`, or both; `purge` when not given.
    #[serde(default = "to_purge")]
    #[schema(example = json!(["purge"]))]
    scopes: Vec<String>,
    /// When it ends, in RFC 3339; never when not given.
    #[schema(example = "2027-01-01T00:00:00Z", nullable = false)]
    expires_at: Option<String>,
}

/// The tokens of a site; never the tokens themselves.
#[derive(Serialize, ToSchema)]
#[schema(as = TokenList)]
struct TokenListDocument {
    /// Those that are good.
    tokens: Vec<TokenDocument>,
    /// Those that were revoked, as far back as they are kept.
    revoked: Vec<TokenDocument>,
}

/// A token, without its two halves.
#[derive(Serialize, ToSchema)]
#[schema(as = Token)]
struct TokenDocument {
    /// Names it where it is revoked, and in the audit log.
    token_id: String,
    /// The site that it is for.
    site_id: String,
    /// For people.
    label: String,
    /// `purge`, `read`, or both.
    scopes: Vec<&'static str>,
    /// When it was issued.
    created_at: String,
    /// By whom. Absent of a token from before this was noted.
    #[serde(skip_serializing_if = "Option::is_none")]
    created_by: Option<String>,
    /// When it ends; absent when never.
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<String>,
    /// When it was last used, to the minute.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_used_at: Option<String>,
    /// From which address.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    last_used_from: Option<IpAddr>,
    /// When it was revoked.
    #[serde(skip_serializing_if = "Option::is_none")]
    revoked_at: Option<String>,
    /// By whom.
    #[serde(skip_serializing_if = "Option::is_none")]
    revoked_by: Option<String>,
}

/// A token as it is issued. Token and secret are shown this once, and can be had never again.
#[derive(Serialize, ToSchema)]
#[schema(as = IssuedToken)]
struct IssuedDocument<'a> {
    #[serde(flatten)]
    about: TokenDocument,
    /// Travels with each request, and identifies: `bto_live_…`.
    token: &'a str,
    /// Signs, and never travels: `bts_live_…`.
    secret: &'a str,
}

fn to_purge() -> Vec<String> {
    vec![Scope::Purge.as_str().to_owned()]
}

/// The site's tokens: those that are good and those that were revoked.
#[utoipa::path(
    get, path = "/admin/v1/sites/{site}/tokens", tag = "sites", operation_id = "listTokens",
    params(("site" = String, Path, description = "The site's name")),
    responses((status = 200, description = "The tokens", body = TokenListDocument))
)]
pub(super) async fn list(
    State(services): State<Arc<Services>>,
    Path(site): Path<String>,
) -> Result<Response, AdminRefusal> {
    services.catalog.site(&site).ok_or_else(|| AdminRefusal::no_such("site", &site))?;
    let used = |token: &Arc<Token>| TokenDocument::from(&**token).used(services.catalog.last_use(token.id));
    let tokens: Vec<TokenDocument> = services.catalog.tokens(&site).iter().map(used).collect();
    let revoked: Vec<TokenDocument> =
        services.catalog.revoked(&site).iter().map(|revoked| TokenDocument::from(&**revoked)).collect();
    Ok(json(StatusCode::OK, &TokenListDocument { tokens, revoked }))
}

/// Issue a token.
#[utoipa::path(
    post, path = "/admin/v1/sites/{site}/tokens", tag = "sites", operation_id = "issueToken",
    params(("site" = String, Path, description = "The site's name")),
    request_body(content = IssueToken, content_type = "application/json"),
    responses((status = 201, description = "The token and its secret, this once", body = IssuedDocument))
)]
pub(super) async fn issue(
    State(services): State<Arc<Services>>,
    Path(site): Path<String>,
    request: Request<Body>,
) -> Result<Response, AdminRefusal> {
    let (_, wanted) = body::read::<IssueToken>(request).await?;
    let site: SiteId = site.parse().map_err(|_| AdminRefusal::no_such("site", &site))?;
    let end = |text| future(text, services.clock.wall());
    let wanted = WantedToken {
        scopes: scopes(&wanted.scopes)?,
        expires_at: wanted.expires_at.as_deref().map(end).transpose()?,
        label: wanted.label,
    };
    let issued = issue_token(&services, site, wanted, OPERATOR).await?;
    let about = TokenDocument::from(&*issued.token);
    let issued_id = AboutObject(about.token_id.clone());
    let document = IssuedDocument { about, token: &issued.text, secret: &issued.secret };
    let mut response = json(StatusCode::CREATED, &document);
    response.extensions_mut().insert(issued_id);
    Ok(response)
}

/// Revoke a token. It is refused within a second, everywhere.
#[utoipa::path(
    delete, path = "/admin/v1/sites/{site}/tokens/{token}", tag = "sites", operation_id = "revokeToken",
    params(("site" = String, Path, description = "The site's name"), ("token" = String, Path, description = "The token's id")),
    responses((status = 204, description = "It is good for nothing any more"))
)]
pub(super) async fn revoke(
    State(services): State<Arc<Services>>,
    Path((site, token)): Path<(String, String)>,
) -> Result<Response, AdminRefusal> {
    revoke_token(&services, &site, &token, OPERATOR).await?;
    Ok(no_content())
}

/// A token that somebody wants.
#[derive(Debug)]
pub(crate) struct WantedToken {
    /// What it is for.
    pub label: String,
    /// At least one.
    pub scopes: Vec<Scope>,
    /// When it ends.
    pub expires_at: Option<UnixMillis>,
}

/// Issues a token for somebody beside this API, with its entry in the audit log.
pub(crate) async fn issue_audited(
    services: Arc<Services>,
    asker: ChangeAsker,
    site: SiteId,
    wanted: WantedToken,
) -> Result<IssuedToken, AdminRefusal> {
    let scopes: Vec<&str> = wanted.scopes.iter().map(|scope| scope.as_str()).collect();
    let mut change = serde_json::json!({ "label": wanted.label, "scopes": scopes });
    if let Some(end) = wanted.expires_at {
        change["expires_at"] = rfc3339(end).into();
    }
    let about = ChangeOf {
        action: AuditAction::TokenIssue,
        site: Some(site.to_string()),
        object: None,
        change: Some(change),
    };
    let (by, own) = (asker.actor.clone(), Arc::clone(&services));
    changing::audited(services, asker, about, async move {
        let issued = issue_token(&own, site, wanted, &by).await?;
        let id = issued.token.id.to_string();
        Ok((issued, Some(id)))
    })
    .await
}

/// Revokes a token for somebody beside this API, with its entry in the audit log.
pub(crate) async fn revoke_audited(
    services: Arc<Services>,
    asker: ChangeAsker,
    site: String,
    token: String,
) -> Result<(), AdminRefusal> {
    let about = ChangeOf {
        action: AuditAction::TokenRevoke,
        site: Some(site.clone()),
        object: Some(token.clone()),
        change: None,
    };
    let (by, own) = (asker.actor.clone(), Arc::clone(&services));
    changing::audited(services, asker, about, async move {
        revoke_token(&own, &site, &token, &by).await?;
        Ok(((), None))
    })
    .await
}

async fn issue_token(
    services: &Services,
    site: SiteId,
    wanted: WantedToken,
    by: &str,
) -> Result<IssuedToken, AdminRefusal> {
    let WantedToken { label, scopes, expires_at } = wanted;
    let name = site.clone();
    let new = NewToken { site, scopes, expires_at, label: checked(label)?, created_by: by.to_owned() };
    let issued = services.catalog.issue(new).await.map_err(|error| match error {
        IssueError::NoSuchSite => AdminRefusal::no_such("site", &name),
        IssueError::TooMany => AdminRefusal::conflict(error.to_string()),
        IssueError::Store(error) => store_error(error).into(),
    })?;
    tracing::info!(site = %issued.token.site, token = %issued.token.id, label = &*issued.token.label, by, "token issued");
    Ok(issued)
}

async fn revoke_token(services: &Services, site: &str, token: &str, by: &str) -> Result<(), AdminRefusal> {
    let id = token.parse().map_err(|()| AdminRefusal::no_such("token", token))?;
    if !services.catalog.revoke(site, id, by).await.map_err(store_error)? {
        return Err(AdminRefusal::no_such("token", token));
    }
    tracing::info!(site, token, by, "token revoked");
    Ok(())
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

fn checked(text: String) -> Result<String, Problem> {
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
