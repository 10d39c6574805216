//! The rules that make `completed` true, as a list: each stands in one place, and a simulation that runs without one of them
//! has to notice.

/// The rules that make `completed` true. They cannot be switched off, except one at a time in simulations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
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
    /// What a node fetches through is known as far as the origins, and not only to its own parents.
    WholePath,
    /// A `Hello` of a stream that is older than one already known is not believed.
    LateHello,
    /// What a node says of itself is durable before it is welcomed: a later start must count it as what it is.
    WordDurable,
    /// What a node has confirmed is made durable only as far as every incarnation that may hold a lease has.
    SavedAlone,
    /// A node that turns available serves without a lease only when it has caught up with what there was when the control
    /// plane heard so: until then it may have counted as fenced.
    CaughtUp,
    /// It has caught up only in the log in which its position was accepted: a place in another log says nothing.
    CaughtUpInLog,
    /// A node that has not caught up since its start does not vouch for what it has, for its parent's cache to answer from.
    Vouching,
    /// A lease of a term that the node has not made durable is not used: after a crash it would believe an earlier control
    /// plane again.
    DurableTerm,
    /// Only answers to what a node says show that its stream is alive: with one direction broken, records go on coming.
    Answers,
    /// A node serves while leases of a majority of the replicas run.
    LeaseMajority,
    /// A purge is completed when a majority of the replicas has stated it.
    StatementMajority,
    /// A replica calls nothing completed that it does not know of itself: it counts the nodes and the replicas of that place.
    OwnTail,
    /// Across a change of the set, a majority of the old one counts up to the change, and of both after it.
    JointMajorities,
    /// A process grants leases only while it holds its seat.
    SeatGrants,
    /// A process states its watermark only while it holds its seat.
    SeatStatements,
    /// A process waits until the one that had its seat before has certainly stopped.
    SeatWait,
    /// It need not, if the lock of that one is free; but only if that one had waited itself.
    SeatChain,
    /// A process that says that it has released its seat has stopped to grant and to state before.
    ReleaseLast,
    /// Where the log ends, a process that starts asks after that wait.
    HeadAfterWait,
    /// A node counts its leases by the set of replicas at its cursor.
    SetAtCursor,
    /// A node that serves without a lease agrees on that with each set of replicas anew.
    AgreedWithSet,
    /// A node that is asked to drop everything does so only when a majority asks.
    ResetMajority,
    /// What comes on another connection than the present one is dropped.
    PresentConnection,
    /// A stream that does not bring records at once brings those that the node still has not confirmed after a while.
    FillsIn,
}

impl Rule {
    /// Those that one control plane needs, and each of several.
    pub const OF_EACH: [Self; 18] = [
        Self::Floor,
        Self::Confirmed,
        Self::FloorAtStart,
        Self::Progress,
        Self::JoiningStuck,
        Self::OneIncarnation,
        Self::OneLease,
        Self::WaitAfterStart,
        Self::StoodStill,
        Self::WholePath,
        Self::LateHello,
        Self::WordDurable,
        Self::SavedAlone,
        Self::CaughtUp,
        Self::CaughtUpInLog,
        Self::Vouching,
        Self::DurableTerm,
        Self::Answers,
    ];

    /// Those that only several control planes beside one log need.
    pub const OF_SEVERAL: [Self; 15] = [
        Self::LeaseMajority,
        Self::StatementMajority,
        Self::OwnTail,
        Self::JointMajorities,
        Self::SeatGrants,
        Self::SeatStatements,
        Self::SeatWait,
        Self::SeatChain,
        Self::ReleaseLast,
        Self::HeadAfterWait,
        Self::SetAtCursor,
        Self::AgreedWithSet,
        Self::ResetMajority,
        Self::PresentConnection,
        Self::FillsIn,
    ];

    /// Its name, for command lines of simulations.
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
            Self::WholePath => "whole-path",
            Self::LateHello => "late-hello",
            Self::WordDurable => "word-durable",
            Self::SavedAlone => "saved-alone",
            Self::CaughtUp => "caught-up",
            Self::CaughtUpInLog => "caught-up-in-log",
            Self::Vouching => "vouching",
            Self::DurableTerm => "durable-term",
            Self::Answers => "answers",
            Self::LeaseMajority => "lease-majority",
            Self::StatementMajority => "statement-majority",
            Self::OwnTail => "own-tail",
            Self::JointMajorities => "joint-majorities",
            Self::SeatGrants => "seat-grants",
            Self::SeatStatements => "seat-statements",
            Self::SeatWait => "seat-wait",
            Self::SeatChain => "seat-chain",
            Self::ReleaseLast => "release-last",
            Self::HeadAfterWait => "head-after-wait",
            Self::SetAtCursor => "set-at-cursor",
            Self::AgreedWithSet => "agreed-with-set",
            Self::ResetMajority => "reset-majority",
            Self::PresentConnection => "present-connection",
            Self::FillsIn => "fills-in",
        }
    }
}

/// Which rules are in force: all of them.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct RuleSet {
    #[cfg(any(test, feature = "mutations"))]
    pub(crate) off: Option<Rule>,
}

impl RuleSet {
    #[cfg(not(any(test, feature = "mutations")))]
    #[expect(clippy::unused_self, reason = "the simulations' builds look at it")]
    pub(crate) const fn in_force(self, _: Rule) -> bool {
        true
    }

    #[cfg(any(test, feature = "mutations"))]
    pub(crate) fn in_force(self, rule: Rule) -> bool {
        self.off != Some(rule)
    }

    /// Whether the asserts may expect what the rules bring about.
    pub(crate) fn all_in_force(self) -> bool {
        #[cfg(any(test, feature = "mutations"))]
        let all = self.off.is_none();
        #[cfg(not(any(test, feature = "mutations")))]
        let all = true;
        all
    }
}
