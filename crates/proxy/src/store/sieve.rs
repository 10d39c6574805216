//! SIEVE (Zhang et al., NSDI '24): a queue in order of arrival and a hand that passes over what was used since it came by
//! last. A hit only sets a bit, so hits share a read lock. Weakness: a scan of objects that are each used twice fills it.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::atomic::{AtomicBool, Ordering};

use slab::Slab;

/// Entries with weights, up to a total weight.
#[derive(Debug)]
pub(super) struct Sieve<K, V> {
    residents: Slab<Resident<K, V>>,
    at: HashMap<K, usize>,
    newest: Option<usize>,
    oldest: Option<usize>,
    hand: Option<usize>,
    weight: u64,
    weight_max: u64,
}

#[derive(Debug)]
struct Resident<K, V> {
    key: K,
    value: V,
    weight: u64,
    used: AtomicBool,
    newer: Option<usize>,
    older: Option<usize>,
}

impl<K: Copy + Eq + Hash, V> Sieve<K, V> {
    pub(super) fn new(weight_max: u64) -> Self {
        Self {
            residents: Slab::new(),
            at: HashMap::new(),
            newest: None,
            oldest: None,
            hand: None,
            weight: 0,
            weight_max,
        }
    }

    pub(super) const fn weight(&self) -> u64 {
        self.weight
    }

    pub(super) fn len(&self) -> usize {
        self.at.len()
    }

    /// The value, which counts as used.
    pub(super) fn get(&self, key: &K) -> Option<&V> {
        let resident = self.residents.get(*self.at.get(key)?)?;
        resident.used.store(true, Ordering::Relaxed);
        Some(&resident.value)
    }

    /// The value, as if nobody had looked.
    pub(super) fn peek(&self, key: &K) -> Option<&V> {
        self.residents.get(*self.at.get(key)?).map(|resident| &resident.value)
    }

    /// Puts a value in, in place of the one with this key, and gives what left: that one, then those there was no room
    /// for. A value heavier than everything leaves at once.
    pub(super) fn insert(&mut self, key: K, value: V, weight: u64) -> Displaced<V> {
        let mut left = Displaced { replaced: self.remove(&key), evicted: Vec::new() };
        if weight > self.weight_max {
            left.evicted.push(value);
            return left;
        }
        while self.weight + weight > self.weight_max {
            match self.evict() {
                Some(value) => left.evicted.push(value),
                None => break,
            }
        }
        let resident =
            Resident { key, value, weight, used: AtomicBool::new(false), newer: None, older: self.newest };
        let index = self.residents.insert(resident);
        if let Some(newest) = self.newest {
            self.residents[newest].newer = Some(index);
        }
        self.newest = Some(index);
        self.oldest = self.oldest.or(Some(index));
        self.weight += weight;
        self.at.insert(key, index);
        left
    }

    pub(super) fn remove(&mut self, key: &K) -> Option<V> {
        let index = self.at.remove(key)?;
        self.unlink(index)
    }

    pub(super) fn drain(&mut self) -> impl Iterator<Item = V> {
        let emptied = std::mem::replace(self, Self::new(self.weight_max));
        emptied.residents.into_iter().map(|(_, resident)| resident.value)
    }

    fn evict(&mut self) -> Option<V> {
        let mut hand = self.hand.or(self.oldest)?;
        // Each round clears bits, so the second finds something.
        while self.residents[hand].used.swap(false, Ordering::Relaxed) {
            hand = self.residents[hand].newer.or(self.oldest)?;
        }
        self.hand = self.residents[hand].newer;
        self.at.remove(&self.residents[hand].key);
        self.unlink(hand)
    }

    fn unlink(&mut self, index: usize) -> Option<V> {
        let resident = self.residents.try_remove(index)?;
        match resident.newer {
            Some(newer) => self.residents[newer].older = resident.older,
            None => self.newest = resident.older,
        }
        match resident.older {
            Some(older) => self.residents[older].newer = resident.newer,
            None => self.oldest = resident.newer,
        }
        if self.hand == Some(index) {
            self.hand = resident.newer;
        }
        self.weight -= resident.weight;
        Some(resident.value)
    }
}

/// What left when something came.
#[derive(Debug)]
pub(super) struct Displaced<V> {
    pub(super) replaced: Option<V>,
    pub(super) evicted: Vec<V>,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_was_used_outlives_what_was_not() {
        let mut sieve = Sieve::new(3);
        for key in 1..=3 {
            assert!(sieve.insert(key, key, 1).evicted.is_empty());
        }
        assert_eq!(sieve.get(&1), Some(&1));
        assert_eq!(sieve.insert(4, 4, 1).evicted, [2]);
        assert_eq!(sieve.insert(5, 5, 1).evicted, [3]);
        assert_eq!(sieve.insert(6, 6, 2).evicted, [4, 5]);
        assert_eq!(sieve.peek(&1), Some(&1));
    }

    #[test]
    fn what_is_heavier_than_everything_does_not_empty_the_cache() {
        let mut sieve = Sieve::new(3);
        sieve.insert(1, 1, 3);
        assert_eq!(sieve.insert(2, 2, 4).evicted, [2]);
        assert_eq!(sieve.peek(&1), Some(&1));
    }

    proptest! {
        #[test]
        fn weight_is_kept_and_everything_that_leaves_is_told(
            steps in proptest::collection::vec((0_u8..20, 0_u64..6, 0_u8..4), 0..200)
        ) {
            let mut sieve = Sieve::new(10);
            let mut model: HashMap<u8, u64> = HashMap::new();
            for (key, weight, what) in steps {
                match what {
                    0 => assert_eq!(sieve.remove(&key).map(|(_, w)| w), model.remove(&key)),
                    1 => assert_eq!(sieve.get(&key).map(|(_, w)| *w), model.get(&key).copied()),
                    _ => {
                        let left = sieve.insert(key, (key, weight), weight);
                        assert_eq!(left.replaced.map(|(_, w)| w), model.remove(&key));
                        model.insert(key, weight);
                        for (key, weight) in left.evicted {
                            assert_eq!(model.remove(&key), Some(weight));
                        }
                    }
                }
                assert_eq!(sieve.weight(), model.values().sum::<u64>());
                assert_eq!(sieve.len(), model.len());
                assert!(sieve.weight() <= 10);
            }
            assert_eq!(sieve.drain().count(), model.len());
        }
    }
}
