use std::sync::Arc;

use async_trait::async_trait;
use futures_util::stream::BoxStream;

use super::queue::Request;
use super::{EmbeddedStore, watch};
use crate::error::StoreError;
use crate::kv::{
    CasError, Expect, Guard, GuardedError, KEY_BYTES_MAX, Key, Kv, KvEvent, SCAN_ITEMS_MAX, VALUE_BYTES_MAX,
    Version, Versioned, Write,
};

#[async_trait]
impl Kv for EmbeddedStore {
    async fn get(&self, key: &Key) -> Result<Option<Versioned>, StoreError> {
        let key = key.clone();
        let pair = self.read_snapshot(move |snapshot| snapshot.pair(&key)).await?;
        let now = self.shared.now();
        Ok(pair.filter(|pair| pair.is_alive(now)).map(|pair| pair.into_versioned()))
    }

    async fn scan(
        &self,
        prefix: &Key,
        after: Option<&Key>,
        limit: usize,
    ) -> Result<Vec<(Key, Versioned)>, StoreError> {
        let (prefix, after, now) = (prefix.clone(), after.cloned(), self.shared.now());
        let limit = limit.min(SCAN_ITEMS_MAX);
        self.read_snapshot(move |snapshot| snapshot.pairs()?.page(&prefix, after.as_ref(), limit, now)).await
    }

    async fn cas(&self, key: &Key, expect: Expect, write: Write) -> Result<Version, CasError> {
        self.swap(key, expect, write, None).await.map_err(GuardedError::unguarded)
    }

    async fn cas_guarded(
        &self,
        key: &Key,
        expect: Expect,
        write: Write,
        guard: &Guard,
    ) -> Result<Version, GuardedError> {
        self.swap(key, expect, write, Some(guard.clone())).await
    }

    fn watch(&self, prefix: &Key) -> BoxStream<'static, KvEvent> {
        watch::watch(Arc::clone(&self.shared), self.requests.clone(), prefix.clone())
    }
}

impl EmbeddedStore {
    async fn swap(
        &self,
        key: &Key,
        expect: Expect,
        write: Write,
        guard: Option<Guard>,
    ) -> Result<Version, GuardedError> {
        if key.as_bytes().is_empty() || key.as_bytes().len() > KEY_BYTES_MAX {
            return Err(StoreError::Invalid("a key has 1 to 1024 bytes").into());
        }
        if matches!(&write, Write::Put { value, .. } if value.len() > VALUE_BYTES_MAX) {
            return Err(StoreError::TooLarge { limit: VALUE_BYTES_MAX }.into());
        }
        let key = key.clone();
        self.requests.ask(|reply| Request::Cas { key, expect, write, guard, reply }).await?
    }
}
