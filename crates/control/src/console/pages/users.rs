//! `/users`: who signs in to the console, and what may he do? Add, change, help back in, remove.

use std::sync::Arc;

use askama::Template;
use axum::Form;
use axum::extract::rejection::FormRejection;
use axum::extract::{Path, State};
use axum::response::Response;
use serde::Deserialize;

use super::account::{AccountText, role_words};
use super::tokens::asker;
use crate::accounts::{Account, AccountName, AddedAccount, NAME_BYTES_MAX, Role};
use crate::admin::users::{AddUser, ChangeUser, ResetUser, UserWish, fulfil_audited};
use crate::api::problem::{Code, ItemError, Problem, store_error};
use crate::clock::rfc3339;
use crate::console::flash::Flash;
use crate::console::frame::PageFrame;
use crate::console::once::{new_key, once};
use crate::console::state::Console;
use crate::console::words::{Text, words};

words! {
    /// What the pages say.
    pub enum UsersText {
        Add: "Add a user", "Добавить пользователя";
        About: "The user gets a one-time password, good for a week, and chooses another one at the first sign-in.", "Пользователь получает одноразовый пароль на неделю и при первом входе выбирает свой.";
        ByProxy: "Who is signed in by the proxy has no account here; what groups may do stands in the configuration. The proxy:", "У тех, кого впускает сервер авторизации, учётных записей здесь нет; права групп заданы в настройках. Сервер:";
        Name: "Name: a-z, 0-9, . _ @ -", "Имя: a-z, 0-9, . _ @ -";
        User: "User", "Пользователь";
        Role: "Role", "Роль";
        Sites: "Sites", "Сайты";
        SitesForm: "Sites, one a line; none for an operator", "Сайты, по одному в строке; у оператора — ни одного";
        AllSites: "all", "все";
        NoSites: "none", "нет";
        Codes: "Authenticator", "Аутентификатор";
        WithCodes: "yes", "есть";
        WithoutCodes: "no", "нет";
        LastSignIn: "Last sign-in, UTC", "Последний вход, UTC";
        Never: "not yet", "ещё не входил";
        State: "State", "Состояние";
        Active: "active", "активен";
        OneTime: "has a one-time password", "с одноразовым паролем";
        OneTimeUntil: "has a one-time password, good until", "с одноразовым паролем до";
        OneTimeOver: "the one-time password's time is over", "срок одноразового пароля истёк";
        Disabled: "cannot sign in", "вход закрыт";
        Added: "Added, UTC", "Добавлен, UTC";
        Do: "Add", "Добавить";
        Change: "Change", "Изменить";
        ChangeAbout: "With another role the user is signed out everywhere. Other sites hold from the next request on.", "При смене роли все сеансы завершатся. Другие сайты действуют со следующего запроса.";
        DisabledForm: "Cannot sign in", "Вход закрыт";
        Save: "Save", "Сохранить";
        Help: "Help back in", "Вернуть доступ";
        Reset: "New one-time password", "Новый одноразовый пароль";
        ResetAbout: "The present password is good for nothing any more, and all sessions end.", "Нынешний пароль перестанет действовать, все сеансы завершатся.";
        ResetCodes: "Take the authenticator away, too", "Убрать и аутентификатор";
        DropCodes: "Take the authenticator away", "Убрать аутентификатор";
        DropCodesAbout: "Signing in takes the password alone. For who has lost the authenticator.", "Для входа хватит пароля. Если аутентификатор утерян.";
        SignOut: "Sign out everywhere", "Завершить все сеансы";
        SignOutAbout: "All sessions end at once; the password stays.", "Все сеансы завершатся сразу; пароль останется.";
        Remove: "Remove", "Удалить";
        RemoveTitle: "Remove this user?", "Удалить пользователя?";
        RemoveAbout: "All sessions end. What the user did stays in the audit log; tokens that the user issued stay good.", "Все сеансы завершатся. Записи в журнале аудита останутся; выпущенные им токены продолжат действовать.";
        RemoveDo: "Remove now", "Удалить сейчас";
        Keep: "Keep", "Оставить";
        ShownTitle: "One-time password", "Одноразовый пароль";
        Once: "Copy it now, and give it to the user by a way that nobody else reads. It is shown this once.", "Скопируйте сейчас и передайте так, чтобы не прочёл никто другой. Он показывается один раз.";
        Until: "Good until, UTC", "Действует до, UTC";
        Back: "I have copied it", "Скопировано";
        Copy: "Copy", "Копировать";
        Copied: "Copied", "Скопировано";
    }
}

/// The form that adds a user.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AddUserForm {
    #[serde(default)]
    key: String,
    name: String,
    role: String,
    #[serde(default)]
    sites: String,
}

/// The form that changes a user.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChangeUserForm {
    role: String,
    #[serde(default)]
    sites: String,
    #[serde(default)]
    disabled: String,
}

/// The form for a new one-time password.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResetUserForm {
    #[serde(default)]
    key: String,
    #[serde(default)]
    codes: String,
}

/// A user as he is shown.
struct UserLine {
    name: String,
    role: AccountText,
    sites: Option<String>,
    has_codes: bool,
    last: Option<(String, String)>,
    state: UsersText,
    /// Until when a one-time password is good.
    until: Option<String>,
    /// Whether there is something to look after.
    is_odd: bool,
}

#[derive(Template)]
#[template(path = "console/users.html")]
struct UsersPage<'a> {
    frame: &'a PageFrame,
    rows: Vec<UserLine>,
    proxy: Option<&'a str>,
    key: String,
}

#[derive(Template)]
#[template(path = "console/user.html")]
struct UserPage<'a> {
    frame: &'a PageFrame,
    account: &'a Account,
    row: UserLine,
    added: String,
    key: String,
}

#[derive(Template)]
#[template(path = "console/user_password.html")]
struct ShownPage<'a> {
    frame: &'a PageFrame,
    row: UserLine,
    password: &'a str,
    until: String,
}

#[derive(Template)]
#[template(path = "console/user_remove.html")]
struct RemovePage<'a> {
    frame: &'a PageFrame,
    row: UserLine,
}

/// `GET /users`
pub async fn list(State(console): State<Arc<Console>>, frame: PageFrame) -> Result<Response, Problem> {
    let accounts = console.services.accounts.list().await.map_err(store_error)?;
    let rows = accounts.iter().map(|account| UserLine::new(&console, account)).collect();
    let proxy = console.door.sign_on.as_ref().map(|proxy| proxy.name.as_str());
    let body = UsersPage { frame: &frame, rows, proxy, key: new_key() };
    Ok(frame.page(frame.say(Text::Users), Some(Text::Users), &body))
}

/// `GET /users/{user}`
pub async fn show(
    State(console): State<Arc<Console>>,
    frame: PageFrame,
    Path(user): Path<String>,
) -> Result<Response, Problem> {
    let account = find(&console, &user).await?;
    let added = rfc3339(account.created_at);
    let row = UserLine::new(&console, &account);
    let body = UserPage { frame: &frame, account: &account, row, added, key: new_key() };
    Ok(frame.page(account.name.as_str(), Some(Text::Users), &body))
}

/// `POST /users`
pub async fn add(
    State(console): State<Arc<Console>>,
    frame: PageFrame,
    form: Result<Form<AddUserForm>, FormRejection>,
) -> Result<Response, Problem> {
    let Form(form) = form.map_err(bad_form)?;
    let wanted =
        AddUser { name: form.name.clone(), role: form.role, sites: lines(&form.sites), language: None };
    shown_once(&console, &frame, (form.name, form.key), UserWish::Add(wanted)).await
}

/// `POST /users/{user}/reset`
pub async fn reset(
    State(console): State<Arc<Console>>,
    frame: PageFrame,
    Path(user): Path<String>,
    form: Result<Form<ResetUserForm>, FormRejection>,
) -> Result<Response, Problem> {
    let Form(form) = form.map_err(bad_form)?;
    let wish = UserWish::Reset(ResetUser { codes: form.codes == "yes" });
    shown_once(&console, &frame, (user, form.key), wish).await
}

/// `POST /users/{user}`: changes the user.
pub async fn change(
    State(console): State<Arc<Console>>,
    frame: PageFrame,
    Path(user): Path<String>,
    form: Result<Form<ChangeUserForm>, FormRejection>,
) -> Result<Response, Problem> {
    let Form(form) = form.map_err(bad_form)?;
    let change = ChangeUser {
        role: Some(form.role),
        sites: Some(lines(&form.sites)),
        disabled: Some(form.disabled == "yes"),
        ..ChangeUser::default()
    };
    done(&console, &frame, user, UserWish::Change(change)).await
}

/// `POST /users/{user}/drop-codes`
pub async fn drop_codes(
    State(console): State<Arc<Console>>,
    frame: PageFrame,
    Path(user): Path<String>,
) -> Result<Response, Problem> {
    done(&console, &frame, user, UserWish::DropCodes).await
}

/// `POST /users/{user}/sign-out`
pub async fn sign_out(
    State(console): State<Arc<Console>>,
    frame: PageFrame,
    Path(user): Path<String>,
) -> Result<Response, Problem> {
    done(&console, &frame, user, UserWish::SignOut).await
}

/// `GET /users/{user}/remove`
pub async fn ask_remove(
    State(console): State<Arc<Console>>,
    frame: PageFrame,
    Path(user): Path<String>,
) -> Result<Response, Problem> {
    let row = UserLine::new(&console, &find(&console, &user).await?);
    let body = RemovePage { frame: &frame, row };
    Ok(frame.page(frame.say(UsersText::RemoveTitle), Some(Text::Users), &body))
}

/// `POST /users/{user}/remove`
pub async fn remove(
    State(console): State<Arc<Console>>,
    frame: PageFrame,
    Path(user): Path<String>,
) -> Result<Response, Problem> {
    fulfil_audited(Arc::clone(&console.services), asker(&frame)?, user, UserWish::Remove).await?;
    Ok(Flash::UserRemoved.lead_to("/users"))
}

/// Fulfils a wish whose answer shows a password, once.
async fn shown_once(
    console: &Console,
    frame: &PageFrame,
    (user, key): (String, String),
    wish: UserWish,
) -> Result<Response, Problem> {
    let fulfilling = fulfil_audited(Arc::clone(&console.services), asker(frame)?, user, wish);
    let shown = once(console, frame, &key, async { Ok(fulfilling.await?) }).await?;
    let Some(AddedAccount { account, password }) = shown else { return Err(no_such_user()) };
    let row = UserLine::new(console, &account);
    let until = account.password_ends_at.map(rfc3339).unwrap_or_default();
    let body = ShownPage { frame, row, password: &password, until };
    Ok(frame.page(frame.say(UsersText::ShownTitle), Some(Text::Users), &body))
}

/// Fulfils a wish, and leads back to the user.
async fn done(
    console: &Console,
    frame: &PageFrame,
    user: String,
    wish: UserWish,
) -> Result<Response, Problem> {
    // As it is in paths, whatever was asked for.
    let name: AccountName = user.parse().map_err(|_| no_such_user())?;
    fulfil_audited(Arc::clone(&console.services), asker(frame)?, user, wish).await?;
    Ok(Flash::Saved.lead_to(&format!("/users/{name}")))
}

async fn find(console: &Console, user: &str) -> Result<Account, Problem> {
    let name: AccountName = user.parse().map_err(|_| no_such_user())?;
    console.services.accounts.find(&name).await.map_err(store_error)?.ok_or_else(no_such_user)
}

fn no_such_user() -> Problem {
    Problem::detailed(Code::NotFound, "there is no such user")
}

fn bad_form(rejected: FormRejection) -> Problem {
    let error = ItemError::parameter("form", rejected.body_text());
    Problem::of_item(Code::InvalidRequest, error)
}

/// The words of a text with one a line.
fn lines(text: &str) -> Vec<String> {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

impl UserLine {
    fn new(console: &Console, account: &Account) -> Self {
        let sites: Vec<&str> = account.sites.iter().map(|site| site.as_str()).collect();
        let now = console.services.clock.wall();
        let is_over = account.password_ends_at.is_some_and(|end| end <= now);
        let state = match (account.is_disabled, account.must_change_password, account.password_ends_at) {
            (true, ..) => UsersText::Disabled,
            (false, true, _) if is_over => UsersText::OneTimeOver,
            (false, true, Some(_)) => UsersText::OneTimeUntil,
            (false, true, None) => UsersText::OneTime,
            (false, false, _) => UsersText::Active,
        };
        Self {
            name: account.name.to_string(),
            role: role_words(account.role),
            sites: (account.role != Role::Operator).then(|| sites.join(", ")),
            has_codes: account.recovery_codes.is_some(),
            last: account.last_sign_in.map(|last| (rfc3339(last.at), last.address.to_string())),
            until: account.password_ends_at.filter(|_| state == UsersText::OneTimeUntil).map(rfc3339),
            is_odd: matches!(state, UsersText::Disabled | UsersText::OneTimeOver),
            state,
        }
    }

    /// The word for a role that the list has room for.
    fn role_name(&self, frame: &PageFrame) -> &'static str {
        let words = frame.say(self.role);
        words.split(':').next().unwrap_or(words)
    }
}

impl UserPage<'_> {
    /// The choices of a role: value, words, whether it is chosen.
    fn roles(&self) -> [(&'static str, AccountText, bool); 4] {
        Role::ALL.map(|role| (role.as_str(), role_words(role), role == self.account.role))
    }

    fn site_lines(&self) -> String {
        self.account.sites.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    }
}

impl UsersPage<'_> {
    /// The choices of a role, what may least first.
    fn roles(&self) -> impl Iterator<Item = (&'static str, AccountText)> {
        Role::ALL.into_iter().rev().map(|role| (role.as_str(), role_words(role)))
    }
}

/// `2026-04-20 08:12:31` of `2026-04-20T08:12:31Z`; the page says once that it is UTC.
fn plain(time: &str) -> String {
    time.trim_end_matches('Z').replace('T', " ")
}
