//! How the nodes are, all together: a look at each.

use std::time::Duration;

use batoff_delivery::{NodeState, NodeView};
use batoff_types::{Moment, NodeName, Seq, UnixMillis};

use super::concerns::{Concern, ConcernKind, FleetCounts, FleetState, LATE_FROM, most_urgent};
use crate::clock::millis;
use crate::tracker::Tracker;
use crate::tracker::state::State;
use crate::tracker::tasks::cause::LateCause;

impl Tracker {
    /// How the nodes are. Costs a look at each.
    pub fn fleet(&self) -> FleetState {
        let wall = self.clock.wall();
        let mut state = self.state.lock();
        let now = self.clock.now();
        let per_second = state.pulse.seconds(now);
        let views: Vec<NodeView> = state.roster.nodes(now).filter(|view| !view.removing).collect();
        let count = |of: NodeState| views.iter().filter(|view| view.state == of).count();
        let fleet = FleetCounts {
            total: views.len(),
            leased: count(NodeState::Leased),
            joining: count(NodeState::Joining),
            away: count(NodeState::Away),
            unknown: count(NodeState::Unknown),
            connected: views.iter().filter(|view| view.connected).count(),
            current: views.iter().filter(|view| is_current(view)).count(),
        };
        let mut concerns = Vec::new();
        for view in &views {
            concerns.extend(state.lateness(now, wall, view));
            concerns.extend(state.troubles(&view.name));
            concerns.extend(state.certificate_end(wall, &view.name));
        }
        let (concerns, concerns_more) = most_urgent(concerns);
        FleetState {
            fleet,
            tail: state.roster.tail().get(),
            watermark: state.quorum.decided().get(),
            per_second,
            concerns,
            concerns_more,
        }
    }
}

impl State {
    /// Why the node is late, or has no lease.
    pub(super) fn lateness(&self, now: Moment, wall: UnixMillis, view: &NodeView) -> Option<Concern> {
        let before = |age: Duration| Some(UnixMillis(wall.0.saturating_sub(millis(age))));
        let (kind, since) = if view.lag >= LATE_FROM {
            (ConcernKind::LateNode, before(view.lag))
        } else {
            (ConcernKind::NoLease, before(now.since(view.lease_over?)))
        };
        let plural = if view.lag_records == 1 { "" } else { "s" };
        let detail = match view.lag_records {
            0 => String::new(),
            records => format!("{records} record{plural} behind"),
        };
        // What a cache says is a concern of its own.
        let in_trouble = self.roll.trouble_since(&view.name, now).is_some();
        let oldest = view.confirmed.next();
        Some(Concern {
            kind,
            subject: view.name.to_string().into(),
            cause: Some(self.cause_of(view, oldest, in_trouble)),
            detail,
            since,
            until: None,
        })
    }

    /// What keeps the node from acknowledging this record, or from its lease.
    fn cause_of(&self, view: &NodeView, oldest: Seq, in_trouble: bool) -> LateCause {
        let is_sent = || self.roll.sent_of(&view.name).is_some_and(|sent| sent.at(oldest).is_some());
        if !view.connected {
            LateCause::NoConnection
        } else if in_trouble {
            LateCause::CacheTrouble
        } else if view.lag_records > 0 && !is_sent() {
            LateCause::SentLate
        } else if view.has_no_lease() {
            LateCause::NoLease
        } else {
            LateCause::Working
        }
    }

    fn troubles(&self, node: &NodeName) -> impl Iterator<Item = Concern> {
        self.roll.troubles_of(node).map(move |(cache, trouble)| Concern {
            kind: ConcernKind::CacheTrouble,
            subject: node.to_string().into(),
            cause: None,
            detail: match trouble.stuck {
                Some(seq) => format!("{cache}: {} (since seq {seq})", trouble.message),
                None => format!("{cache}: {}", trouble.message),
            },
            since: Some(trouble.since),
            until: None,
        })
    }

    fn certificate_end(&self, wall: UnixMillis, node: &NodeName) -> Option<Concern> {
        let end = self.roll.get(node)?.certificate_until?;
        Concern::of_certificate(wall, &node.to_string(), end)
    }
}

fn is_current(view: &NodeView) -> bool {
    view.state == NodeState::Leased && view.lag < LATE_FROM
}
