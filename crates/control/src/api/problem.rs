//! What the API answers when it does not do what was asked: `application/problem+json` (RFC 9457).
//!
//! A [`Problem`] is written by whoever finds it and rendered by one layer ([`super::reply`]), which knows the request id
//! and the reader's language.

use std::borrow::Cow;
use std::time::Duration;

use axum::response::{IntoResponse, Response};
use batoff_log::StoreError;
use http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use super::russian;
use crate::language::Language;

/// Where the codes are explained; a problem's `type` is this and its code.
pub const ERRORS_BASE: &str = "https://docs.batoff.ru/errors/";

/// Entries of `errors` in one reply. Further bad items are not listed; the reply stays bounded whatever was sent.
pub const ERRORS_MAX: usize = 200;

/// Bytes of a bad item that are given back. A longer one is cut, and an ellipsis marks it; the pointer still names it.
pub const VALUE_BYTES_MAX: usize = 8_192;

/// The answer when the store does not say what was asked.
pub(crate) fn store_error(error: StoreError) -> Problem {
    tracing::warn!(%error, "the store cannot be read");
    Problem::detailed(Code::Unavailable, "the store cannot be read now")
}

/// Why a request was refused. The names never change; clients switch on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// A URL, prefix or host is malformed, or does not belong to the site.
    InvalidUrl,
    /// A tag outside the grammar.
    InvalidTag,
    /// The body or a query parameter is not what the API takes.
    InvalidRequest,
    /// Over a limit on the number of items.
    TooManyItems,
    /// Signature or timestamp rejected, or missing.
    BadSignature,
    /// No token, or a malformed, unknown or revoked one.
    InvalidToken,
    /// The token is for another site, or lacks the scope; also for a site that does not exist.
    ScopeDenied,
    /// No such task for this site, or no such route.
    NotFound,
    /// The route exists for other methods.
    MethodNotAllowed,
    /// `max_objects` would be exceeded.
    TooManyObjects,
    /// The body is over 1 MiB.
    BodyTooLarge,
    /// The body is not `application/json`.
    UnsupportedMediaType,
    /// The same `Idempotency-Key` came with another body.
    IdempotencyKeyReused,
    /// A quota is used up, or too many failed authentications came from the address.
    RateLimited,
    /// `max_objects` was sent, and not every node that may serve from its cache has said how much it would lose; nothing
    /// was queued.
    CountUnavailable,
    /// Cannot be done now; certainly nothing was accepted.
    Unavailable,
    /// It may or may not take effect.
    OutcomeUnknown,
}

impl Code {
    /// All codes, in the order of the API's table.
    pub const ALL: [Self; 17] = [
        Self::InvalidUrl,
        Self::InvalidTag,
        Self::InvalidRequest,
        Self::TooManyItems,
        Self::BadSignature,
        Self::InvalidToken,
        Self::ScopeDenied,
        Self::NotFound,
        Self::MethodNotAllowed,
        Self::TooManyObjects,
        Self::BodyTooLarge,
        Self::UnsupportedMediaType,
        Self::IdempotencyKeyReused,
        Self::RateLimited,
        Self::CountUnavailable,
        Self::Unavailable,
        Self::OutcomeUnknown,
    ];

    /// The code as it stands in replies and in the metric's label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InvalidUrl => "invalid_url",
            Self::InvalidTag => "invalid_tag",
            Self::InvalidRequest => "invalid_request",
            Self::TooManyItems => "too_many_items",
            Self::BadSignature => "bad_signature",
            Self::InvalidToken => "invalid_token",
            Self::ScopeDenied => "scope_denied",
            Self::NotFound => "not_found",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::TooManyObjects => "too_many_objects",
            Self::BodyTooLarge => "body_too_large",
            Self::UnsupportedMediaType => "unsupported_media_type",
            Self::IdempotencyKeyReused => "idempotency_key_reused",
            Self::RateLimited => "rate_limited",
            Self::CountUnavailable => "count_unavailable",
            Self::Unavailable => "unavailable",
            Self::OutcomeUnknown => "outcome_unknown",
        }
    }

    /// The HTTP status that goes with it.
    pub const fn status(self) -> StatusCode {
        match self {
            Self::InvalidUrl | Self::InvalidTag | Self::InvalidRequest | Self::TooManyItems => {
                StatusCode::BAD_REQUEST
            }
            Self::BadSignature | Self::InvalidToken => StatusCode::UNAUTHORIZED,
            Self::ScopeDenied => StatusCode::FORBIDDEN,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::TooManyObjects => StatusCode::PRECONDITION_FAILED,
            Self::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::IdempotencyKeyReused => StatusCode::UNPROCESSABLE_ENTITY,
            Self::RateLimited => StatusCode::TOO_MANY_REQUESTS,
            Self::CountUnavailable | Self::Unavailable | Self::OutcomeUnknown => {
                StatusCode::SERVICE_UNAVAILABLE
            }
        }
    }

    /// One line for people.
    pub const fn title(self, language: Language) -> &'static str {
        match language {
            Language::English => self.english(),
            Language::Russian => self.russian(),
        }
    }

    const fn english(self) -> &'static str {
        match self {
            Self::InvalidUrl => "URL is malformed or does not belong to the site",
            Self::InvalidTag => "Tag is not valid",
            Self::InvalidRequest => "Request is not valid",
            Self::TooManyItems => "Too many items in one request",
            Self::BadSignature => "Signature or timestamp was rejected",
            Self::InvalidToken => "Token is missing or not valid",
            Self::ScopeDenied => "Token does not allow this",
            Self::NotFound => "Not found",
            Self::MethodNotAllowed => "Method is not allowed here",
            Self::TooManyObjects => "Purge would hit more objects than allowed",
            Self::BodyTooLarge => "Body is too large",
            Self::UnsupportedMediaType => "Body must be application/json",
            Self::IdempotencyKeyReused => "Idempotency-Key was used with another body",
            Self::RateLimited => "Too many requests",
            Self::CountUnavailable => "Objects cannot be counted now; nothing was accepted",
            Self::Unavailable => "Temporarily unavailable; nothing was accepted",
            Self::OutcomeUnknown => "Outcome is unknown; send the same request again",
        }
    }

    const fn russian(self) -> &'static str {
        match self {
            Self::InvalidUrl => "URL некорректен или не принадлежит сайту",
            Self::InvalidTag => "Недопустимый тег",
            Self::InvalidRequest => "Некорректный запрос",
            Self::TooManyItems => "Слишком много элементов в одном запросе",
            Self::BadSignature => "Подпись или метка времени отклонена",
            Self::InvalidToken => "Токен отсутствует или недействителен",
            Self::ScopeDenied => "Токен не даёт права на это действие",
            Self::NotFound => "Не найдено",
            Self::MethodNotAllowed => "Метод здесь не поддерживается",
            Self::TooManyObjects => "Очистка затронула бы больше объектов, чем разрешено",
            Self::BodyTooLarge => "Слишком большое тело запроса",
            Self::UnsupportedMediaType => "Тело запроса должно быть application/json",
            Self::IdempotencyKeyReused => "Idempotency-Key уже использован с другим телом запроса",
            Self::RateLimited => "Слишком много запросов",
            Self::CountUnavailable => "Сейчас нельзя подсчитать объекты; ничего не принято",
            Self::Unavailable => "Сервис временно недоступен; ничего не принято",
            Self::OutcomeUnknown => "Исход неизвестен; повторите тот же запрос",
        }
    }
}

/// One bad item of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct ItemError {
    /// Where it stands in the body (RFC 6901); absent when it is no part of the body.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "/urls/1", nullable = false)]
    pub pointer: Option<String>,
    /// The query parameter or header field that is meant; absent when it is a part of the body.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub parameter: Option<String>,
    /// What was sent, as far as there is anything to show.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "https://evil.example/", nullable = false)]
    pub value: Option<String>,
    /// What is wrong with it.
    #[schema(example = "host evil.example is not a hostname of site shop")]
    pub detail: String,
}

impl ItemError {
    /// An item of the body.
    pub fn at(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { pointer: Some(pointer.into()), parameter: None, value: None, detail: detail.into() }
    }

    /// A query parameter or header field.
    pub fn parameter(name: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { pointer: None, parameter: Some(clip(name.into())), value: None, detail: detail.into() }
    }

    /// Adds what was sent.
    #[must_use]
    pub fn with_value(mut self, value: impl Into<String>) -> Self {
        self.value = Some(clip(value.into()));
        self
    }
}

fn clip(mut text: String) -> String {
    if text.len() > VALUE_BYTES_MAX {
        text.truncate(text.floor_char_boundary(VALUE_BYTES_MAX));
        text.push('…');
    }
    text
}

/// A refusal, before it is rendered.
#[derive(Clone, Debug)]
pub struct Problem {
    /// Why.
    pub code: Code,
    /// Titles in place of the code's own, English and Russian, where something more exact can be said.
    pub title: Option<[&'static str; 2]>,
    /// What this occurrence is about, in English.
    pub detail: Option<Cow<'static, str>>,
    /// The bad items.
    pub errors: Vec<ItemError>,
    /// When it is worth coming again. Sent as whole seconds, rounded up, at least 1.
    pub retry_after: Option<Duration>,
    /// `Accept-Encoding`: which content codings would do, where that is what was wrong (RFC 7694).
    pub accept_encoding: Option<&'static str>,
}

impl Problem {
    /// With nothing but the code.
    pub const fn new(code: Code) -> Self {
        Self { code, title: None, detail: None, errors: Vec::new(), retry_after: None, accept_encoding: None }
    }

    /// With a text about this occurrence.
    pub fn detailed(code: Code, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { detail: Some(detail.into()), ..Self::new(code) }
    }

    /// With the bad items; those over [`ERRORS_MAX`] are dropped.
    pub fn of_items(code: Code, mut errors: Vec<ItemError>) -> Self {
        errors.truncate(ERRORS_MAX);
        Self { errors, ..Self::new(code) }
    }

    /// With one bad item.
    pub fn of_item(code: Code, error: ItemError) -> Self {
        Self::of_items(code, vec![error])
    }

    /// With a time to come again.
    #[must_use]
    pub const fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// With the content codings that would do.
    #[must_use]
    pub const fn accepting(mut self, codings: &'static str) -> Self {
        self.accept_encoding = Some(codings);
        self
    }

    /// The `Retry-After` field in seconds; never 0. Every 429 and 503 has one.
    pub fn retry_after_secs(&self) -> Option<u64> {
        let needs = matches!(
            self.code,
            Code::RateLimited | Code::CountUnavailable | Code::Unavailable | Code::OutcomeUnknown
        );
        let wait = self.retry_after.or(needs.then_some(Duration::from_secs(1)))?;
        Some(wait.as_secs().saturating_add(u64::from(wait.subsec_nanos() > 0)).max(1))
    }

    /// The JSON document.
    pub fn document(&self, language: Language, request_id: &str) -> ProblemDocument {
        let title = match (self.title, language) {
            (Some([english, _]), Language::English) => english,
            (Some([_, russian]), Language::Russian) => russian,
            (None, _) => self.code.title(language),
        };
        let told = |text: &str| match language {
            Language::English => text.to_owned(),
            Language::Russian => russian::of(text),
        };
        ProblemDocument {
            kind: format!("{ERRORS_BASE}{}", self.code.as_str()),
            title: title.to_owned(),
            status: self.code.status().as_u16(),
            code: self.code,
            detail: self.detail.as_deref().map(told),
            request_id: request_id.to_owned(),
            errors: self
                .errors
                .iter()
                .map(|error| ItemError { detail: told(&error.detail), ..error.clone() })
                .collect(),
        }
    }
}

/// Only the status, and the problem itself beside it: the layer that knows request id and language writes the rest.
impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = self.code.status().into_response();
        response.extensions_mut().insert(std::sync::Arc::new(self));
        response
    }
}

/// A refusal as it is sent (RFC 9457).
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Problem)]
pub struct ProblemDocument {
    /// A URI that explains the code.
    #[serde(rename = "type")]
    #[schema(example = "https://docs.batoff.ru/errors/invalid_url")]
    pub kind: String,
    /// One line for people; English, or Russian where `Accept-Language` prefers it.
    #[schema(example = "URL does not belong to the site")]
    pub title: String,
    /// The HTTP status.
    #[schema(example = 400)]
    pub status: u16,
    /// The reason for programs; never changes.
    pub code: Code,
    /// What this occurrence is about, in the language of the title.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub detail: Option<String>,
    /// The id of the request, the same as in `X-Request-Id`.
    #[schema(example = "01JF7M2KZ7YH9Q4K0P2BDH9W3Y")]
    pub request_id: String,
    /// The bad items, at most 200 of them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<ItemError>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_serialises_as_its_name_and_has_titles_in_both_languages() {
        for code in Code::ALL {
            assert_eq!(serde_json::to_value(code).unwrap(), code.as_str());
            assert!(code.title(Language::English).is_ascii());
            assert!(!code.title(Language::Russian).is_ascii() || code.title(Language::Russian).is_empty());
        }
    }

    #[test]
    fn retry_after_is_rounded_up_and_never_0() {
        let secs = |millis| {
            Problem::new(Code::RateLimited).retry_after(Duration::from_millis(millis)).retry_after_secs()
        };
        assert_eq!([secs(0), secs(1), secs(1_000), secs(1_001)], [Some(1), Some(1), Some(1), Some(2)]);
        assert_eq!(Problem::new(Code::Unavailable).retry_after_secs(), Some(1));
        assert_eq!(Problem::new(Code::InvalidUrl).retry_after_secs(), None);
    }

    #[test]
    fn a_long_value_is_cut_between_characters() {
        let error = ItemError::at("/tags/0", "too long").with_value("ж".repeat(VALUE_BYTES_MAX));
        let value = error.value.unwrap();
        assert_eq!(value.len(), VALUE_BYTES_MAX + '…'.len_utf8());
    }

    #[test]
    fn the_document_has_the_members_of_the_contract() {
        let problem = Problem::of_item(
            Code::InvalidUrl,
            ItemError::at("/urls/1", "host evil.example is not a hostname of site shop")
                .with_value("https://evil.example/"),
        );
        let document = serde_json::to_value(problem.document(Language::English, "r1")).unwrap();
        assert_eq!(
            document,
            serde_json::json!({
                "type": "https://docs.batoff.ru/errors/invalid_url",
                "title": "URL is malformed or does not belong to the site",
                "status": 400, "code": "invalid_url", "request_id": "r1",
                "errors": [ { "pointer": "/urls/1", "value": "https://evil.example/",
                              "detail": "host evil.example is not a hostname of site shop" } ]
            })
        );
    }
}
