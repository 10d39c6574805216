//! The cache's memory as pingora's cache wants it.

use std::any::Any;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use pingora::cache::key::CacheHashKey;
use pingora::cache::storage::{HandleHit, HandleMiss, MissFinishType};
use pingora::cache::trace::SpanHandle;
use pingora::cache::{
    CacheKey, CacheMeta, HitHandler, MissHandler, PurgeOutcome, PurgeTarget, PurgeType, Storage,
};
use pingora::http::ResponseHeader;
use pingora::{Error, ErrorType, Result};

use super::{CachedResponse, Freshness, Mark, ObjectId, Store};
use crate::figures::{self, Left, NotStored};

/// What a visitor is given at once, in bytes. Each has the time of one write, so one who reads nothing is noticed.
const PIECE: usize = 128 << 10;

/// An object that a request found.
pub(crate) struct Hit {
    pub(crate) object: Arc<CachedResponse>,
    from: usize,
    to: usize,
}

/// A response on its way into the cache.
struct Fill {
    store: &'static Store,
    key: u128,
    mark: Mark,
    header: ResponseHeader,
    freshness: Freshness,
    body: BytesMut,
    too_large: bool,
}

fn slot(key: &impl CacheHashKey) -> u128 {
    u128::from_be_bytes(key.combined_bin())
}

#[async_trait]
impl Storage for Store {
    async fn lookup(
        &'static self,
        key: &CacheKey,
        _: &SpanHandle,
    ) -> Result<Option<(CacheMeta, HitHandler)>> {
        let Some((object, _)) = self.get(slot(key)) else { return Ok(None) };
        let (meta, to) = (object.meta(), object.body.len());
        Ok(Some((meta, Box::new(Hit { object, from: 0, to }))))
    }

    async fn get_miss_handler(
        &'static self,
        key: &CacheKey,
        meta: &CacheMeta,
        _: &SpanHandle,
    ) -> Result<MissHandler> {
        let mark = mark(meta)?;
        Ok(Box::new(Fill {
            store: self,
            key: slot(key),
            mark,
            header: meta.response_header_copy(),
            freshness: Freshness::of(meta),
            body: BytesMut::new(),
            too_large: false,
        }))
    }

    async fn purge(
        &'static self,
        target: PurgeTarget<'_>,
        _: PurgeType,
        _: &SpanHandle,
    ) -> Result<PurgeOutcome> {
        let Some((object, _)) = self.get(slot(target.key())) else { return Ok(PurgeOutcome::NotFound) };
        self.forget(&object.locator, Left::Purged);
        Ok(PurgeOutcome::Purged(None))
    }

    async fn update_meta(&'static self, key: &CacheKey, meta: &CacheMeta, _: &SpanHandle) -> Result<bool> {
        let Some(id) = meta.extensions().get::<ObjectId>() else { return Ok(false) };
        let stored =
            self.confirm(slot(key), *id, mark(meta)?, meta.response_header_copy(), Freshness::of(meta));
        if !stored {
            figures::not_stored(NotStored::Purged);
        }
        Ok(stored)
    }

    fn as_any(&self) -> &(dyn Any + Send + Sync + 'static) {
        self
    }
}

fn mark(meta: &CacheMeta) -> Result<Mark> {
    meta.extensions().get::<Mark>().cloned().ok_or_else(|| {
        Error::explain(ErrorType::InternalError, "a response without its mark cannot be stored")
    })
}

#[async_trait]
impl HandleHit for Hit {
    async fn read_body(&mut self) -> Result<Option<Bytes>> {
        if self.from >= self.to {
            return Ok(None);
        }
        let end = self.to.min(self.from + PIECE);
        let body = self.object.body.slice(self.from..end);
        self.from = end;
        Ok(Some(body))
    }

    async fn finish(
        self: Box<Self>,
        _: &'static (dyn Storage + Sync),
        _: &CacheKey,
        _: &SpanHandle,
    ) -> Result<()> {
        Ok(())
    }

    fn can_seek(&self) -> bool {
        true
    }

    fn seek(&mut self, start: usize, end: Option<usize>) -> Result<()> {
        let length = self.object.body.len();
        if start >= length {
            return Error::e_explain(
                ErrorType::InternalError,
                format!("seek to {start} in a body of {length}"),
            );
        }
        self.from = start;
        self.to = end.unwrap_or(length).min(length);
        Ok(())
    }

    fn as_any(&self) -> &(dyn Any + Send + Sync) {
        self
    }

    fn as_any_mut(&mut self) -> &mut (dyn Any + Send + Sync) {
        self
    }
}

#[async_trait]
impl HandleMiss for Fill {
    async fn write_body(&mut self, data: Bytes, _eof: bool) -> Result<()> {
        // The visitor gets the whole response either way.
        if self.too_large || (self.body.len() + data.len()) as u64 > self.store.object_bytes_max() {
            self.too_large = true;
            self.body = BytesMut::new();
        } else {
            self.body.extend_from_slice(&data);
        }
        Ok(())
    }

    async fn finish(self: Box<Self>) -> Result<MissFinishType> {
        if self.too_large {
            figures::not_stored(NotStored::TooLarge);
            // It is the page now, whatever was kept of the page before.
            self.store.withdraw(self.key);
            return Ok(MissFinishType::Created(0));
        }
        let Self { store, key, mark, header, freshness, body, .. } = *self;
        match store.insert(key, mark, header, freshness, body.freeze()) {
            Ok(weight) => Ok(MissFinishType::Created(usize::try_from(weight).unwrap_or(usize::MAX))),
            // Those who waited for this fill look again, find nothing and fetch anew.
            Err(reason) => {
                figures::not_stored(reason);
                Ok(MissFinishType::Created(0))
            }
        }
    }
}
