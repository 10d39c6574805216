//! `/account`: one's own password, authenticator, sessions and language.

use std::sync::Arc;

use askama::Template;
use axum::Form;
use axum::extract::State;
use axum::extract::rejection::FormRejection;
use axum::response::{IntoResponse, Redirect, Response};
use http::header::SET_COOKIE;
use http::{HeaderValue, StatusCode};
use serde::Deserialize;
use zeroize::Zeroizing;

use super::qr::QrSvg;
use super::sign_in::secret;
use crate::accounts::{
    Account, Grant, OwnAccountRefused, PASSWORD_CHARS_MIN, Role, SessionId, SessionReport, TotpOffer, Viewer,
    WeakPassword, clear_cookie,
};
use crate::api::problem::{Code, Problem, store_error};
use crate::clock::rfc3339;
use crate::console::flash::Flash;
use crate::console::frame::{PageFrame, SignedInBy};
use crate::console::guard::{ACCOUNT, SIGN_IN, not_allowed};
use crate::console::preferences::LANGUAGE_COOKIE;
use crate::console::state::Console;
use crate::console::words::{Text, Words, counted, words};
use crate::language::Language;

words! {
    /// What the page says.
    pub enum AccountText {
        MustChange: "Choose a password of your own: the one-time password is good for nothing else.",
            "Придумайте свой пароль: одноразовый больше ни для чего не годится.";
        Role: "Role", "Роль";
        Sites: "Sites", "Сайты";
        AllSites: "all", "все";
        Operator: "operator: everything, of every site", "оператор: всё, для всех сайтов";
        Manager: "manager: tokens and purges of the sites", "управляющий: токены и очистки сайтов";
        Member: "member: purges of the sites", "участник: очистки сайтов";
        Viewer: "viewer: reads what is of the sites", "наблюдатель: видит данные сайтов";
        Password: "Password", "Пароль";
        Present: "Present password", "Нынешний пароль";
        New: "New password", "Новый пароль";
        Repeat: "New password again", "Новый пароль ещё раз";
        Rules: "Long is what counts: some words of your own. Every other session ends.",
            "Важна длина: возьмите несколько своих слов. Все остальные сеансы завершатся.";
        ChangePassword: "Change password", "Сменить пароль";
        Authenticator: "Authenticator", "Аутентификатор";
        AuthenticatorOff: "With one, signing in takes a code from your phone, too.",
            "С ним для входа нужен ещё и код с телефона.";
        SetUp: "Set up", "Настроить";
        Scan: "Scan this with the authenticator, or type the key there; then type the code that it shows.",
            "Отсканируйте это приложением или введите ключ вручную, затем введите код, который оно покажет.";
        Key: "Key", "Ключ";
        Code: "Code", "Код";
        Confirm: "Confirm", "Подтвердить";
        Recovery: "Keep these recovery codes: each signs you in once, without the authenticator. They are not shown again.",
            "Сохраните коды восстановления: по каждому можно один раз войти без аутентификатора. Больше они не покажутся.";
        Done: "I have kept them", "Сохранено";
        Remove: "Remove", "Убрать";
        Sessions: "Sessions", "Сеансы";
        Began: "Signed in", "Вход";
        LastUsed: "Last used", "Использован";
        Address: "Address", "Адрес";
        This: "this one", "этот";
        End: "End", "Завершить";
        EndAll: "Sign out everywhere", "Выйти везде";
        LanguageNote: "On every browser where you choose none.", "В браузерах, где вы не выбрали другой.";
        Browsers: "as the browser prefers", "как в браузере";
        Save: "Save", "Сохранить";
        Wrong: "The present password is wrong.", "Нынешний пароль неверен.";
        Same: "The new password is the present one.", "Новый пароль совпадает с нынешним.";
        NotRepeated: "The new password was typed differently the second time.",
            "Во второй раз новый пароль введён иначе.";
        Long: "The new password is too long.", "Новый пароль слишком длинный.";
        Guessable: "The new password is easily guessed: your name, one piece repeated, or a well-known password.",
            "Новый пароль легко угадать: ваше имя, повторение или известный пароль.";
        WrongCode: "The code is wrong, or came too late. Take the next one; after a quarter of an hour set up anew.",
            "Код неверен или опоздал. Введите следующий; через четверть часа начните настройку заново.";
        AlreadySetUp: "An authenticator is set up already.", "Аутентификатор уже настроен.";
        Changed: "The account was changed at the same time. Look, and try again.",
            "Учётную запись в это время изменили. Проверьте и повторите.";
        ByProxy: "Signed in by", "Вход выполнил";
        ByProxyAbout: "Password, codes and sessions are kept there. What you may do here follows from your groups.",
            "Пароль, коды и сеансы хранятся там. Права здесь следуют из ваших групп.";
        Busy: "Too many at this moment. Try again in a while.", "Сейчас слишком много обращений. Повторите чуть позже.";
    }
}

/// The page.
#[derive(Template)]
#[template(path = "console/account.html")]
struct AccountPage<'a> {
    frame: &'a PageFrame,
    account: Account,
    failure: Option<String>,
    offer: Option<(TotpOffer, Option<QrSvg>)>,
    recovery: Vec<Zeroizing<String>>,
    sessions: Vec<SessionReport>,
    session: &'a str,
}

/// A row of the table.
struct ShownSession<'a> {
    id: &'a str,
    began: String,
    seen: String,
    address: String,
    is_this: bool,
}

/// The page of somebody whom a proxy has signed in.
#[derive(Template)]
#[template(path = "console/account_by_proxy.html")]
struct ProxiedPage<'a> {
    frame: &'a PageFrame,
    by: &'a SignedInBy,
    /// Role, and sites.
    grants: Vec<(&'static str, String)>,
}

fn grants(frame: &PageFrame, viewer: &Viewer) -> Vec<(&'static str, String)> {
    let one = |grant: &Grant| {
        let sites: Vec<&str> = grant.sites.iter().map(|site| site.as_str()).collect();
        let all = frame.say(AccountText::AllSites).to_owned();
        (frame.say(role_words(grant.role)), if sites.is_empty() { all } else { sites.join(", ") })
    };
    viewer.grants.iter().map(one).collect()
}

/// What a role may do.
pub(super) const fn role_words(role: Role) -> AccountText {
    match role {
        Role::Operator => AccountText::Operator,
        Role::Manager => AccountText::Manager,
        Role::Member => AccountText::Member,
        Role::Viewer => AccountText::Viewer,
    }
}

impl AccountPage<'_> {
    fn role(&self) -> AccountText {
        role_words(self.account.role)
    }

    fn sites(&self) -> String {
        match self.account.role {
            Role::Operator => self.frame.say(AccountText::AllSites).to_owned(),
            _ => self.account.sites.iter().map(|site| site.as_str()).collect::<Vec<_>>().join(", "),
        }
    }

    fn rules(&self) -> String {
        let characters = counted(
            self.frame.language,
            PASSWORD_CHARS_MIN as u64,
            ["character at least", "characters at least"],
            ["символ и больше", "символа и больше", "символов и больше"],
        );
        format!("{characters}. {}", self.frame.say(AccountText::Rules))
    }

    fn authenticator(&self) -> Option<String> {
        let left = self.account.recovery_codes?;
        let codes = counted(
            self.frame.language,
            left as u64,
            ["recovery code", "recovery codes"],
            ["код восстановления", "кода восстановления", "кодов восстановления"],
        );
        Some(match self.frame.language {
            Language::English => format!("Set up: signing in takes a code. {codes} left."),
            Language::Russian => format!("Настроен: для входа нужен код. Осталось: {codes}."),
        })
    }

    fn shown(&self) -> impl Iterator<Item = ShownSession<'_>> {
        self.sessions.iter().map(|one| ShownSession {
            id: one.id.as_str(),
            began: rfc3339(one.began_at),
            seen: rfc3339(one.seen_at),
            address: one.address.to_string(),
            is_this: one.id.as_str() == self.session,
        })
    }

    fn languages(&self) -> [(&'static str, &'static str, bool); 3] {
        let chosen = self.account.language;
        [
            ("auto", self.frame.say(AccountText::Browsers), chosen.is_none()),
            ("en", "English", chosen == Some(Language::English)),
            ("ru", "Русский", chosen == Some(Language::Russian)),
        ]
    }
}

/// `GET /account`
pub async fn show(State(console): State<Arc<Console>>, frame: PageFrame) -> Result<Response, Problem> {
    page(&console, &frame, None, Vec::new()).await
}

/// A changed password.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PasswordForm {
    #[serde(deserialize_with = "secret")]
    present: Zeroizing<String>,
    #[serde(deserialize_with = "secret")]
    new: Zeroizing<String>,
    #[serde(deserialize_with = "secret")]
    repeat: Zeroizing<String>,
}

/// `POST /account/password`
pub async fn password(
    State(console): State<Arc<Console>>,
    frame: PageFrame,
    form: Result<Form<PasswordForm>, FormRejection>,
) -> Result<Response, Problem> {
    let Form(form) = form.map_err(bad_form)?;
    if form.new != form.repeat {
        return refused(&console, &frame, AccountText::NotRepeated.of(frame.language).to_owned()).await;
    }
    let changed = console
        .services
        .accounts
        .change_password(viewer(&frame)?, &form.present, &form.new, frame.address)
        .await;
    match changed {
        Ok(session) => {
            let mut response = Flash::Saved.lead_to(ACCOUNT);
            add_cookie(&mut response, &session.set_cookie(console.door.is_secure));
            Ok(response)
        }
        Err(error) => failed(&console, &frame, error).await,
    }
}

/// What shows that it is he.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ProofForm {
    #[serde(deserialize_with = "secret")]
    present: Zeroizing<String>,
}

/// `POST /account/authenticator`: offers one.
pub async fn offer(
    State(console): State<Arc<Console>>,
    frame: PageFrame,
    form: Result<Form<ProofForm>, FormRejection>,
) -> Result<Response, Problem> {
    let Form(form) = form.map_err(bad_form)?;
    match console.services.accounts.totp_begin(viewer(&frame)?, &form.present, frame.address).await {
        Ok(_) => Ok(Redirect::to(ACCOUNT).into_response()),
        Err(error) => failed(&console, &frame, error).await,
    }
}

/// The first code.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CodeForm {
    code: String,
}

/// `POST /account/authenticator/confirm`: answers with the recovery codes, this once.
pub async fn confirm(
    State(console): State<Arc<Console>>,
    frame: PageFrame,
    form: Result<Form<CodeForm>, FormRejection>,
) -> Result<Response, Problem> {
    let Form(form) = form.map_err(bad_form)?;
    match console.services.accounts.totp_confirm(viewer(&frame)?, &form.code, frame.address).await {
        Ok(codes) => page(&console, &frame, None, codes).await,
        Err(error) => failed(&console, &frame, error).await,
    }
}

/// `POST /account/authenticator/remove`
pub async fn remove(
    State(console): State<Arc<Console>>,
    frame: PageFrame,
    form: Result<Form<ProofForm>, FormRejection>,
) -> Result<Response, Problem> {
    let Form(form) = form.map_err(bad_form)?;
    match console.services.accounts.totp_remove(viewer(&frame)?, &form.present, frame.address).await {
        Ok(()) => Ok(Flash::Saved.lead_to(ACCOUNT)),
        Err(error) => failed(&console, &frame, error).await,
    }
}

/// A language for all browsers.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LanguageForm {
    to: String,
}

/// `POST /account/language`
pub async fn language(
    State(console): State<Arc<Console>>,
    frame: PageFrame,
    form: Result<Form<LanguageForm>, FormRejection>,
) -> Result<Response, Problem> {
    let Form(form) = form.map_err(bad_form)?;
    let language = Language::from_tag(&form.to);
    if language.is_none() && form.to != "auto" {
        return Err(Problem::detailed(Code::InvalidRequest, "there is no such language"));
    }
    console.services.accounts.set_language(viewer(&frame)?, language).await.map_err(store_error)?;
    let mut response = Flash::Saved.lead_to(ACCOUNT);
    // What was chosen in this browser before would hide it.
    add_cookie(&mut response, &format!("{LANGUAGE_COOKIE}=; Path=/; Max-Age=0; SameSite=Lax"));
    Ok(response)
}

/// One session, by its name.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SessionForm {
    session: String,
}

/// `POST /account/sessions/end`
pub async fn end_session(
    State(console): State<Arc<Console>>,
    frame: PageFrame,
    form: Result<Form<SessionForm>, FormRejection>,
) -> Result<Response, Problem> {
    let Form(form) = form.map_err(bad_form)?;
    let accounts = &console.services.accounts;
    accounts.end_session(viewer(&frame)?, &form.session, frame.address).await.map_err(store_error)?;
    Ok(Flash::Saved.lead_to(ACCOUNT))
}

/// `POST /account/sessions/end-all`
pub async fn end_all(State(console): State<Arc<Console>>, frame: PageFrame) -> Result<Response, Problem> {
    let accounts = &console.services.accounts;
    accounts.sign_out_everywhere(viewer(&frame)?, frame.address).await.map_err(store_error)?;
    Ok(([(SET_COOKIE, clear_cookie(console.door.is_secure))], Redirect::to(SIGN_IN)).into_response())
}

async fn page(
    console: &Console,
    frame: &PageFrame,
    failure: Option<String>,
    recovery: Vec<Zeroizing<String>>,
) -> Result<Response, Problem> {
    let (viewer, accounts) = (viewer(frame)?, &console.services.accounts);
    if let Some(by) = &frame.signed_in_by {
        let body = ProxiedPage { frame, by, grants: grants(frame, viewer) };
        return Ok(frame.page(frame.say(Text::Account), None, &body));
    }
    let account = accounts.find(&viewer.name).await.map_err(store_error)?.ok_or_else(not_allowed)?;
    let offer = accounts.totp_offer(viewer).await.map_err(store_error)?;
    let body = AccountPage {
        frame,
        account,
        failure,
        offer: offer.map(|offer| {
            let qr = QrSvg::of(&offer.uri);
            (offer, qr)
        }),
        recovery,
        sessions: accounts.sessions(viewer).await.map_err(store_error)?,
        session: viewer.session.as_ref().map_or("", SessionId::as_str),
    };
    Ok(frame.page(frame.say(Text::Account), None, &body))
}

/// The page once more, with why it was not done.
async fn refused(console: &Console, frame: &PageFrame, failure: String) -> Result<Response, Problem> {
    let mut response = page(console, frame, Some(failure), Vec::new()).await?;
    *response.status_mut() = StatusCode::UNPROCESSABLE_ENTITY;
    Ok(response)
}

async fn failed(console: &Console, frame: &PageFrame, error: OwnAccountRefused) -> Result<Response, Problem> {
    let text = match error {
        OwnAccountRefused::Store(error) => return Err(store_error(error)),
        OwnAccountRefused::Wrong => AccountText::Wrong,
        OwnAccountRefused::Same => AccountText::Same,
        OwnAccountRefused::Weak(WeakPassword::Long) => AccountText::Long,
        OwnAccountRefused::Weak(WeakPassword::Guessable) => AccountText::Guessable,
        OwnAccountRefused::WrongCode => AccountText::WrongCode,
        OwnAccountRefused::AlreadySetUp => AccountText::AlreadySetUp,
        OwnAccountRefused::Changed => AccountText::Changed,
        OwnAccountRefused::Throttled { .. } | OwnAccountRefused::Busy { .. } => AccountText::Busy,
        OwnAccountRefused::Weak(WeakPassword::Short) => {
            let least = match frame.language {
                Language::English => {
                    format!("The new password must have at least {PASSWORD_CHARS_MIN} characters.")
                }
                Language::Russian => {
                    format!("В новом пароле должно быть не меньше {PASSWORD_CHARS_MIN} символов.")
                }
            };
            return refused(console, frame, least).await;
        }
    };
    refused(console, frame, text.of(frame.language).to_owned()).await
}

/// Every route here needs one.
fn viewer(frame: &PageFrame) -> Result<&Viewer, Problem> {
    frame.viewer.as_ref().ok_or_else(not_allowed)
}

fn bad_form(rejected: FormRejection) -> Problem {
    Problem::detailed(Code::InvalidRequest, rejected.body_text())
}

fn add_cookie(response: &mut Response, cookie: &str) {
    if let Ok(value) = HeaderValue::from_str(cookie) {
        response.headers_mut().append(SET_COOKIE, value);
    }
}
