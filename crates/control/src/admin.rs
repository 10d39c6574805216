//! The operator's HTTP API: sites, tokens, users, nodes, and the fleet's SLA. Its listener is not the customers'.
//!
//! | route | |
//! | --- | --- |
//! | `GET POST /admin/v1/sites`, `GET PATCH DELETE /admin/v1/sites/{site}` | hostnames and quotas |
//! | `GET POST /admin/v1/sites/{site}/tokens`, `DELETE …/tokens/{token_id}` | issue, list, revoke |
//! | `GET POST /admin/v1/users`, `GET PATCH DELETE /admin/v1/users/{name}`, `POST …/{name}/reset` | who signs in to the console |
//! | `GET /admin/v1/nodes`, `POST DELETE /admin/v1/nodes/{pop}/{node}` | admit again, decommission (`?force=true`) |
//! | `GET /admin/v1/replicas`, `POST /admin/v1/replicas/sets` | the control planes beside the log, and which of them count (`?force=true`) |
//! | `GET /admin/v1/purges/{task}/propagation` | how a purge spread, and who was late and why |
//! | `GET /admin/v1/overview` | how all is, and what needs attention; at most a second old |
//! | `GET /admin/v1/sla?window=` | all sites together |
//! | `GET /admin/v1/sla/export?site=&from=&until=&format=&table=` | day by day, with the breaches, as JSON or CSV |
//! | `GET /admin/v1/audit?site=&actor=&action=&since=&until=&limit=&cursor=` | who did what, newest first |
//! | `GET /admin/v1/audit/export?from=` | the chain as lines of JSON |
//! | `GET /admin/v1/audit/verify?head=` | whether the chain is whole |
//! | `GET /admin/v1/openapi.json` | this, for programs |
//!
//! Every change, refused ones too, has an entry in the [audit log](crate::audit); one that cannot be written down is not
//! made.

pub(crate) mod audit;
mod body;
pub(crate) mod changing;
mod csv;
pub(crate) mod nodes;
mod openapi;
mod overview;
mod purges;
pub(crate) mod refusal;
mod replicas;
pub(crate) mod sites;
mod sla;
pub(crate) mod sla_export;
pub(crate) mod tokens;
pub(crate) mod users;

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router, middleware};
use http::Request;
use http::header::{ACCEPT_LANGUAGE, AUTHORIZATION};
use subtle::ConstantTimeEq;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::api::problem::{Code, Problem};
use crate::api::{RequestId, reply};
use crate::catalog::hash;
use crate::language::Language;
use crate::service::Services;

/// All routes of the operator's API.
pub fn router(services: Arc<Services>) -> Router {
    let clock = services.clock.clone();
    let (routes, _) = described().split_for_parts();
    routes
        .route_layer(middleware::from_fn_with_state(Arc::clone(&services), audit::record))
        .route_layer(middleware::from_fn_with_state(Arc::clone(&services), authenticate))
        .route("/admin/v1/openapi.json", get(async || Json(description())))
        .fallback(async || Problem::detailed(Code::NotFound, "there is no such route"))
        .method_not_allowed_fallback(async || Problem::new(Code::MethodNotAllowed))
        .with_state(services)
        .layer(middleware::from_fn_with_state(clock, reply::finish))
}

/// The routes with what describes them: one cannot be without the other.
fn described() -> OpenApiRouter<Arc<Services>> {
    OpenApiRouter::with_openapi(openapi::base())
        .routes(routes!(sites::list, sites::create))
        .routes(routes!(sites::show, sites::change, sites::remove))
        .routes(routes!(tokens::list, tokens::issue))
        .routes(routes!(tokens::revoke))
        .routes(routes!(users::list, users::add))
        .routes(routes!(users::show, users::change, users::remove))
        .routes(routes!(users::reset))
        .routes(routes!(users::drop_codes))
        .routes(routes!(users::sign_out))
        .routes(routes!(nodes::list))
        .routes(routes!(nodes::admit, nodes::remove))
        .routes(routes!(purges::propagation))
        .routes(routes!(replicas::list))
        .routes(routes!(replicas::set))
        .routes(routes!(overview::show))
        .routes(routes!(sla::fleet))
        .routes(routes!(sla_export::export))
        .routes(routes!(audit::list))
        .routes(routes!(audit::export))
        .routes(routes!(audit::verify))
}

/// The description of this API, as `/admin/v1/openapi.json` has it. It asks for no token: it tells nothing of this system.
pub fn description() -> utoipa::openapi::OpenApi {
    openapi::complete(described().into_openapi())
}

/// Lets requests with the operator's token through.
async fn authenticate(State(services): State<Arc<Services>>, request: Request<Body>, next: Next) -> Response {
    let bearer = request
        .headers()
        .get(AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| hash(token.trim()));
    // Hashes of equal length are compared, in constant time: how long it takes says nothing about the token.
    if bearer.is_some_and(|hash| bool::from(hash.ct_eq(&services.admin_token))) {
        let request_id = request.extensions().get::<RequestId>().cloned();
        let lines = request.headers().get_all(ACCEPT_LANGUAGE).iter().filter_map(|line| line.to_str().ok());
        let language = Language::negotiate(lines);
        let response = next.run(request).await;
        return refusal::render(response, request_id.as_ref().map_or("-", RequestId::as_str), language);
    }
    let detail = "the operator's token is missing or wrong; it stands in admin.token in the data folder";
    Problem::detailed(Code::InvalidToken, detail).into_response()
}
