//! The description of the operator's API: `/admin/v1/openapi.json` (OpenAPI 3.1).
//!
//! Routes describe their parameters and their success; what is the same everywhere is added here, as in
//! [`crate::api::openapi`].

use http::StatusCode;
use utoipa::OpenApi;
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};

use super::refusal::ConflictDocument;
use crate::api::openapi::{add_common_headers, problem_response, refuses};
use crate::api::problem::{Code, ItemError, ProblemDocument};

/// Refusals that every route knows.
const COMMON: [Code; 5] =
    [Code::InvalidRequest, Code::InvalidToken, Code::NotFound, Code::MethodNotAllowed, Code::Unavailable];

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Batoff Purge, for operators",
        version = "1",
        description = "Sites, tokens, users of the console, nodes, and who did what. Requests carry the operator's token and no signature; the \
            listener is not the customers'. Every change, refused ones too, has an entry in the audit log.",
        license(name = "Apache-2.0 OR MIT", identifier = "Apache-2.0 OR MIT")
    ),
    servers((url = "/")),
    tags(
        (name = "sites", description = "Sites and their tokens"),
        (name = "users", description = "Who signs in to the console"),
        (name = "fleet", description = "Nodes, and how fast they are"),
        (name = "audit", description = "Who did what"),
    ),
    components(schemas(ProblemDocument, Code, ItemError, ConflictDocument))
)]
struct OperatorBase;

/// What the routes are added to.
pub(super) fn base() -> utoipa::openapi::OpenApi {
    OperatorBase::openapi()
}

/// Adds what is the same on every route.
pub(super) fn complete(mut description: utoipa::openapi::OpenApi) -> utoipa::openapi::OpenApi {
    let token = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .bearer_format("bto_admin_…")
        .description(Some("The operator's token, made by `batoff-control init`"))
        .build();
    let components = description.components.get_or_insert_default();
    components.add_security_scheme("operator", SecurityScheme::Http(token));
    let asks = SecurityRequirement::default().add::<_, [&str; 0], &str>("operator", []);
    for item in description.paths.paths.values_mut() {
        let PathItem { get, post, patch, delete, .. } = item;
        for (operation, changes) in [(get, false), (post, true), (patch, true), (delete, true)] {
            if let Some(operation) = operation {
                operation.security = Some(vec![asks.clone()]);
                complete_operation(operation, changes);
            }
        }
    }
    description
}

fn complete_operation(operation: &mut Operation, changes: bool) {
    for code in COMMON {
        refuses(operation, code, |response| response);
    }
    if changes {
        let about =
            "`conflict`: It stands against something that exists. Nothing was done; detail says what to do.";
        let conflict = problem_response(about.to_owned(), "Conflict").build();
        operation.responses.responses.insert(StatusCode::CONFLICT.as_str().to_owned(), conflict.into());
        refuses(operation, Code::BodyTooLarge, |response| response);
        refuses(operation, Code::OutcomeUnknown, |response| response);
    }
    if operation.request_body.is_some() {
        refuses(operation, Code::UnsupportedMediaType, |response| response);
    }
    add_common_headers(operation);
}
