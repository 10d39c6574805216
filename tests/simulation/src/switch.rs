use std::str::FromStr;

use crate::Profile;

/// A rule that a run can be made without. The oracle has to notice: one that cannot fail proves nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Switch {
    /// G1: no lease below what was declared completed while the node had none.
    Floor,
    /// G1: no lease below what an earlier incarnation acknowledged.
    Confirmed,
    /// G1: no lease below the tail that a start of the control plane recovered.
    FloorAtStart,
    /// G2: no renewal for a node that does not get on.
    Progress,
    /// G3: a joining node that does not get on is not waited for.
    JoiningStuck,
    /// G4: what another incarnation may serve by its lease is not yet safe.
    OneIncarnation,
    /// G4: no lease for an incarnation while that of another counts.
    OneLease,
    /// No lease of an earlier control plane counts as run out before the longest ever granted has.
    WaitAfterStart,
    /// A control plane that stood still grants nothing until it knows that it was not replaced meanwhile.
    StoodStill,
    /// The control plane counts a lease as longer than the node does, for clocks of different rates.
    Margin,
    /// A lease counts from when the node sent the heartbeat, not from when the answer came.
    Echo,
    /// An object is as old as the beginning of its fetch, not as its arrival.
    FillToken,
    /// A reset begins a generation that the node never had.
    Generation,
    /// A soft purge does not weaken an earlier hard one.
    HardBeforeSoft,
    /// Rules are forgotten only together with everything that may still arrive from before them.
    ForgottenThrough,
    /// A log that lost records has a new identity, and the record at a node's cursor is compared.
    LogIdentity,
    /// Who waits for a fetch that was begun for another gets nothing that was purged since it began.
    Collapsing,
    /// A parent that is behind its child does not answer from its cache.
    ParentSeq,
    /// A fill counts from where the parents are, and not only from where the node itself is.
    PathToken,
    /// The parents of parents count, too.
    WholePath,
    /// What a parent serves stale is not stored.
    StaleMark,
}

impl Switch {
    /// All of them.
    pub const ALL: [Self; 21] = [
        Self::Floor,
        Self::Confirmed,
        Self::FloorAtStart,
        Self::Progress,
        Self::JoiningStuck,
        Self::OneIncarnation,
        Self::OneLease,
        Self::WaitAfterStart,
        Self::StoodStill,
        Self::Margin,
        Self::Echo,
        Self::FillToken,
        Self::Generation,
        Self::HardBeforeSoft,
        Self::ForgottenThrough,
        Self::LogIdentity,
        Self::Collapsing,
        Self::ParentSeq,
        Self::PathToken,
        Self::WholePath,
        Self::StaleMark,
    ];

    /// Its name on the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Floor => "floor",
            Self::Confirmed => "confirmed",
            Self::FloorAtStart => "floor-at-start",
            Self::Progress => "progress",
            Self::JoiningStuck => "joining-stuck",
            Self::OneIncarnation => "one-incarnation",
            Self::OneLease => "one-lease",
            Self::WaitAfterStart => "wait-after-start",
            Self::StoodStill => "stood-still",
            Self::Margin => "margin",
            Self::Echo => "echo",
            Self::FillToken => "fill-token",
            Self::Generation => "generation",
            Self::HardBeforeSoft => "hard-before-soft",
            Self::ForgottenThrough => "forgotten-through",
            Self::LogIdentity => "log-identity",
            Self::Collapsing => "collapsing",
            Self::ParentSeq => "parent-seq",
            Self::PathToken => "path-token",
            Self::WholePath => "whole-path",
            Self::StaleMark => "stale-mark",
        }
    }

    /// The faults among which it is missed, when it is missed too seldom among all.
    pub const fn profile(self) -> Option<Profile> {
        match self {
            Self::Confirmed => Some(Profile::Relapses),
            _ => None,
        }
    }

    /// Whether it is a rule of the roster, which can be left out only in a build with the feature `mutations`.
    pub const fn needs_feature(self) -> bool {
        matches!(
            self,
            Self::Floor
                | Self::Confirmed
                | Self::FloorAtStart
                | Self::Progress
                | Self::JoiningStuck
                | Self::OneIncarnation
                | Self::OneLease
                | Self::WaitAfterStart
                | Self::StoodStill
                | Self::WholePath
        )
    }

    #[cfg(feature = "mutations")]
    pub(crate) const fn rule(self) -> Option<batoff_delivery::Rule> {
        use batoff_delivery::Rule;
        match self {
            Self::Floor => Some(Rule::Floor),
            Self::Confirmed => Some(Rule::Confirmed),
            Self::FloorAtStart => Some(Rule::FloorAtStart),
            Self::Progress => Some(Rule::Progress),
            Self::JoiningStuck => Some(Rule::JoiningStuck),
            Self::OneIncarnation => Some(Rule::OneIncarnation),
            Self::OneLease => Some(Rule::OneLease),
            Self::WaitAfterStart => Some(Rule::WaitAfterStart),
            Self::StoodStill => Some(Rule::StoodStill),
            Self::WholePath => Some(Rule::WholePath),
            _ => None,
        }
    }
}

impl FromStr for Switch {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|switch| switch.as_str() == text);
        let names = || Self::ALL.map(Self::as_str).join(", ");
        found.ok_or_else(|| format!("no rule is named {text:?}; there are {}", names()))
    }
}
