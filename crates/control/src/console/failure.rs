//! How a page says no: what happened, why, what to do about it, and the id under which the logs know it.

use askama::Template;
use axum::response::{IntoResponse, Response};
use http::HeaderValue;
use http::header::RETRY_AFTER;

use super::frame::PageFrame;
use super::words::{Text, counted};
use crate::api::problem::{Code, Problem};
use crate::language::Language;

/// A refusal under the heading that is its title.
#[derive(Template)]
#[template(path = "console/failure.html")]
struct FailureBody<'a> {
    frame: &'a PageFrame,
    /// Stands in a page that stays as it is, and so with its title.
    title: Option<&'a str>,
    detail: Option<String>,
    errors: Vec<(String, String)>,
    remedy: String,
    code: &'static str,
    request_id: &'a str,
}

/// A page about it; for a script, a part of one.
pub fn page(frame: &PageFrame, problem: &Problem) -> Response {
    let document = problem.document(frame.language, frame.request_id.as_str());
    let of_error = |error: &crate::api::problem::ItemError| {
        let named = error.value.clone().or_else(|| error.parameter.clone()).or_else(|| error.pointer.clone());
        (named.unwrap_or_default(), error.detail.clone())
    };
    let body = FailureBody {
        frame,
        title: frame.is_fragment.then_some(document.title.as_str()),
        detail: document.detail.clone(),
        errors: document.errors.iter().map(of_error).collect(),
        remedy: remedy(problem, frame.language),
        code: problem.code.as_str(),
        request_id: frame.request_id.as_str(),
    };
    let mut response = match frame.is_fragment {
        true => frame.fragment(&body),
        false => frame.page(&document.title, None, &body),
    };
    *response.status_mut() = problem.code.status();
    if let Some(secs) = problem.retry_after_secs() {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(secs));
    }
    response
}

/// A bug of ours. What was asked for may have been done.
pub fn after_panic() -> Response {
    Problem::detailed(Code::OutcomeUnknown, "an internal error; it has been logged").into_response()
}

fn remedy(problem: &Problem, language: Language) -> String {
    let secs = problem.retry_after_secs().unwrap_or(1);
    let wait = counted(language, secs, ["second", "seconds"], ["секунду", "секунды", "секунд"]);
    let text = match (problem.code, language) {
        (Code::InvalidUrl | Code::InvalidTag | Code::InvalidRequest, Language::English) => {
            "Go back, correct what is named above, and send it again. Nothing was done."
        }
        (Code::InvalidUrl | Code::InvalidTag | Code::InvalidRequest, Language::Russian) => {
            "Вернитесь, исправьте то, что названо выше, и отправьте снова. Ничего не сделано."
        }
        (Code::TooManyItems | Code::BodyTooLarge, Language::English) => {
            "Send it in several parts. Nothing was done."
        }
        (Code::TooManyItems | Code::BodyTooLarge, Language::Russian) => {
            "Отправьте по частям. Ничего не сделано."
        }
        (Code::BadSignature | Code::InvalidToken, Language::English) => "Sign in again.",
        (Code::BadSignature | Code::InvalidToken, Language::Russian) => "Войдите снова.",
        (Code::ScopeDenied, Language::English) => "Nothing was done. Choose a section in the navigation.",
        (Code::ScopeDenied, Language::Russian) => "Ничего не сделано. Выберите раздел в навигации.",
        (Code::NotFound, Language::English) => {
            "Check the address, or choose a section in the navigation. Purges are kept 30 days."
        }
        (Code::NotFound, Language::Russian) => {
            "Проверьте адрес или выберите раздел в навигации. Очистки хранятся 30 дней."
        }
        (
            Code::MethodNotAllowed | Code::UnsupportedMediaType | Code::IdempotencyKeyReused,
            Language::English,
        ) => "Open the page again, and send its form from there.",
        (
            Code::MethodNotAllowed | Code::UnsupportedMediaType | Code::IdempotencyKeyReused,
            Language::Russian,
        ) => "Откройте страницу заново и отправьте форму с неё.",
        (Code::TooManyObjects, Language::English) => {
            "Go back, look at the count again, and raise the limit if so many objects are meant."
        }
        (Code::TooManyObjects, Language::Russian) => {
            "Вернитесь, проверьте число объектов и поднимите предел, если столько и нужно."
        }
        (Code::OutcomeUnknown, Language::English) => {
            "It may have been done or not. Look at the list of purges before you send it again."
        }
        (Code::OutcomeUnknown, Language::Russian) => {
            "Это могло быть сделано, а могло и нет. Посмотрите список очисток, прежде чем повторять."
        }
        (Code::RateLimited | Code::CountUnavailable | Code::Unavailable, Language::English) => {
            return format!("Try again in {wait}. Nothing was done.");
        }
        (Code::RateLimited | Code::CountUnavailable | Code::Unavailable, Language::Russian) => {
            return format!("Повторите через {wait}. Ничего не сделано.");
        }
    };
    text.to_owned()
}
