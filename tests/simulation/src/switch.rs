use std::str::FromStr;

use batoff_delivery::Rule;

use crate::{Profile, Temper};

/// What a run can be made without. The oracle has to notice: one that cannot fail proves nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Switch {
    /// A rule of the delivery's state machines.
    Rule(Rule),
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
    /// What a restored backup knows of what nodes said of themselves is of an earlier time, and forgotten.
    RestoredWord,
    /// Who waits for a fetch that was begun for another gets nothing that was purged since it began.
    Collapsing,
    /// A parent that is behind its child does not answer from its cache.
    ParentSeq,
    /// A fill counts from where the parents are, and not only from where the node itself is.
    PathToken,
    /// What a parent serves stale is not stored.
    StaleMark,
    /// Where the log ends, a replica that starts is told by the engine as it is, and not as it was.
    StaleHead,
}

impl Switch {
    /// Those that are not rules of the delivery's state machines.
    const OTHERS: [Self; 12] = [
        Self::Margin,
        Self::Echo,
        Self::FillToken,
        Self::Generation,
        Self::HardBeforeSoft,
        Self::ForgottenThrough,
        Self::LogIdentity,
        Self::RestoredWord,
        Self::Collapsing,
        Self::ParentSeq,
        Self::PathToken,
        Self::StaleMark,
    ];

    /// All that a single control plane needs.
    pub fn all() -> impl Iterator<Item = Self> {
        Rule::OF_EACH.into_iter().map(Self::Rule).chain(Self::OTHERS)
    }

    /// What several control planes need, as far as a world of theirs shows it: what each of them needs alone, and what they
    /// need together. Three have a story of their own in `crates/delivery` instead: where the log ends is asked after the wait
    /// (`replicas/seat/tests.rs`), which no random run has missed; a reset needs a majority (`inbox/feeds/tests.rs`),
    /// without which nodes drop what they have, and nothing wrong is served; and an available node agrees with each set of
    /// replicas anew (there, too), which one run of 12,000 has missed.
    pub fn of_several() -> impl Iterator<Item = Self> {
        const EACH: [Rule; 9] = [
            Rule::Floor,
            Rule::Confirmed,
            Rule::FloorAtStart,
            Rule::Progress,
            Rule::JoiningStuck,
            Rule::OneIncarnation,
            Rule::OneLease,
            Rule::WaitAfterStart,
            Rule::CaughtUp,
        ];
        let has_story =
            |rule: &Rule| matches!(rule, Rule::HeadAfterWait | Rule::ResetMajority | Rule::AgreedWithSet);
        let together = Rule::OF_SEVERAL.into_iter().filter(move |rule| !has_story(rule));
        let rules = EACH.into_iter().chain(together).map(Self::Rule);
        rules.chain([Self::Margin, Self::Echo, Self::StaleHead])
    }

    /// Its name on the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Rule(rule) => rule.as_str(),
            Self::Margin => "margin",
            Self::Echo => "echo",
            Self::FillToken => "fill-token",
            Self::Generation => "generation",
            Self::HardBeforeSoft => "hard-before-soft",
            Self::ForgottenThrough => "forgotten-through",
            Self::LogIdentity => "log-identity",
            Self::RestoredWord => "restored-word",
            Self::Collapsing => "collapsing",
            Self::ParentSeq => "parent-seq",
            Self::PathToken => "path-token",
            Self::StaleMark => "stale-mark",
            Self::StaleHead => "stale-head",
        }
    }

    /// The faults among which it is missed, when it is missed too seldom among all.
    pub const fn profile(self) -> Option<Profile> {
        match self {
            Self::Rule(Rule::Confirmed) => Some(Profile::Relapses),
            _ => None,
        }
    }

    /// The same where there are several replicas.
    pub const fn temper(self) -> Option<Temper> {
        match self {
            // It takes a process that is cut off from the engine, and still hears a node that then dies.
            Self::Rule(Rule::SeatStatements) => Some(Temper::Twins),
            _ => None,
        }
    }

    /// Whether it can be left out only in a build with the feature `mutations`.
    pub const fn needs_feature(self) -> bool {
        matches!(self, Self::Rule(_))
    }

    #[cfg(feature = "mutations")]
    pub(crate) const fn rule(self) -> Option<Rule> {
        match self {
            Self::Rule(rule) => Some(rule),
            _ => None,
        }
    }
}

impl FromStr for Switch {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let all = || Self::all().chain(Rule::OF_SEVERAL.map(Self::Rule)).chain([Self::StaleHead]);
        let found = all().find(|switch| switch.as_str() == text);
        let names = || all().map(Self::as_str).collect::<Vec<_>>().join(", ");
        found.ok_or_else(|| format!("no rule is named {text:?}; there are {}", names()))
    }
}
