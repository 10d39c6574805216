//! When each token was used last, and from where: to the minute, so that a busy token is written down once a minute.

use std::net::IpAddr;
use std::sync::Arc;

use batoff_log::{Key, Kv, Store, StoreError};
use batoff_types::UnixMillis;
use dashmap::DashMap;
use futures_util::future::join_all;
use parking_lot::Mutex;

use super::row;
use super::token::{Token, TokenId, TokenUse};
use crate::store::rows;

/// Under this prefix are the uses: `token-uses/<site>/<id>`.
pub(super) const USES: &str = "token-uses/";

/// How long a use stands for those that follow it.
const SAME_USE_MILLIS: u64 = 60_000;

/// Uses written at one time: they share a flush.
const WRITES_AT_ONCE: usize = 64;

/// The last use of each token.
#[derive(Debug, Default)]
pub(super) struct TokenUses {
    last: DashMap<TokenId, TokenUse>,
    unsaved: Mutex<Vec<Arc<Token>>>,
}

impl TokenUses {
    pub(super) async fn load(kv: &dyn Kv) -> Result<Self, StoreError> {
        let uses = Self::default();
        let read = |rest: &str, value: &[u8]| {
            let id = rest.rsplit('/').next().and_then(|id| id.parse().ok());
            Ok((id.ok_or("its key ends in no token's id")?, row::decode_use(value)?))
        };
        for (id, last) in rows::all_under(kv, USES, read).await? {
            uses.last.insert(id, last);
        }
        Ok(uses)
    }

    /// It was accepted now. Mostly this looks at one place in memory and does nothing.
    pub(super) fn note(&self, token: &Arc<Token>, now: UnixMillis, address: IpAddr) {
        if self.of(token.id).is_some_and(|last| now.0.abs_diff(last.at.0) < SAME_USE_MILLIS) {
            return;
        }
        self.last.insert(token.id, TokenUse { at: now, address });
        self.unsaved.lock().push(Arc::clone(token));
    }

    pub(super) fn of(&self, token: TokenId) -> Option<TokenUse> {
        self.last.get(&token).map(|last| *last)
    }

    /// Another control plane has noted a use.
    pub(super) fn handle_use(&self, token: TokenId, used: TokenUse) {
        let mut last = self.last.entry(token).or_insert(used);
        if last.at < used.at {
            *last = used;
        }
    }

    /// Nobody knows of a use any more.
    pub(super) fn handle_gone(&self, token: TokenId) {
        self.last.remove(&token);
    }

    /// Makes what is new durable, of what `is_token` still. A use is lost with the process when it was not: it is told for
    /// people.
    pub(super) async fn save(
        &self,
        store: &dyn Store,
        is_token: impl Fn(&Token) -> bool,
    ) -> Result<(), StoreError> {
        let (kv, is_shared) = (store.kv(), store.is_shared());
        let mut waiting = std::mem::take(&mut *self.unsaved.lock());
        while !waiting.is_empty() {
            let rest = waiting.split_off(waiting.len().min(WRITES_AT_ONCE));
            let writes = waiting.iter().filter(|token| is_token(token)).filter_map(|token| {
                let used = self.of(token.id)?;
                Some(async move {
                    let key = key_of(token);
                    // What another has noted later stays. Should it do so between the two, the time is off by a moment.
                    if is_shared
                        && let Some(stored) = rows::get(kv, &key, row::decode_use).await?
                        && used.at <= stored.at
                    {
                        return Ok(());
                    }
                    rows::put(kv, &key, row::encode_use(used)).await
                })
            });
            if let Some(error) = join_all(writes).await.into_iter().find_map(Result::err) {
                self.unsaved.lock().extend(waiting.into_iter().chain(rest));
                return Err(error);
            }
            waiting = rest;
        }
        Ok(())
    }

    /// The token is revoked.
    pub(super) async fn forget(&self, kv: &dyn Kv, token: &Token) -> Result<(), StoreError> {
        self.last.remove(&token.id);
        rows::delete(kv, &key_of(token)).await
    }
}

fn key_of(token: &Token) -> Key {
    Key::from(format!("{USES}{}/{}", token.site, token.id))
}
