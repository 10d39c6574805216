//! A submission that is waited for: `?wait=2`, or `Prefer: wait=2` (RFC 7240).

use std::time::Duration;

use axum::response::Response;
use batoff_types::SiteId;
use http::header::LOCATION;
use http::{HeaderMap, StatusCode};

use super::document::{AcceptedDocument, State, TaskDocument};
use super::problem::{Code, ItemError, Problem};
use super::query::Query;
use super::reply::{json, with_header};
use super::state::Api;
use super::task::{WAIT_SECS_MAX, preferred_wait};
use crate::clock::rfc3339;
use crate::commit::Accepted;
use crate::tracker::TaskState;

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
            let seen = api.services.tracker.wait(site, accepted.task, at_most).await;
            if let Ok(Some(view)) = seen
                && view.state == TaskState::Completed
            {
                let headers = std::mem::take(response.headers_mut());
                response = json(StatusCode::OK, &TaskDocument::from(&view));
                let kept = [LOCATION.as_str(), "idempotency-replayed"];
                response.headers_mut().extend(headers.into_iter().filter_map(|(name, value)| {
                    let name = name.filter(|name| kept.contains(&name.as_str()))?;
                    Some((name, value))
                }));
            }
        }
        Ok(match self.preferred {
            Some(secs) => with_header(response, "preference-applied", &format!("wait={secs}")),
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
    let response = with_header(json(StatusCode::ACCEPTED, &document), LOCATION.as_str(), &location);
    if accepted.replayed { with_header(response, "idempotency-replayed", "true") } else { response }
}
