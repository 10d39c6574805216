//! How a purge spread: a table of PoPs, and the slowest nodes with what kept them.

use batoff_client::{Counts, NodeSpread, PopSpread, Spread};

use crate::exit::Failure;
use crate::output::{self, Narrow};
use crate::russian::tell;

/// PoPs as a table, then nodes. Figures are milliseconds since the purge was durable.
pub fn print(spread: &Spread) -> Result<(), Failure> {
    output::say(&summary(spread))?;
    let mut table = output::table([
        ("POP", Narrow::Stay),
        ("NODES", Narrow::Go(2)),
        ("SENT", Narrow::Go(4)),
        ("IN FORCE", Narrow::Go(3)),
        ("CONFIRMED", Narrow::Stay),
        ("FENCED", Narrow::Go(1)),
        ("EVICTED", Narrow::Go(5)),
    ]);
    for pop in &spread.pops {
        let PopSpread { nodes, sent_last_ms, in_force_ms, acked_ms, fenced_ms, evicted_ms, .. } = pop;
        let Counts { total, confirmed, fenced, .. } = nodes;
        let figures = [sent_last_ms, in_force_ms, acked_ms, fenced_ms, evicted_ms].map(|figure| of(*figure));
        let [sent, in_force, acked, fenced_at, evicted] = figures;
        table.add_row([
            pop.pop.clone(),
            format!("{}/{total}", confirmed + fenced),
            sent,
            in_force,
            acked,
            fenced_at,
            evicted,
        ]);
    }
    table.print("no PoPs")?;
    if spread.late.is_empty() {
        return Ok(());
    }
    let mut table = output::table([
        ("SLOWEST NODES", Narrow::Stay),
        ("SENT", Narrow::Go(3)),
        ("IN FORCE", Narrow::Go(2)),
        ("CONFIRMED", Narrow::Stay),
        ("FENCED", Narrow::Go(1)),
        ("BECAUSE OF", Narrow::Wrap),
    ]);
    for node in &spread.late {
        table.add_row([
            format!("{}/{}", node.pop, node.node),
            of(node.sent_ms),
            of(node.in_force_ms),
            of(node.acked_ms),
            of(node.fenced_ms),
            because_of(node),
        ]);
    }
    table.print("")
}

fn summary(spread: &Spread) -> String {
    let Spread { completed_ms, elapsed_ms, .. } = spread;
    match (completed_ms, elapsed_ms) {
        (Some(ms), _) => format!("no node could serve it {ms} ms after it was durable"),
        (None, Some(ms)) => format!("not completed {ms} ms after it was durable"),
        (None, None) => "not completed".to_owned(),
    }
}

fn of(figure: Option<u64>) -> String {
    output::or_dash(figure.map(|ms| format!("{ms} ms")))
}

/// What kept a node, in words.
pub fn cause_in_words(cause: &str) -> std::borrow::Cow<'_, str> {
    tell(match cause {
        "no_connection" => "no connection",
        "no_lease" => "connected, without a lease",
        "sent_late" => "sent late: it was away or is catching up",
        "network" => "network, or the node is busy",
        "cache_busy" => "cache busy",
        "cache_trouble" => "cache in trouble",
        "earlier_lease" => "an earlier run of its daemon may hold a lease",
        "working" => "not confirmed yet",
        // One that this build does not know.
        other => other,
    })
}

fn because_of(node: &NodeSpread) -> String {
    let cause = cause_in_words(&node.cause);
    match &node.detail {
        Some(detail) => format!("{cause}: {detail}"),
        None => cause.into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_told_in_words_with_what_the_cache_said() {
        let node = |cause: &str, detail: Option<&str>| NodeSpread {
            cause: cause.to_owned(),
            detail: detail.map(str::to_owned),
            ..NodeSpread::default()
        };
        assert_eq!(
            because_of(&node("cache_trouble", Some("nginx: no answer"))),
            "cache in trouble: nginx: no answer"
        );
        assert_eq!(because_of(&node("from_a_later_version", None)), "from_a_later_version");
    }

    #[test]
    fn an_open_purge_is_not_called_done() {
        let open = Spread { elapsed_ms: Some(900), ..Spread::default() };
        assert_eq!(summary(&open), "not completed 900 ms after it was durable");
        let done = Spread { completed_ms: Some(412), ..open };
        assert_eq!(summary(&done), "no node could serve it 412 ms after it was durable");
    }
}
