//! `GET /admin/v1/sla/export`: was the promise kept, day by day, and if not, because of whom? As JSON or CSV.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use batoff_delivery::PURGE_TARGET;
use batoff_types::{SiteId, UnixMillis};
use http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use http::{HeaderValue, Request, StatusCode};
use serde::Serialize;
use utoipa::ToSchema;

use super::csv::Csv;
use super::overview::{SlowestDocument, percentiles};
use crate::api::problem::{Code, ItemError, Problem, store_error};
use crate::api::query::Query;
use crate::api::reply::json;
use crate::api::sla::{BreachDocument, PercentilesDocument};
use crate::clock::{millis, rfc3339};
use crate::service::Services;
use crate::tracker::{Breach, DAY, SLA_DAYS_MAX, SlaReport, SlaView, sla_kept_since};

const PARAMETERS: [&str; 5] = ["site", "from", "until", "format", "table"];

/// Days of a report for which none are named.
const DAYS_DEFAULT: u64 = 30;

/// Was the promise kept, day by day?
#[derive(Serialize, ToSchema)]
#[schema(as = SlaReport)]
struct ReportDocument {
    /// Whose; absent for all sites together.
    #[serde(skip_serializing_if = "Option::is_none")]
    site_id: Option<String>,
    /// The beginning of the first day.
    from: String,
    /// The end of the last.
    until: String,
    /// The target.
    target_ms: u64,
    /// All days together.
    total: DayDocument,
    /// The days of UTC, the oldest first.
    days: Vec<DayDocument>,
    /// Purges over the target, newest first: at most 20 of five minutes are kept, and 50 of a day 30 days ago or more.
    breaches: Vec<SiteBreachDocument>,
}

/// One day, or all together.
#[derive(Serialize, ToSchema)]
#[schema(as = SlaDay)]
struct DayDocument {
    /// `2026-04-20`; absent for all days together.
    #[serde(skip_serializing_if = "Option::is_none")]
    day: Option<String>,
    /// Purges that were accepted.
    purges: u64,
    /// Completed within the target.
    within: u64,
    /// Not.
    late: u64,
    /// The share of the first in both; 1 when there were none.
    within_target: f64,
    /// Percentiles of the completed ones.
    propagation_ms: PercentilesDocument,
    /// The slowest.
    #[serde(skip_serializing_if = "Option::is_none")]
    slowest: Option<SlowestDocument>,
}

/// A purge over the target, and whose it was.
#[derive(Serialize, ToSchema)]
#[schema(as = SiteBreach)]
struct SiteBreachDocument {
    /// Whose.
    site_id: String,
    /// When it was accepted.
    accepted_at: String,
    /// Which, and what it waited for.
    #[serde(flatten)]
    breach: BreachDocument,
}

/// What a report is written as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReportFormat {
    /// All of it, as JSON.
    Json,
    /// As CSV, a line a day.
    DaysCsv,
    /// As CSV, a line for each node that a late purge waited for.
    BreachesCsv,
}

impl ReportFormat {
    /// By the parameters `format` and `table`: JSON, and days, unless they say otherwise. JSON has both tables.
    pub(crate) fn from_query(query: &Query) -> Result<Self, Problem> {
        let csv = query.parsed("format", "json or csv", |text| match text {
            "json" => Some(false),
            "csv" => Some(true),
            _ => None,
        })?;
        let table = query.parsed("table", "days or breaches", |text| match text {
            "days" => Some(Self::DaysCsv),
            "breaches" => Some(Self::BreachesCsv),
            _ => None,
        })?;
        Ok(if csv.unwrap_or(false) { table.unwrap_or(Self::DaysCsv) } else { Self::Json })
    }

    /// The report as an answer; CSV is a file to be saved.
    pub(crate) fn response(self, report: SlaReport) -> Response {
        match self {
            Self::Json => json(StatusCode::OK, &ReportDocument::from(report)),
            Self::DaysCsv => attached("sla-days", days_csv(&report)),
            Self::BreachesCsv => attached("sla-breaches", breaches_csv(&report)),
        }
    }
}

/// Was the promise kept, day by day: of one site, or of all together.
#[utoipa::path(
    get, path = "/admin/v1/sla/export", tag = "fleet", operation_id = "exportSla",
    params(
        ("site" = Option<String>, Query, nullable = false, description = "Of this site; without it, of all together"),
        ("from" = Option<String>, Query, nullable = false, description = "The first day (of UTC), or a time in it; 30 days in all when not given; 400 days are kept", example = "2026-04-01"),
        ("until" = Option<String>, Query, nullable = false, description = "The last day, or a time in it; today when not given", example = "2026-04-20"),
        ("format" = Option<String>, Query, nullable = false, description = "`json` (the default) or `csv` (RFC 4180; what a spreadsheet would take for a formula has an apostrophe in front)"),
        ("table" = Option<String>, Query, nullable = false, description = "As CSV: `days` (the default), a line each, or `breaches`, a line for each node that a late purge waited for"),
    ),
    responses((status = 200, description = "The report", content(
        (ReportDocument = "application/json"),
        (String = "text/csv", example = "site,day,purges,…"),
    ), headers(("Content-Disposition" = String, description = "The name of the file; with CSV"))))
)]
pub(super) async fn export(
    State(services): State<Arc<Services>>,
    request: Request<Body>,
) -> Result<Response, Problem> {
    let query = Query::parse(request.uri().query(), &PARAMETERS)?;
    let now = services.clock.wall();
    let site = query.parsed("site", "the name of a site", |text| text.parse::<SiteId>().ok())?;
    let expected = "a day such as 2026-04-20, or a time of RFC 3339";
    let until = query.parsed("until", expected, instant)?.unwrap_or(now);
    let default = UnixMillis(until.0.saturating_sub(millis(DAY).saturating_mul(DAYS_DEFAULT - 1)));
    let from = query.parsed("from", expected, instant)?.unwrap_or(default);
    let (from, until) = checked_range(from, until, now)?;
    let format = ReportFormat::from_query(&query)?;
    let report = services.tracker.sla_days(site.as_ref(), from, until).await.map_err(store_error)?;
    Ok(format.response(report))
}

/// The range, if it is one and something may be kept of all of it. What lies ahead is cut off.
pub(crate) fn checked_range(
    from: UnixMillis,
    until: UnixMillis,
    now: UnixMillis,
) -> Result<(UnixMillis, UnixMillis), Problem> {
    let until = until.min(now);
    let refused = |parameter: &str, why: String| {
        let error = ItemError::parameter(parameter, why);
        Err(Problem::of_item(Code::InvalidRequest, error.with_value(date(from))))
    };
    if from > until {
        return refused("from", "must not be after until, nor after today".to_owned());
    }
    let since = sla_kept_since(now);
    if from < since {
        let why = format!("must be {} or later: {SLA_DAYS_MAX} days are kept", date(since));
        return refused("from", why);
    }
    Ok((from, until))
}

/// A day's beginning, or a moment.
pub(crate) fn instant(text: &str) -> Option<UnixMillis> {
    let at = match text.parse::<jiff::civil::Date>() {
        Ok(date) if text.len() == 10 => date.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp(),
        _ => text.parse::<jiff::Timestamp>().ok()?,
    };
    u64::try_from(at.as_millisecond()).ok().map(UnixMillis)
}

fn attached(name: &str, csv: String) -> Response {
    let mut response = csv.into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/csv; charset=utf-8; header=present"));
    if let Ok(disposition) = HeaderValue::from_str(&format!("attachment; filename=\"{name}.csv\"")) {
        headers.insert(CONTENT_DISPOSITION, disposition);
    }
    response
}

/// A line a day, as [RFC 4180](https://www.rfc-editor.org/rfc/rfc4180) has it.
fn days_csv(report: &SlaReport) -> String {
    let mut csv = Csv::new([
        "site",
        "day",
        "purges",
        "within_target",
        "late",
        "attainment",
        "p50_ms",
        "p95_ms",
        "p99_ms",
        "p99_9_ms",
        "max_ms",
        "slowest_task",
        "slowest_node",
        "slowest_cause",
    ]);
    for day in &report.days {
        let SlaView { purges, judged, within, within_target, p50, p95, p99, p999, max, .. } = day.view;
        let slowest = day.view.slowest.as_ref();
        let node = slowest.and_then(|slow| slow.node.as_ref());
        csv.add([
            scope(report.site.as_ref()),
            date(day.begins),
            purges.to_string(),
            within.to_string(),
            judged.saturating_sub(within).to_string(),
            format!("{within_target:.6}"),
            p50.to_string(),
            p95.to_string(),
            p99.to_string(),
            p999.to_string(),
            max.to_string(),
            slowest.map(|slow| slow.task.to_string()).unwrap_or_default(),
            node.map(|(node, _)| node.to_string()).unwrap_or_default(),
            node.map(|(_, cause)| cause.as_str().to_owned()).unwrap_or_default(),
        ]);
    }
    csv.finish()
}

/// A line for each node that a late purge waited for, and one for a purge that waited for none that is known.
fn breaches_csv(report: &SlaReport) -> String {
    let mut csv = Csv::new(["site", "task", "accepted_at", "propagation_ms", "node", "reason"]);
    for breach in &report.breaches {
        let took = breach.propagation_ms.map(|ms| ms.to_string()).unwrap_or_default();
        let mut add = |node: String, reason: String| {
            csv.add([
                breach.site.to_string(),
                breach.task.to_string(),
                rfc3339(breach.accepted_at()),
                took.clone(),
                node,
                reason,
            ]);
        };
        for late in &breach.late {
            add(late.node.to_string(), late.reason.to_string());
        }
        if breach.late.is_empty() {
            add(String::new(), String::new());
        }
    }
    csv.finish()
}

fn scope(site: Option<&SiteId>) -> String {
    site.map_or("*", SiteId::as_str).to_owned()
}

fn date(at: UnixMillis) -> String {
    rfc3339(at).chars().take_while(|c| *c != 'T').collect()
}

impl From<SlaReport> for ReportDocument {
    fn from(report: SlaReport) -> Self {
        Self {
            site_id: report.site.as_ref().map(ToString::to_string),
            from: rfc3339(report.from),
            until: rfc3339(report.until),
            target_ms: millis(PURGE_TARGET),
            total: DayDocument::new(None, &report.total),
            days: report.days.iter().map(|day| DayDocument::new(Some(date(day.begins)), &day.view)).collect(),
            breaches: report.breaches.into_iter().map(SiteBreachDocument::from).collect(),
        }
    }
}

impl DayDocument {
    fn new(day: Option<String>, view: &SlaView) -> Self {
        Self {
            day,
            purges: view.purges,
            within: view.within,
            late: view.judged.saturating_sub(view.within),
            within_target: view.within_target,
            propagation_ms: percentiles(view),
            slowest: view.slowest.as_ref().map(SlowestDocument::from),
        }
    }
}

impl From<Breach> for SiteBreachDocument {
    fn from(breach: Breach) -> Self {
        Self {
            site_id: breach.site.to_string(),
            accepted_at: rfc3339(breach.accepted_at()),
            breach: breach.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_a_moment_too() {
        let day = instant("2026-04-20").unwrap();
        assert_eq!(rfc3339(day), "2026-04-20T00:00:00Z");
        assert_eq!(date(day), "2026-04-20");
        assert_eq!(instant("2026-04-20T00:00:00Z"), Some(day));
        for text in ["", "yesterday", "2026-13-01", "1960-01-01", "2026-04-20T25:00:00Z"] {
            assert_eq!(instant(text), None, "{text}");
        }
    }
}
