//! `GET /v1/sites/{site_id}/purges`: what was purged lately?

use std::fmt::Write;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use batoff_types::{SelectorKind, UnixMillis};
use http::header::LINK;
use http::{Request, StatusCode};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::admission::admit;
use super::document::{TaskDocument, TaskListDocument};
use super::problem::{Problem, store_error};
use super::query::Query;
use super::reply::{json, with_header};
use super::state::Api;
use crate::catalog::Scope;
use crate::tracker::{TaskFilter, TaskState};

/// Tasks on a page, at most.
pub const PAGE_MAX: usize = 200;

/// Tasks on a page, unless asked otherwise.
pub const PAGE_DEFAULT: usize = 50;

const PARAMETERS: [&str; 5] = ["state", "kind", "since", "limit", "cursor"];

/// The site's purges, newest first.
#[utoipa::path(
    get, path = "/v1/sites/{site_id}/purges", tag = "purges", operation_id = "listPurges",
    params(
        ("site_id" = String, Path, description = "The site's name"),
        ("state" = Option<String>, Query, nullable = false, description = "Only in this state: `pending`, `in_progress`, `completed` or `partial`"),
        ("kind" = Option<String>, Query, nullable = false, description = "Only with an item of this kind: `url`, `prefix`, `tag`, `host` or `everything`"),
        ("since" = Option<String>, Query, nullable = false, description = "Only accepted at or after this time (RFC 3339)", example = "2026-04-20T08:12:31Z"),
        ("limit" = Option<u64>, Query, nullable = false, minimum = 1, maximum = 200, description = "Tasks on a page; 50 when not given"),
        ("cursor" = Option<String>, Query, nullable = false, description = "`next_cursor` of the page before"),
    ),
    responses((status = 200, description = "A page", body = TaskListDocument, headers(
        ("Link" = String, description = "The next page, with `rel=\"next\"`; absent on the last"),
    )))
)]
pub async fn list(State(api): State<Arc<Api>>, request: Request<Body>) -> Result<Response, Problem> {
    let admitted = admit(&api, request, Scope::Read).await?;
    let query = Query::parse(admitted.query(), &PARAMETERS)?;
    let filter = TaskFilter {
        state: query.parsed("state", "pending, in_progress, completed or partial", TaskState::from_name)?,
        kind: query.parsed("kind", "url, prefix, tag, host or everything", SelectorKind::from_name)?,
        since: query.parsed("since", "a time such as 2026-04-20T08:12:31Z", parse_time)?,
        before: query.parsed("cursor", "the next_cursor of a page of this list", |text| text.parse().ok())?,
        limit: query.number("limit", 1..=PAGE_MAX)?.unwrap_or(PAGE_DEFAULT),
    };
    let page = api.services.tracker.list(&admitted.site, &filter).await.map_err(store_error)?;
    let path = format!("{}{}", api.public_prefix(), admitted.parts.uri.path());
    let next_cursor = page.next.map(|task| task.to_string());
    let link = next_cursor.as_deref().map(|cursor| next_link(&path, &query, cursor));
    let document =
        TaskListDocument { purges: page.tasks.iter().map(TaskDocument::from).collect(), next_cursor };
    let response = json(StatusCode::OK, &document);
    Ok(match link {
        Some(link) => with_header(response, LINK, link),
        None => response,
    })
}

/// RFC 3339; a fraction counts up to the millisecond it lies in.
fn parse_time(text: &str) -> Option<UnixMillis> {
    let time: jiff::Timestamp = text.parse().ok()?;
    Some(UnixMillis(u64::try_from(time.as_millisecond()).unwrap_or(0)))
}

/// The same question, from the next page on.
fn next_link(path: &str, query: &Query, cursor: &str) -> String {
    let mut link = format!("<{path}?");
    for name in PARAMETERS.into_iter().filter(|name| *name != "cursor") {
        if let Some(value) = query.text(name) {
            let _ = write!(link, "{name}={}&", utf8_percent_encode(value, NON_ALPHANUMERIC));
        }
    }
    let _ = write!(link, "cursor={cursor}>; rel=\"next\"");
    link
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rfc_3339() {
        assert_eq!(parse_time("2026-04-20T08:12:31Z"), Some(UnixMillis(1_776_672_751_000)));
        assert_eq!(parse_time("2026-04-20T11:12:31.5+03:00"), Some(UnixMillis(1_776_672_751_500)));
        for text in ["", "2026-04-20", "2026-04-20T08:12:31", "yesterday", "1776672751"] {
            assert_eq!(parse_time(text), None, "{text}");
        }
    }

    #[test]
    fn the_link_repeats_the_question() {
        let query = Query::parse(Some("since=2026-04-20T08:12:31Z&limit=1&cursor=x"), &PARAMETERS).unwrap();
        assert_eq!(
            next_link("/v1/sites/shop/purges", &query, "01JF7M2KZ7YH9Q4K0P2BDH9W3Y"),
            "</v1/sites/shop/purges?since=2026%2D04%2D20T08%3A12%3A31Z&limit=1&\
             cursor=01JF7M2KZ7YH9Q4K0P2BDH9W3Y>; rel=\"next\""
        );
    }
}
