//! How often one address may fail to authenticate. Only failing requests are ever throttled by it.

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use batoff_program::gate::client_of;
use batoff_types::Moment;

use super::bucket::Rate;
use super::buckets::Buckets;

/// Failures an address may have at once.
pub const FAILURES_MAX: u32 = 100;

/// Failures are forgiven at one a second.
const RATE: Rate = Rate { burst: FAILURES_MAX, per_minute: 60 };

/// Addresses remembered one by one. When so many fail at the same time, further ones share one bucket, so memory is
/// bounded and a storm from many addresses throttles itself.
const ADDRESSES_MAX: usize = 65_536;

/// The failures of all addresses. IPv6 addresses count by their /64, which is what one customer has.
#[derive(Debug)]
pub struct AuthFailures(Buckets<IpAddr>);

impl Default for AuthFailures {
    fn default() -> Self {
        Self(Buckets::new(RATE, ADDRESSES_MAX, Some(Ipv6Addr::UNSPECIFIED.into())))
    }
}

impl AuthFailures {
    /// Counts a failure, or says how long this address must wait to be told why it fails.
    pub fn count(&self, now: Moment, address: IpAddr) -> Result<(), Duration> {
        self.0.take(now, client_of(address))
    }

    /// What is left for an address, and how long until it is all there again.
    pub fn remaining(&self, now: Moment, address: IpAddr) -> (u32, Duration) {
        self.0.remaining(now, &client_of(address))
    }

    /// The fields `RateLimit-Policy` and `RateLimit` for an address that nobody has authenticated from.
    pub fn describe(&self, now: Moment, address: IpAddr) -> (String, String) {
        let (left, full_in) = self.remaining(now, address);
        let secs = full_in.as_secs() + u64::from(full_in.subsec_nanos() > 0);
        let policy = format!("\"auth-failures\";q={FAILURES_MAX};w={FAILURES_MAX}");
        (policy, format!("\"auth-failures\";r={left};t={secs}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: u64) -> Moment {
        Moment::from_micros(secs * 1_000_000)
    }

    #[test]
    fn a_hundred_failures_at_once_and_one_more_a_second() {
        let failures = AuthFailures::default();
        let address: IpAddr = "192.0.2.1".parse().unwrap();
        for _ in 0..FAILURES_MAX {
            assert_eq!(failures.count(at(0), address), Ok(()));
        }
        assert_eq!(failures.count(at(0), address), Err(Duration::from_secs(1)));
        assert_eq!(failures.count(at(0), "192.0.2.2".parse().unwrap()), Ok(()));
        assert_eq!(failures.count(at(1), address), Ok(()));
        assert_eq!(failures.remaining(at(1), address), (0, Duration::from_secs(100)));
    }

    #[test]
    fn an_ipv6_customer_is_one_address_and_a_mapped_ipv4_is_itself() {
        let parse = |text: &str| text.parse::<IpAddr>().unwrap();
        assert_eq!(client_of(parse("2001:db8:1:2::1")), client_of(parse("2001:db8:1:2:ffff::9")));
        assert_ne!(client_of(parse("2001:db8:1:2::1")), client_of(parse("2001:db8:1:3::1")));
        assert_eq!(client_of(parse("::ffff:192.0.2.1")), parse("192.0.2.1"));
    }

    #[test]
    fn a_storm_from_more_addresses_than_are_remembered_shares_a_bucket() {
        let failures = AuthFailures::default();
        for n in 0..ADDRESSES_MAX as u32 {
            assert_eq!(failures.count(at(0), IpAddr::V4(n.into())), Ok(()));
        }
        for n in 0..FAILURES_MAX {
            assert_eq!(failures.count(at(0), IpAddr::V4((ADDRESSES_MAX as u32 + n).into())), Ok(()));
        }
        assert!(failures.count(at(0), IpAddr::V4(u32::MAX.into())).is_err());
        assert!(failures.0.len() <= ADDRESSES_MAX + 1);
        assert_eq!(failures.count(at(3), IpAddr::V4(u32::MAX.into())), Ok(()));
    }
}
