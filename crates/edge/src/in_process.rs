use async_trait::async_trait;
use batoff_index::{Effect, Match};

use crate::cache::{Cache, CacheTrouble, Needs, Proof};

/// The memory of a cache in this process, which asks the index at each hit.
pub trait Evict<L>: Send + Sync {
    /// The object there can be forgotten; it is not served any more. One that is not there, or that took the place of
    /// the one meant, is left alone.
    fn evict(&self, locator: &L);

    /// The object there turned stale by a soft purge.
    fn turn_stale(&self, locator: &L);

    /// Everything stored so far can be forgotten.
    fn clear(&self);
}

/// A cache in this process: the rule is the proof, and the objects hit are only memory to give back.
#[derive(Debug)]
pub struct InProcess<E> {
    name: &'static str,
    store: E,
}

impl<E> InProcess<E> {
    /// Over the memory of the cache.
    pub const fn new(name: &'static str, store: E) -> Self {
        Self { name, store }
    }
}

#[async_trait]
impl<L: Send + Sync, E: Evict<L>> Cache<L> for InProcess<E> {
    fn name(&self) -> &str {
        self.name
    }

    fn needs(&self) -> Needs {
        Needs::Objects
    }

    fn proof(&self) -> Proof {
        Proof::Rule
    }

    async fn evict(&self, objects: &[Match<L>]) -> Result<(), CacheTrouble> {
        for object in objects {
            match object.effect {
                Effect::Evicted => self.store.evict(&object.locator),
                Effect::Stale => self.store.turn_stale(&object.locator),
            }
        }
        Ok(())
    }

    async fn flush(&self) -> Result<(), CacheTrouble> {
        self.store.clear();
        Ok(())
    }
}
