//! `GET /live`: the news of the viewer's sites, for as long as he is signed in.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use batoff_program::gate::Admission;
use bytes::Bytes;
use futures_util::stream;
use http::HeaderMap;
use http::header::{CONTENT_TYPE, HeaderName};
use serde::Deserialize;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::frame::{PageFrame, session};
use super::live::{NewsPiece, Sight};
use super::state::Console;
use crate::accounts::{AccountName, Viewer};
use crate::api::problem::{Code, Problem};
use crate::tracker::NewsPlace;

/// How often a silent stream says that it is alive, so that nothing in between closes it.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// How often it is asked whether the viewer is still signed in, and what he may see.
const SESSION_CHECK: Duration = Duration::from_secs(1);

/// How long a stream goes on by what a proxy said when it began.
const WORD_OF_PROXY_HOLDS: Duration = Duration::from_secs(60);

/// What the first bytes say: when to come again after a break, in milliseconds.
const HELLO: &str = "retry: 1000\n: batoff\n\n";

/// Where to begin, when the browser does not say it in `Last-Event-ID`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct LiveQuery {
    after: String,
}

/// A stream on its way.
struct NewsListener {
    console: Arc<Console>,
    frame: PageFrame,
    headers: HeaderMap,
    viewer: Viewer,
    place: NewsPlace,
    told: watch::Receiver<()>,
    hello: bool,
    began_at: Instant,
    check_at: Instant,
    alive_at: Instant,
    _admission: Admission<AccountName>,
}

/// `GET /live`
pub async fn live(
    State(console): State<Arc<Console>>,
    frame: PageFrame,
    headers: HeaderMap,
    Query(query): Query<LiveQuery>,
) -> Result<Response, Problem> {
    let Some(viewer) = frame.viewer.clone() else { return Err(Problem::new(Code::InvalidToken)) };
    let admission = console.streams.admit(&viewer.name).map_err(|_| {
        Problem::detailed(
            Code::RateLimited,
            "too many event streams are open; the page can be reloaded by hand",
        )
    })?;
    let last = headers.get("last-event-id").and_then(|id| id.to_str().ok()).unwrap_or(&query.after);
    let place = last.parse().unwrap_or_else(|_| console.services.tracker.news_place());
    let told = console.live.listen(&console.services);
    let now = Instant::now();
    let listener = NewsListener {
        console,
        frame,
        headers,
        viewer,
        place,
        told,
        hello: true,
        began_at: now,
        check_at: now + SESSION_CHECK,
        alive_at: now + KEEP_ALIVE,
        _admission: admission,
    };
    let body = Body::from_stream(stream::unfold(listener, NewsListener::next));
    let fields = [(CONTENT_TYPE, "text/event-stream"), (HeaderName::from_static("x-accel-buffering"), "no")];
    Ok((fields, body).into_response())
}

impl NewsListener {
    async fn next(mut self) -> Option<(Result<Bytes, std::convert::Infallible>, Self)> {
        if self.hello {
            self.hello = false;
            return Some((Ok(HELLO.into()), self));
        }
        loop {
            let sees = self.sees();
            let services = &self.console.services;
            match self.console.live.next(services, self.place, self.frame.language, &sees).await {
                Ok(Some(NewsPiece::Told(events, place))) => {
                    self.place = place;
                    if !events.is_empty() {
                        self.alive_at = Instant::now() + KEEP_ALIVE;
                        return Some((Ok(events.concat().into()), self));
                    }
                }
                Ok(Some(NewsPiece::Lost(event, place))) => {
                    self.place = place;
                    return Some((Ok(event), self));
                }
                Ok(None) => {}
                // The browser comes again, and goes on where it was.
                Err(error) => {
                    tracing::warn!(%error, "an event stream of the console ends: the store cannot be read");
                    return None;
                }
            }
            tokio::select! {
                _ = self.told.changed() => {}
                () = sleep_until(self.check_at) => {
                    self.check_at = Instant::now() + SESSION_CHECK;
                    self.viewer = self.still_signed_in().await?;
                }
                () = sleep_until(self.alive_at) => {
                    self.alive_at = Instant::now() + KEEP_ALIVE;
                    return Some((Ok(Bytes::from_static(b": alive\n\n")), self));
                }
                () = self.console.services.draining.cancelled() => return None,
            }
        }
    }

    /// The viewer as he is now. What a proxy said holds for a while: the browser comes again then, and the proxy says it anew.
    async fn still_signed_in(&self) -> Option<Viewer> {
        if self.viewer.session.is_none() {
            return (self.began_at.elapsed() < WORD_OF_PROXY_HOLDS).then(|| self.viewer.clone());
        }
        session(&self.console, &self.headers, self.frame.address).await.ok().flatten()
    }

    fn sees(&self) -> Sight {
        self.viewer.sees().map_or(Sight::All, Sight::Some)
    }
}
