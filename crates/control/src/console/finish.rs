//! What is done around every route: its [`PageFrame`] is made, a [`Problem`] becomes a page, and headers are set.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::header::{
    CACHE_CONTROL, CONTENT_LANGUAGE, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, CONTENT_TYPE, DATE,
    REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method};

use super::failure;
use super::frame::PageFrame;
use super::state::Console;
use crate::api::problem::Problem;
use crate::api::reply;
use crate::metrics;

/// Around every route: makes the [`PageFrame`], turns a [`Problem`] into a page, and sets the headers that every answer has.
pub async fn finish(State(console): State<Arc<Console>>, request: Request, next: Next) -> Response {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let (mut parts, body) = request.into_parts();
    let (frame, mut response) = match PageFrame::of(&console, &parts).await {
        Ok(frame) => {
            parts.extensions.insert(frame.request_id.clone());
            parts.extensions.insert(frame.clone());
            (frame, next.run(Request::from_parts(parts, body)).await)
        }
        Err((frame, problem)) => (frame, problem.into_response()),
    };
    if let Some(problem) = response.extensions_mut().remove::<Arc<Problem>>() {
        refused(&problem, &frame, &method, &path);
        let page = failure::page(&frame, &problem);
        // What else the refusal says, such as which methods would do.
        let mut headers = std::mem::take(response.headers_mut());
        headers.remove(CONTENT_LENGTH);
        headers.remove(CONTENT_TYPE);
        response = page;
        response.headers_mut().extend(headers);
    }
    let now = console.services.clock.wall();
    response.headers_mut().insert(DATE, reply::date(now.as_secs()));
    response.headers_mut().insert(CONTENT_SECURITY_POLICY, console.policy.clone());
    set_headers(response.headers_mut(), &frame);
    response
}

fn refused(problem: &Problem, frame: &PageFrame, method: &Method, path: &str) {
    metrics::request_rejected(problem.code.as_str());
    tracing::info!(
        request_id = frame.request_id.as_str(), %method, path = %path.escape_debug(), code = problem.code.as_str(),
        detail = problem.detail.as_deref(), "page refused"
    );
}

fn set_headers(headers: &mut HeaderMap, frame: &PageFrame) {
    let mut put = |name: HeaderName, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    };
    put(HeaderName::from_static("x-request-id"), frame.request_id.as_str());
    put(X_CONTENT_TYPE_OPTIONS, "nosniff");
    put(REFERRER_POLICY, "same-origin");
    put(CONTENT_LANGUAGE, frame.language.tag());
    put(HeaderName::from_static("cross-origin-opener-policy"), "same-origin");
    put(HeaderName::from_static("cross-origin-resource-policy"), "same-origin");
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
}
