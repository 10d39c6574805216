//! `batoff overview`: is all well, and if not, what needs attention?

use batoff_client::{ConcernReport, FleetReport, HourReport, OverviewReport, Percentiles};

use crate::args::Format;
use crate::exit::Failure;
use crate::output::{self, Narrow};
use crate::propagation::cause_in_words;
use crate::russian::tell;
use crate::settings::Settings;

/// `batoff overview`
pub async fn run(settings: &Settings) -> Result<(), Failure> {
    let overview = settings.admin()?.overview().await.map_err(Failure::of_admin)?;
    match settings.format() {
        Format::Json => output::json(&overview),
        Format::Human => print(&overview),
    }
}

fn print(overview: &OverviewReport) -> Result<(), Failure> {
    let HourReport { target_ms, purges, propagation_ms, .. } = &overview.last_hour;
    let Percentiles { p50, p99, max, .. } = propagation_ms;
    let minute = overview.purges_per_second.iter().map(|count| u64::from(*count)).sum::<u64>();
    let mut lines = vec![nodes(&overview.nodes)];
    lines.extend(slowest(&overview.last_hour));
    lines.push(format!(
        "last hour: {purges} purges, p50 {p50} ms, p99 {p99} ms, max {max} ms of {target_ms} ms"
    ));
    lines.push(format!("last minute: {minute} purges"));
    output::say(&lines.join("\n"))?;
    if overview.attention.is_empty() {
        return output::say("nothing needs attention");
    }
    let mut table = output::table([
        ("NEEDS ATTENTION", Narrow::Stay),
        ("WHAT", Narrow::Stay),
        ("SINCE", Narrow::Go(1)),
        ("BECAUSE OF", Narrow::Wrap),
    ]);
    for concern in &overview.attention {
        table.add_row([
            concern.subject.clone(),
            tell(kind(concern)).into_owned(),
            output::or_dash(concern.since.clone()),
            output::or_dash(because_of(concern)),
        ]);
    }
    table.print("")?;
    match overview.attention_more {
        0 => Ok(()),
        more => output::say(&format!("and {more} more")),
    }
}

fn nodes(fleet: &FleetReport) -> String {
    let FleetReport { total, current, .. } = fleet;
    if total == current {
        format!("all {total} nodes are current")
    } else {
        format!("{current} of {total} nodes are current")
    }
}

fn slowest(hour: &HourReport) -> Option<String> {
    let slow = hour.slowest.as_ref()?;
    let ms = slow.propagation_ms;
    Some(match (&slow.node, &slow.cause) {
        (Some(node), Some(cause)) => {
            format!("slowest completion in the last hour: {ms} ms, {node}, {}", cause_in_words(cause))
        }
        _ => format!("slowest completion in the last hour: {ms} ms"),
    })
}

fn kind(concern: &ConcernReport) -> &str {
    match concern.kind.as_str() {
        "store" => "store",
        "late_node" => "node is late",
        "cache_trouble" => "cache in trouble",
        "no_lease" => "node without a lease",
        "certificate" => "certificate ends",
        "over_quota" => "over its quota",
        // One that this build does not know.
        other => other,
    }
}

fn because_of(concern: &ConcernReport) -> Option<String> {
    let until = concern.until.as_ref().map(|until| format!("{} {until}", tell("until")));
    kept_by(concern).or(until)
}

/// What keeps a node, in words, with what a cache said.
pub fn kept_by(concern: &ConcernReport) -> Option<String> {
    let cause = concern.cause.as_deref().map(cause_in_words);
    match (cause, &concern.detail) {
        (Some(cause), Some(detail)) => Some(format!("{cause}; {detail}")),
        (Some(cause), None) => Some(cause.into_owned()),
        (None, detail) => detail.clone(),
    }
}

#[cfg(test)]
mod tests {
    use batoff_client::SlowestReport;

    use super::*;

    #[test]
    fn the_sentence_says_whether_all_are_current_and_who_was_slowest() {
        let fleet = FleetReport { total: 42, current: 42, ..FleetReport::default() };
        assert_eq!(nodes(&fleet), "all 42 nodes are current");
        assert_eq!(nodes(&FleetReport { current: 40, ..fleet }), "40 of 42 nodes are current");
        let slow = SlowestReport {
            propagation_ms: 1_100,
            node: Some("waw1/edge-2".into()),
            cause: Some("cache_busy".into()),
            ..SlowestReport::default()
        };
        let hour = HourReport { slowest: Some(slow), ..HourReport::default() };
        assert_eq!(
            slowest(&hour).unwrap(),
            "slowest completion in the last hour: 1100 ms, waw1/edge-2, cache busy"
        );
    }

    #[test]
    fn a_concern_says_what_keeps_a_node_or_when_a_certificate_ends() {
        let late = ConcernReport {
            cause: Some("no_connection".into()),
            detail: Some("3 records behind".into()),
            ..ConcernReport::default()
        };
        assert_eq!(because_of(&late).unwrap(), "no connection; 3 records behind");
        let ends = ConcernReport { until: Some("2026-04-20T08:12:31Z".into()), ..ConcernReport::default() };
        assert_eq!(because_of(&ends).unwrap(), "until 2026-04-20T08:12:31Z");
    }
}
