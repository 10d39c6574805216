//! The checks that every request passes before anybody looks at what it asks for: token, size, signature and timestamp,
//! scope, in this order.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequestParts, RawPathParams};
use batoff_types::{SiteId, TaskId};
use batoff_wire::{Requester, RequesterIdentity};
use http::header::{AUTHORIZATION, EXPECT};
use http::request::Parts;
use http::{HeaderMap, Request};

use super::body::{self, BODY_BYTES_MAX, ReadBody, Unread};
use super::client_address;
use super::problem::{Code, Problem};
use super::refusals::PurgeAttempt;
use super::request_id::RequestId;
use super::signature::{Signature, Signed, idempotency_key};
use super::state::Api;
use super::timestamp::Timestamp;
use crate::catalog::{Scope, Token, TokenRefusal};
use crate::commit::RETRY_AFTER;

/// The header with the instant of signing.
pub const TIMESTAMP_HEADER: &str = "x-batoff-timestamp";

/// The header with the signature.
pub const SIGNATURE_HEADER: &str = "x-batoff-signature";

/// A request that its token's owner has really sent, for the token's own site.
#[derive(Debug)]
pub struct Admitted {
    /// Whose it is.
    pub token: Arc<Token>,
    /// The token as sent, for streams that end when it is revoked.
    pub bearer: String,
    /// The site of the path, which is the token's.
    pub site: SiteId,
    /// The client's address.
    pub address: IpAddr,
    /// The request's id.
    pub request_id: RequestId,
    /// When it was signed.
    pub timestamp: Timestamp,
    /// The signature that was accepted.
    pub signature: Signature,
    /// The raw body.
    pub body: ReadBody,
    /// Everything else that was sent.
    pub parts: Parts,
    task: Option<String>,
}

impl Admitted {
    /// The task that the path names. What is no task id names no task.
    pub fn task(&self) -> Result<TaskId, Problem> {
        self.task.as_deref().and_then(|text| text.parse().ok()).ok_or_else(no_such_task)
    }

    /// Who asks, as the audit log is told.
    pub fn asked(&self) -> PurgeAttempt<'_> {
        PurgeAttempt {
            requester: self.requester(),
            site: &self.site,
            request_id: &self.request_id,
            path: self.parts.uri.path(),
        }
    }

    /// Who asks, as a record says it.
    pub fn requester(&self) -> Requester {
        requester_of(&self.token, self.address)
    }

    /// The request's header fields.
    pub const fn headers(&self) -> &HeaderMap {
        &self.parts.headers
    }

    /// The query as sent.
    pub fn query(&self) -> Option<&str> {
        self.parts.uri.query()
    }
}

/// Who asks with this token.
pub fn requester_of(token: &Token, address: IpAddr) -> Requester {
    Requester { identity: RequesterIdentity::Token(token.id.to_bytes()), address }
}

/// The answer for a task that the site does not have.
pub fn no_such_task() -> Problem {
    Problem::detailed(Code::NotFound, "this site has no such task; tasks are kept 30 days")
}

/// A request that was not let in.
#[derive(Debug)]
pub struct NotAdmitted {
    /// Why.
    pub problem: Problem,
    /// The client's address, as the bucket of failures counts it.
    pub address: IpAddr,
    /// Whose token was sent, if it is one.
    pub token: Option<Arc<Token>>,
}

impl From<NotAdmitted> for Problem {
    fn from(refused: NotAdmitted) -> Self {
        refused.problem
    }
}

/// Lets a request in that needs this scope, or says why not. After a refusal the rest of the body is read and thrown
/// away.
pub async fn admit(api: &Api, request: Request<Body>, needed: Scope) -> Result<Admitted, NotAdmitted> {
    let (parts, body) = request.into_parts();
    let trusted = &api.services.config.api.trusted_proxies;
    let address = client_address::of(&parts.headers, &parts.extensions, trusted);
    let found = match find_token(api, &parts.headers) {
        // Rare, and only where several control planes share a store: in a box, so that nobody else carries it along.
        Err(NoToken::Unverified(bearer)) => Box::pin(ask_store(api, bearer)).await,
        Err(NoToken::Refused(problem)) => Err(problem),
        Ok(found) => Ok(found),
    };
    let (bearer, token) = match found {
        Ok(found) => found,
        Err(problem) if problem.code == Code::Unavailable => {
            discard(&parts.headers, body);
            return Err(NotAdmitted { problem, address, token: None });
        }
        Err(problem) => {
            discard(&parts.headers, body);
            return Err(NotAdmitted { problem: failed(api, address, problem), address, token: None });
        }
    };
    let known = Arc::clone(&token);
    look_at(api, parts, body, address, (bearer, token), needed).await.map_err(|problem| NotAdmitted {
        problem,
        address,
        token: Some(known),
    })
}

async fn look_at(
    api: &Api,
    mut parts: Parts,
    body: Body,
    address: IpAddr,
    (bearer, token): (String, Arc<Token>),
    needed: Scope,
) -> Result<Admitted, Problem> {
    let body = receive(&parts.headers, body).await?;
    let (timestamp, signature) =
        verify(api, &parts, &token, &body).map_err(|problem| failed(api, address, problem))?;

    let params = RawPathParams::from_request_parts(&mut parts, &()).await.ok();
    let param = |name: &str| {
        params.as_ref()?.iter().find(|(known, _)| *known == name).map(|(_, value)| value.to_owned())
    };
    let site = param("site_id").filter(|site| *site == token.site.as_str());
    let exists = api.services.catalog.has(&token.site);
    if site.is_none() || !exists || !token.allows(needed) {
        let detail = format!("the token is for another site, or has not the scope {}", needed.as_str());
        return Err(Problem::detailed(Code::ScopeDenied, detail));
    }
    api.services.catalog.used(&token, address);
    let request_id =
        parts.extensions.get::<RequestId>().cloned().unwrap_or_else(|| RequestId::of(&parts.headers));
    let task = param("task_id");
    Ok(Admitted {
        site: token.site.clone(),
        token,
        bearer,
        address,
        request_id,
        timestamp,
        signature,
        body,
        parts,
        task,
    })
}

/// Throws away what a refused client still sends, unless it waits to be asked for it.
pub fn discard(headers: &HeaderMap, body: Body) {
    if !headers.contains_key(EXPECT) {
        body::discard(body);
    }
}

/// Why it is not known whose request it is.
enum NoToken {
    Refused(Problem),
    /// The store must be asked for this token.
    Unverified(String),
}

impl From<Problem> for NoToken {
    fn from(problem: Problem) -> Self {
        Self::Refused(problem)
    }
}

fn find_token(api: &Api, headers: &HeaderMap) -> Result<(String, Arc<Token>), NoToken> {
    let refuse = |detail: &'static str| Problem::detailed(Code::InvalidToken, detail);
    let given = single(headers, AUTHORIZATION.as_str())
        .ok_or_else(|| refuse("send exactly one header Authorization: Bearer bto_live_…"))?;
    let bearer = given
        .split_once(' ')
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| token.trim_matches(' '))
        .ok_or_else(|| refuse("Authorization must be Bearer and the token"))?;
    match api.services.catalog.find(bearer) {
        Ok(token) => Ok((bearer.to_owned(), token)),
        Err(TokenRefusal::Unverified) => Err(NoToken::Unverified(bearer.to_owned())),
        Err(refusal) => Err(refused_token(refusal).into()),
    }
}

async fn ask_store(api: &Api, bearer: String) -> Result<(String, Arc<Token>), Problem> {
    let found = api.services.catalog.ask_store(&bearer).await;
    found.map(|token| (bearer, token)).map_err(refused_token)
}

fn refused_token(refusal: TokenRefusal) -> Problem {
    let refuse = |detail: &'static str| Problem::detailed(Code::InvalidToken, detail);
    match refusal {
        TokenRefusal::Malformed => refuse("the token is mistyped or cut short: its check does not fit"),
        TokenRefusal::Unknown => refuse("the token is unknown or was revoked"),
        TokenRefusal::Expired => refuse("the token has expired; issue a new one"),
        TokenRefusal::Unverified => {
            let detail = "it cannot be told now whether the token is valid; nothing was done";
            Problem::detailed(Code::Unavailable, detail).retry_after(RETRY_AFTER)
        }
    }
}

async fn receive(headers: &HeaderMap, body: Body) -> Result<ReadBody, Problem> {
    match body::read(body).await {
        Ok(received) => Ok(received),
        Err(Unread::TooLarge(rest)) => {
            discard(headers, rest);
            let detail = format!("at most {BODY_BYTES_MAX} bytes: split the request");
            Err(Problem::detailed(Code::BodyTooLarge, detail))
        }
        Err(Unread::Broken) => {
            Err(Problem::detailed(Code::InvalidRequest, "the body ended early or came too slowly"))
        }
    }
}

fn verify(
    api: &Api,
    parts: &Parts,
    token: &Token,
    body: &ReadBody,
) -> Result<(Timestamp, Signature), Problem> {
    let refuse = |detail: String| Problem::detailed(Code::BadSignature, detail);
    let field = |name: &'static str| {
        single(&parts.headers, name).ok_or_else(|| refuse(format!("send exactly one header {name}")))
    };
    let timestamp_text = field(TIMESTAMP_HEADER)?;
    let timestamp: Timestamp = timestamp_text
        .parse()
        .map_err(|error: super::timestamp::MalformedTimestamp| refuse(error.to_string()))?;
    let signature: Signature = field(SIGNATURE_HEADER)?
        .parse()
        .map_err(|error: super::signature::MalformedSignature| refuse(error.to_string()))?;
    let skew_max = Duration::from_secs(api.services.config.api.clock_skew_seconds);
    timestamp.check(api.services.clock.wall(), skew_max).map_err(|skewed| refuse(skewed.to_string()))?;

    let prefix = api.public_prefix();
    let received = parts.uri.path_and_query().map_or("/", |target| target.as_str());
    let public =
        if prefix.is_empty() { Cow::Borrowed(received) } else { format!("{prefix}{received}").into() };
    let key = idempotency_key(&parts.headers);
    let signed = Signed {
        timestamp: timestamp_text,
        method: parts.method.as_str(),
        target: &public,
        body_sha256: &body.sha256,
        idempotency_key: key.as_deref(),
    };
    let signing = api.services.catalog.signing_key(token);
    let fits = |signed| signature.verify(signing, signed);
    // Whoever is behind the gateway that takes the prefix away signs what arrives here.
    if fits(signed) || !prefix.is_empty() && fits(Signed { target: received, ..signed }) {
        return Ok((timestamp, signature));
    }
    Err(refuse(format!(
        "the signature does not fit: HMAC-SHA-256, keyed with the token's signing secret, over these {} lines joined by \
         newlines: {}. If the path differs from the one that was sent, something in between has changed it: see \
         api.public_prefix",
        signed.lines(),
        signed.expected()
    )))
}

/// A failed authentication, or, when there were too many from this address, that.
fn failed(api: &Api, address: IpAddr, problem: Problem) -> Problem {
    match api.auth_failures.count(api.services.clock.now(), address) {
        Ok(()) => problem,
        Err(wait) => {
            let detail = "too many failed authentications from this address";
            Problem::detailed(Code::RateLimited, detail).retry_after(wait)
        }
    }
}

/// The value of a field that was sent exactly once.
pub fn single<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let mut lines = headers.get_all(name).iter();
    let line = lines.next().filter(|_| lines.next().is_none())?;
    line.to_str().ok()
}
