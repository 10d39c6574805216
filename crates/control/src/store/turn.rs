//! Whose turn it is among control planes that share a store: a small record that goes away by itself.

use std::sync::Arc;
use std::time::Duration;

use batoff_log::{CasError, Expect, Key, Store, StoreError, Version, Write};
use bytes::Bytes;

/// The right to do something that no other control plane does meanwhile, for a time.
///
/// It keeps work from being done twice and changes from crossing one another. No proof may rest on it: who was stopped for
/// longer than the time goes on as if it were still his, and the time is told by each machine's wall clock.
pub(crate) struct SharedTurn {
    store: Arc<dyn Store>,
    key: Key,
    version: Version,
}

impl SharedTurn {
    /// Takes the turn for `time`; `None` while it is another's.
    pub(crate) async fn take(
        store: &Arc<dyn Store>,
        key: &'static str,
        time: Duration,
    ) -> Result<Option<Self>, StoreError> {
        let key = Key::from(key);
        // Of no other's writing, so that one whose answer was lost is known again.
        let value = Bytes::copy_from_slice(&rand::random::<[u8; 16]>());
        let write = Write::Put { value: value.clone(), ttl: Some(time) };
        let version = match store.kv().cas(&key, Expect::Absent, write).await {
            Ok(version) => version,
            Err(CasError::Conflict(Some(found))) if found.value == value => found.version,
            Err(CasError::Conflict(_)) => return Ok(None),
            Err(CasError::Store(error)) => return Err(error),
        };
        Ok(Some(Self { store: Arc::clone(store), key, version }))
    }

    /// Keeps it for `time` from now on; false when it has become another's.
    pub(crate) async fn keep(&mut self, time: Duration) -> Result<bool, StoreError> {
        let value = Bytes::copy_from_slice(&rand::random::<[u8; 16]>());
        let write = Write::Put { value, ttl: Some(time) };
        match self.store.kv().cas(&self.key, Expect::Version(self.version), write).await {
            Ok(version) => {
                self.version = version;
                Ok(true)
            }
            Err(CasError::Conflict(_)) => Ok(false),
            Err(CasError::Store(error)) => Err(error),
        }
    }

    /// Lets the next one have it. Should that fail, its time passes.
    pub(crate) async fn give_back(self) {
        let deleted = self.store.kv().cas(&self.key, Expect::Version(self.version), Write::Delete).await;
        if let Err(CasError::Store(error)) = deleted {
            tracing::debug!(%error, key = ?self.key, "a turn is not given back; it ends by itself");
        }
    }
}

#[cfg(test)]
mod tests {
    use batoff_log::embedded::{EmbeddedConfig, EmbeddedStore};
    use batoff_log::system_clock;

    use super::*;

    #[tokio::test]
    async fn it_is_one_s_until_it_is_given_back_or_its_time_is_over() {
        let dir = tempfile::tempdir().unwrap();
        let store: Arc<dyn Store> =
            EmbeddedStore::open(EmbeddedConfig::new(dir.path(), system_clock())).unwrap();
        let take =
            async |millis| SharedTurn::take(&store, "a-turn", Duration::from_millis(millis)).await.unwrap();
        let mut first = take(60_000).await.unwrap();
        assert!(take(60_000).await.is_none());
        assert!(first.keep(Duration::from_secs(60)).await.unwrap());
        assert!(take(60_000).await.is_none());
        first.give_back().await;
        let mut short = take(20).await.unwrap();
        let next = loop {
            match take(60_000).await {
                Some(next) => break next,
                None => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        };
        assert!(!short.keep(Duration::from_secs(60)).await.unwrap(), "its time was over");
        short.give_back().await;
        assert!(take(60_000).await.is_none(), "it was not another's to give back");
        next.give_back().await;
        store.close().await;
    }
}
