//! One node as the roster knows it: the diagram of its lease as one total match, and through where it counts as safe.

use std::sync::Arc;

use batoff_types::message::LeasePolicy;
use batoff_types::{Cursor, InstanceId, Moment, NodeName, Parent};

use super::paths::Behind;
use super::{NodeState, Word};

/// Incarnations that were replaced and are remembered, to notice one that comes back.
const REPLACED_MAX: usize = 4;

/// What happens to a node's lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// A message came.
    Heard,
    /// Another incarnation said `Hello`.
    NewInstance,
    /// A lease was granted or renewed.
    Granted,
    /// The lease has certainly run out.
    LeaseOver,
    /// The oldest record that it has not acknowledged is older than `grace` (G3).
    FellBehind,
    /// Its stream ended, or is silent.
    Silent,
}

/// The whole diagram: what becomes of a lease.
pub(super) const fn step(state: NodeState, event: Event) -> NodeState {
    use Event::{FellBehind, Granted, Heard, LeaseOver, NewInstance, Silent};
    use NodeState::{Away, Joining, Leased, Unknown};
    match (state, event) {
        (Away, Heard | NewInstance) => Joining,
        // The new incarnation has no lease; that of the old one is kept as a hold.
        (Leased, NewInstance) => Joining,
        // Away only when it is up to date with the tail, which is then its floor.
        (Unknown | Away | Joining | Leased, Granted) => Leased,
        (Unknown | Leased, LeaseOver) => Away,
        // It has no lease, so it need not be waited for.
        (Joining, FellBehind | Silent) => Away,
        // A lease runs, or may run, whatever else happens.
        (Unknown, Heard | NewInstance | FellBehind | Silent) => Unknown,
        (Leased, Heard | FellBehind | Silent) => Leased,
        // No lease to run out.
        (Away, LeaseOver | FellBehind | Silent) => Away,
        (Joining, Heard | NewInstance | LeaseOver) => Joining,
    }
}

/// What another incarnation, or an unknown one, may still serve by: all it is known to have applied, and until when.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hold {
    pub(super) safe: Cursor,
    pub(super) until: Moment,
    /// Of an incarnation that this control plane knew, as opposed to whatever was there when it started. The next one gets
    /// no lease while it counts (G4): with its own it would be the next hold when it is replaced, and so on, and a daemon
    /// that crashes again and again would hold purges up for as long.
    pub(super) is_of_an_incarnation: bool,
}

/// Through where a node is known to serve nothing that was purged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Safe {
    At(Cursor),
    /// It has no lease: whatever will be purged, it serves nothing of it.
    Tail,
}

#[derive(Debug)]
pub(super) struct Node {
    pub(super) name: NodeName,
    pub(super) registered: Cursor,
    pub(super) policy: Option<LeasePolicy>,
    pub(super) state: NodeState,
    /// Meant while not away; an away node's floor is the tail.
    pub(super) floor: Cursor,
    pub(super) cursor: Cursor,
    pub(super) confirmed: Cursor,
    /// The furthest it has really acknowledged in this log; `confirmed` begins at its registration.
    pub(super) acked: Cursor,
    /// The part of `confirmed` that may be made durable.
    pub(super) confirmed_alone: Cursor,
    /// What it has said of itself, and what of that is durable.
    pub(super) word: Option<Word>,
    pub(super) durable_word: Option<Word>,
    /// The latest of its streams, in the order in which they were opened.
    pub(super) newest: u64,
    /// What lies between it and the origins.
    pub(super) behind: Behind,
    /// The paths that it lies on.
    pub(super) on_paths: Vec<Arc<[Parent]>>,
    /// When the lease has certainly run out, while one runs or may run.
    pub(super) until: Moment,
    pub(super) instance: Option<InstanceId>,
    pub(super) replaced: Vec<InstanceId>,
    pub(super) holds: Vec<Hold>,
    pub(super) connection: Option<u64>,
    pub(super) heard: Moment,
    pub(super) removal: Option<Moment>,
    pub(super) refusal: Option<super::Refusal>,
    /// Whether the two live instances were reported.
    pub(super) alerted: bool,
    /// What the watermark counts it with.
    pub(super) counted: Safe,
    /// What the paths count it with.
    pub(super) counted_on_path: Safe,
    /// Its entry among the timers.
    pub(super) timer: Option<Moment>,
}

impl Node {
    /// A node without a lease that stands at its registration.
    pub(super) fn new(name: NodeName, registered: Cursor, policy: Option<LeasePolicy>, now: Moment) -> Self {
        Self {
            name,
            registered,
            policy,
            state: NodeState::Away,
            floor: registered,
            cursor: Cursor::START,
            confirmed: registered,
            acked: Cursor::START,
            confirmed_alone: registered,
            word: None,
            durable_word: None,
            newest: 0,
            behind: Behind::Unknown,
            on_paths: Vec::new(),
            until: now,
            instance: None,
            replaced: Vec::new(),
            holds: Vec::new(),
            connection: None,
            heard: now,
            removal: None,
            refusal: None,
            alerted: false,
            counted: Safe::Tail,
            counted_on_path: Safe::Tail,
            timer: None,
        }
    }

    pub(super) fn is_strict(&self) -> bool {
        self.policy == Some(LeasePolicy::Revalidate)
    }

    /// Moves on; a node that begins to join has its floor frozen at the tail.
    pub(super) fn step(&mut self, event: Event, tail: Cursor) {
        let next = step(self.state, event);
        if next == NodeState::Joining && self.state != NodeState::Joining {
            self.floor = tail;
        }
        self.state = next;
    }

    /// What it must have applied before it gets a lease (G1): all that may have been declared completed without it.
    pub(super) fn floor_at(&self, tail: Cursor) -> Cursor {
        if self.state == NodeState::Away { tail } else { self.floor }
    }

    pub(super) fn acknowledge(&mut self, cursor: Cursor) {
        self.cursor = self.cursor.max(cursor);
        self.confirmed = self.confirmed.max(cursor);
        self.acked = self.acked.max(cursor);
    }

    /// Through where it has confirmed, as far as that counts while leases of other incarnations run (G4).
    pub(super) fn confirmed_by_all(&self) -> Cursor {
        self.holds.iter().map(|hold| hold.safe).fold(self.confirmed, Cursor::min)
    }

    pub(super) fn safe(&self) -> Safe {
        let alone = match self.state {
            NodeState::Away if self.is_strict() => Safe::Tail,
            NodeState::Joining if self.is_strict() => Safe::At(self.confirmed.max(self.floor)),
            NodeState::Away | NodeState::Joining | NodeState::Unknown | NodeState::Leased => {
                Safe::At(self.confirmed)
            }
        };
        let held = self.holds.iter().map(|hold| hold.safe).min();
        match (alone, held) {
            (Safe::At(alone), Some(held)) => Safe::At(alone.min(held)),
            (Safe::Tail, Some(held)) => Safe::At(held),
            (alone, None) => alone,
        }
    }

    /// Takes over the incarnation of a `Hello`. True when it is one that was replaced before: both are alive.
    pub(super) fn take_instance(&mut self, instance: InstanceId) -> bool {
        let back = self.replaced.contains(&instance);
        self.replaced.retain(|replaced| *replaced != instance);
        if let Some(old) = self.instance.replace(instance) {
            if self.replaced.len() == REPLACED_MAX {
                self.replaced.remove(0);
            }
            self.replaced.push(old);
        }
        back
    }

    /// An available node without a lease or a stream.
    pub(super) fn is_unreachable(&self) -> bool {
        !self.is_strict() && (self.state == NodeState::Away || self.connection.is_none())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_diagram_of_the_design_holds() {
        use Event::{FellBehind, Granted, Heard, LeaseOver, NewInstance, Silent};
        use NodeState::{Away, Joining, Leased, Unknown};
        let check = |from, arrows: [(Event, NodeState); 6]| {
            for (event, to) in arrows {
                assert_eq!(step(from, event), to, "{from:?} {event:?}");
            }
        };
        let ignored =
            |state| [Heard, NewInstance, Granted, LeaseOver, FellBehind, Silent].map(|event| (event, state));
        let mut arrows = ignored(Unknown);
        (arrows[2].1, arrows[3].1) = (Leased, Away);
        check(Unknown, arrows);
        let mut arrows = ignored(Away);
        (arrows[0].1, arrows[1].1, arrows[2].1) = (Joining, Joining, Leased);
        check(Away, arrows);
        let mut arrows = ignored(Joining);
        (arrows[2].1, arrows[4].1, arrows[5].1) = (Leased, Away, Away);
        check(Joining, arrows);
        let mut arrows = ignored(Leased);
        (arrows[1].1, arrows[3].1) = (Joining, Away);
        check(Leased, arrows);
    }
}
