use std::time::Duration;

use batoff_types::message::LeaseGrant;
use batoff_types::{Moment, Term};

/// The node's side of its lease: until when it may serve from its cache, by its own clock.
///
/// Counted from when the node *sent* the heartbeat that the grant answers, while the control plane counts from when it
/// *answered*: so the node's end is never later, however long the answer was on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    valid_until: Moment,
    term: Term,
}

/// A grant from a control plane that a later one has replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LowerTerm {
    pub(crate) given: Term,
    pub(crate) seen: Term,
}

impl Lease {
    pub(crate) const fn new(max_term_seen: Term) -> Self {
        Self { valid_until: Moment::ZERO, term: max_term_seen }
    }

    /// The first moment at which the node may no longer serve, by its own clock; [`Moment::ZERO`]: never had a lease.
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

    /// The highest term seen.
    pub const fn term(&self) -> Term {
        self.term
    }

    pub(crate) fn handle_term(&mut self, term: Term) -> Result<(), LowerTerm> {
        if term < self.term {
            return Err(LowerTerm { given: term, seen: self.term });
        }
        self.term = term;
        Ok(())
    }

    /// A grant of no length takes nothing away: the lease that runs was granted rightly.
    pub(crate) fn handle_grant(&mut self, grant: &LeaseGrant) -> Result<(), LowerTerm> {
        self.handle_term(grant.term)?;
        self.valid_until = self.valid_until.max(grant.echo + grant.duration);
        Ok(())
    }

    /// Gives the lease up.
    pub(crate) const fn void(&mut self) {
        self.valid_until = Moment::ZERO;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn grant(echo: u64, duration: Duration, term: u64) -> LeaseGrant {
        LeaseGrant { echo: Moment::from_micros(echo), duration, term: Term(term), parents_through: None }
    }

    #[test]
    fn a_lease_counts_from_when_the_heartbeat_was_sent() {
        let mut lease = Lease::new(Term(1));
        assert!(!lease.may_serve(Moment::ZERO));
        lease.handle_grant(&grant(5_000, SECOND, 1)).unwrap();
        assert_eq!(lease.valid_until(), Moment::from_micros(1_005_000));
        assert!(lease.may_serve(Moment::from_micros(1_004_999)));
        assert!(!lease.may_serve(Moment::from_micros(1_005_000)), "the end itself is outside");
        assert_eq!(lease.remaining(Moment::from_micros(1_000_000)), Duration::from_millis(5));
    }

    #[test]
    fn a_late_or_empty_grant_never_shortens_a_lease() {
        let mut lease = Lease::new(Term(1));
        lease.handle_grant(&grant(9_000, SECOND, 1)).unwrap();
        lease.handle_grant(&grant(5_000, SECOND, 1)).unwrap();
        lease.handle_grant(&grant(20_000, Duration::ZERO, 1)).unwrap();
        assert_eq!(lease.valid_until(), Moment::from_micros(1_009_000));
    }

    #[test]
    fn a_replaced_control_plane_can_no_longer_grant() {
        let mut lease = Lease::new(Term(3));
        assert_eq!(
            lease.handle_grant(&grant(0, SECOND, 2)),
            Err(LowerTerm { given: Term(2), seen: Term(3) })
        );
        assert!(!lease.may_serve(Moment::from_micros(1)));
        lease.handle_grant(&grant(0, SECOND, 4)).unwrap();
        assert_eq!(lease.term(), Term(4));
        assert!(lease.handle_grant(&grant(0, SECOND, 3)).is_err());
    }
}
