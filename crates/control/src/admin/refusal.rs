//! How the operator is told no: as the customers are, and with `409 conflict`.

use std::fmt::Display;

use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_LANGUAGE, CONTENT_TYPE, VARY};
use http::{HeaderValue, StatusCode};
use serde::Serialize;
use utoipa::ToSchema;

use crate::api::problem::{Code, ERRORS_BASE, ItemError, Problem};
use crate::api::reply::PROBLEM_JSON;
use crate::api::russian;
use crate::commit::CommitError;
use crate::language::Language;

/// Why the operator's API does not do what was asked: the customers' problems, and one more.
#[derive(Debug)]
pub(crate) enum AdminRefusal {
    /// One of the customers' problems.
    Problem(Problem),
    /// It stands against something that exists: `409 conflict`.
    Conflict(Conflict),
}

/// What stands in the way.
#[derive(Clone, Debug)]
pub(crate) struct Conflict {
    pub detail: String,
    pub errors: Vec<ItemError>,
}

/// A conflict as it is sent: a problem (RFC 9457) whose code the customers' API does not have.
#[derive(Serialize, ToSchema)]
#[schema(as = Conflict)]
pub(super) struct ConflictDocument {
    /// A URI that explains the code.
    #[serde(rename = "type")]
    kind: String,
    /// One line for people; English, or Russian where `Accept-Language` prefers it.
    title: &'static str,
    /// The HTTP status.
    status: u16,
    /// Always `conflict`.
    code: &'static str,
    /// What stands in the way, and what to do, in the language of the title.
    detail: String,
    /// The id of the request, the same as in `X-Request-Id`.
    request_id: String,
    /// What of the body is meant, if it is a part of it.
    errors: Vec<ItemError>,
}

impl AdminRefusal {
    pub(super) fn conflict(detail: impl Into<String>) -> Self {
        Self::Conflict(Conflict { detail: detail.into(), errors: Vec::new() })
    }

    pub(super) fn no_such(what: &'static str, name: impl Display) -> Self {
        Problem::detailed(Code::NotFound, format!("there is no {what} {name}")).into()
    }
}

impl From<Problem> for AdminRefusal {
    fn from(problem: Problem) -> Self {
        Self::Problem(problem)
    }
}

impl From<CommitError> for AdminRefusal {
    fn from(error: CommitError) -> Self {
        let text = error.to_string();
        let problem = match error {
            CommitError::Unavailable { retry_after, .. } => {
                Problem::detailed(Code::Unavailable, text).retry_after(retry_after)
            }
            CommitError::OutcomeUnknown { retry_after } => Problem::detailed(
                Code::OutcomeUnknown,
                "the change may or may not have been made; look before you repeat it",
            )
            .retry_after(retry_after),
            CommitError::KeyReused | CommitError::SiteChanged { .. } | CommitError::TooLarge { .. } => {
                Problem::detailed(Code::InvalidRequest, text)
            }
        };
        Self::Problem(problem)
    }
}

impl IntoResponse for AdminRefusal {
    fn into_response(self) -> Response {
        match self {
            Self::Problem(problem) => problem.into_response(),
            Self::Conflict(conflict) => {
                let mut response = StatusCode::CONFLICT.into_response();
                response.extensions_mut().insert(conflict);
                response
            }
        }
    }
}

/// What a conflict is called, in English and Russian.
pub(super) const TITLE: [&str; 2] =
    ["It stands against something that exists", "Этому мешает то, что уже есть"];

/// Writes the body of a conflict, which needs the request's id and the reader's language.
pub(super) fn render(mut response: Response, request_id: &str, language: Language) -> Response {
    if let Some(Conflict { detail, errors }) = response.extensions_mut().remove::<Conflict>() {
        tracing::info!(request_id, detail, "request refused: conflict");
        let told = |text: &str| match language {
            Language::English => text.to_owned(),
            Language::Russian => russian::of(text),
        };
        let document = ConflictDocument {
            kind: format!("{ERRORS_BASE}conflict"),
            title: TITLE[usize::from(language == Language::Russian)],
            status: StatusCode::CONFLICT.as_u16(),
            code: "conflict",
            detail: told(&detail),
            request_id: request_id.to_owned(),
            errors: errors
                .into_iter()
                .map(|error| ItemError { detail: told(&error.detail), ..error })
                .collect(),
        };
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        headers.insert(CONTENT_LANGUAGE, HeaderValue::from_static(language.tag()));
        headers.append(VARY, HeaderValue::from_static("Accept-Language"));
        // Strings, numbers and lists of them always serialise.
        *response.body_mut() = serde_json::to_vec(&document).unwrap_or_default().into();
    }
    response
}
