//! Users of the console: list, add, change, reset, remove.

use std::net::IpAddr;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::Response;
use batoff_types::SiteId;
use http::{Request, StatusCode};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::audit::AboutObject;
use super::body;
use super::refusal::AdminRefusal;
use crate::accounts::{Account, AccountChange, AccountError, AccountName, AddedAccount, NewAccount, Role};
use crate::api::problem::{Code, ItemError, Problem, store_error};
use crate::api::reply::{json, no_content};
use crate::audit::OPERATOR;
use crate::clock::rfc3339;
use crate::language::Language;
use crate::service::Services;

/// How a body says that the browser's language is meant.
const BROWSERS: &str = "auto";

/// A user who is to be added.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct AddUser {
    /// What the user signs in with: 1 to 64 of `a-z 0-9 . _ @ -`.
    #[schema(example = "anna")]
    name: String,
    /// `operator` (everything), `manager` (of the sites: tokens, purges), `member` (purges) or `viewer` (reads).
    #[schema(example = "manager")]
    role: String,
    /// For which sites; none for an operator, who is for all.
    #[serde(default)]
    #[schema(example = json!(["shop"]))]
    sites: Vec<String>,
    /// Of the pages: `en`, `ru`, or `auto`, as the browser prefers, when not given.
    #[schema(nullable = false)]
    language: Option<String>,
}

/// What is to be changed; what is not given stays.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ChangeUser {
    /// `operator`, `manager`, `member` or `viewer`. With another role the user is signed out everywhere.
    #[schema(nullable = false)]
    role: Option<String>,
    /// All of them.
    #[schema(nullable = false)]
    sites: Option<Vec<String>>,
    /// `en`, `ru` or `auto`.
    #[schema(nullable = false)]
    language: Option<String>,
    /// Cannot sign in, and is signed out everywhere.
    #[schema(nullable = false)]
    disabled: Option<bool>,
}

/// How a user gets back in.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ResetUser {
    /// A sign-in takes no code of an authenticator any more, for who has lost it.
    #[serde(default)]
    codes: bool,
}

/// All users.
#[derive(Serialize, ToSchema)]
#[schema(as = UserList)]
struct UserListDocument {
    /// By name.
    users: Vec<UserDocument>,
}

/// A user of the console.
#[derive(Serialize, ToSchema)]
#[schema(as = User)]
struct UserDocument {
    /// What the user signs in with.
    name: String,
    /// `operator`, `manager`, `member` or `viewer`.
    role: &'static str,
    /// For which sites; an operator is for all, and has none here.
    sites: Vec<String>,
    /// Of the pages; absent: as the browser prefers.
    #[serde(skip_serializing_if = "Option::is_none")]
    language: Option<&'static str>,
    /// Cannot sign in.
    disabled: bool,
    /// Has a one-time password, and may do nothing before it is changed.
    must_change_password: bool,
    /// Until when a one-time password is good.
    #[serde(skip_serializing_if = "Option::is_none")]
    password_expires_at: Option<String>,
    /// A sign-in takes a code of an authenticator, too.
    codes: bool,
    /// How many recovery codes are left then.
    #[serde(skip_serializing_if = "Option::is_none")]
    recovery_codes: Option<usize>,
    /// When the user was added.
    created_at: String,
    /// By whom.
    created_by: String,
    /// When somebody signed in last.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_sign_in_at: Option<String>,
    /// From which address.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    last_sign_in_from: Option<IpAddr>,
}

/// A user with a one-time password, which is shown this once.
#[derive(Serialize, ToSchema)]
#[schema(as = AddedUser)]
struct AddedDocument<'a> {
    #[serde(flatten)]
    about: UserDocument,
    /// Good for a week; to be changed at the first sign-in.
    password: &'a str,
}

/// All users of the console.
#[utoipa::path(
    get, path = "/admin/v1/users", tag = "users", operation_id = "listUsers",
    responses((status = 200, description = "The users", body = UserListDocument))
)]
pub(super) async fn list(State(services): State<Arc<Services>>) -> Result<Response, AdminRefusal> {
    let users = services.accounts.list().await.map_err(store_error)?;
    let users: Vec<UserDocument> = users.into_iter().map(UserDocument::from).collect();
    Ok(json(StatusCode::OK, &UserListDocument { users }))
}

/// One user.
#[utoipa::path(
    get, path = "/admin/v1/users/{user}", tag = "users", operation_id = "getUser",
    params(("user" = String, Path, description = "The user's name")),
    responses((status = 200, description = "The user", body = UserDocument))
)]
pub(super) async fn show(
    State(services): State<Arc<Services>>,
    Path(name): Path<String>,
) -> Result<Response, AdminRefusal> {
    let account = services.accounts.find(&named(&name)?).await.map_err(store_error)?;
    let account = account.ok_or_else(|| AdminRefusal::no_such("user", &name))?;
    Ok(json(StatusCode::OK, &UserDocument::from(account)))
}

/// Add a user with a one-time password.
#[utoipa::path(
    post, path = "/admin/v1/users", tag = "users", operation_id = "addUser",
    request_body(content = AddUser, content_type = "application/json"),
    responses((status = 201, description = "The user and the password, this once", body = AddedDocument))
)]
pub(super) async fn add(
    State(services): State<Arc<Services>>,
    request: Request<Body>,
) -> Result<Response, AdminRefusal> {
    let (_, wanted) = body::read::<AddUser>(request).await?;
    let name: AccountName = wanted.name.parse().map_err(|error: crate::accounts::BadAccountName| {
        invalid(ItemError::at("/name", error.to_string()).with_value(&wanted.name))
    })?;
    let new = NewAccount {
        name,
        role: role(&wanted.role)?,
        sites: sites(&services, &wanted.sites)?,
        language: wanted.language.as_deref().map(language).transpose()?.flatten(),
        created_by: OPERATOR.to_owned(),
    };
    let added = services.accounts.add(new).await?;
    tracing::info!(user = %added.account.name, role = added.account.role.as_str(), "user added");
    Ok(shown_once(StatusCode::CREATED, added))
}

/// Change what a user may do.
#[utoipa::path(
    patch, path = "/admin/v1/users/{user}", tag = "users", operation_id = "changeUser",
    params(("user" = String, Path, description = "The user's name")),
    request_body(content = ChangeUser, content_type = "application/json"),
    responses((status = 200, description = "The user as it is now", body = UserDocument))
)]
pub(super) async fn change(
    State(services): State<Arc<Services>>,
    Path(name): Path<String>,
    request: Request<Body>,
) -> Result<Response, AdminRefusal> {
    let name = named(&name)?;
    let (_, wanted) = body::read::<ChangeUser>(request).await?;
    let change = AccountChange {
        role: wanted.role.as_deref().map(role).transpose()?,
        sites: wanted.sites.as_deref().map(|names| sites(&services, names)).transpose()?,
        language: wanted.language.as_deref().map(language).transpose()?,
        is_disabled: wanted.disabled,
    };
    let account = services.accounts.update(&name, change).await?;
    tracing::info!(user = %name, role = account.role.as_str(), "user changed");
    Ok(json(StatusCode::OK, &UserDocument::from(account)))
}

/// Give a user a new one-time password. All sessions end, and failed sign-ins are forgotten.
#[utoipa::path(
    post, path = "/admin/v1/users/{user}/reset", tag = "users", operation_id = "resetUser",
    params(("user" = String, Path, description = "The user's name")),
    request_body(content = ResetUser, content_type = "application/json"),
    responses((status = 200, description = "The user and the password, this once", body = AddedDocument))
)]
pub(super) async fn reset(
    State(services): State<Arc<Services>>,
    Path(name): Path<String>,
    request: Request<Body>,
) -> Result<Response, AdminRefusal> {
    let name = named(&name)?;
    let (_, wanted) = body::read::<ResetUser>(request).await?;
    let reset = services.accounts.reset(&name, wanted.codes).await?;
    tracing::info!(user = %name, codes = wanted.codes, "user's password reset");
    Ok(shown_once(StatusCode::OK, reset))
}

/// Remove a user. All sessions end. The last operator cannot be removed.
#[utoipa::path(
    delete, path = "/admin/v1/users/{user}", tag = "users", operation_id = "removeUser",
    params(("user" = String, Path, description = "The user's name")),
    responses((status = 204, description = "Removed"))
)]
pub(super) async fn remove(
    State(services): State<Arc<Services>>,
    Path(name): Path<String>,
) -> Result<Response, AdminRefusal> {
    let name = named(&name)?;
    services.accounts.remove(&name).await?;
    tracing::info!(user = %name, "user removed");
    Ok(no_content())
}

fn shown_once(status: StatusCode, added: AddedAccount) -> Response {
    let AddedAccount { account, password } = added;
    let object = AboutObject(account.name.to_string());
    let mut response = json(status, &AddedDocument { about: account.into(), password: &password });
    response.extensions_mut().insert(object);
    response
}

/// A path names a user, or what cannot be one.
fn named(name: &str) -> Result<AccountName, AdminRefusal> {
    name.parse().map_err(|_| AdminRefusal::no_such("user", name))
}

fn role(name: &str) -> Result<Role, Problem> {
    Role::from_name(name).ok_or_else(|| {
        let roles = Role::ALL.map(Role::as_str).join(", ");
        invalid(ItemError::at("/role", format!("must be one of {roles}")).with_value(name))
    })
}

fn language(tag: &str) -> Result<Option<Language>, Problem> {
    match Language::from_tag(tag) {
        None if tag == BROWSERS => Ok(None),
        None => Err(invalid(ItemError::at("/language", "must be en, ru or auto").with_value(tag))),
        known => Ok(known),
    }
}

fn sites(services: &Services, names: &[String]) -> Result<Vec<SiteId>, Problem> {
    let table = services.catalog.table();
    let known = |(index, name): (usize, &String)| {
        let site = name.parse::<SiteId>().ok().filter(|site| table.hostnames(site.as_str()).is_some());
        site.ok_or_else(|| {
            invalid(ItemError::at(format!("/sites/{index}"), "there is no such site").with_value(name))
        })
    };
    names.iter().enumerate().map(known).collect()
}

fn invalid(error: ItemError) -> Problem {
    Problem::of_item(Code::InvalidRequest, error)
}

impl From<AccountError> for AdminRefusal {
    fn from(error: AccountError) -> Self {
        let text = error.to_string();
        match error {
            AccountError::NoSuchAccount(name) => Self::no_such("user", name),
            AccountError::Exists(_) | AccountError::TooMany | AccountError::LastOperator(_) => {
                Self::conflict(text)
            }
            AccountError::SitesOfOperator | AccountError::TooManySites => {
                invalid(ItemError::at("/sites", text)).into()
            }
            AccountError::Busy { retry_after } => {
                Problem::detailed(Code::Unavailable, text).retry_after(retry_after).into()
            }
            AccountError::Store(error) => store_error(error).into(),
        }
    }
}

impl From<Account> for UserDocument {
    fn from(account: Account) -> Self {
        Self {
            name: account.name.to_string(),
            role: account.role.as_str(),
            sites: account.sites.iter().map(ToString::to_string).collect(),
            language: account.language.map(Language::tag),
            disabled: account.is_disabled,
            must_change_password: account.must_change_password,
            password_expires_at: account.password_ends_at.map(rfc3339),
            codes: account.recovery_codes.is_some(),
            recovery_codes: account.recovery_codes,
            created_at: rfc3339(account.created_at),
            created_by: account.created_by.to_string(),
            last_sign_in_at: account.last_sign_in.map(|last| rfc3339(last.at)),
            last_sign_in_from: account.last_sign_in.map(|last| last.address),
        }
    }
}
