//! A bucket for each of many who ask, in bounded memory.

use std::hash::Hash;
use std::time::Duration;

use batoff_types::Moment;
use batoff_wire::RequesterIdentity;
use dashmap::DashMap;
use sha2::{Digest, Sha256};

use super::bucket::{Bucket, Rate};

/// Under which a token or an account has its bucket: the id of the one, the beginning of the SHA-256 of the other's name.
pub type RequesterKey = [u8; 16];

/// See [`RequesterKey`].
pub fn key_of(identity: &RequesterIdentity) -> RequesterKey {
    match identity {
        RequesterIdentity::Token(token) => *token,
        RequesterIdentity::Account(name) => {
            let mut key = RequesterKey::default();
            key.copy_from_slice(&Sha256::digest(name)[..16]);
            key
        }
    }
}

/// One bucket a key, all of the same rate.
#[derive(Debug)]
pub struct Buckets<K: Eq + Hash> {
    rate: Rate,
    /// Keys remembered before full buckets are forgotten.
    max: usize,
    /// Whose bucket all share for whom there is no room, so that memory is bounded and a storm throttles itself.
    /// Without it, everybody is remembered: for keys of which there are only so many.
    shared: Option<K>,
    buckets: DashMap<K, Bucket>,
}

impl<K: Clone + Eq + Hash> Buckets<K> {
    /// All full.
    pub fn new(rate: Rate, max: usize, shared: Option<K>) -> Self {
        Self { rate, max, shared, buckets: DashMap::new() }
    }

    /// Takes one token, or says when there is one.
    pub fn take(&self, now: Moment, key: K) -> Result<(), Duration> {
        let key = self.place(now, key);
        let mut bucket = self.buckets.entry(key).or_insert_with(|| Bucket::full(now));
        bucket.refill(self.rate, now);
        let wait = bucket.wait_for(self.rate, 1);
        if wait > Duration::ZERO {
            return Err(wait);
        }
        bucket.take(1);
        Ok(())
    }

    /// What is left for a key, and how long until it is all there again.
    pub fn remaining(&self, now: Moment, key: &K) -> (u32, Duration) {
        let mut bucket = self.buckets.get(key).map_or(Bucket::full(now), |bucket| *bucket.value());
        bucket.refill(self.rate, now);
        (bucket.remaining(self.rate), bucket.until_full(self.rate))
    }

    /// The key itself, or the one that it shares a bucket with.
    fn place(&self, now: Moment, key: K) -> K {
        if self.buckets.len() < self.max || self.buckets.contains_key(&key) {
            return key;
        }
        self.buckets.retain(|_, bucket| {
            bucket.refill(self.rate, now);
            bucket.remaining(self.rate) < self.rate.burst
        });
        match &self.shared {
            Some(shared) if self.buckets.len() >= self.max => shared.clone(),
            _ => key,
        }
    }

    /// Buckets that are remembered.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.buckets.len()
    }
}
