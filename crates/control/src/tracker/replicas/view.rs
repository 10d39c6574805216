//! How the replicas look from outside, and which of them may count from now on.

use std::time::Duration;

use batoff_types::{Cursor, Replica, ReplicaSet};

/// A replica that was not heard of for longer than this is not counted on.
pub const LIVE_WITHIN: Duration = Duration::from_secs(5);

/// Records that a replica may be behind the log, and still count as following it.
const LAG_RECORDS_MAX: u64 = 1_000;

/// The replicas, as one of them knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicasView {
    /// The one that says this.
    pub own: Replica,
    /// The place through which all is recorded as completed.
    pub done: Cursor,
    /// The place through which it knows the log.
    pub tail: Cursor,
    /// The newest set …
    pub set: ReplicaSet,
    /// … and the place from which it counts.
    pub set_from: Cursor,
    /// Those that are in a set, were heard of, or are this one; by their numbers.
    pub replicas: Vec<ReplicaView>,
}

/// A replica, as another one, or it itself, knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaView {
    /// Which.
    pub replica: Replica,
    /// Whether it is in the newest set.
    pub member: bool,
    /// Whether purges wait for it: it is in the newest set, or in one before it whose end is not completed yet.
    pub needed: bool,
    /// Its watermark, as far as it was heard.
    pub stated: Cursor,
    /// Records that are in the log and that it has not stated.
    pub lag_records: u64,
    /// What it said last of itself; `None` when it was not heard of since this one started.
    pub said: Option<ReplicaSaid>,
}

/// What a replica says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaSaid {
    /// How long ago.
    pub ago: Duration,
    /// Whether it knows that its seat is its own: only then it grants leases and states anything.
    pub seated: bool,
    /// Through where it knew the log.
    pub tail: Cursor,
    /// The term of its start.
    pub term: u64,
    /// Of its program.
    pub version: String,
    /// How many strict nodes it knows …
    pub strict: u32,
    /// … and to how many of them it has granted a lease that runs.
    pub leased: u32,
    /// How many nodes have not told it what they do without a lease: each counts as one that serves on.
    pub untold: u32,
    /// Settings that must be alike and that it has not as the one has that says this.
    pub apart: Vec<String>,
}

/// Why a set of replicas is not written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SetRefused {
    /// There are no others beside a store of one's own.
    #[error("this control plane is the only one: its store is embedded, and others cannot reach it")]
    Alone,
    /// It is so already.
    #[error("these replicas count already")]
    Same,
    /// A replica that nobody knows.
    #[error("{0} is not known: start it first, with the same [store.etcd] and its number in [replica] id")]
    Unknown(Replica),
    /// The change before is under way.
    #[error(
        "the change before this one is not completed yet: see `batoff replicas status`, and wait until it is"
    )]
    Changing,
    /// Too many of it are away: nothing could be completed.
    #[error(
        "of these replicas {live} can be counted on, and {needed} are needed to complete anything: start the others, \
         or repeat with force"
    )]
    NoMajority {
        /// Those that were heard of lately, and have a seat.
        live: usize,
        /// More than half of the set.
        needed: usize,
    },
    /// Nodes could not serve by its leases.
    #[error(
        "{replica} has leases with {leased} strict nodes, and {needed} have one here: wait until it follows the log and \
         nodes have found it, or repeat with force and have strict nodes go to the origin meanwhile"
    )]
    NotFollowed {
        /// Which.
        replica: Replica,
        /// Strict nodes with a lease of its own.
        leased: u32,
        /// Strict nodes with a lease of the replica that refuses.
        needed: u32,
    },
    /// Nodes that have not spoken to it count as such that serve on without a lease, and would hold up purges.
    #[error(
        "{nodes} nodes have not told {replica} yet what they do without a lease: wait until they have found it, or repeat \
         with force and have purges wait for them meanwhile"
    )]
    NotTold {
        /// Which.
        replica: Replica,
        /// How many more than have not told the replica that refuses.
        nodes: u32,
    },
    /// It is behind the log.
    #[error(
        "{replica} is {records} records behind the log: wait until it has caught up, or repeat with force"
    )]
    Behind {
        /// Which.
        replica: Replica,
        /// By how much.
        records: u64,
    },
}

/// Whether these may count from now on. Of the replica that is asked so many strict nodes hold a lease, and so many nodes have
/// not told it what they do without one.
pub(super) fn check_set(
    view: &ReplicasView,
    set: &ReplicaSet,
    known: &[Replica],
    (leased_here, untold_here): (u32, u32),
    force: bool,
) -> Result<(), SetRefused> {
    if view.set == *set {
        return Err(SetRefused::Same);
    }
    // Changes that overlap were not looked into: not to be had by force either.
    if view.done < view.set_from {
        return Err(SetRefused::Changing);
    }
    let of = |replica: Replica| view.replicas.iter().find(|one| one.replica == replica);
    let said = |replica| of(replica).and_then(|one| one.said.as_ref());
    let unknown = set.members().iter().find(|replica| {
        !known.contains(replica) && said(**replica).is_none() && !view.set.contains(**replica)
    });
    if let Some(unknown) = unknown {
        return Err(SetRefused::Unknown(*unknown));
    }
    if force {
        return Ok(());
    }
    let is_live = |replica| said(replica).is_some_and(|said| said.seated && said.ago <= LIVE_WITHIN);
    let live = set.members().iter().filter(|replica| is_live(**replica)).count();
    if live < set.majority() {
        return Err(SetRefused::NoMajority { live, needed: set.majority() });
    }
    for learner in set.members().iter().filter(|replica| !view.set.contains(**replica)) {
        let heard = said(*learner);
        let (leased, tail) = heard.map_or((0, Cursor::START), |said| (said.leased, said.tail));
        let records = view.tail.get().saturating_sub(tail.get());
        if records > LAG_RECORDS_MAX {
            return Err(SetRefused::Behind { replica: *learner, records });
        }
        if *learner != view.own && leased < leased_here {
            return Err(SetRefused::NotFollowed { replica: *learner, leased, needed: leased_here });
        }
        let nodes = heard.map_or(0, |said| said.untold).saturating_sub(untold_here);
        if *learner != view.own && nodes > 0 {
            return Err(SetRefused::NotTold { replica: *learner, nodes });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(members: &[u8]) -> ReplicaSet {
        ReplicaSet::new(members.iter().copied().map(Replica)).unwrap()
    }

    fn one(replica: u8, leased: u32) -> ReplicaView {
        let said = ReplicaSaid {
            ago: Duration::from_millis(500),
            seated: true,
            tail: Cursor::new(5_000),
            term: 1,
            version: "1".into(),
            strict: 7,
            leased,
            untold: 0,
            apart: Vec::new(),
        };
        ReplicaView {
            replica: Replica(replica),
            member: false,
            needed: false,
            stated: Cursor::new(5_000),
            lag_records: 0,
            said: Some(said),
        }
    }

    fn view(replicas: Vec<ReplicaView>) -> ReplicasView {
        ReplicasView {
            own: Replica(1),
            done: Cursor::new(5_000),
            tail: Cursor::new(5_000),
            set: set(&[1]),
            set_from: Cursor::START,
            replicas,
        }
    }

    #[test]
    fn a_set_is_written_only_when_it_can_complete_and_be_served_by() {
        let all = || vec![one(1, 7), one(2, 7), one(3, 7)];
        let check = |view: &ReplicasView, members: &[u8]| check_set(view, &set(members), &[], (7, 0), false);
        assert_eq!(check(&view(all()), &[1, 2, 3]), Ok(()));
        assert_eq!(check(&view(all()), &[1]), Err(SetRefused::Same));
        assert_eq!(check(&view(all()), &[1, 2, 9]), Err(SetRefused::Unknown(Replica(9))));

        let unfollowed = view(vec![one(1, 7), one(2, 7), one(3, 6)]);
        let refused = SetRefused::NotFollowed { replica: Replica(3), leased: 6, needed: 7 };
        assert_eq!(check(&unfollowed, &[1, 2, 3]), Err(refused));
        assert_eq!(check_set(&unfollowed, &set(&[1, 2, 3]), &[], (7, 0), true), Ok(()), "forced");

        let mut untold = view(all());
        untold.replicas[1].said.as_mut().unwrap().untold = 3;
        let refused = SetRefused::NotTold { replica: Replica(2), nodes: 3 };
        assert_eq!(check(&untold, &[1, 2, 3]), Err(refused));

        let mut behind = view(all());
        behind.replicas[2].said.as_mut().unwrap().tail = Cursor::new(10);
        let refused = SetRefused::Behind { replica: Replica(3), records: 4_990 };
        assert_eq!(check(&behind, &[1, 2, 3]), Err(refused));

        let mut away = view(all());
        away.replicas[1].said.as_mut().unwrap().ago = Duration::from_secs(6);
        away.replicas[2].said.as_mut().unwrap().seated = false;
        let refused = SetRefused::NoMajority { live: 1, needed: 2 };
        assert_eq!(check(&away, &[1, 2, 3]), Err(refused));

        let mut changing = view(all());
        changing.set_from = Cursor::new(5_001);
        assert_eq!(check_set(&changing, &set(&[1, 2]), &[], (7, 0), true), Err(SetRefused::Changing));
    }
}
