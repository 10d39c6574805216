//! `GET /v1/sites/{site_id}/purges/stream`: tell me as it happens.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use batoff_program::gate::NoRoom;
use futures_util::StreamExt;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderName, HeaderValue, Request};

use super::admission::{self, admit};
use super::apart;
use super::document::TaskDocument;
use super::problem::{Code, Problem, store_error};
use super::query::Query;
use super::state::Api;
use crate::catalog::{Scope, TokenRefusal};
use crate::tracker::TaskEvent;

/// Tells nginx to pass on what comes as it comes.
const X_ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// How often a silent stream says that it is alive, so that nothing in between closes it.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// How often a stream asks whether its token is still valid: revocation takes effect within a second.
const TOKEN_CHECK: Duration = Duration::from_millis(500);

/// How long a client waits before it connects again.
const RETRY: Duration = Duration::from_secs(1);

/// The longest `Last-Event-ID` that is looked at, in bytes; ours are shorter.
const EVENT_ID_MAX: usize = 256;

/// Server-sent events: one when a purge is accepted, and one at each change of its state.
///
/// Ids are unique, sort as texts in the order of the events, and are good for `Last-Event-ID` across restarts of the control
/// plane; an id that was not given out here is ignored. `completed` is not left out, except of tasks that more than
/// `limits.live_tasks` younger ones have pushed out of memory. `pending` and `in_progress` are, where a later state is
/// known already, as after a break; `partial` may be told once more after a restart. Who was away for more than 1,000
/// tasks is told of the newest 1,000.
#[utoipa::path(
    get, path = "/v1/sites/{site_id}/purges/stream", tag = "purges", operation_id = "streamPurges",
    params(
        ("site_id" = String, Path, description = "The site's name"),
        ("Last-Event-ID" = Option<String>, Header, nullable = false, description = "Go on after this event"),
    ),
    responses((
        status = 200, description = "Events named `purge` with an `id` to resume after, and a task as `data`",
        content_type = "text/event-stream", body = TaskDocument,
    ))
)]
pub async fn stream(State(api): State<Arc<Api>>, request: Request<Body>) -> Result<Response, Problem> {
    let admitted = admit(&api, request, Scope::Read).await?;
    Query::parse(admitted.query(), &[])?;
    let site = api.site_streams.admit(&admitted.site).map_err(|full| no_room("site", full))?;
    let token = api.token_streams.admit(&admitted.token.id).map_err(|full| no_room("token", full))?;
    let last = admission::single(admitted.headers(), "last-event-id").filter(|id| id.len() <= EVENT_ID_MAX);
    let followers = &api.services.followers;
    let subscribing = {
        let (tracker, site) = (Arc::clone(&api.services.tracker), admitted.site.clone());
        let last = last.map(str::to_owned);
        async move { tracker.subscribe(&site, last.as_deref()).await }
    };
    let events = apart::wait(followers, subscribing).await?.map_err(store_error)?;

    let revoked = revoked(Arc::clone(&api), admitted.bearer);
    let body = apart::body(followers, move || {
        let first = futures_util::stream::once(async { Ok(Event::default().retry(RETRY).comment("batoff")) });
        let events = first
            .chain(events.map(|event| Ok::<_, Infallible>(event_of(&event))))
            .take_until(revoked)
            .map(move |event| {
                // Open for as long as the stream lives.
                let _ = (&site, &token);
                event
            });
        let keep_alive = KeepAlive::new().interval(KEEP_ALIVE).text("alive");
        Sse::new(events).keep_alive(keep_alive).into_response().into_body()
    });
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static("text/event-stream")),
        (CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        (X_ACCEL_BUFFERING, HeaderValue::from_static("no")),
    ];
    Ok((headers, body).into_response())
}

/// How long to wait when as many streams are open as may be.
const ROOM_AGAIN: Duration = Duration::from_secs(5);

fn no_room(whose: &str, full: NoRoom) -> Problem {
    let problem = match full {
        NoRoom::Total(_) => {
            Problem::detailed(Code::Unavailable, "too many event streams are open; ask for the list")
        }
        NoRoom::Each(most) => Problem::detailed(
            Code::RateLimited,
            format!("the {whose} has {most} event streams open, and may have no more: close one"),
        ),
    };
    problem.retry_after(ROOM_AGAIN)
}

fn event_of(event: &TaskEvent) -> Event {
    // Strings and numbers always serialise, and JSON has no line breaks of its own.
    let data = serde_json::to_string(&TaskDocument::from(&event.task)).unwrap_or_default();
    Event::default().event("purge").id(&*event.id).data(data)
}

/// Ready when the token may no longer be used.
async fn revoked(api: Arc<Api>, bearer: String) {
    let catalog = &api.services.catalog;
    loop {
        let found = match catalog.find(&bearer) {
            Err(TokenRefusal::Unverified) => catalog.ask_store(&bearer).await,
            found => found,
        };
        if found.is_err() {
            return;
        }
        tokio::time::sleep(TOKEN_CHECK).await;
    }
}
