//! Around every route, the customers' and the operator's alike: gives the request its id, and every reply its id, date, and
//! (for a refusal) its body.

use std::cell::RefCell;
use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, UNIX_EPOCH};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use futures_util::future::BoxFuture;
use http::header::{
    ACCEPT_ENCODING, ACCEPT_LANGUAGE, ALLOW, CACHE_CONTROL, CONTENT_LANGUAGE, CONTENT_LENGTH, CONTENT_TYPE,
    DATE, RETRY_AFTER, VARY, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};
use tower::Service;

use super::problem::Problem;
use super::request_id::{self, RequestId};
use crate::clock::Clock;
use crate::language::Language;
use crate::metrics;

/// The media type of a refusal.
pub const PROBLEM_JSON: &str = "application/problem+json";

/// See the module. The clock is what `Date` is read from.
pub async fn finish(State(clock): State<Clock>, mut request: Request, next: Next) -> Response {
    let asked = PendingReply::of(&mut request);
    asked.finish(&clock, next.run(request).await)
}

/// What of a request its reply is finished with.
struct PendingReply {
    request_id: RequestId,
    language: Language,
    method: Method,
    /// Cheap to clone, unlike a path.
    uri: Uri,
}

impl PendingReply {
    /// Gives the request its id.
    fn of(request: &mut Request) -> Self {
        let request_id = RequestId::of(request.headers());
        let lines = request.headers().get_all(ACCEPT_LANGUAGE).iter().filter_map(|line| line.to_str().ok());
        let language = Language::negotiate(lines);
        let (method, uri) = (request.method().clone(), request.uri().clone());
        request.extensions_mut().insert(request_id.clone());
        Self { request_id, language, method, uri }
    }

    fn finish(self, clock: &Clock, mut response: Response) -> Response {
        let Self { request_id, language, method, uri } = self;
        if let Some(problem) = response.extensions_mut().remove::<Arc<Problem>>() {
            metrics::request_rejected(problem.code.as_str());
            tracing::info!(
                request_id = request_id.as_str(), %method, path = %uri.path().escape_debug(), code = problem.code.as_str(),
                detail = problem.detail.as_deref(), errors = problem.errors.len(), "request refused"
            );
            render(&mut response, &problem, language, request_id.as_str());
        }
        let headers = response.headers_mut();
        put(headers, request_id::HEADER, request_id.as_str());
        headers.insert(DATE, date(clock.wall().0 / 1_000));
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
        complete_allow(headers);
        response
    }
}

/// Routes whose replies are finished, without a layer: a layer is cloned, and its future boxed, for each request.
#[derive(Clone)]
pub struct FinishedRoutes {
    clock: Clock,
    routes: Router,
}

impl FinishedRoutes {
    /// Around all of `routes`, and around the `Allow` that a router adds outside of its layers.
    pub fn new(clock: Clock, routes: Router) -> Self {
        Self { clock, routes }
    }
}

impl Service<Request> for FinishedRoutes {
    type Response = Response;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // A router always is.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request) -> Self::Future {
        let asked = PendingReply::of(&mut request);
        let (clock, answering) = (self.clock.clone(), self.routes.call(request));
        Box::pin(async move {
            let is_head = asked.method == Method::HEAD;
            let mut response = asked.finish(&clock, answering.await?);
            if is_head {
                // The router has dropped the body of its own reply; a refusal has got one since.
                *response.body_mut() = Body::empty();
            }
            Ok(response)
        })
    }
}

fn render(response: &mut Response, problem: &Problem, language: Language, request_id: &str) {
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
    headers.insert(CONTENT_LANGUAGE, HeaderValue::from_static(language.tag()));
    headers.append(VARY, HeaderValue::from_static("Accept-Language"));
    if problem.code.status() == StatusCode::UNAUTHORIZED {
        headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"batoff\""));
    }
    if let Some(secs) = problem.retry_after_secs() {
        headers.insert(RETRY_AFTER, HeaderValue::from(secs));
    }
    if let Some(codings) = problem.accept_encoding {
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static(codings));
    }
    // Strings, numbers and lists of them always serialise.
    let body = serde_json::to_vec(&problem.document(language, request_id)).unwrap_or_default();
    // The router has counted the empty body that was there before.
    headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
    *response.body_mut() = body.into();
}

/// `OPTIONS` is answered on every route, and a comma is followed by a space.
fn complete_allow(headers: &mut HeaderMap) {
    let Some(allow) = headers.get(ALLOW).and_then(|allow| allow.to_str().ok()) else { return };
    let mut methods: Vec<&str> =
        allow.split(',').map(str::trim).filter(|method| !method.is_empty()).collect();
    methods.push("OPTIONS");
    let all = methods.join(", ");
    put(headers, ALLOW, &all);
}

fn put(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

/// The last second that HTTP's date format can name; a clock beyond is told as this.
const DATE_MAX_SECS: u64 = 253_402_300_799;

/// `Date`, written once a second on each thread.
pub fn date(unix_secs: u64) -> HeaderValue {
    thread_local! {
        static WRITTEN: RefCell<Option<(u64, HeaderValue)>> = const { RefCell::new(None) };
    }
    WRITTEN.with_borrow_mut(|written| {
        if let Some((_, value)) = written.as_ref().filter(|(secs, _)| *secs == unix_secs) {
            return value.clone();
        }
        let text = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(unix_secs.min(DATE_MAX_SECS)));
        // Letters, digits, commas and colons.
        let value = HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static(""));
        *written = Some((unix_secs, value.clone()));
        value
    })
}

/// A reply with a JSON body.
pub fn json(status: StatusCode, document: &impl serde::Serialize) -> Response {
    let body = serde_json::to_vec(document).unwrap_or_default();
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// A reply without a body.
pub fn no_content() -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

/// Adds a field whose value we made ourselves.
pub fn with_header(mut response: Response, name: HeaderName, value: impl TryInto<HeaderValue>) -> Response {
    if let Ok(value) = value.try_into() {
        response.headers_mut().insert(name, value);
    }
    response
}
