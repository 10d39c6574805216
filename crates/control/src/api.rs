//! The customers' HTTP API: what may be asked, and in which words do we answer?
//!
//! | module | answers |
//! | --- | --- |
//! | `reply` | What has every reply? Request id, date, and a refusal's body |
//! | `admission` | Who is asking, and did they? Token, size, signature and timestamp, scope |
//! | `purge_body`, `query`, `items` | What is asked for? |
//! | `quota`, `slices`, `site_quotas`, `auth_failures` | Not too often? |
//! | `idempotency`, `replays` | Was it asked before? |
//! | `refusals` | What is the audit log told of what changed nothing? |
//! | `apart` | On which threads is waited? |
//! | `propagation` | How did a purge spread? |
//! | `purging` | The way from a request into the log, for tokens and for the console |
//! | `traced` | Which purges are traced, and what is told of their requests? |
//! | `submit`, `waiting`, `task`, `list`, `events`, `sla` | The routes |
//! | `openapi` | How is all of this described? |
//! | [`problem`], `remedies`, `russian` | How do we say no, what can be done about it, and in which language? |
//!
//! The order of checks is the contract's: route, token, size, signature and timestamp, scope, media type, JSON, items,
//! quota, durability. **Invariants, by what is absent:** a body is never parsed before its signature is accepted, and
//! nothing here is durable or decides what `completed` means.

mod admission;
mod apart;
mod auth_failures;
mod body;
mod bucket;
mod buckets;
pub(crate) mod client_address;
mod counts;
mod document;
mod dry_runs;
mod events;
mod idempotency;
mod items;
mod json;
mod list;
pub mod openapi;
pub mod problem;
mod propagation;
mod purge_body;
mod purging;
pub mod query;
mod quota;
mod refusals;
mod remedies;
mod replays;
pub mod reply;
mod request_id;
pub(crate) mod russian;
mod signature;
mod site_quotas;
pub mod sla;
mod slices;
mod state;
mod submit;
mod task;
mod timestamp;
mod traced;
mod waiting;

use std::sync::Arc;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::{Method, Request, StatusCode};
use tower_http::catch_panic::CatchPanicLayer;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use self::problem::{Code, Problem};
use self::reply::FinishedRoutes;
use crate::service::Services;

pub use self::counts::NodesDocument;
pub use self::document::TaskDocument;
pub use self::items::Cost;
pub use self::propagation::PropagationDocument;
pub use self::purge_body::PurgeRequest;
pub use self::purging::WantedPurge;
pub use self::refusals::PurgeAttempt;
pub use self::request_id::RequestId;
pub use self::state::Api;
pub use self::traced::RequestTrace;

/// All routes of the API. To be served with `ConnectInfo<SocketAddr>`, which the bucket of failed authentications goes
/// by.
pub fn router(services: Arc<Services>) -> FinishedRoutes {
    router_of(Arc::new(Api::new(services)))
}

/// The same, of a state that others purge with, too: quotas are the site's, whoever asks.
pub fn router_of(api: Arc<Api>) -> FinishedRoutes {
    let clock = api.services.clock.clone();
    let prefix = api.services.config.api.public_prefix.clone();
    let (routes, _) = described().with_state(api).split_for_parts();
    let routes = routes
        .merge(openapi::routes(description(), &prefix))
        .fallback(no_such_route)
        .method_not_allowed_fallback(other_method)
        .layer(CatchPanicLayer::custom(|_| after_panic()));
    FinishedRoutes::new(clock, routes)
}

/// The routes with what describes them: one cannot be without the other.
fn described() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::with_openapi(openapi::base())
        .routes(routes!(submit::submit))
        .routes(routes!(task::task))
        .routes(routes!(list::list))
        .routes(routes!(events::stream))
        .routes(routes!(sla::sla))
}

/// The description of this API, as `/openapi.json` has it.
pub fn description() -> utoipa::openapi::OpenApi {
    openapi::complete(described().into_openapi())
}

async fn no_such_route(request: Request<Body>) -> Problem {
    let (parts, body) = request.into_parts();
    admission::discard(&parts.headers, body);
    Problem::detailed(Code::NotFound, "there is no such route; the API is described at /openapi.json")
}

/// `OPTIONS` says what the route can; any other method is refused. `Allow` is added by the router.
async fn other_method(request: Request<Body>) -> Response {
    let (parts, body) = request.into_parts();
    admission::discard(&parts.headers, body);
    if parts.method == Method::OPTIONS {
        return StatusCode::NO_CONTENT.into_response();
    }
    Problem::detailed(Code::MethodNotAllowed, format!("{} is not among the methods in Allow", parts.method))
        .into_response()
}

/// A bug of ours. Whether a submission got as far as the log cannot be said, so the client is asked to repeat it.
fn after_panic() -> Response {
    Problem::detailed(Code::OutcomeUnknown, "an internal error; it has been logged").into_response()
}
