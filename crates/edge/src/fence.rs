//! The right to serve from cache, as the hit path sees it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use batoff_types::Moment;
use batoff_types::message::LeasePolicy;

use crate::boottime;

/// Shared by the stream, which renews it, and every request that hits, which asks it last.
#[derive(Debug)]
pub struct Fence {
    policy: LeasePolicy,
    /// Whether the control plane knows the policy. Until it does it may count this node as one that stops without a
    /// lease, so the node has to.
    agreed: AtomicBool,
    /// The end of the lease in microseconds of `CLOCK_BOOTTIME`; 0 when there is none.
    until: AtomicU64,
}

impl Fence {
    /// Without a lease, the policy being known to the control plane.
    pub const fn new(policy: LeasePolicy) -> Self {
        Self { policy, agreed: AtomicBool::new(true), until: AtomicU64::new(0) }
    }

    /// Without a lease, and strict until [`Fence::agree`].
    pub(crate) const fn not_agreed(policy: LeasePolicy) -> Self {
        Self { policy, agreed: AtomicBool::new(false), until: AtomicU64::new(0) }
    }

    /// The control plane knows the policy, and that is durable on both sides.
    pub(crate) fn agree(&self) {
        self.agreed.store(true, Ordering::Release);
    }

    /// Whatever the control plane knows, this node must not serve without a lease until it has been told anew.
    pub(crate) fn disagree(&self) {
        self.agreed.store(false, Ordering::Release);
    }

    /// Whether this node goes on serving when it has no lease: the policy says so, and the control plane knows.
    pub fn serves_without_lease(&self) -> bool {
        self.policy == LeasePolicy::Serve && self.is_agreed()
    }

    /// Whether the control plane knows the policy.
    pub(crate) fn is_agreed(&self) -> bool {
        self.agreed.load(Ordering::Acquire)
    }

    /// What happens when there is no lease.
    pub const fn policy(&self) -> LeasePolicy {
        self.policy
    }

    /// Whether a cached object may be served now, as far as the lease goes. **The last step of a hit**, after the rules:
    /// it reads the clock itself, so a process that froze in between does not serve on waking.
    pub fn may_serve(&self) -> bool {
        self.serves_without_lease() || self.is_leased()
    }

    /// Whether there is a lease now, whatever the policy.
    pub fn is_leased(&self) -> bool {
        boottime() < self.until()
    }

    /// The end of the lease; [`Moment::ZERO`] when there is none.
    pub fn until(&self) -> Moment {
        Moment::from_micros(self.until.load(Ordering::Acquire))
    }

    /// Takes over the end of the lease as the inbox has it. For the daemon, and for tests.
    pub fn set_until(&self, until: Moment) {
        self.until.store(until.as_micros(), Ordering::Release);
    }

    /// Gives the lease up; serving under it ends here. For the daemon, and for tests.
    pub fn close(&self) {
        self.set_until(Moment::ZERO);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_strict_node_serves_only_under_its_lease() {
        let fence = Fence::new(LeasePolicy::Revalidate);
        assert!(!fence.may_serve());
        fence.set_until(boottime() + Duration::from_secs(60));
        assert!(fence.may_serve());
        fence.set_until(boottime());
        assert!(!fence.may_serve());
        fence.set_until(boottime() + Duration::from_secs(60));
        fence.close();
        assert!(!fence.may_serve());
    }

    #[test]
    fn an_available_node_serves_without_one_once_the_control_plane_knows() {
        let fence = Fence::not_agreed(LeasePolicy::Serve);
        assert!(!fence.may_serve(), "it may still count as strict");
        fence.set_until(boottime() + Duration::from_secs(60));
        assert!(fence.may_serve());
        fence.close();
        fence.agree();
        assert!(fence.may_serve());
        assert!(Fence::new(LeasePolicy::Serve).may_serve());
    }
}
