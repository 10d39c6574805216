//! The control planes of one log: their numbers, and sets of them that count.

use std::fmt;

/// Replicas in a set, at most. Each sends every record to every node, and a majority of them has to be alive.
pub const REPLICAS_MAX: usize = 9;

/// One of the control planes that share a log, by its number: a place that one process after the other takes, so it is the
/// same after every start. One that is alone is number 1, and none is number 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Replica(pub u8);

impl Replica {
    /// The only one, where there are no others.
    pub const ONLY: Self = Self(1);
}

impl fmt::Display for Replica {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "replica {}", self.0)
    }
}

/// The replicas that count: at least one, each once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaSet {
    /// Sorted.
    members: Vec<Replica>,
}

/// These cannot be a set of replicas.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSet {
    /// Nobody would be asked.
    #[error("a set of replicas needs at least one")]
    Empty,
    /// More than [`REPLICAS_MAX`].
    #[error("{0} replicas: a set has at most {REPLICAS_MAX}")]
    TooMany(usize),
}

impl ReplicaSet {
    /// Who is named twice counts once.
    pub fn new(members: impl IntoIterator<Item = Replica>) -> Result<Self, InvalidSet> {
        let mut members: Vec<_> = members.into_iter().collect();
        members.sort_unstable();
        members.dedup();
        match members.len() {
            0 => Err(InvalidSet::Empty),
            1..=REPLICAS_MAX => Ok(Self { members }),
            many => Err(InvalidSet::TooMany(many)),
        }
    }

    /// A control plane that is alone.
    pub fn only() -> Self {
        Self { members: vec![Replica::ONLY] }
    }

    /// Those in it, sorted.
    pub fn members(&self) -> &[Replica] {
        &self.members
    }

    /// Whether this one is in it.
    pub fn contains(&self, replica: Replica) -> bool {
        self.members.binary_search(&replica).is_ok()
    }

    /// How many are more than half of it.
    pub const fn majority(&self) -> usize {
        self.members.len() / 2 + 1
    }

    /// Whether it is a control plane that is alone, with the number that such a one has.
    pub fn is_only(&self) -> bool {
        self.members == [Replica::ONLY]
    }
}

/// Their numbers: `1, 2, 3`.
impl fmt::Display for ReplicaSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, replica) in self.members.iter().enumerate() {
            let comma = if i == 0 { "" } else { ", " };
            write!(f, "{comma}{}", replica.0)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_has_each_replica_once_and_at_least_one() {
        let set = |members: &[u8]| ReplicaSet::new(members.iter().copied().map(Replica));
        let three = set(&[3, 1, 3, 2]).unwrap();
        assert_eq!(three.members(), [Replica(1), Replica(2), Replica(3)]);
        assert_eq!((three.majority(), three.to_string()), (2, "1, 2, 3".to_owned()));
        assert_eq!(set(&[]), Err(InvalidSet::Empty));
        assert_eq!(ReplicaSet::new((0..10).map(Replica)), Err(InvalidSet::TooMany(10)));
        let two = set(&[1, 4]).unwrap();
        assert!(two.contains(Replica(4)) && !two.contains(Replica(2)));
        assert!(ReplicaSet::only().is_only() && !two.is_only() && !set(&[2]).unwrap().is_only());
    }
}
