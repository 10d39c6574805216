//! What a file that is looked at may be believed of itself, by how it came to be looked at.

/// How a file came to be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// It appeared or changed.
    Event,
    /// It was there.
    Scan(Scan),
}

/// A pass over the whole directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Scan {
    pub(super) pass: u64,
    pub(super) trust: Trust,
}

/// What a scan believes of what it finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trust {
    /// Files from before this run were judged by the run before, whose rules are still in force or were swept.
    Restarted,
    /// Only what was seen before, or has a stamp.
    Running,
    /// Only what has a stamp.
    Stamped,
    /// All of it: the operator vouches that nothing is older than a purge.
    All,
}

impl Trust {
    /// What a pass over files believes that were never seen here: what one over the old ones would, but nothing without a
    /// stamp.
    pub(super) const fn of_another_directory(self) -> Self {
        match self {
            Self::All => Self::All,
            Self::Restarted | Self::Running | Self::Stamped => Self::Stamped,
        }
    }
}
