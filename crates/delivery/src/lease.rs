//! The node's right to serve from its cache: what each replica granted it, in which term, and what a majority gives.

use std::time::Duration;

use batoff_types::message::LeaseGrant;
use batoff_types::{Moment, Term};

use crate::rules::{Rule, RuleSet};

/// The node's right to serve from its cache: until when, by its own clock.
///
/// With several control planes it is what the leases of a majority of them give.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lease {
    valid_until: Moment,
}

impl Lease {
    /// The first moment at which the node may no longer serve, by its own clock; [`Moment::ZERO`]: it has no lease.
    pub const fn valid_until(&self) -> Moment {
        self.valid_until
    }

    /// Whether an object may be served from the cache at `now`. To be asked as the very last step of a hit.
    pub fn may_serve(&self, now: Moment) -> bool {
        now < self.valid_until
    }

    /// How long the lease still runs.
    pub const fn remaining(&self, now: Moment) -> Duration {
        self.valid_until.since(now)
    }

    pub(crate) const fn set(&mut self, valid_until: Moment) {
        self.valid_until = valid_until;
    }
}

/// The node's side of the lease that one control plane grants.
///
/// Counted from when the node *sent* the heartbeat that the grant answers, while the control plane counts from when it
/// *answered*: so the node's end is never later, however long the answer was on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GrantedLease {
    valid_until: Moment,
    term: Term,
    /// The highest term that is durable here.
    durable: Term,
    /// What was granted in a term that is not durable yet.
    waiting: Moment,
}

/// A grant from a control plane that a later one has replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LowerTerm {
    pub(crate) given: Term,
    pub(crate) seen: Term,
}

impl GrantedLease {
    /// `max_term_seen` is durable.
    pub(crate) const fn new(max_term_seen: Term) -> Self {
        Self { valid_until: Moment::ZERO, term: max_term_seen, durable: max_term_seen, waiting: Moment::ZERO }
    }

    pub(crate) const fn valid_until(&self) -> Moment {
        self.valid_until
    }

    /// The highest term seen.
    pub(crate) const fn term(&self) -> Term {
        self.term
    }

    pub(crate) fn handle_term(&mut self, term: Term) -> Result<(), LowerTerm> {
        if term < self.term {
            return Err(LowerTerm { given: term, seen: self.term });
        }
        self.term = term;
        Ok(())
    }

    /// A grant of no length takes nothing away: the lease that runs was granted rightly. One of a term that is not durable
    /// waits for [`GrantedLease::handle_durable`].
    pub(crate) fn handle_grant(&mut self, grant: &LeaseGrant, rules: RuleSet) -> Result<(), LowerTerm> {
        self.handle_term(grant.term)?;
        self.waiting = self.waiting.max(grant.echo + grant.duration);
        self.use_granted(rules);
        Ok(())
    }

    /// Terms up to this one outlive the process.
    pub(crate) fn handle_durable(&mut self, term: Term, rules: RuleSet) {
        self.durable = self.durable.max(term);
        self.use_granted(rules);
    }

    fn use_granted(&mut self, rules: RuleSet) {
        if self.term <= self.durable || !rules.in_force(Rule::DurableTerm) {
            self.valid_until = self.valid_until.max(self.waiting);
            self.waiting = Moment::ZERO;
        }
    }

    /// Gives the lease up.
    pub(crate) const fn void(&mut self) {
        self.valid_until = Moment::ZERO;
        self.waiting = Moment::ZERO;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// The term is durable by then.
    fn give(lease: &mut GrantedLease, grant: LeaseGrant) -> Result<(), LowerTerm> {
        lease.handle_durable(grant.term, RuleSet::default());
        lease.handle_grant(&grant, RuleSet::default())
    }

    fn grant(echo: u64, duration: Duration, term: u64) -> LeaseGrant {
        LeaseGrant {
            echo: Moment::from_micros(echo),
            duration,
            term: Term(term),
            parents_through: None,
            tail: None,
        }
    }

    #[test]
    fn a_lease_counts_from_when_the_heartbeat_was_sent() {
        let mut lease = GrantedLease::new(Term(1));
        give(&mut lease, grant(5_000, SECOND, 1)).unwrap();
        assert_eq!(lease.valid_until(), Moment::from_micros(1_005_000));
        let mut right = Lease::default();
        assert!(!right.may_serve(Moment::ZERO));
        right.set(lease.valid_until());
        assert!(right.may_serve(Moment::from_micros(1_004_999)));
        assert!(!right.may_serve(Moment::from_micros(1_005_000)), "the end itself is outside");
        assert_eq!(right.remaining(Moment::from_micros(1_000_000)), Duration::from_millis(5));
    }

    #[test]
    fn a_late_or_empty_grant_never_shortens_a_lease() {
        let mut lease = GrantedLease::new(Term(1));
        give(&mut lease, grant(9_000, SECOND, 1)).unwrap();
        give(&mut lease, grant(5_000, SECOND, 1)).unwrap();
        give(&mut lease, grant(20_000, Duration::ZERO, 1)).unwrap();
        assert_eq!(lease.valid_until(), Moment::from_micros(1_009_000));
    }

    #[test]
    fn a_replaced_control_plane_can_no_longer_grant() {
        let mut lease = GrantedLease::new(Term(3));
        assert_eq!(give(&mut lease, grant(0, SECOND, 2)), Err(LowerTerm { given: Term(2), seen: Term(3) }));
        assert_eq!(lease.valid_until(), Moment::ZERO);
        give(&mut lease, grant(0, SECOND, 4)).unwrap();
        assert_eq!(lease.term(), Term(4));
        assert!(give(&mut lease, grant(0, SECOND, 3)).is_err());
    }

    #[test]
    fn a_lease_of_a_term_that_is_not_durable_is_not_used() {
        let (mut lease, rules) = (GrantedLease::new(Term(3)), RuleSet::default());
        lease.handle_grant(&grant(5_000, SECOND, 3), rules).unwrap();
        lease.handle_grant(&grant(9_000, SECOND, 4), rules).unwrap();
        assert_eq!(lease.valid_until(), Moment::from_micros(1_005_000), "that of the durable term goes on");
        lease.handle_durable(Term(3), rules);
        assert_eq!(lease.valid_until(), Moment::from_micros(1_005_000));
        lease.handle_durable(Term(4), rules);
        assert_eq!(lease.valid_until(), Moment::from_micros(1_009_000));
        lease.handle_grant(&grant(20_000, SECOND, 5), rules).unwrap();
        lease.void();
        lease.handle_durable(Term(5), rules);
        assert_eq!(lease.valid_until(), Moment::ZERO, "given up before it was ever used");
    }
}
