//! `/sign-in` and `/sign-out`.

use std::sync::Arc;

use askama::Template;
use axum::Form;
use axum::extract::rejection::{FormRejection, QueryRejection};
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Redirect, Response};
use http::header::{RETRY_AFTER, SET_COOKIE};
use http::{HeaderValue, StatusCode};
use serde::{Deserialize, Deserializer};
use zeroize::Zeroizing;

use crate::accounts::{SignInRefused, clear_cookie};
use crate::api::problem::{Code, Problem, store_error};
use crate::console::frame::PageFrame;
use crate::console::guard::{ACCOUNT, SIGN_IN};
use crate::console::state::Console;
use crate::console::words::{counted, words};
use crate::language::Language;

words! {
    /// What the page says.
    pub enum SignInText {
        Title: "Sign in", "Вход";
        Name: "Name", "Имя";
        Password: "Password", "Пароль";
        Code: "Code", "Код";
        CodeNote: "Of your authenticator, or a recovery code. Only if you have set one up.",
            "Из приложения-аутентификатора или код восстановления. Только если вы их настроили.";
        Submit: "Sign in", "Войти";
        Lost: "Password or authenticator lost? An operator gives you a new one-time password.",
            "Забыли пароль или потеряли аутентификатор? Оператор выдаст новый одноразовый пароль.";
        Wrong: "The name or the password is wrong.", "Неверное имя или пароль.";
        CodeNeeded: "This account takes a code, too: type password and code.",
            "Для этой учётной записи нужен ещё и код: введите пароль и код.";
        WrongCode: "The code is wrong, or was used before. Wait for the next one.",
            "Код неверен или уже использован. Дождитесь следующего.";
    }
}

/// What the page's URL has.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct SignInQuery {
    next: String,
}

/// What is typed.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SignInForm {
    name: String,
    #[serde(deserialize_with = "secret")]
    password: Zeroizing<String>,
    code: String,
    next: String,
}

/// The page.
#[derive(Template)]
#[template(path = "console/sign_in.html")]
struct SignInPage<'a> {
    frame: &'a PageFrame,
    name: &'a str,
    next: &'a str,
    failure: Option<String>,
}

/// `GET /sign-in`
pub async fn show(
    frame: PageFrame,
    query: Result<Query<SignInQuery>, QueryRejection>,
) -> Result<Response, Problem> {
    let Query(query) =
        query.map_err(|rejected| Problem::detailed(Code::InvalidRequest, rejected.body_text()))?;
    let next = local(&query.next);
    if let Some(viewer) = &frame.viewer {
        return Ok(Redirect::to(if viewer.must_change_password { ACCOUNT } else { next }).into_response());
    }
    Ok(page(&frame, "", next, None))
}

/// `POST /sign-in`
pub async fn submit(
    State(console): State<Arc<Console>>,
    frame: PageFrame,
    form: Result<Form<SignInForm>, FormRejection>,
) -> Result<Response, Problem> {
    let Form(form) =
        form.map_err(|rejected| Problem::detailed(Code::InvalidRequest, rejected.body_text()))?;
    let accounts = &console.services.accounts;
    let next = local(&form.next);
    if frame.signed_in_by.is_some() {
        // A session beside it would be nobody's wish: it would come to light when the proxy names nobody any more.
        return Ok(Redirect::to(next).into_response());
    }
    let signed_in = accounts.sign_in(&form.name, &form.password, Some(&form.code), frame.address).await;
    let refused = match signed_in {
        Ok(session) => {
            let to = if session.viewer.must_change_password { ACCOUNT } else { next };
            // The session from before, if there is one, is of nobody any more.
            if let Some(viewer) = &frame.viewer {
                accounts.sign_out(viewer, frame.address).await.map_err(store_error)?;
            }
            let cookie = session.set_cookie(console.door.is_secure);
            return Ok(([(SET_COOKIE, cookie)], Redirect::to(to)).into_response());
        }
        Err(SignInRefused::Store(error)) => return Err(store_error(error)),
        Err(refused) => refused,
    };
    let mut response = page(&frame, &form.name, next, Some(told(&refused, frame.language)));
    *response.status_mut() = match refused.retry_after() {
        Some(wait) => {
            let secs = wait.as_secs() + 1;
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(secs));
            StatusCode::TOO_MANY_REQUESTS
        }
        None => StatusCode::UNPROCESSABLE_ENTITY,
    };
    Ok(response)
}

/// `POST /sign-out`
pub async fn sign_out(State(console): State<Arc<Console>>, frame: PageFrame) -> Result<Response, Problem> {
    if let Some(viewer) = &frame.viewer {
        console.services.accounts.sign_out(viewer, frame.address).await.map_err(store_error)?;
    }
    let to = match &frame.signed_in_by {
        Some(by) => by.sign_out.as_deref().unwrap_or(ACCOUNT),
        None => SIGN_IN,
    };
    Ok(([(SET_COOKIE, clear_cookie(console.door.is_secure))], Redirect::to(to)).into_response())
}

fn page(frame: &PageFrame, name: &str, next: &str, failure: Option<String>) -> Response {
    frame.page(frame.say(SignInText::Title), None, &SignInPage { frame, name, next, failure })
}

/// Why it was not done, and what to do.
fn told(refused: &SignInRefused, language: Language) -> String {
    use crate::console::words::Words;
    match refused {
        SignInRefused::CodeNeeded => SignInText::CodeNeeded.of(language).to_owned(),
        SignInRefused::WrongCode => SignInText::WrongCode.of(language).to_owned(),
        SignInRefused::Wrong | SignInRefused::Store(_) => SignInText::Wrong.of(language).to_owned(),
        SignInRefused::Throttled { retry_after } | SignInRefused::Busy { retry_after } => {
            let secs = retry_after.as_secs() + 1;
            let wait = counted(language, secs, ["second", "seconds"], ["секунду", "секунды", "секунд"]);
            match language {
                Language::English => format!("Too many sign-ins failed. Try again in {wait}."),
                Language::Russian => format!("Слишком много неудачных входов. Повторите через {wait}."),
            }
        }
    }
}

/// What is typed and not shown, wiped when it is not needed any more.
pub(super) fn secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Zeroizing<String>, D::Error> {
    String::deserialize(deserializer).map(Zeroizing::new)
}

/// A page of ours to go on to; whatever else is written there leads to the beginning.
fn local(next: &str) -> &str {
    let is_path = next.starts_with('/') && !next.starts_with("//");
    let is_plain = next.bytes().all(|b| b.is_ascii_graphic() && b != b'\\');
    if is_path && is_plain { next } else { "/" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_led_on_to_pages_of_ours_alone() {
        for path in ["/", "/purges?site=shop", "/a/b"] {
            assert_eq!(local(path), path);
        }
        for path in
            ["", "purges", "//evil.example/", "/\\evil.example", "https://evil.example/", "/a\r\nb", "/я"]
        {
            assert_eq!(local(path), "/", "{path:?}");
        }
    }
}
