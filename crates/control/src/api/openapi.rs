//! The description of the API: `/openapi.json` (OpenAPI 3.1) and, for people, `/docs`. Neither asks who is there.
//!
//! Routes describe their parameters and their success; what is the same everywhere (signature, refusals, headers of every
//! reply) is added here.

use axum::response::{IntoResponse, Response};
use axum::{Router, middleware};
use http::StatusCode;
use utoipa::OpenApi;
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::response::ResponseBuilder;
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::security::{
    ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme,
};
use utoipa::openapi::{Content, Header, Ref, RefOr};
use utoipa_swagger_ui::{Config, SwaggerUi};

use super::problem::{Code, ItemError, Problem, ProblemDocument};
use super::reply::PROBLEM_JSON;

/// Refusals that every route of the API knows.
const COMMON: [Code; 9] = [
    Code::InvalidRequest,
    Code::BadSignature,
    Code::InvalidToken,
    Code::ScopeDenied,
    Code::NotFound,
    Code::MethodNotAllowed,
    Code::BodyTooLarge,
    Code::RateLimited,
    Code::Unavailable,
];

/// Refusals that only a submission knows.
const SUBMISSION: [Code; 8] = [
    Code::InvalidUrl,
    Code::InvalidTag,
    Code::TooManyItems,
    Code::TooManyObjects,
    Code::UnsupportedMediaType,
    Code::IdempotencyKeyReused,
    Code::CountUnavailable,
    Code::OutcomeUnknown,
];

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Batoff Purge",
        version = "1",
        description = "Takes content back from every cache of the CDN within two seconds, and proves it.\n\n\
            Every request carries a token and a signature: `X-Batoff-Signature: sha256=` and the HMAC-SHA-256, keyed with \
            the token's signing secret, over four lines joined by a newline, with none at the end: the timestamp as sent; \
            the method; path and query exactly as sent; the lower-case hex SHA-256 of the raw body (of the empty string \
            when there is none). A request with an `Idempotency-Key` has a fifth line, the key as sent. A timestamp more than 300 s from the server's clock (`Date`) is refused.",
        license(name = "Apache-2.0 OR MIT", identifier = "Apache-2.0 OR MIT")
    ),
    servers((url = "/")),
    tags((name = "purges", description = "Submit purges and follow them")),
    components(schemas(ProblemDocument, Code, ItemError))
)]
struct Base;

/// What the routes are added to.
pub fn base() -> utoipa::openapi::OpenApi {
    Base::openapi()
}

/// `/openapi.json` and `/docs`.
pub fn routes<S: Clone + Send + Sync + 'static>(
    mut routes: utoipa::openapi::OpenApi,
    prefix: &str,
) -> Router<S> {
    // Left to itself the page would send the description to a public validator.
    let config =
        Config::new([format!("{prefix}/openapi.json")]).validator_url("none").try_it_out_enabled(false);
    if !prefix.is_empty() {
        routes.servers = Some(vec![utoipa::openapi::Server::new(prefix)]);
    }
    let pages = SwaggerUi::new("/docs").config(config).url("/openapi.json", complete(routes));
    Router::from(pages).layer(middleware::map_response(no_such_page))
}

async fn no_such_page(response: Response) -> Response {
    if response.status() == StatusCode::NOT_FOUND {
        return Problem::detailed(Code::NotFound, "there is no such page; the description begins at /docs/")
            .into_response();
    }
    response
}

fn complete(mut description: utoipa::openapi::OpenApi) -> utoipa::openapi::OpenApi {
    let components = description.components.get_or_insert_default();
    let header = |name: &str, about: &str| {
        SecurityScheme::ApiKey(ApiKey::Header(ApiKeyValue::with_description(name, about)))
    };
    let token = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .bearer_format("bto_live_…")
        .description(Some("The token: names the site and the scopes"))
        .build();
    components.add_security_scheme("token", SecurityScheme::Http(token));
    components.add_security_scheme(
        "timestamp",
        header("X-Batoff-Timestamp", "Seconds since the Unix epoch, decimal, with up to 9 decimals"),
    );
    components.add_security_scheme(
        "signature",
        header("X-Batoff-Signature", "sha256= and 64 lower-case hex digits"),
    );
    let signed = SecurityRequirement::default()
        .add::<_, [&str; 0], &str>("token", [])
        .add::<_, [&str; 0], &str>("timestamp", [])
        .add::<_, [&str; 0], &str>("signature", []);
    for item in description.paths.paths.values_mut() {
        let PathItem { get, post, .. } = item;
        if let Some(operation) = get {
            complete_operation(operation, &signed, false);
        }
        if let Some(operation) = post {
            complete_operation(operation, &signed, true);
        }
    }
    description
}

fn complete_operation(operation: &mut Operation, signed: &SecurityRequirement, submission: bool) {
    operation.security = Some(vec![signed.clone()]);
    let codes =
        Code::ALL.into_iter().filter(|code| COMMON.contains(code) || submission && SUBMISSION.contains(code));
    for code in codes {
        let key = code.status().as_str().to_owned();
        let about = format!("`{}`: {}", code.as_str(), code.title(super::language::Language::English));
        match operation.responses.responses.get_mut(&key) {
            Some(RefOr::T(response)) => response.description.push_str(&format!("; {about}")),
            _ => {
                operation.responses.responses.insert(key, RefOr::T(refusal(code, about, submission)));
            }
        }
    }
    for response in operation.responses.responses.values_mut() {
        if let RefOr::T(response) = response {
            response.headers.insert("X-Request-Id".into(), header("The request's id", Type::String).into());
            response.headers.insert("Date".into(), header("The server's clock", Type::String).into());
        }
    }
}

fn refusal(code: Code, about: String, submission: bool) -> utoipa::openapi::Response {
    let content = Content::new(Some(RefOr::Ref(Ref::from_schema_name("Problem"))));
    let mut response = ResponseBuilder::new()
        .description(about)
        .content(PROBLEM_JSON, content)
        .header("Content-Language", header("The language of the title: en or ru", Type::String));
    if Problem::new(code).retry_after_secs().is_some() {
        response = response.header("Retry-After", header("Seconds, never 0", Type::Integer));
    }
    if code.status() == StatusCode::METHOD_NOT_ALLOWED {
        response = response.header("Allow", header("The methods of this route", Type::String));
    }
    if code.status() == StatusCode::UNAUTHORIZED {
        response = response.header("WWW-Authenticate", header("Bearer", Type::String));
    }
    if submission && code.status() != StatusCode::METHOD_NOT_ALLOWED && code != Code::NotFound {
        let about = "What is left: of the site's quotas, or of this address's failed authentications";
        response = response
            .header("RateLimit", header(about, Type::String))
            .header("RateLimit-Policy", header("The limits that RateLimit speaks of", Type::String));
    }
    response.build()
}

fn header(about: &str, kind: Type) -> Header {
    HeaderBuilder::new()
        .description(Some(about))
        .schema(Some(ObjectBuilder::new().schema_type(kind).build()))
        .build()
}
