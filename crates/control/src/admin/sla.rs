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

/// All sites together.
pub(super) async fn fleet(
    State(services): State<Arc<Services>>,
    request: Request<Body>,
) -> Result<Response, Problem> {
    let query = Query::parse(request.uri().query(), &["window"])?;
    let (given, window) = window_of(&query)?;
    let view = services.tracker.sla(None, window).await.map_err(store_error)?;
    Ok(json(StatusCode::OK, &SlaDocument::new(given, view)))
}
