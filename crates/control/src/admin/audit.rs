//! The audit log: every change is written down before it is made, and after; and the log is read here.

use std::io;
use std::sync::Arc;

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{ConnectInfo, FromRequestParts, MatchedPath, RawPathParams, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use batoff_types::UnixMillis;
use futures_util::stream;
use http::header::CONTENT_TYPE;
use http::{Method, Request, StatusCode};
use utoipa::ToSchema;

use super::body::BODY_BYTES_MAX;
use super::refusal::Conflict;
use crate::api::RequestId;
use crate::api::problem::{Code, Problem, store_error};
use crate::api::query::Query;
use crate::api::reply::json;
use crate::audit::{
    AuditAction, AuditEntry, AuditFilter, AuditResult, BegunChange, ChainHead, ChainReport, LISTED_MAX,
    OPERATOR,
};
use crate::service::Services;

/// Entries on a page, unless asked otherwise.
const LISTED_DEFAULT: usize = 50;

/// Characters that an entry keeps of a name or a query.
const NAME_CHARS_MAX: usize = 200;

/// The media type of an export: a JSON document a line.
const JSON_LINES: &str = "application/jsonl";

/// What a change was about, when the request does not say it: put into the response by the handler.
#[derive(Clone, Debug)]
pub(super) struct AboutObject(pub String);

/// Which change a route is; `None` for one that changes nothing.
fn action_of(method: &Method, route: &str) -> Option<AuditAction> {
    let is = |wanted: &Method| method == wanted;
    Some(match route {
        "/admin/v1/sites" if is(&Method::POST) => AuditAction::SiteCreate,
        "/admin/v1/sites/{site}" if is(&Method::PATCH) => AuditAction::SiteChange,
        "/admin/v1/sites/{site}" if is(&Method::DELETE) => AuditAction::SiteRemove,
        "/admin/v1/sites/{site}/tokens" if is(&Method::POST) => AuditAction::TokenIssue,
        "/admin/v1/sites/{site}/tokens/{token}" if is(&Method::DELETE) => AuditAction::TokenRevoke,
        "/admin/v1/users" if is(&Method::POST) => AuditAction::UserAdd,
        "/admin/v1/users/{user}" if is(&Method::PATCH) => AuditAction::UserChange,
        "/admin/v1/users/{user}" if is(&Method::DELETE) => AuditAction::UserRemove,
        "/admin/v1/users/{user}/reset" if is(&Method::POST) => AuditAction::UserReset,
        "/admin/v1/users/{user}/codes" if is(&Method::DELETE) => AuditAction::UserCodesOff,
        "/admin/v1/users/{user}/sessions" if is(&Method::DELETE) => AuditAction::UserSignOut,
        "/admin/v1/nodes/{pop}/{node}" if is(&Method::POST) => AuditAction::NodeAdmit,
        "/admin/v1/nodes/{pop}/{node}" if is(&Method::DELETE) => AuditAction::NodeRemove,
        "/admin/v1/replicas/sets" if is(&Method::POST) => AuditAction::ReplicaSet,
        _ => return None,
    })
}

/// Around every route, inside of the operator's authentication. A change that cannot be written down is not made.
pub(super) async fn record(
    State(services): State<Arc<Services>>,
    route: MatchedPath,
    request: Request<Body>,
    next: Next,
) -> Response {
    let Some(action) = action_of(request.method(), route.as_str()) else { return next.run(request).await };
    // To its end, even if the client goes away: a change is not left half made, nor its entry half written.
    let changing = tokio::spawn(change(services, action, request, next));
    changing.await.unwrap_or_else(|_| after_panic())
}

async fn change(
    services: Arc<Services>,
    action: AuditAction,
    request: Request<Body>,
    next: Next,
) -> Response {
    let (mut parts, body) = request.into_parts();
    let Ok(bytes) = to_bytes(body, BODY_BYTES_MAX).await else {
        return Problem::detailed(Code::BodyTooLarge, "the body must be at most 1 MiB").into_response();
    };
    let entry = asked(&services, action, &mut parts, &bytes).await;
    let id = services.ids.next().to_string();
    let begun = match services.audit.begin(id, entry).await {
        Ok(begun) => begun,
        Err(error) => {
            tracing::error!(%error, "a change is refused, for the audit log cannot be written");
            let detail = "the audit log cannot be written now, and nothing was changed";
            return Problem::detailed(Code::Unavailable, detail).into_response();
        }
    };
    let request = Request::from_parts(parts, Body::from(bytes));
    // A panic must not end this task: the entry is still to be written.
    let response = tokio::spawn(next.run(request)).await.unwrap_or_else(|_| after_panic());
    services.audit.finish(answered(begun, &response)).await;
    response
}

/// A bug of ours. Whether the change was made cannot be said.
fn after_panic() -> Response {
    Problem::detailed(Code::OutcomeUnknown, "an internal error; look before you repeat it").into_response()
}

/// What is known before the change is made.
async fn asked(
    services: &Services,
    action: AuditAction,
    parts: &mut http::request::Parts,
    body: &Bytes,
) -> AuditEntry {
    let params = RawPathParams::from_request_parts(parts, &()).await.ok();
    let param = |name: &str| {
        params.as_ref()?.iter().find(|(known, _)| *known == name).map(|(_, value)| value.to_owned())
    };
    let entry = AuditEntry::new(services.clock.wall(), OPERATOR, action).with_change(body);
    let node = param("pop").zip(param("node")).map(|(pop, node)| format!("{pop}/{node}"));
    let named = |change: &serde_json::Value| Some(change.get("site_id")?.as_str()?.to_owned());
    AuditEntry {
        site: param("site").or_else(|| entry.change.as_ref().and_then(named)).map(short),
        object: param("token").or(param("user")).or(node).map(short),
        what: parts.uri.query().map(|query| short(query.to_owned())),
        address: parts
            .extensions
            .get::<ConnectInfo<std::net::SocketAddr>>()
            .map(|ConnectInfo(peer)| peer.ip().to_canonical()),
        request_id: parts.extensions.get::<RequestId>().map(|id| id.as_str().to_owned()),
        ..entry
    }
}

/// No name of ours is longer; an entry is bounded whatever was sent.
fn short(text: String) -> String {
    text.chars().take(NAME_CHARS_MAX).collect()
}

/// The entry with what came of it.
fn answered(mut begun: BegunChange, response: &Response) -> BegunChange {
    let problem = response.extensions().get::<Arc<Problem>>();
    let conflict = response.extensions().get::<Conflict>();
    let code = problem.map(|problem| problem.code.as_str()).or(conflict.map(|_| "conflict"));
    let status = response.status();
    let entry = &mut begun.entry;
    entry.result = AuditResult::of(status, code).as_str().into();
    entry.status = Some(status.as_u16());
    entry.code = code.map(str::to_owned);
    if let Some(AboutObject(object)) = response.extensions().get::<AboutObject>() {
        entry.object = Some(object.clone());
    }
    begun
}

/// A page of the audit log, as the description names it: the entries themselves are sent byte by byte.
#[derive(ToSchema)]
#[schema(as = AuditPage)]
#[expect(dead_code, reason = "the description's name for what is put together as text")]
struct PageDocument {
    /// Newest first.
    entries: Vec<EntryDocument>,
    /// What to give as `cursor` for the next page; absent on the last.
    #[schema(nullable = false)]
    next_cursor: Option<String>,
}

/// An entry as it is listed.
#[derive(ToSchema)]
#[schema(as = ListedEntry)]
#[expect(dead_code, reason = "the description's name for what is put together as text")]
struct EntryDocument {
    #[schema(inline)]
    #[serde(flatten)]
    entry: AuditEntry,
    /// SHA-256 over the hash of the entry before it and the entry's own bytes.
    hash: String,
}

/// Who did what: the audit log, newest first.
#[utoipa::path(
    get, path = "/admin/v1/audit", tag = "audit", operation_id = "listAudit",
    params(
        ("site" = Option<String>, Query, nullable = false, description = "Only about this site"),
        ("actor" = Option<String>, Query, nullable = false, description = "Only by this actor: `admin`, or `token:` and a token's id"),
        ("action" = Option<String>, Query, nullable = false, description = "Only this action, such as `purge` or `token.issue`"),
        ("since" = Option<String>, Query, nullable = false, description = "Only done at or after this time (RFC 3339)", example = "2026-04-20T08:12:31Z"),
        ("until" = Option<String>, Query, nullable = false, description = "Only done before this time (RFC 3339)"),
        ("limit" = Option<u64>, Query, nullable = false, minimum = 1, maximum = 200, description = "Entries on a page; 50 when not given"),
        ("cursor" = Option<String>, Query, nullable = false, description = "`next_cursor` of the page before"),
    ),
    responses((status = 200, description = "A page", body = PageDocument))
)]
pub(super) async fn list(
    State(services): State<Arc<Services>>,
    request: Request<Body>,
) -> Result<Response, Problem> {
    const PARAMETERS: [&str; 7] = ["site", "actor", "action", "since", "until", "limit", "cursor"];
    let query = Query::parse(request.uri().query(), &PARAMETERS)?;
    let time = "a time such as 2026-04-20T08:12:31Z";
    let actions = AuditAction::ALL.map(AuditAction::as_str).join(", ");
    let filter = AuditFilter {
        site: query.text("site").map(str::to_owned),
        actor: query.text("actor").map(str::to_owned),
        action: query.parsed("action", &format!("one of {actions}"), AuditAction::from_name)?,
        since: query.parsed("since", time, parse_time)?,
        until: query.parsed("until", time, parse_time)?,
    };
    let limit = query.number("limit", 1..=LISTED_MAX)?.unwrap_or(LISTED_DEFAULT);
    let before = query.number("cursor", 1..=u64::MAX)?;
    let page = services.audit.list(&filter, before, limit).await.map_err(store_error)?;
    let entries: Vec<&str> = page.entries.iter().map(|entry| entry.as_str()).collect();
    let next = page.next.map_or(String::new(), |next| format!(",\"next_cursor\":\"{next}\""));
    // Put together as text, so that each entry keeps the bytes that its hash is of.
    let body = format!("{{\"entries\":[{}]{next}}}", entries.join(","));
    Ok(([(CONTENT_TYPE, "application/json")], body).into_response())
}

/// The chain as it is, from an entry on, for looking at it elsewhere.
///
/// A JSON document a line: first the head of the chain before that entry, then each entry with the very bytes that its
/// hash is of.
#[utoipa::path(
    get, path = "/admin/v1/audit/export", tag = "audit", operation_id = "exportAudit",
    params(("from" = Option<u64>, Query, nullable = false, minimum = 1, description = "The first entry; 1 when not given")),
    responses((status = 200, description = "The chain", content_type = "application/jsonl", body = String))
)]
pub(super) async fn export(
    State(services): State<Arc<Services>>,
    request: Request<Body>,
) -> Result<Response, Problem> {
    let query = Query::parse(request.uri().query(), &["from"])?;
    exported(services, query.number("from", 1..=u64::MAX)?.unwrap_or(1)).await
}

/// The chain from an entry on, piece by piece.
pub(crate) async fn exported(services: Arc<Services>, from: u64) -> Result<Response, Problem> {
    services.audit.flush().await.map_err(store_error)?;
    let first = services.audit.stretch(from).await.map_err(store_error)?;
    let Some(first) = first else {
        return Err(Problem::detailed(Code::NotFound, format!("there is no entry {from} yet")));
    };
    let pieces = stream::try_unfold((services, Some(first), None::<u64>), async |(services, at, next)| {
        let (stretch, is_first) = match (at, next) {
            (Some(stretch), _) => (Some(stretch), true),
            (None, Some(next)) => (services.audit.stretch(next).await.map_err(io::Error::other)?, false),
            (None, None) => (None, false),
        };
        let Some(stretch) = stretch else { return Ok::<_, io::Error>(None) };
        if next.is_some_and(|next| next != stretch.head.first) {
            return Err(io::Error::other("entries were forgotten while they were exported"));
        }
        let mut text = String::new();
        if is_first {
            text.push_str(&serde_json::to_string(&stretch.head).map_err(io::Error::other)?);
            text.push('\n');
        }
        for entry in &stretch.entries {
            text.push_str(entry.as_str());
            text.push('\n');
        }
        let next = Some(stretch.next);
        Ok(Some((Bytes::from(text), (services, None, next))))
    });
    Ok(([(CONTENT_TYPE, JSON_LINES)], Body::from_stream(pieces)).into_response())
}

/// Whether the audit log is whole.
#[utoipa::path(
    get, path = "/admin/v1/audit/verify", tag = "audit", operation_id = "verifyAudit",
    params(("head" = Option<String>, Query, nullable = false, description = "The head that an earlier look told: an older copy that was put back is noticed only with it")),
    responses((status = 200, description = "What was found", body = ChainReport))
)]
pub(super) async fn verify(
    State(services): State<Arc<Services>>,
    request: Request<Body>,
) -> Result<Response, Problem> {
    let query = Query::parse(request.uri().query(), &["head"])?;
    let expected = "the head that an earlier look told, as 1:4711: and 64 hex digits";
    let known: Option<ChainHead> = query.parsed("head", expected, |text| text.parse().ok())?;
    Ok(json(StatusCode::OK, &verified(&services, known).await?))
}

/// What is found out about the chain; the log of the program is told when it is not whole.
pub(crate) async fn verified(services: &Services, known: Option<ChainHead>) -> Result<ChainReport, Problem> {
    let report = services.audit.verify(known).await.map_err(store_error)?;
    if !report.ok {
        tracing::error!(flaws = report.flaws_total, known_head = ?report.known_head, "the audit log is not whole");
    }
    Ok(report)
}

fn parse_time(text: &str) -> Option<UnixMillis> {
    let time: jiff::Timestamp = text.parse().ok()?;
    Some(UnixMillis(u64::try_from(time.as_millisecond()).unwrap_or(0)))
}
