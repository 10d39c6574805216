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
use super::changing::{self, ChangeAsker, ChangeOf};
use super::refusal::AdminRefusal;
use crate::accounts::{
    Account, AccountChange, AccountError, AccountName, AddedAccount, NAME_BYTES_MAX, NewAccount, Role,
};
use crate::api::problem::{Code, ItemError, Problem, store_error};
use crate::api::reply::{json, no_content};
use crate::audit::{AuditAction, OPERATOR};
use crate::clock::rfc3339;
use crate::language::Language;
use crate::service::Services;

/// How a body says that the browser's language is meant.
const BROWSERS: &str = "auto";

/// A user who is to be added.
#[derive(Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct AddUser {
    /// What the user signs in with: 1 to 64 of `a-z 0-9 . _ @ -`.
    #[schema(example = "anna")]
    pub name: String,
    /// `operator` (everything), `manager` (of the sites: tokens, purges), `member` (purges) or `viewer` (reads).
    #[schema(example = "manager")]
    pub role: String,
    /// For which sites; none for an operator, who is for all.
    #[serde(default)]
    #[schema(example = json!(["shop"]))]
    pub sites: Vec<String>,
    /// Of the pages: `en`, `ru`, or `auto`, as the browser prefers, when not given.
    #[schema(nullable = false)]
    pub language: Option<String>,
}

/// What is to be changed; what is not given stays.
#[derive(Default, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ChangeUser {
    /// `operator`, `manager`, `member` or `viewer`. With another role the user is signed out everywhere.
    #[schema(nullable = false)]
    pub role: Option<String>,
    /// All of them.
    #[schema(nullable = false)]
    pub sites: Option<Vec<String>>,
    /// `en`, `ru` or `auto`.
    #[schema(nullable = false)]
    pub language: Option<String>,
    /// Cannot sign in, and is signed out everywhere.
    #[schema(nullable = false)]
    pub disabled: Option<bool>,
}

/// How a user gets back in.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ResetUser {
    /// A sign-in takes no code of an authenticator any more, for who has lost it.
    #[serde(default)]
    pub codes: bool,
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
    let added = add_user(&services, wanted, OPERATOR).await?;
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
    let (_, wanted) = body::read::<ChangeUser>(request).await?;
    let account = change_user(&services, &name, wanted).await?;
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
    let (_, wanted) = body::read::<ResetUser>(request).await?;
    let reset = reset_user(&services, &name, wanted).await?;
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
    remove_user(&services, &name).await?;
    Ok(no_content())
}

/// Ask a user for no code of an authenticator any more, for who has lost it and knows the password. Sessions go on.
#[utoipa::path(
    delete, path = "/admin/v1/users/{user}/codes", tag = "users", operation_id = "dropUserCodes",
    params(("user" = String, Path, description = "The user's name")),
    responses((status = 204, description = "A sign-in takes the password alone"))
)]
pub(super) async fn drop_codes(
    State(services): State<Arc<Services>>,
    Path(name): Path<String>,
) -> Result<Response, AdminRefusal> {
    drop_codes_of(&services, &name).await?;
    Ok(no_content())
}

/// Sign a user out everywhere: all sessions end.
#[utoipa::path(
    delete, path = "/admin/v1/users/{user}/sessions", tag = "users", operation_id = "signOutUser",
    params(("user" = String, Path, description = "The user's name")),
    responses((status = 204, description = "No session is left"))
)]
pub(super) async fn sign_out(
    State(services): State<Arc<Services>>,
    Path(name): Path<String>,
) -> Result<Response, AdminRefusal> {
    sign_out_everywhere(&services, &name).await?;
    Ok(no_content())
}

async fn add_user(services: &Services, wanted: AddUser, by: &str) -> Result<AddedAccount, AdminRefusal> {
    let name: AccountName = wanted.name.parse().map_err(|error: crate::accounts::BadAccountName| {
        invalid(ItemError::at("/name", error.to_string()).with_value(&wanted.name))
    })?;
    let new = NewAccount {
        name,
        role: role(&wanted.role)?,
        sites: sites(services, &wanted.sites)?,
        language: wanted.language.as_deref().map(language).transpose()?.flatten(),
        created_by: by.to_owned(),
    };
    let added = services.accounts.add(new).await?;
    tracing::info!(user = %added.account.name, role = added.account.role.as_str(), by, "user added");
    Ok(added)
}

async fn change_user(services: &Services, name: &str, wanted: ChangeUser) -> Result<Account, AdminRefusal> {
    let name = named(name)?;
    let change = AccountChange {
        role: wanted.role.as_deref().map(role).transpose()?,
        sites: wanted.sites.as_deref().map(|names| sites(services, names)).transpose()?,
        language: wanted.language.as_deref().map(language).transpose()?,
        is_disabled: wanted.disabled,
    };
    let account = services.accounts.update(&name, change).await?;
    tracing::info!(user = %name, role = account.role.as_str(), "user changed");
    Ok(account)
}

async fn reset_user(
    services: &Services,
    name: &str,
    wanted: ResetUser,
) -> Result<AddedAccount, AdminRefusal> {
    let name = named(name)?;
    let reset = services.accounts.reset(&name, wanted.codes).await?;
    tracing::info!(user = %name, codes = wanted.codes, "user's password reset");
    Ok(reset)
}

async fn remove_user(services: &Services, name: &str) -> Result<(), AdminRefusal> {
    let name = named(name)?;
    services.accounts.remove(&name).await?;
    tracing::info!(user = %name, "user removed");
    Ok(())
}

async fn drop_codes_of(services: &Services, name: &str) -> Result<(), AdminRefusal> {
    let name = named(name)?;
    services.accounts.drop_codes(&name).await?;
    tracing::info!(user = %name, "user signs in without codes");
    Ok(())
}

async fn sign_out_everywhere(services: &Services, name: &str) -> Result<(), AdminRefusal> {
    let name = named(name)?;
    services.accounts.end_all_of(&name).await?;
    tracing::info!(user = %name, "user signed out everywhere");
    Ok(())
}

/// What somebody beside this API wants of a user.
pub(crate) enum UserWish {
    /// To be added.
    Add(AddUser),
    /// To be changed.
    Change(ChangeUser),
    /// A new one-time password.
    Reset(ResetUser),
    /// To be signed in with the password alone.
    DropCodes,
    /// To be signed out everywhere.
    SignOut,
    /// To be removed.
    Remove,
}

/// Does that for somebody beside this API, with its entry in the audit log: the account with its new one-time password, if
/// it got one.
pub(crate) async fn fulfil_audited(
    services: Arc<Services>,
    asker: ChangeAsker,
    user: String,
    wish: UserWish,
) -> Result<Option<AddedAccount>, AdminRefusal> {
    let (action, change) = match &wish {
        UserWish::Add(wanted) => (AuditAction::UserAdd, Some(wanted.told())),
        UserWish::Change(wanted) => (AuditAction::UserChange, Some(wanted.told())),
        UserWish::Reset(wanted) => {
            (AuditAction::UserReset, Some(serde_json::json!({ "codes": wanted.codes })))
        }
        UserWish::DropCodes => (AuditAction::UserCodesOff, None),
        UserWish::SignOut => (AuditAction::UserSignOut, None),
        UserWish::Remove => (AuditAction::UserRemove, None),
    };
    // As its name is written: an entry says what it was about also when there is no such user.
    let object = user
        .parse::<AccountName>()
        .map_or_else(|_| user.chars().take(NAME_BYTES_MAX).collect(), |name| name.to_string());
    let about = ChangeOf { action, site: None, object: Some(object), change };
    let (by, own) = (asker.actor.clone(), Arc::clone(&services));
    changing::audited(services, asker, about, async move {
        let shown = match wish {
            UserWish::Add(wanted) => Some(add_user(&own, wanted, &by).await?),
            UserWish::Reset(wanted) => Some(reset_user(&own, &user, wanted).await?),
            UserWish::Change(wanted) => change_user(&own, &user, wanted).await.map(|_| None)?,
            UserWish::DropCodes => drop_codes_of(&own, &user).await.map(|()| None)?,
            UserWish::SignOut => sign_out_everywhere(&own, &user).await.map(|()| None)?,
            UserWish::Remove => remove_user(&own, &user).await.map(|()| None)?,
        };
        Ok((shown, None))
    })
    .await
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

impl AddUser {
    /// As the audit log keeps it.
    fn told(&self) -> serde_json::Value {
        without_nulls(self)
    }
}

impl ChangeUser {
    /// As the audit log keeps it.
    fn told(&self) -> serde_json::Value {
        without_nulls(self)
    }
}

/// What is asked for, without what is not.
fn without_nulls(wanted: &impl Serialize) -> serde_json::Value {
    let mut told = serde_json::to_value(wanted).unwrap_or_default();
    if let Some(members) = told.as_object_mut() {
        members.retain(|_, value| !value.is_null());
    }
    told
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
