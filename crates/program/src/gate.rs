//! How many connections there may be at one time: in all, and of one client.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;

/// The most that may be open at one time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Of all clients together.
    pub total: usize,
    /// Of one client, below the total: one alone never locks out the others.
    pub each: usize,
}

impl Limits {
    /// `total`, of which one client may have a quarter.
    pub fn of(total: usize) -> Self {
        Self { total, each: (total / 4).max(4) }
    }
}

/// Counts what is open.
#[derive(Debug)]
pub struct Gate<K> {
    name: &'static str,
    limits: Limits,
    open: Mutex<Open<K>>,
}

#[derive(Debug)]
struct Open<K> {
    total: usize,
    each: HashMap<K, usize>,
}

/// Why there is no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoRoom {
    /// All clients together have all there is.
    #[error("{0} are open in all, and no more may be")]
    Total(usize),
    /// This client has all that one may have.
    #[error("{0} are open of this client, and no more may be")]
    Each(usize),
}

impl<K: Clone + Eq + Hash> Gate<K> {
    /// Nothing is open yet. `name` stands in the log lines.
    pub fn new(name: &'static str, limits: Limits) -> Arc<Self> {
        Arc::new(Self { name, limits, open: Mutex::new(Open { total: 0, each: HashMap::new() }) })
    }

    /// Lets one more in, for as long as what is returned lives.
    pub fn admit(self: &Arc<Self>, client: &K) -> Result<Admission<K>, NoRoom> {
        let mut open = self.open.lock();
        if open.total >= self.limits.total {
            return Err(NoRoom::Total(self.limits.total));
        }
        let count = open.each.entry(client.clone()).or_insert(0);
        if *count >= self.limits.each {
            return Err(NoRoom::Each(self.limits.each));
        }
        *count += 1;
        open.total += 1;
        drop(open);
        Ok(Admission { gate: Arc::clone(self), client: client.clone() })
    }

    /// What it was named.
    pub fn name(&self) -> &'static str {
        self.name
    }
}

/// One that was let in.
#[derive(Debug)]
pub struct Admission<K: Eq + Hash> {
    gate: Arc<Gate<K>>,
    client: K,
}

impl<K: Eq + Hash> Drop for Admission<K> {
    fn drop(&mut self) {
        let mut open = self.gate.open.lock();
        open.total -= 1;
        if let Some(count) = open.each.get_mut(&self.client) {
            *count -= 1;
            if *count == 0 {
                open.each.remove(&self.client);
            }
        }
    }
}

/// Who an address is for the purpose of a limit: an IPv4 address, or the /64 that one IPv6 client can choose from.
pub fn client_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() & !u128::from(u64::MAX)).into()),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_client_has_its_part_and_the_others_theirs() {
        let gate = Gate::new("test", Limits { total: 5, each: 3 });
        let first: Vec<_> = (0..3).map(|_| gate.admit(&1).unwrap()).collect();
        assert_eq!(gate.admit(&1).unwrap_err(), NoRoom::Each(3));
        let second: Vec<_> = (0..2).map(|_| gate.admit(&2).unwrap()).collect();
        assert_eq!(gate.admit(&3).unwrap_err(), NoRoom::Total(5));
        drop(first);
        let third = gate.admit(&3).unwrap();
        drop((second, third));
        assert!(gate.open.lock().each.is_empty());
        assert_eq!(gate.open.lock().total, 0);
    }

    #[test]
    fn an_ipv6_client_is_its_network_and_a_mapped_address_the_ipv4_one() {
        let client = |text: &str| client_of(text.parse().unwrap()).to_string();
        assert_eq!(client("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!(client("::ffff:192.0.2.7"), "192.0.2.7");
        assert_eq!(client("192.0.2.7"), "192.0.2.7");
    }
}
