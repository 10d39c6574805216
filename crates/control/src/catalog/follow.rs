//! Tokens as other control planes write them: followed in the store, and believed only as long as the store is heard.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use batoff_log::{Key, KvEvent, Store, StoreError};
use batoff_types::{Moment, SiteId};
use futures_util::StreamExt;
use parking_lot::RwLock;
use tokio_util::sync::CancellationToken;

use super::row;
use super::table::{REVOKED, TOKENS, TokenTable, load_tokens};
use super::token::TokenId;
use super::uses::{TokenUses, USES};
use crate::clock::Clock;
use crate::store::rows;

/// How long the tokens in memory are believed after the store has last said that nothing was missed. The store says so every
/// two seconds, if only that there is nothing new.
pub const BELIEVED_FOR: Duration = Duration::from_secs(5);

/// The rows that are followed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Followed {
    Tokens,
    Revoked,
    Uses,
}

impl Followed {
    const fn prefix(self) -> &'static str {
        match self {
            Self::Tokens => TOKENS,
            Self::Revoked => REVOKED,
            Self::Uses => USES,
        }
    }
}

/// What one watch has told.
struct WatchTold {
    of: Followed,
    /// The tokens of the snapshot so far; `None` when it is complete.
    snapshot: Option<HashSet<TokenId>>,
    /// When it last knew all.
    current_at: Option<Moment>,
}

impl WatchTold {
    fn nothing(of: Followed) -> Self {
        Self { of, snapshot: Some(HashSet::new()), current_at: None }
    }
}

/// Tokens as they are in memory, and how far they are believed.
pub(super) struct HeldTokens {
    pub table: RwLock<TokenTable>,
    pub uses: TokenUses,
    /// Until when they are believed, in microseconds of the monotonic clock; `u64::MAX` where nobody else writes.
    believed_until: AtomicU64,
}

impl HeldTokens {
    pub(super) async fn load(store: &dyn Store, clock: &Clock) -> Result<Self, StoreError> {
        let table = RwLock::new(load_tokens(store.kv()).await?);
        let uses = TokenUses::load(store.kv()).await?;
        let until = if store.is_shared() { (clock.now() + BELIEVED_FOR).as_micros() } else { u64::MAX };
        Ok(Self { table, uses, believed_until: AtomicU64::new(until) })
    }

    /// Whether what is in memory is what the store holds, but for what happened a moment ago.
    pub(super) fn is_believed(&self, clock: &Clock) -> bool {
        let until = self.believed_until.load(Ordering::Relaxed);
        until == u64::MAX || clock.now().as_micros() < until
    }

    /// Takes over what others write, until `stopping` is cancelled.
    pub(super) async fn follow(&self, store: &dyn Store, clock: &Clock, stopping: &CancellationToken) {
        if !store.is_shared() {
            return stopping.cancelled().await;
        }
        let kv = store.kv();
        let [mut tokens, mut revoked, mut uses] =
            [Followed::Tokens, Followed::Revoked, Followed::Uses].map(|of| kv.watch(&Key::from(of.prefix())));
        let mut told_tokens = WatchTold::nothing(Followed::Tokens);
        let mut told_revoked = WatchTold::nothing(Followed::Revoked);
        let mut told_uses = WatchTold::nothing(Followed::Uses);
        loop {
            let (told, event) = tokio::select! {
                event = tokens.next() => (&mut told_tokens, event),
                event = revoked.next() => (&mut told_revoked, event),
                event = uses.next() => (&mut told_uses, event),
                () = stopping.cancelled() => return,
            };
            // The store is closed or damaged. Nobody is believed any more in a moment.
            let Some(event) = event else { return stopping.cancelled().await };
            self.handle_event(clock, told, event);
            if let (Some(tokens), Some(revoked)) = (told_tokens.current_at, told_revoked.current_at) {
                let until = tokens.min(revoked) + BELIEVED_FOR;
                self.believed_until.store(until.as_micros(), Ordering::Relaxed);
            }
        }
    }

    fn handle_event(&self, clock: &Clock, told: &mut WatchTold, event: KvEvent) {
        match event {
            KvEvent::Reset => told.snapshot = Some(HashSet::new()),
            KvEvent::Synced => {
                if let Some(there) = told.snapshot.take() {
                    self.forget_others(told.of, &there);
                }
            }
            KvEvent::Current => {}
            KvEvent::Put { key, versioned } => {
                let Some((site, id)) = place_of(told.of, &key) else { return };
                if let Some(there) = &mut told.snapshot {
                    there.insert(id);
                }
                if let Err(why) = self.handle_row(told.of, id, &versioned.value) {
                    let _: StoreError = rows::unreadable(&key, why);
                    // Whatever it says, nobody is let in by it.
                    if told.of != Followed::Uses {
                        self.forget_row(Followed::Tokens, &site, id);
                    }
                }
            }
            KvEvent::Delete { key } => {
                if let Some((site, id)) = place_of(told.of, &key) {
                    self.forget_row(told.of, &site, id);
                }
            }
        }
        if told.snapshot.is_none() {
            told.current_at = Some(clock.now());
        }
    }

    fn handle_row(&self, of: Followed, id: TokenId, value: &[u8]) -> Result<(), &'static str> {
        match of {
            Followed::Tokens => self.table.write().insert(Arc::new(row::decode_token(value)?)),
            Followed::Revoked => {
                let revoked = row::decode_revoked(value)?;
                self.table.write().learn_revoked(Arc::new(revoked));
            }
            Followed::Uses => self.uses.handle_use(id, row::decode_use(value)?),
        }
        Ok(())
    }

    fn forget_row(&self, of: Followed, site: &SiteId, id: TokenId) {
        let mut tokens = self.table.write();
        match of {
            Followed::Tokens => {
                let known = tokens.by_site.get(site).and_then(|all| all.get(&id)).cloned();
                known.inspect(|known| tokens.remove(known));
            }
            Followed::Revoked => {
                tokens.revoked.get_mut(site).and_then(|all| all.remove(&id));
            }
            Followed::Uses => self.uses.handle_gone(id),
        }
    }

    /// What is not in the snapshot is not there any more.
    fn forget_others(&self, of: Followed, there: &HashSet<TokenId>) {
        let gone: Vec<(SiteId, TokenId)> = {
            let tokens = self.table.read();
            let places = |site: &SiteId, ids: Vec<TokenId>| -> Vec<(SiteId, TokenId)> {
                let gone = ids.into_iter().filter(|id| !there.contains(id));
                gone.map(|id| (site.clone(), id)).collect()
            };
            match of {
                Followed::Tokens => tokens
                    .by_site
                    .iter()
                    .flat_map(|(site, all)| places(site, all.keys().copied().collect()))
                    .collect(),
                Followed::Revoked => tokens
                    .revoked
                    .iter()
                    .flat_map(|(site, all)| places(site, all.keys().copied().collect()))
                    .collect(),
                Followed::Uses => Vec::new(),
            }
        };
        gone.iter().for_each(|(site, id)| self.forget_row(of, site, *id));
    }
}

/// Whose row it is: all three kinds have `<site>/<id>` behind their prefix.
fn place_of(of: Followed, key: &Key) -> Option<(SiteId, TokenId)> {
    let rest = std::str::from_utf8(key.as_bytes()).ok()?.strip_prefix(of.prefix())?;
    let (site, id) = rest.split_once('/')?;
    Some((site.parse().ok()?, id.parse().ok()?))
}
