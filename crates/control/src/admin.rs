//! The operator's HTTP API: sites, tokens, nodes, and the fleet's SLA. Its listener is not the customers'.
//!
//! | route | |
//! | --- | --- |
//! | `GET POST /admin/v1/sites`, `GET PATCH DELETE /admin/v1/sites/{site}` | hostnames and quotas |
//! | `GET POST /admin/v1/sites/{site}/tokens`, `DELETE …/tokens/{token_id}` | issue, list, revoke |
//! | `GET /admin/v1/nodes`, `POST DELETE /admin/v1/nodes/{pop}/{node}` | admit again, decommission (`?force=true`) |
//! | `GET /admin/v1/sla?window=` | all sites together |
//! | `GET /admin/v1/audit?site=&actor=&action=&since=&until=&limit=&cursor=` | who did what, newest first |
//! | `GET /admin/v1/audit/export?from=` | the chain as lines of JSON |
//! | `GET /admin/v1/audit/verify?head=` | whether the chain is whole |
//!
//! Every change, refused ones too, has an entry in the [audit log](crate::audit); one that cannot be written down is not
//! made.

mod audit;
mod body;
mod nodes;
mod refusal;
mod sites;
mod sla;
mod tokens;

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Router, middleware};
use http::Request;
use http::header::AUTHORIZATION;
use subtle::ConstantTimeEq;

use crate::api::problem::{Code, Problem};
use crate::api::{RequestId, reply};
use crate::catalog::hash;
use crate::service::Services;

/// All routes of the operator's API.
pub fn router(services: Arc<Services>) -> Router {
    let clock = services.clock.clone();
    Router::new()
        .route("/admin/v1/sites", get(sites::list).post(sites::create))
        .route("/admin/v1/sites/{site}", get(sites::show).patch(sites::change).delete(sites::remove))
        .route("/admin/v1/sites/{site}/tokens", get(tokens::list).post(tokens::issue))
        .route("/admin/v1/sites/{site}/tokens/{token}", delete(tokens::revoke))
        .route("/admin/v1/nodes", get(nodes::list))
        .route("/admin/v1/nodes/{pop}/{node}", post(nodes::admit).delete(nodes::remove))
        .route("/admin/v1/sla", get(sla::fleet))
        .route("/admin/v1/audit", get(audit::list))
        .route("/admin/v1/audit/export", get(audit::export))
        .route("/admin/v1/audit/verify", get(audit::verify))
        .route_layer(middleware::from_fn_with_state(Arc::clone(&services), audit::record))
        .route_layer(middleware::from_fn_with_state(Arc::clone(&services), authenticate))
        .fallback(async || Problem::detailed(Code::NotFound, "there is no such route"))
        .method_not_allowed_fallback(async || Problem::new(Code::MethodNotAllowed))
        .with_state(services)
        .layer(middleware::from_fn_with_state(clock, reply::finish))
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
        let response = next.run(request).await;
        return refusal::render(response, request_id.as_ref().map_or("-", RequestId::as_str));
    }
    let detail = "the operator's token is missing or wrong; it stands in admin.token in the data folder";
    Problem::detailed(Code::InvalidToken, detail).into_response()
}
