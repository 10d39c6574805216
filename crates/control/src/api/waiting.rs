//! A submission that is waited for: `?wait=2`, or `Prefer: wait=2` (RFC 7240).

use std::sync::Arc;
use std::time::Duration;

use axum::response::Response;
use batoff_types::SiteId;
use http::header::LOCATION;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::apart;
use super::document::{AcceptedDocument, State, TaskDocument};
use super::problem::{Code, ItemError, Problem};
use super::query::Query;
use super::reply::{json, with_header};
use super::state::Api;
use super::task::{PREFERENCE_APPLIED, WAIT_SECS_MAX, preferred_wait};
use crate::clock::rfc3339;
use crate::commit::Accepted;
use crate::tracker::TaskState;

/// Says that a reply is that of an earlier, equal submission.
const IDEMPOTENCY_REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// How long the reply to a submission may be held back.
pub struct Wait {
    asked: Option<u64>,
    preferred: Option<u64>,
}

impl Wait {
    /// What a submission asks for. A dry run has nothing to wait for.
    pub fn of(query: &Query, headers: &HeaderMap, dry_run: bool) -> Result<Self, Problem> {
        let asked = query.number("wait", 0..=WAIT_SECS_MAX)?;
        if dry_run && asked.is_some() {
            let error = ItemError::parameter("wait", "a dry run queues nothing that could be waited for");
            return Err(Problem::of_item(Code::InvalidRequest, error));
        }
        Ok(Self { asked, preferred: preferred_wait(headers).filter(|_| asked.is_none() && !dry_run) })
    }

    /// `200` with the task if it is completed in time, else the `202` that it would have been without a wait. The purge is
    /// durable already, so nothing that goes wrong here makes it less.
    pub async fn answer(&self, api: &Api, site: &SiteId, accepted: &Accepted) -> Result<Response, Problem> {
        let mut response = accepted_response(api, site, accepted);
        if let Some(secs) = self.asked.or(self.preferred).filter(|secs| *secs > 0) {
            let at_most = Duration::from_secs(secs);
            let waiting = {
                let (tracker, site, task) = (Arc::clone(&api.services.tracker), site.clone(), accepted.task);
                async move { tracker.wait(&site, task, at_most).await }
            };
            let seen = apart::wait(&api.services.followers, waiting).await;
            if let Ok(Ok(Some(view))) = seen
                && view.state == TaskState::Completed
            {
                let headers = std::mem::take(response.headers_mut());
                response = json(StatusCode::OK, &TaskDocument::from(&view));
                let kept = [LOCATION, IDEMPOTENCY_REPLAYED];
                response.headers_mut().extend(headers.into_iter().filter_map(|(name, value)| {
                    let name = name.filter(|name| kept.contains(name))?;
                    Some((name, value))
                }));
            }
        }
        Ok(match self.preferred {
            Some(secs) => with_header(response, PREFERENCE_APPLIED, format!("wait={secs}")),
            None => response,
        })
    }
}

/// `202`.
fn accepted_response(api: &Api, site: &SiteId, accepted: &Accepted) -> Response {
    let document = AcceptedDocument {
        task_id: accepted.task.to_string(),
        state: State::Pending,
        items_total: accepted.items_total,
        items_done: 0,
        started_at: rfc3339(accepted.accepted_at),
    };
    let location = format!("{}/v1/sites/{site}/purge/{}", api.public_prefix(), accepted.task);
    let response = with_header(json(StatusCode::ACCEPTED, &document), LOCATION, location);
    if accepted.replayed {
        with_header(response, IDEMPOTENCY_REPLAYED, HeaderValue::from_static("true"))
    } else {
        response
    }
}
