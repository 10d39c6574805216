//! How the operator is told no: as the customers are, and with `409 conflict`.

use std::fmt::Display;

use axum::response::{IntoResponse, Response};
use http::header::CONTENT_TYPE;
use http::{HeaderValue, StatusCode};
use serde::Serialize;
use utoipa::ToSchema;

use crate::api::problem::{Code, ERRORS_BASE, ItemError, Problem};
use crate::api::reply::PROBLEM_JSON;
use crate::commit::CommitError;

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
    /// One line for people.
    title: &'static str,
    /// The HTTP status.
    status: u16,
    /// Always `conflict`.
    code: &'static str,
    /// What stands in the way, and what to do.
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

/// Writes the body of a conflict, which needs the request's id.
pub(super) fn render(mut response: Response, request_id: &str) -> Response {
    if let Some(Conflict { detail, errors }) = response.extensions_mut().remove::<Conflict>() {
        tracing::info!(request_id, detail, "request refused: conflict");
        let document = ConflictDocument {
            kind: format!("{ERRORS_BASE}conflict"),
            title: "It stands against something that exists",
            status: StatusCode::CONFLICT.as_u16(),
            code: "conflict",
            detail,
            request_id: request_id.to_owned(),
            errors,
        };
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        // Strings, numbers and lists of them always serialise.
        *response.body_mut() = serde_json::to_vec(&document).unwrap_or_default().into();
    }
    response
}
