//! A request until it is answered: sent again while that helps, and the answer read.

use std::time::Duration;

use reqwest::{Request, Response, StatusCode, header};
use serde::de::DeserializeOwned;

use crate::endpoint::{Connections, causes};
use crate::{Error, Problem, Retry};

/// Bytes of one answer that are read; a longer one is not from the API.
const ANSWER_BYTES_MAX: usize = 32 * 1024 * 1024;

/// What it means when an answer is lost.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Nothing: the call only read.
    Read,
    /// The purge may be in force.
    Submission,
}

/// Sends `request`, the same bytes each time, until it is answered with success or `retry` is used up. Where there are several
/// control planes, one attempt is to ask each once, from the one that answered last on.
pub(crate) async fn send(
    connection: &Connections,
    request: &Request,
    effect: Effect,
    retry: Retry,
) -> Result<Response, Error> {
    let mut failed = 0;
    // Once an outcome was unknown it stays unknown, also when the next attempt finds nobody there.
    let mut in_doubt = false;
    loop {
        let mut asked = 0;
        let error = loop {
            let at = connection.at();
            let error = match send_once(connection, at, request, effect).await {
                Ok(response) => return Ok(response),
                Err(error) => error,
            };
            in_doubt |= matches!(error, Error::OutcomeUnknown { .. });
            asked += 1;
            let goes_on = match error {
                Error::Unavailable { .. } => true,
                // It may have been done.
                Error::OutcomeUnknown { .. } => retry.attempts > 1,
                _ => false,
            };
            if goes_on || matches!(error, Error::OutcomeUnknown { .. }) {
                connection.leave(at);
            }
            if !goes_on || asked >= connection.count() {
                break error;
            }
        };
        failed += 1;
        match retry.pause_after(failed, &error) {
            Some(pause) => tokio::time::sleep(pause).await,
            None => return Err(if in_doubt { doubtful(error) } else { error }),
        }
    }
}

async fn send_once(
    connection: &Connections,
    at: usize,
    request: &Request,
    effect: Effect,
) -> Result<Response, Error> {
    let Some(copy) = connection.addressed(request, at) else {
        return Err(Error::Unusable("the request's body cannot be sent twice".into()));
    };
    let origin = copy.url().origin().ascii_serialization();
    let response = connection.http.execute(copy).await.map_err(|e| lost(&origin, effect, &e))?;
    if response.status().is_success() { Ok(response) } else { Err(refusal(response).await) }
}

fn lost(origin: &str, effect: Effect, error: &reqwest::Error) -> Error {
    let reason = format!("{origin}: {}", causes(error));
    if error.is_builder() {
        Error::Unusable(reason)
    } else if error.is_connect() || effect == Effect::Read {
        Error::Unavailable { reason, retry_after: None }
    } else {
        Error::OutcomeUnknown { reason, retry_after: None }
    }
}

fn doubtful(error: Error) -> Error {
    match error {
        Error::Unavailable { reason, retry_after } => Error::OutcomeUnknown { reason, retry_after },
        // Nothing was done this time; the quota is looked at before it is known whether it was done before.
        Error::RateLimited { problem, retry_after } => {
            Error::OutcomeUnknown { reason: problem.to_string(), retry_after: Some(retry_after) }
        }
        other => other,
    }
}

async fn refusal(response: Response) -> Error {
    let status = response.status();
    let retry_after = retry_after(&response);
    let text = read(response).await.unwrap_or_default();
    let problem = serde_json::from_slice::<Problem>(&text)
        .ok()
        .filter(|problem| !problem.title.is_empty() || !problem.code.is_empty())
        .unwrap_or_else(|| Problem::from_text(status.as_u16(), &String::from_utf8_lossy(&text)));
    match status {
        StatusCode::TOO_MANY_REQUESTS => Error::RateLimited {
            problem: Box::new(problem),
            retry_after: retry_after.unwrap_or_default().max(Duration::from_secs(1)),
        },
        _ if problem.code == "outcome_unknown" => {
            Error::OutcomeUnknown { reason: problem.to_string(), retry_after }
        }
        // 502 and 504 come from something in front of the API, which may have passed the request on.
        StatusCode::BAD_GATEWAY | StatusCode::GATEWAY_TIMEOUT => {
            Error::OutcomeUnknown { reason: problem.to_string(), retry_after }
        }
        StatusCode::SERVICE_UNAVAILABLE => Error::Unavailable { reason: problem.to_string(), retry_after },
        _ => Error::Refused(Box::new(problem)),
    }
}

fn retry_after(response: &Response) -> Option<Duration> {
    let value = response.headers().get(header::RETRY_AFTER)?.to_str().ok()?;
    value.trim().parse().ok().map(Duration::from_secs)
}

/// The whole answer, understood as `T`.
pub(crate) async fn json<T: DeserializeOwned>(response: Response, effect: Effect) -> Result<T, Error> {
    let url = response.url().to_string();
    let body = read(response).await.map_err(|reason| match effect {
        Effect::Read => Error::Unavailable { reason, retry_after: None },
        Effect::Submission => Error::OutcomeUnknown { reason, retry_after: None },
    })?;
    serde_json::from_slice(&body).map_err(|e| Error::Unexpected { url, reason: e.to_string() })
}

async fn read(mut response: Response) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|e| causes(&e))? {
        body.extend_from_slice(&chunk);
        if body.len() > ANSWER_BYTES_MAX {
            return Err(format!("the answer is longer than {ANSWER_BYTES_MAX} bytes"));
        }
    }
    Ok(body)
}
