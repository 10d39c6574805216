//! Questions about replicas.

use std::collections::BTreeSet;

use batoff_delivery::NodeState;
use batoff_types::message::LeasePolicy;
use batoff_types::{Cursor, Replica, ReplicaSet};

use super::view::{LIVE_WITHIN, ReplicaSaid, ReplicaView, ReplicasView, SetRefused, check_set};
use crate::tracker::Tracker;

impl Tracker {
    /// The replicas; `None` where this control plane is the only one.
    pub fn replicas(&self) -> Option<ReplicasView> {
        let own = self.replica?;
        let now = self.clock.now();
        let state = self.state.lock();
        let statements = state.quorum.statements();
        let (set_from, set) = statements.sets().newest();
        let tail = state.roster.tail();
        let members = statements.sets().iter().flat_map(|(_, set)| set.members().iter().copied());
        let all: BTreeSet<Replica> =
            members.chain(state.quorum.heard().map(|(replica, _)| replica)).chain([own]).collect();
        let said = |replica| {
            let (_, heard) = state.quorum.heard().find(|(of, _)| *of == replica)?;
            Some(ReplicaSaid {
                ago: now.since(heard.at),
                seated: heard.said.through.is_some(),
                tail: Cursor::new(heard.said.tail),
                term: heard.said.term,
                version: heard.said.version.clone(),
                strict: heard.said.strict,
                leased: heard.said.leased,
                untold: heard.said.untold,
                apart: heard.said.settings.as_ref().map_or_else(Vec::new, |theirs| {
                    self.settings.apart_from(theirs).into_iter().map(str::to_owned).collect()
                }),
            })
        };
        let view = |replica| {
            let stated = statements.stated_by(replica);
            ReplicaView {
                replica,
                member: set.contains(replica),
                needed: statements.needs(replica),
                stated,
                lag_records: tail.get().saturating_sub(stated.get()),
                said: said(replica),
            }
        };
        Some(ReplicasView {
            own,
            done: statements.done(),
            tail,
            set: set.clone(),
            set_from,
            replicas: all.into_iter().map(view).collect(),
        })
    }

    /// Settings that must be alike, and that another replica, heard of lately, has not as they are here.
    pub fn settings_apart(&self) -> Vec<(Replica, String)> {
        let now = self.clock.now();
        let state = self.state.lock();
        let mut apart = Vec::new();
        for (replica, heard) in state.quorum.heard().filter(|(_, heard)| now.since(heard.at) <= LIVE_WITHIN) {
            let settings = heard.said.settings.as_ref().map(|theirs| self.settings.apart_from(theirs));
            apart.extend(settings.unwrap_or_default().into_iter().map(|name| (replica, name.to_owned())));
        }
        apart
    }

    /// Whether these may count from now on. `known` are those that have ever started; `force` passes over what would only
    /// cost availability.
    pub fn may_count(&self, set: &ReplicaSet, known: &[Replica], force: bool) -> Result<(), SetRefused> {
        let view = self.replicas().ok_or(SetRefused::Alone)?;
        check_set(&view, set, known, self.told_here(), force)
    }

    /// How many strict nodes hold a lease of this replica, and how many nodes have not told it what they do without one.
    fn told_here(&self) -> (u32, u32) {
        let now = self.clock.now();
        let state = self.state.lock();
        let (mut leased, mut untold) = (0, 0);
        for view in state.roster.nodes(now) {
            untold += u32::from(view.policy.is_none());
            let is_strict = view.policy == Some(LeasePolicy::Revalidate);
            leased += u32::from(is_strict && view.state == NodeState::Leased);
        }
        (leased, untold)
    }
}
