//! `GET /v1/sites/{site_id}/purge/{task_id}`: how far is it?

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use http::{HeaderMap, HeaderName, Request, StatusCode};

use super::admission::{admit, no_such_task};
use super::apart;
use super::document::{ItemDocument, PopDocument, TaskDocument};
use super::problem::{Problem, store_error};
use super::query::Query;
use super::reply::{json, with_header};
use super::state::Api;
use crate::catalog::Scope;

/// Says that `Prefer` was followed.
pub const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");

/// The longest time a reply is held back, in seconds.
pub const WAIT_SECS_MAX: u64 = 30;

const PARAMETERS: [&str; 2] = ["wait", "include"];

/// How far a purge is.
#[utoipa::path(
    get, path = "/v1/sites/{site_id}/purge/{task_id}", tag = "purges", operation_id = "getPurge",
    params(
        ("site_id" = String, Path, description = "The site's name"),
        ("task_id" = String, Path, description = "The task: a ULID of 26 characters"),
        ("wait" = Option<u64>, Query, nullable = false, minimum = 0, maximum = 30, description = "Hold the reply until the task is completed, or so many seconds have passed"),
        ("include" = Option<String>, Query, nullable = false, description = "`pops`, `items`, `propagation`, or several with commas between", example = "pops,items"),
        ("Prefer" = Option<String>, Header, nullable = false, description = "`wait=2` is the same as the parameter (RFC 7240); the parameter wins", example = "wait=2"),
    ),
    responses((status = 200, description = "The task", body = TaskDocument, headers(
        ("Preference-Applied" = String, description = "`wait=…` when `Prefer` was followed"),
    )))
)]
pub async fn task(State(api): State<Arc<Api>>, request: Request<Body>) -> Result<Response, Problem> {
    let admitted = admit(&api, request, Scope::Read).await?;
    let query = Query::parse(admitted.query(), &PARAMETERS)?;
    let preferred = preferred_wait(admitted.headers());
    let asked = query.number("wait", 0..=WAIT_SECS_MAX)?;
    let include = Include::parse(&query)?;
    let task = admitted.task()?;

    let tracker = &api.services.tracker;
    let view = match asked.or(preferred) {
        Some(secs) if secs > 0 => {
            let (tracker, site) = (Arc::clone(tracker), admitted.site.clone());
            let waiting = async move { tracker.wait(&site, task, Duration::from_secs(secs)).await };
            apart::wait(&api.services.followers, waiting).await?
        }
        _ => tracker.task(&admitted.site, task).await,
    };
    let view = view.map_err(store_error)?.ok_or_else(no_such_task)?;
    let mut document = TaskDocument::from(&view);
    if include.items {
        document.items = Some(view.selectors.iter().map(ItemDocument::from).collect());
    }
    if include.pops {
        let pops = tracker.pops(&admitted.site, task).await.map_err(store_error)?.unwrap_or_default();
        document.pops = Some(pops.into_iter().map(PopDocument::from).collect());
    }
    if include.propagation {
        let found = tracker.propagation(Some(&admitted.site), task).await.map_err(store_error)?;
        document.propagation = found.map(|found| Box::new(found.into()));
    }
    let response = json(StatusCode::OK, &document);
    Ok(match preferred.filter(|_| asked.is_none()) {
        Some(secs) => with_header(response, PREFERENCE_APPLIED, format!("wait={secs}")),
        None => response,
    })
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Include {
    pops: bool,
    items: bool,
    propagation: bool,
}

impl Include {
    fn parse(query: &Query) -> Result<Self, Problem> {
        let read = |text: &str| {
            let mut include = Self::default();
            for name in text.split(',') {
                match name {
                    "pops" => include.pops = true,
                    "items" => include.items = true,
                    "propagation" => include.propagation = true,
                    _ => return None,
                }
            }
            Some(include)
        };
        Ok(query
            .parsed("include", "pops, items, propagation, or several with commas between", read)?
            .unwrap_or_default())
    }
}

/// `wait` of `Prefer` (RFC 7240): a wish, so what is malformed is ignored and what is too long is cut.
pub fn preferred_wait(headers: &HeaderMap) -> Option<u64> {
    let lines = headers.get_all("prefer").iter().filter_map(|line| line.to_str().ok());
    let mut preferences =
        lines.flat_map(|line| line.split([',', ';'])).filter_map(|part| part.split_once('='));
    let (_, value) = preferences.find(|(name, _)| name.trim().eq_ignore_ascii_case("wait"))?;
    value.trim().trim_matches('"').parse().ok().map(|secs: u64| secs.min(WAIT_SECS_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_preference_is_followed_as_far_as_it_goes() {
        let wait = |lines: &[&str]| {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append("prefer", line.parse().unwrap());
            }
            preferred_wait(&headers)
        };
        assert_eq!(wait(&["wait=2"]), Some(2));
        assert_eq!(wait(&["respond-async, Wait = \"100\""]), Some(30));
        assert_eq!(wait(&["return=minimal", "wait=1; foo=bar"]), Some(1));
        assert_eq!(wait(&["wait=soon"]), None);
        assert_eq!(wait(&[]), None);
    }

    #[test]
    fn include_takes_its_names_only() {
        let include = |raw| Include::parse(&Query::parse(Some(raw), &PARAMETERS).unwrap());
        assert_eq!(
            include("include=items,pops").unwrap(),
            Include { pops: true, items: true, propagation: false }
        );
        assert_eq!(
            include("include=pops").unwrap(),
            Include { pops: true, items: false, propagation: false }
        );
        let spread = Include { propagation: true, ..Include::default() };
        assert_eq!(include("include=propagation").unwrap(), spread);
        assert!(include("include=").is_err() && include("include=pops,nodes").is_err());
    }
}
