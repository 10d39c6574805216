//! One purge of whichever site: how it spread.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::Response;
use batoff_types::TaskId;
use http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use super::refusal::AdminRefusal;
use crate::api::PropagationDocument;
use crate::api::problem::store_error;
use crate::api::reply::json;
use crate::service::Services;

/// How a purge of whichever site spread.
#[derive(Serialize, ToSchema)]
#[schema(as = TaskPropagation)]
struct TaskPropagationDocument {
    /// The purge.
    task_id: String,
    /// Its site.
    site_id: String,
    /// `pending`, `in_progress`, `completed` or `partial`.
    state: &'static str,
    #[serde(flatten)]
    spread: PropagationDocument,
}

/// How a purge spread: when each PoP and the slowest nodes came how far.
#[utoipa::path(
    get, path = "/admin/v1/purges/{task}/propagation", tag = "fleet", operation_id = "getPropagation",
    params(("task" = String, Path, description = "The task: a ULID of 26 characters")),
    responses((status = 200, description = "How it spread", body = TaskPropagationDocument))
)]
pub(super) async fn propagation(
    State(services): State<Arc<Services>>,
    Path(task): Path<String>,
) -> Result<Response, AdminRefusal> {
    let no_such = || AdminRefusal::no_such("purge", &task);
    let id = task.parse::<TaskId>().map_err(|_| no_such())?;
    let found = services.tracker.propagation(None, id).await.map_err(store_error)?.ok_or_else(no_such)?;
    let document = TaskPropagationDocument {
        task_id: found.task.to_string(),
        site_id: found.site.to_string(),
        state: found.state.as_str(),
        spread: found.into(),
    };
    Ok(json(StatusCode::OK, &document))
}
