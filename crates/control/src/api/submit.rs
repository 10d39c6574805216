//! `POST /v1/sites/{site_id}/purge`: from a body to a durable purge, or to a dry run.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use batoff_types::Selector;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, Request, StatusCode};

use super::admission::{self, Admitted, admit, requester_of};
use super::document::{AcceptedDocument, AnsweredDocument, DryRunDocument, ItemDocument, SubmittedDocument};
use super::idempotency;
use super::problem::{Code, Problem};
use super::purge_body::PurgeRequest;
use super::purging::{WantedPurge, key_reused};
use super::query::Query;
use super::quota::Rates;
use super::refusals::PurgeAttempt;
use super::replays::KnownRepeat;
use super::reply::{json, with_header};
use super::request_id::RequestId;
use super::state::Api;
use super::traced::RequestTrace;
use super::waiting::Wait;
use crate::catalog::Scope;
use crate::commit::Accepted;
use crate::metrics;
use crate::tracker::Counts;

const RATELIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATELIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// The trace of a purge that is traced, for whoever asks what became of it.
const TRACE: HeaderName = HeaderName::from_static("x-batoff-trace");

const PARAMETERS: [&str; 2] = ["dry_run", "wait"];

/// Submit a purge.
///
/// `202` means durable: the purge is on stable storage and will reach every node whatever crashes next. All or nothing:
/// one bad item refuses the request, each bad item is named, and nothing is queued.
///
/// A submission that comes again with the same signature 2 s or more after the first, or with the same
/// `Idempotency-Key`, does no new work: it gets the first one's reply, and `Idempotency-Replayed: true`.
#[utoipa::path(
    post, path = "/v1/sites/{site_id}/purge", tag = "purges", operation_id = "submitPurge",
    params(
        ("site_id" = String, Path, description = "The site's name"),
        ("dry_run" = Option<bool>, Query, nullable = false, description = "Validate and count, queue nothing, cost nothing of the site's quotas. A token has 60 dry runs, and gets one more a second"),
        ("wait" = Option<u64>, Query, nullable = false, minimum = 0, maximum = 30, description = "Hold the reply until the purge is completed, at most so many seconds: then `200` with the finished task, else `202` as without it"),
        ("Prefer" = Option<String>, Header, nullable = false, description = "`wait=2` is the same as the parameter (RFC 7240); the parameter wins", example = "wait=2"),
        ("Idempotency-Key" = Option<String>, Header, nullable = false, description = "1 to 255 visible ASCII characters; a repeat within 24 h is not done again"),
    ),
    request_body(content = PurgeRequest, content_type = "application/json"),
    responses(
        (status = 202, description = "Accepted, and durable", body = AcceptedDocument, headers(
            ("Location" = String, description = "Path of the task"),
            ("Preference-Applied" = String, description = "`wait=…` when `Prefer` was followed"),
            ("Idempotency-Replayed" = bool, description = "`true` when this is the reply of an earlier, equal submission"),
            ("X-Batoff-Trace" = String, description = "The id of the trace, only of a purge that is traced (W3C Trace Context, 32 hex digits)"),
            ("RateLimit" = String, description = "What is left of the site's quotas"),
            ("RateLimit-Policy" = String, description = "The site's quotas"),
        )),
        (status = 200, description = "Dry run; or the finished task, when it was waited for", body = SubmittedDocument, headers(
            ("Location" = String, description = "Path of the task; not of a dry run"),
            ("Preference-Applied" = String, description = "`wait=…` when `Prefer` was followed"),
            ("Idempotency-Replayed" = bool, description = "`true` when this is the task of an earlier, equal submission"),
            ("X-Batoff-Trace" = String, description = "The id of the trace, only of a purge that is traced (W3C Trace Context, 32 hex digits)"),
            ("RateLimit" = String, description = "What is left of the site's quotas"),
            ("RateLimit-Policy" = String, description = "The site's quotas"),
        )),
    )
)]
pub async fn submit(State(api): State<Arc<Api>>, request: Request<Body>) -> Response {
    let asked = SubmitQuery::of(request.uri().query());
    // Whoever may read may try. A query that is not understood is no dry run.
    let needed = if asked.as_ref().is_ok_and(|asked| asked.dry_run) { Scope::Read } else { Scope::Purge };
    let is_dry_run = needed == Scope::Read;
    let uri = request.uri().clone();
    let request_id = request.extensions().get::<RequestId>().cloned();
    let began = api.sampler.begin();
    match admit(&api, request, needed).await {
        Ok(admitted) => {
            let rates = api.rates(&admitted.site);
            let mut trace = if is_dry_run { None } else { api.sampler.sample(began, admitted.headers()) };
            let outcome = accept(&api, &admitted, asked, rates, trace.as_mut()).await;
            let outcome = match (trace, outcome) {
                (Some(trace), Ok(response)) => Ok(with_header(response, TRACE, trace.at().to_string())),
                (Some(mut trace), Err(problem)) => {
                    trace.refused(&problem);
                    Err(problem)
                }
                (None, outcome) => outcome,
            };
            if let (Err(problem), false) = (&outcome, is_dry_run) {
                api.refusals.refused(&api.services, &admitted.asked(), problem);
            }
            let response = outcome.into_response();
            let remaining = api.quotas.remaining(&admitted.site, rates);
            rate_limit(response, rates.policy(), remaining.field())
        }
        // Nobody in particular is asking: the bucket that such a request is taken from is the address's.
        Err(refused) => {
            if let (Some(token), Some(request_id), false) = (&refused.token, &request_id, is_dry_run) {
                let requester = requester_of(token, refused.address);
                let asked = PurgeAttempt { requester, site: &token.site, request_id, path: uri.path() };
                api.refusals.refused(&api.services, &asked, &refused.problem);
            }
            let (policy, field) = api.auth_failures.describe(api.services.clock.now(), refused.address);
            rate_limit(refused.problem.into_response(), policy, field)
        }
    }
}

fn rate_limit(response: Response, policy: String, field: String) -> Response {
    with_header(with_header(response, RATELIMIT_POLICY, policy), RATELIMIT, field)
}

/// What the query asks for.
struct SubmitQuery {
    query: Query,
    dry_run: bool,
}

impl SubmitQuery {
    fn of(query: Option<&str>) -> Result<Self, Problem> {
        let query = Query::parse(query, &PARAMETERS)?;
        let dry_run = query.flag("dry_run")?;
        Ok(Self { query, dry_run })
    }
}

async fn accept(
    api: &Api,
    admitted: &Admitted,
    asked: Result<SubmitQuery, Problem>,
    rates: Rates,
    mut trace: Option<&mut RequestTrace>,
) -> Result<Response, Problem> {
    if let Some(trace) = &mut trace {
        trace.step("verify");
    }
    check_media_type(admitted.headers())?;
    check_coding(admitted.headers())?;
    let SubmitQuery { query, dry_run } = asked?;
    let request = PurgeRequest::parse(&admitted.body.bytes)?;
    let wait = Wait::of(&query, admitted.headers(), dry_run)?;
    let keys = idempotency::keys(admitted, api.services.clock.wall())?;
    if !dry_run && let Some(known) = api.replays.find(&keys, api.services.clock.wall()) {
        return match known {
            KnownRepeat::Repeat(accepted) => {
                if let Some(trace) = &mut trace {
                    trace.asked(&admitted.site, admitted.request_id.as_str());
                    trace.accepted(&accepted);
                }
                answer(api, admitted, &wait, &accepted).await
            }
            KnownRepeat::Conflict => Err(key_reused()),
        };
    }
    if let Some(trace) = &mut trace {
        trace.step("parse");
    }
    if dry_run {
        let (selectors, counts) = api.count(&admitted.site, &request, &admitted.requester().identity).await?;
        return Ok(json(StatusCode::OK, &dry_run_document(&selectors, &counts)));
    }
    let asked = WantedPurge {
        site: &admitted.site,
        request: &request,
        request_id: admitted.request_id.shared(),
        requester: admitted.requester(),
        dedupe: keys.clone(),
        trace,
    };
    let accepted = api.purge(asked, rates).await?;
    api.replays.remember(&keys, &accepted, accepted.accepted_at);
    answer(api, admitted, &wait, &accepted).await
}

/// `application/json`, with any parameter but another charset than UTF-8.
fn check_media_type(headers: &HeaderMap) -> Result<(), Problem> {
    let given = admission::single(headers, CONTENT_TYPE.as_str()).unwrap_or_default();
    let mut parts = given.split(';').map(str::trim);
    let essence = parts.next().unwrap_or_default();
    let other_charset = parts.filter_map(|parameter| parameter.split_once('=')).any(|(name, value)| {
        name.trim().eq_ignore_ascii_case("charset")
            && !value.trim().trim_matches('"').eq_ignore_ascii_case("utf-8")
    });
    if essence.eq_ignore_ascii_case("application/json") && !other_charset {
        return Ok(());
    }
    let detail = "send the body as Content-Type: application/json, in UTF-8";
    Err(Problem::detailed(Code::UnsupportedMediaType, detail))
}

/// A body is taken as it is: hashed, limited and signed are the bytes that were sent.
fn check_coding(headers: &HeaderMap) -> Result<(), Problem> {
    let mut codings =
        headers.get_all(CONTENT_ENCODING).iter().flat_map(|line| line.as_bytes().split(|b| *b == b','));
    if codings
        .all(|coding| coding.trim_ascii().eq_ignore_ascii_case(b"identity") || coding.trim_ascii().is_empty())
    {
        return Ok(());
    }
    let detail = "send the body as it is, without Content-Encoding; it may have 1 MiB";
    Err(Problem::detailed(Code::UnsupportedMediaType, detail).accepting("identity"))
}

/// The reply to a purge that is durable, since now or since it was submitted first.
async fn answer(
    api: &Api,
    admitted: &Admitted,
    wait: &Wait,
    accepted: &Accepted,
) -> Result<Response, Problem> {
    if accepted.replayed {
        metrics::purge_replayed();
        api.refusals.repeated(&api.services, &admitted.asked(), accepted);
        tracing::info!(
            site = %admitted.site, task = %accepted.task, seq = %accepted.seq,
            request_id = admitted.request_id.as_str(), "purge repeated"
        );
    }
    wait.answer(api, &admitted.site, accepted).await
}

fn dry_run_document(selectors: &[Selector], counts: &Counts) -> DryRunDocument {
    let objects = |place: usize| counts.objects.get(place).copied().unwrap_or(0);
    let item = |(place, selector): (usize, &Selector)| ItemDocument {
        objects: Some(objects(place)),
        ..ItemDocument::from(selector)
    };
    DryRunDocument {
        dry_run: true,
        items: selectors.iter().enumerate().map(item).collect(),
        objects_total: counts.total(),
        nodes: AnsweredDocument { total: counts.nodes_total, answered: counts.nodes_answered },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_json_in_utf_8_is_taken() {
        let check = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, value.parse().unwrap());
            check_media_type(&headers).is_ok()
        };
        for value in [
            "application/json",
            "Application/JSON",
            "application/json; charset=UTF-8",
            "application/json;x=y",
        ] {
            assert!(check(value), "{value}");
        }
        for value in ["", "text/json", "application/jsonp", "application/json; charset=latin1", "text/plain"]
        {
            assert!(!check(value), "{value}");
        }
        assert!(check_media_type(&HeaderMap::new()).is_err());
    }
}
