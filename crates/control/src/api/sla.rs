//! `GET /v1/sites/{site_id}/sla`: was the promise kept?

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use http::{Request, StatusCode};
use serde::Serialize;
use utoipa::ToSchema;

use super::admission::admit;
use super::problem::{Problem, store_error};
use super::query::Query;
use super::reply::json;
use super::state::Api;
use crate::catalog::Scope;
use crate::tracker::{AwaitedNode, Breach, SlaView};

/// The promise: from durable to completed, in milliseconds.
pub const TARGET_MS: u64 = 2_000;

/// The window that is looked at, unless asked otherwise.
const WINDOW_DEFAULT: &str = "24h";

/// The longest window: as long as tasks are kept.
const WINDOW_MAX: Duration = Duration::from_secs(30 * 24 * 3_600);

const PARAMETERS: [&str; 1] = ["window"];

/// Propagation over a window.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Sla)]
pub struct SlaDocument {
    /// The window, as asked for.
    #[schema(example = "24h")]
    pub window: String,
    /// The target.
    #[schema(example = 2_000)]
    pub target_ms: u64,
    /// Purges accepted within the window.
    #[schema(example = 1_200)]
    pub purges: u64,
    /// The share that was completed within the target; 1 when there were none.
    #[schema(example = 0.9992)]
    pub within_target: f64,
    /// Percentiles of the completed ones, at most 1/32 too large.
    pub propagation_ms: PercentilesDocument,
    /// Purges over the target, newest first, at most 100.
    pub breaches: Vec<BreachDocument>,
}

/// Propagation in milliseconds.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
#[schema(as = Percentiles)]
pub struct PercentilesDocument {
    /// Half of the purges took no longer.
    #[schema(example = 41)]
    pub p50: u64,
    /// 95 of 100.
    #[schema(example = 180)]
    pub p95: u64,
    /// 99 of 100.
    #[schema(example = 420)]
    pub p99: u64,
    /// 999 of 1,000.
    #[schema(example = 1_400)]
    pub p999: u64,
    /// The slowest.
    #[schema(example = 2_210)]
    pub max: u64,
}

/// A purge that took longer than the target.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Breach)]
pub struct BreachDocument {
    /// The task.
    pub task_id: String,
    /// How long it took; absent while it is not completed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = 2_210, nullable = false)]
    pub propagation_ms: Option<u64>,
    /// The nodes it waited for.
    pub late: Vec<LateNodeDocument>,
}

/// A node that a purge waited for.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = LateNode)]
pub struct LateNodeDocument {
    /// Its PoP.
    #[schema(example = "fra1")]
    pub pop: String,
    /// Its name there.
    #[schema(example = "edge-1")]
    pub node: String,
    /// Why it was late.
    pub reason: String,
}

/// How fast the site's purges were.
#[utoipa::path(
    get, path = "/v1/sites/{site_id}/sla", tag = "purges", operation_id = "getSla",
    params(
        ("site_id" = String, Path, description = "The site's name"),
        ("window" = Option<String>, Query, nullable = false, description = "How far back: a number and `s`, `m`, `h` or `d`, at most 30d; `24h` when not given. Widened to whole slots of five minutes", example = "24h"),
    ),
    responses((status = 200, description = "Propagation over the window", body = SlaDocument))
)]
pub async fn sla(State(api): State<Arc<Api>>, request: Request<Body>) -> Result<Response, Problem> {
    let admitted = admit(&api, request, Scope::Read).await?;
    let query = Query::parse(admitted.query(), &PARAMETERS)?;
    let window = window_of(&query)?;
    let view = api.services.tracker.sla(Some(&admitted.site), window.1).await.map_err(store_error)?;
    Ok(json(StatusCode::OK, &SlaDocument::new(window.0, view)))
}

/// The parameter `window`, as given and as a time.
pub fn window_of(query: &Query) -> Result<(String, Duration), Problem> {
    let expected = "a number and s, m, h or d, such as 24h, at most 30d";
    let given = query.text("window").unwrap_or(WINDOW_DEFAULT).to_owned();
    let window = query.parsed("window", expected, parse_window)?.or_else(|| parse_window(WINDOW_DEFAULT));
    Ok((given, window.unwrap_or(WINDOW_MAX)))
}

fn parse_window(text: &str) -> Option<Duration> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let unit_secs = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 24 * 3_600,
        _ => return None,
    };
    if !number.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let secs = number.parse::<u64>().ok()?.checked_mul(unit_secs)?;
    Some(Duration::from_secs(secs)).filter(|window| (Duration::from_secs(1)..=WINDOW_MAX).contains(window))
}

impl SlaDocument {
    /// What the tracker knows, with the window as it was asked for.
    pub fn new(window: String, view: SlaView) -> Self {
        let SlaView { purges, within_target, p50, p95, p99, p999, max, breaches, .. } = view;
        Self {
            window,
            target_ms: TARGET_MS,
            purges,
            within_target,
            propagation_ms: PercentilesDocument { p50, p95, p99, p999, max },
            breaches: breaches.into_iter().map(BreachDocument::from).collect(),
        }
    }
}

impl From<Breach> for BreachDocument {
    fn from(breach: Breach) -> Self {
        Self {
            task_id: breach.task.to_string(),
            propagation_ms: breach.propagation_ms,
            late: breach.late.into_iter().map(LateNodeDocument::from).collect(),
        }
    }
}

impl From<AwaitedNode> for LateNodeDocument {
    fn from(late: AwaitedNode) -> Self {
        Self {
            pop: late.node.pop().to_owned(),
            node: late.node.node().to_owned(),
            reason: late.reason.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_is_a_number_and_a_unit() {
        let secs = |text| parse_window(text).map(|window| window.as_secs());
        assert_eq!(
            [secs("90s"), secs("5m"), secs("24h"), secs("30d")],
            [90, 300, 86_400, 2_592_000].map(Some)
        );
        for text in
            ["", "h", "24", "31d", "0s", "-1h", "+1h", "1.5h", "1w", "24 h", "1ч", "18446744073709551615d"]
        {
            assert_eq!(secs(text), None, "{text}");
        }
    }
}
