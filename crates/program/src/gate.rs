//! How many connections there may be at one time: in all, and of one client.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

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
    total: Arc<Semaphore>,
    each: Mutex<HashMap<K, usize>>,
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
        let total = Arc::new(Semaphore::new(limits.total.min(Semaphore::MAX_PERMITS)));
        Arc::new(Self { name, limits, total, each: Mutex::default() })
    }

    /// Lets one more in, for as long as what is returned lives.
    pub fn admit(self: &Arc<Self>, client: &K) -> Result<Admission<K>, NoRoom> {
        let permit = Arc::clone(&self.total).try_acquire_owned();
        let permit = permit.map_err(|_| NoRoom::Total(self.limits.total))?;
        Room { gate: Arc::clone(self), permit: Some(permit) }.admit(client).map_err(|(_, full)| full)
    }

    /// Waits until there is room for one more, whoever that will be.
    pub async fn room(self: &Arc<Self>) -> Room<K> {
        // Never closed, so never an error.
        let permit = Arc::clone(&self.total).acquire_owned().await.ok();
        Room { gate: Arc::clone(self), permit }
    }

    /// What it was named.
    pub fn name(&self) -> &'static str {
        self.name
    }
}

/// Room for one more.
#[derive(Debug)]
pub struct Room<K> {
    gate: Arc<Gate<K>>,
    permit: Option<OwnedSemaphorePermit>,
}

impl<K: Clone + Eq + Hash> Room<K> {
    /// Gives it to a client, for as long as what is returned lives.
    ///
    /// # Errors
    /// The client has all that one may have; the room is still there.
    pub fn admit(self, client: &K) -> Result<Admission<K>, (Self, NoRoom)> {
        let max = self.gate.limits.each;
        let mut each = self.gate.each.lock();
        let count = each.entry(client.clone()).or_insert(0);
        if *count >= max {
            if max == 0 {
                each.remove(client);
            }
            drop(each);
            return Err((self, NoRoom::Each(max)));
        }
        *count += 1;
        drop(each);
        Ok(Admission { gate: self.gate, client: client.clone(), _permit: self.permit })
    }
}

/// One that was let in.
#[derive(Debug)]
pub struct Admission<K: Eq + Hash> {
    gate: Arc<Gate<K>>,
    client: K,
    _permit: Option<OwnedSemaphorePermit>,
}

impl<K: Eq + Hash> Drop for Admission<K> {
    fn drop(&mut self) {
        let mut each = self.gate.each.lock();
        if let Some(count) = each.get_mut(&self.client) {
            *count -= 1;
            if *count == 0 {
                each.remove(&self.client);
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
        assert!(gate.each.lock().is_empty(), "nothing is remembered of who is gone");
        assert_eq!(gate.total.available_permits(), 5);
    }

    #[tokio::test]
    async fn who_waits_for_room_gets_it_when_somebody_goes() {
        let gate = Gate::new("test", Limits { total: 2, each: 1 });
        let first = gate.admit(&1).unwrap();
        let (room, full) = gate.room().await.admit(&1).unwrap_err();
        assert_eq!(full, NoRoom::Each(1));
        let _second = room.admit(&2).unwrap();
        let waiting = tokio::spawn({
            let gate = Arc::clone(&gate);
            async move { gate.room().await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(first);
        assert!(waiting.await.unwrap().admit(&1).is_ok());
    }

    #[test]
    fn an_address_has_so_many_places_and_gets_them_back() {
        let gate = Gate::new("test", Limits { total: 9, each: 2 });
        let enter = |address: &str| gate.admit(&client_of(address.parse().unwrap())).ok();
        let (one, two) = (enter("192.0.2.1"), enter("::ffff:192.0.2.1"));
        assert!(one.is_some() && two.is_some());
        assert!(enter("192.0.2.1").is_none());
        assert!(enter("192.0.2.2").is_some());
        drop(one);
        assert!(enter("192.0.2.1").is_some());
        drop(two);
        assert!(gate.each.lock().is_empty(), "nothing is remembered of who is gone");
    }

    #[test]
    fn a_network_of_ipv6_counts_as_one_client() {
        let gate = Gate::new("test", Limits { total: 9, each: 1 });
        let enter = |address: &str| gate.admit(&client_of(address.parse().unwrap())).ok();
        let _one = enter("2001:db8::1").unwrap();
        assert!(enter("2001:db8::ffff:2").is_none());
        assert!(enter("2001:db8:0:1::1").is_some());
    }

    #[test]
    fn an_ipv6_client_is_its_network_and_a_mapped_address_the_ipv4_one() {
        let client = |text: &str| client_of(text.parse().unwrap()).to_string();
        assert_eq!(client("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!(client("::ffff:192.0.2.7"), "192.0.2.7");
        assert_eq!(client("192.0.2.7"), "192.0.2.7");
    }
}
