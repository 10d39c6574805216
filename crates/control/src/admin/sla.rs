use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use http::{Request, StatusCode};

use crate::api::problem::{Problem, store_error};
use crate::api::query::Query;
use crate::api::reply::json;
use crate::api::sla::{SlaDocument, window_of};
use crate::service::Services;

/// How fast the purges of all sites were.
#[utoipa::path(
    get, path = "/admin/v1/sla", tag = "fleet", operation_id = "getFleetSla",
    params(("window" = Option<String>, Query, nullable = false, description = "How far back: a number and `s`, `m`, `h` or `d`, at most 30d; `24h` when not given. Widened to whole slots of five minutes", example = "24h")),
    responses((status = 200, description = "Propagation over the window", body = SlaDocument))
)]
pub(super) async fn fleet(
    State(services): State<Arc<Services>>,
    request: Request<Body>,
) -> Result<Response, Problem> {
    let query = Query::parse(request.uri().query(), &["window"])?;
    let (given, window) = window_of(&query)?;
    let view = services.tracker.sla(None, window).await.map_err(store_error)?;
    Ok(json(StatusCode::OK, &SlaDocument::new(given, view)))
}
