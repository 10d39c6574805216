use axum::body::{Body, to_bytes};
use http::Request;
use http::header::CONTENT_TYPE;
use http::request::Parts;
use serde::de::DeserializeOwned;

use crate::api::problem::{Code, Problem};

/// The longest body, in bytes.
pub(super) const BODY_BYTES_MAX: usize = 1 << 20;

/// Reads a body of JSON; unknown members are errors that name them.
pub(super) async fn read<T: DeserializeOwned>(request: Request<Body>) -> Result<(Parts, T), Problem> {
    let (parts, body) = request.into_parts();
    let media_type =
        parts.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = media_type.split(';').next().unwrap_or_default().trim();
    if !essence.eq_ignore_ascii_case("application/json") {
        return Err(Problem::detailed(Code::UnsupportedMediaType, "the body must be application/json"));
    }
    let bytes = to_bytes(body, BODY_BYTES_MAX)
        .await
        .map_err(|_| Problem::detailed(Code::BodyTooLarge, "the body must be at most 1 MiB"))?;
    let value = serde_json::from_slice(&bytes)
        .map_err(|error| Problem::detailed(Code::InvalidRequest, error.to_string()))?;
    Ok((parts, value))
}
