/// The rules that make `completed` true. They cannot be switched off, except one at a time in simulations, which have to
/// notice.
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
}

/// Which rules are in force: all of them.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Rules {
    #[cfg(any(test, feature = "mutations"))]
    pub(crate) off: Option<Rule>,
}

impl Rules {
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
