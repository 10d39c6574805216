//! The description of the API: `/openapi.json` (OpenAPI 3.1) and, for people, `/docs`. Neither asks who is there.
//!
//! Routes describe their parameters and their success; what is the same everywhere (signature, refusals, headers of every
//! reply) is added here.

use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Router, middleware};
use batoff_types::SelectorKind;
use http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE, LOCATION};
use http::{HeaderValue, StatusCode};
use utoipa::OpenApi;
use utoipa::openapi::extensions::ExtensionsBuilder;
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::path::{Operation, Parameter, ParameterBuilder, ParameterIn, PathItem};
use utoipa::openapi::response::ResponseBuilder;
use utoipa::openapi::schema::{KnownFormat, ObjectBuilder, SchemaFormat, Type};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{Content, Header, Ref, RefOr, Required};
use utoipa_swagger_ui::{Config, SwaggerUi};

use super::problem::{Code, ItemError, Problem, ProblemDocument};
use super::reply::{PROBLEM_JSON, with_header};
use crate::language::Language::English;
use crate::tracker::TaskState;

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
            when there is none). A request with an `Idempotency-Key` has a fifth line, the key as sent. A timestamp more than 300 s from the server's clock (`Date`) is refused.\n\n\
            No CORS headers are sent (Fetch standard): pages of other origins cannot call this API, and must not, because \
            a signing secret does not belong into a page. Call it from a server; `/docs` is of the API's own origin.",
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

/// The page's script: as the page itself has it, but that it signs what is tried from it.
const INITIALIZER: &str = include_str!("docs/initializer.js");

/// What the pages may do: talk to where they came from, and run what came from there. A secret that is typed into one can
/// go nowhere else. (Its styles are set by its script.)
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
    font-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// `/openapi.json` and `/docs` of a complete description; paths that are shown begin with `prefix`.
pub fn routes<S: Clone + Send + Sync + 'static>(
    mut routes: utoipa::openapi::OpenApi,
    prefix: &str,
) -> Router<S> {
    let config =
        Config::new([format!("{prefix}/openapi.json")]).validator_url("none").try_it_out_enabled(false);
    if !prefix.is_empty() {
        routes.servers = Some(vec![utoipa::openapi::Server::new(prefix)]);
    }
    let pages = SwaggerUi::new("/docs").config(config).url("/openapi.json", routes);
    let script = INITIALIZER.replace("@DESCRIPTION@", &format!("{prefix}/openapi.json"));
    let script = ([(CONTENT_TYPE, "text/javascript; charset=utf-8")], script);
    let home = format!("{prefix}/docs/");
    Router::from(pages)
        .route("/docs/swagger-initializer.js", get(move || async move { script }))
        .layer(middleware::map_response(move |response| page(response, home.clone())))
}

async fn page(response: Response, home: String) -> Response {
    match response.status() {
        StatusCode::NOT_FOUND => {
            Problem::detailed(Code::NotFound, "there is no such page; the description begins at /docs/")
                .into_response()
        }
        status if status.is_redirection() => with_header(response, LOCATION, home),
        _ => with_header(response, CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
    }
}

/// Adds what is the same on every route.
pub fn complete(mut description: utoipa::openapi::OpenApi) -> utoipa::openapi::OpenApi {
    let components = description.components.get_or_insert_default();
    let token = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .bearer_format("bto_live_…")
        .description(Some("The token: names the site and the scopes"))
        .build();
    components.add_security_scheme("token", SecurityScheme::Http(token));
    let signed = SecurityRequirement::default().add::<_, [&str; 0], &str>("token", []);
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
    let parameters = operation.parameters.get_or_insert_default();
    for parameter in parameters.iter_mut() {
        if let RefOr::T(parameter) = parameter {
            narrow(parameter);
        }
    }
    parameters.extend(signing_headers().map(RefOr::T));
    let codes =
        Code::ALL.into_iter().filter(|code| COMMON.contains(code) || submission && SUBMISSION.contains(code));
    for code in codes {
        let metered = submission && code.status() != StatusCode::METHOD_NOT_ALLOWED && code != Code::NotFound;
        refuses(operation, code, |response| if metered { with_rates(response) } else { response });
    }
    add_common_headers(operation);
}

/// Adds a refusal to those that an operation knows.
pub fn refuses(operation: &mut Operation, code: Code, more: impl FnOnce(ResponseBuilder) -> ResponseBuilder) {
    let about = format!("`{}`: {}. {}", code.as_str(), code.title(English), code.remedy(English));
    match operation.responses.responses.get_mut(code.status().as_str()) {
        Some(RefOr::T(response)) => response.description.push_str(&format!("\n\n{about}")),
        _ => {
            let response = more(refusal(code, about)).build();
            operation.responses.responses.insert(code.status().as_str().to_owned(), response.into());
        }
    }
}

/// Adds the headers that [`super::reply::finish`] gives to every reply.
pub fn add_common_headers(operation: &mut Operation) {
    for response in operation.responses.responses.values_mut() {
        if let RefOr::T(response) = response {
            response.headers.insert("X-Request-Id".into(), header("The request's id", Type::String).into());
            response.headers.insert("Date".into(), header("The server's clock", Type::String).into());
        }
    }
}

/// The two headers of a signature. No security schemes: generators make those settings that are given once, and these are
/// made anew for each request, by whatever sends it, over the very bytes that it sends.
fn signing_headers() -> [Parameter; 2] {
    let header = |name: &str, pattern: &str, about: &str| {
        let schema = ObjectBuilder::new().schema_type(Type::String).pattern(Some(pattern));
        let per_request = ExtensionsBuilder::new().add("x-batoff-per-request", true).build();
        ParameterBuilder::new()
            .name(name)
            .parameter_in(ParameterIn::Header)
            .required(Required::False)
            .description(Some(format!(
                "{about}. Needed, and made anew for each request: leave it out of calls and let a middleware sign what \
                 is about to be sent; it is never a setting"
            )))
            .schema(Some(schema.build()))
            .extensions(Some(per_request))
            .build()
    };
    [
        header(
            "X-Batoff-Timestamp",
            r"^[0-9]{1,12}(\.[0-9]{1,9})?$",
            "Seconds since the Unix epoch, decimal, with up to 9 decimals",
        ),
        header("X-Batoff-Signature", "^sha256=[0-9a-f]{64}$", "`sha256=` and 64 lower-case hex digits"),
    ]
}

/// What a parameter may be, where its type does not say it.
fn narrow(parameter: &mut Parameter) {
    let text = || ObjectBuilder::new().schema_type(Type::String);
    let schema = match parameter.name.as_str() {
        "state" => text().enum_values(Some(TaskState::ALL.map(TaskState::as_str))),
        "kind" => text().enum_values(Some(SelectorKind::ALL.map(SelectorKind::as_str))),
        "include" => text().pattern(Some("^(pops|items|propagation)(,(pops|items|propagation))*$")),
        "window" => text().pattern(Some("^[0-9]+[smhd]$")),
        "site_id" => text().pattern(Some("^[a-z0-9-]{1,64}$")),
        "task_id" | "cursor" => text().pattern(Some("^[0-7][0-9A-HJKMNP-TV-Z]{25}$")),
        "Idempotency-Key" => text().pattern(Some("^[!-~]{1,255}$")),
        "since" => text().format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime))),
        _ => return,
    };
    parameter.schema = Some(schema.build().into());
}

fn refusal(code: Code, about: String) -> ResponseBuilder {
    let mut response = problem_response(about, "Problem");
    if Problem::new(code).retry_after_secs().is_some() {
        response = response.header("Retry-After", header("Seconds, never 0", Type::Integer));
    }
    if code.status() == StatusCode::METHOD_NOT_ALLOWED {
        response = response.header("Allow", header("The methods of this route", Type::String));
    }
    if code.status() == StatusCode::UNAUTHORIZED {
        response = response.header("WWW-Authenticate", header("Bearer", Type::String));
    }
    if code == Code::UnsupportedMediaType {
        let about = "The content codings that would do, where that is what was wrong (RFC 7694)";
        response = response.header("Accept-Encoding", header(about, Type::String));
    }
    response
}

/// A response whose body is a problem, by the name of its schema.
pub fn problem_response(about: String, schema: &str) -> ResponseBuilder {
    let content = Content::new(Some(RefOr::Ref(Ref::from_schema_name(schema))));
    ResponseBuilder::new()
        .description(about)
        .content(PROBLEM_JSON, content)
        .header("Content-Language", header("The language of the title: en or ru", Type::String))
}

fn with_rates(response: ResponseBuilder) -> ResponseBuilder {
    let about = "What is left: of the site's quotas, or of this address's failed authentications";
    response
        .header("RateLimit", header(about, Type::String))
        .header("RateLimit-Policy", header("The limits that RateLimit speaks of", Type::String))
}

/// A header field and what it says.
pub fn header(about: &str, kind: Type) -> Header {
    HeaderBuilder::new()
        .description(Some(about))
        .schema(Some(ObjectBuilder::new().schema_type(kind).build()))
        .build()
}
