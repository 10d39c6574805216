//! The customers: sites with their hostnames and limits (derived from the purge log's own records), and tokens (small
//! records beside the log). Both are held in memory whole, so that no request waits for a look-up.
//!
//! Where several control planes share the store, tokens are followed in it (`follow`): one that was issued or revoked
//! elsewhere is so here within a moment. What is held is believed for [`BELIEVED_FOR`] after the store was heard last; then
//! the row itself is asked for, and nobody is let in when that cannot be read.

mod follow;
mod history;
mod row;
mod secret;
mod signing_key;
mod table;
mod token;
mod uses;

use std::net::IpAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use batoff_log::{Key, Store, StoreError};
use batoff_types::{Cursor, HostPattern, Seq, SiteChange, SiteId, SiteLimits, SiteTable, UnixMillis};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use self::follow::HeldTokens;
use self::history::SiteHistory;
use self::signing_key::SigningKeySlot;
use self::table::{REVOKED, TOKENS, key_of, revoked_key_of};
use crate::clock::Clock;
use crate::ids::TaskIds;
use crate::store::rows;

pub use self::follow::BELIEVED_FOR;
pub use self::secret::{MASTER_KEY_BYTES, MasterKey};
pub use self::signing_key::SigningKey;
pub use self::token::{
    ADMIN_PREFIX, IssuedToken, RevokedToken, SECRET_PREFIX, Scope, TOKEN_PREFIX, Token, TokenId, TokenUse,
    generate, hash, well_formed,
};

/// Revoked tokens that one site remembers; the oldest revocation is forgotten for a newer one.
pub const REVOKED_PER_SITE_MAX: usize = 1_000;

/// Tokens that one site may have. More are refused: a script that issues in a loop must not fill memory.
pub const TOKENS_PER_SITE_MAX: usize = 1_000;

/// A customer's site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    /// Its name.
    pub id: SiteId,
    /// The names it owns.
    pub hostnames: Vec<HostPattern>,
    /// Its quotas where they differ from the configuration's.
    pub limits: SiteLimits,
}

/// Why a presented token is not one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TokenRefusal {
    /// Its check does not fit: mistyped, cut short, or not a token at all.
    Malformed,
    /// Never issued, or revoked.
    Unknown,
    /// Its time is over.
    Expired,
    /// It cannot be told now whether it is one: others may have revoked or issued it since the store was heard last.
    Unverified,
}

/// What a new token is to be.
#[derive(Clone, Debug)]
pub struct NewToken {
    /// The only site it is for.
    pub site: SiteId,
    /// What the operator calls it.
    pub label: String,
    /// What it may do.
    pub scopes: Vec<Scope>,
    /// From when on it is refused.
    pub expires_at: Option<UnixMillis>,
    /// Who issues it.
    pub created_by: String,
}

/// Why a token was not issued.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IssueError {
    /// There is no such site.
    #[error("there is no such site")]
    NoSuchSite,
    /// The site has [`TOKENS_PER_SITE_MAX`] tokens.
    #[error("the site has {TOKENS_PER_SITE_MAX} tokens; revoke some")]
    TooMany,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Sites and tokens.
pub struct Catalog {
    store: Arc<dyn Store>,
    clock: Clock,
    ids: Arc<TaskIds>,
    master: MasterKey,
    table: ArcSwap<SiteTable>,
    history: Mutex<SiteHistory>,
    through: watch::Sender<Cursor>,
    tokens: HeldTokens,
}

impl Catalog {
    /// Loads what was saved; records of the log after [`Catalog::saved_through`] are then to be handed in.
    pub async fn load(
        store: Arc<dyn Store>,
        clock: Clock,
        ids: Arc<TaskIds>,
        master: MasterKey,
    ) -> Result<Self, StoreError> {
        let history = SiteHistory::load(store.kv()).await?;
        let tokens = HeldTokens::load(store.as_ref(), &clock).await?;
        Ok(Self {
            store,
            clock,
            ids,
            master,
            table: ArcSwap::from_pointee(history.table().clone()),
            through: watch::Sender::new(history.saved_through()),
            history: Mutex::new(history),
            tokens,
        })
    }

    /// Whose each hostname is, now.
    pub fn table(&self) -> Arc<SiteTable> {
        self.table.load_full()
    }

    /// Whether there is such a site now.
    pub fn has(&self, id: &SiteId) -> bool {
        self.table.load().hostnames(id.as_str()).is_some()
    }

    /// The site of that name.
    pub fn site(&self, id: &str) -> Option<Site> {
        let id: SiteId = id.parse().ok()?;
        let hostnames = self.table().hostnames(id.as_str())?.to_vec();
        let limits = self.history.lock().limits(&id);
        Some(Site { id, hostnames, limits })
    }

    /// Its quotas where they differ from the configuration's.
    pub fn limits(&self, id: &SiteId) -> SiteLimits {
        self.history.lock().limits(id)
    }

    /// All sites, by name.
    pub fn sites(&self) -> Vec<Site> {
        let table = self.table();
        let history = self.history.lock();
        table
            .iter()
            .map(|(id, hostnames)| Site {
                id: id.clone(),
                hostnames: hostnames.to_vec(),
                limits: history.limits(id),
            })
            .collect()
    }

    /// The token that this text is, if it may still be used. After [`TokenRefusal::Unverified`] ask
    /// [`Catalog::ask_store`].
    pub fn find(&self, text: &str) -> Result<Arc<Token>, TokenRefusal> {
        // Looked up by hash: how long the look-up takes says nothing about the token.
        let Some(token) = self.tokens.table.read().by_hash.get(&hash(text)).cloned() else {
            return Err(match well_formed(TOKEN_PREFIX, text) {
                true if self.tokens.is_believed(&self.clock) => TokenRefusal::Unknown,
                true => TokenRefusal::Unverified,
                false => TokenRefusal::Malformed,
            });
        };
        if token.expires_at.is_some_and(|end| end <= self.clock.wall()) {
            return Err(TokenRefusal::Expired);
        }
        if self.tokens.is_believed(&self.clock) { Ok(token) } else { Err(TokenRefusal::Unverified) }
    }

    /// The token that this text is, by its row in the store: for when [`Catalog::find`] cannot tell.
    ///
    /// # Errors
    /// [`TokenRefusal::Unverified`] when the store cannot say either.
    pub async fn ask_store(&self, text: &str) -> Result<Arc<Token>, TokenRefusal> {
        // One that is not in memory cannot be looked for: rows are found by a token's name, and its text does not say it.
        let known =
            self.tokens.table.read().by_hash.get(&hash(text)).cloned().ok_or(TokenRefusal::Unverified)?;
        let (kv, place) = (self.store.kv(), format!("{}/{}", known.site, known.id));
        let [token, revoked] = [TOKENS, REVOKED].map(|prefix| Key::from(format!("{prefix}{place}")));
        let unverified = |error: StoreError| {
            tracing::debug!(%error, "a token cannot be looked at");
            TokenRefusal::Unverified
        };
        let is_revoked = kv.get(&revoked).await.map_err(unverified)?.is_some();
        let stored = rows::get(kv, &token, row::decode_token).await.map_err(unverified)?;
        match stored {
            Some(stored) if !is_revoked && stored == *known => Ok(known),
            _ => Err(TokenRefusal::Unknown),
        }
    }

    /// Takes over what other control planes write, until `stopping` is cancelled.
    pub(crate) async fn follow_tokens(self: Arc<Self>, stopping: CancellationToken) {
        self.tokens.follow(self.store.as_ref(), &self.clock, &stopping).await;
    }

    /// What the token's requests are signed with: the whole string of its secret.
    pub fn signing_key<'token>(&self, token: &'token Token) -> &'token SigningKey {
        token.signing.get_or_derive(|| SigningKey::of(self.master.signing_secret(token.id).as_bytes()))
    }

    /// A site's tokens, oldest first.
    pub fn tokens(&self, site: &str) -> Vec<Arc<Token>> {
        self.tokens
            .table
            .read()
            .by_site
            .get(site)
            .map(|all| all.values().cloned().collect())
            .unwrap_or_default()
    }

    /// Makes a token; durable before it is returned.
    pub async fn issue(&self, new: NewToken) -> Result<IssuedToken, IssueError> {
        if self.table().hostnames(new.site.as_str()).is_none() {
            return Err(IssueError::NoSuchSite);
        }
        if self.tokens.table.read().by_site.get(&new.site).is_some_and(|all| all.len() >= TOKENS_PER_SITE_MAX)
        {
            return Err(IssueError::TooMany);
        }
        let text = generate(TOKEN_PREFIX);
        let mut scopes = new.scopes;
        scopes.sort_unstable();
        scopes.dedup();
        let token = Arc::new(Token {
            id: TokenId::from_ulid(self.ids.next().ulid()),
            site: new.site,
            label: new.label.into(),
            scopes,
            created_at: self.clock.wall(),
            expires_at: new.expires_at,
            created_by: Some(new.created_by.into()),
            hash: hash(&text),
            signing: SigningKeySlot::default(),
        });
        rows::put(self.store.kv(), &key_of(&token), row::encode_token(&token)).await?;
        self.tokens.table.write().insert(Arc::clone(&token));
        let secret = self.master.signing_secret(token.id);
        Ok(IssuedToken { token, text, secret })
    }

    /// A site's revoked tokens, oldest token first.
    pub fn revoked(&self, site: &str) -> Vec<Arc<RevokedToken>> {
        self.tokens
            .table
            .read()
            .revoked
            .get(site)
            .map(|all| all.values().cloned().collect())
            .unwrap_or_default()
    }

    /// When a token was last used, and from where.
    pub fn last_use(&self, token: TokenId) -> Option<TokenUse> {
        self.tokens.uses.of(token)
    }

    /// A request of the token's was accepted.
    pub fn used(&self, token: &Arc<Token>, address: IpAddr) {
        self.tokens.uses.note(token, self.clock.wall(), address);
    }

    /// Makes it durable when tokens were used last.
    pub(crate) async fn save_uses(&self) -> Result<(), StoreError> {
        let is_token = |token: &Token| self.tokens.table.read().by_hash.contains_key(&token.hash);
        self.tokens.uses.save(self.store.as_ref(), is_token).await
    }

    /// Takes a token back in the name of `by`; it is refused from the moment this returns. `false` when the site has no
    /// such token.
    pub async fn revoke(&self, site: &str, id: TokenId, by: &str) -> Result<bool, StoreError> {
        let Some(token) = self.known_token(site, id).await? else { return Ok(false) };
        // Refused from here on even if the store fails; when it does, the revocation must be repeated to be durable.
        self.tokens.table.write().remove(&token);
        let revoked = Arc::new(RevokedToken {
            last_use: self.tokens.uses.of(id),
            revoked_at: self.clock.wall(),
            revoked_by: by.into(),
            token: Arc::clone(&token),
        });
        if let Err(error) = self.write_revoked(&revoked).await {
            self.tokens.table.write().insert(token);
            return Err(error);
        }
        self.remember_revoked(revoked).await?;
        self.tokens.uses.forget(self.store.kv(), &token).await?;
        Ok(true)
    }

    /// The site's token, though another control plane should have issued it a moment ago.
    async fn known_token(&self, site: &str, id: TokenId) -> Result<Option<Arc<Token>>, StoreError> {
        let known = self.tokens.table.read().by_site.get(site).and_then(|all| all.get(&id)).cloned();
        if known.is_some() || !self.store.is_shared() {
            return Ok(known);
        }
        let key = Key::from(format!("{TOKENS}{site}/{id}"));
        Ok(rows::get(self.store.kv(), &key, row::decode_token).await?.map(Arc::new))
    }

    /// First that it was revoked, then that it is no token: whatever happens in between, it is none after a start.
    async fn write_revoked(&self, revoked: &RevokedToken) -> Result<(), StoreError> {
        let kv = self.store.kv();
        rows::put(kv, &revoked_key_of(&revoked.token), row::encode_revoked(revoked)).await?;
        rows::delete(kv, &key_of(&revoked.token)).await
    }

    /// Forgets the oldest revocation when there are too many.
    async fn remember_revoked(&self, revoked: Arc<RevokedToken>) -> Result<(), StoreError> {
        let oldest = {
            let mut tokens = self.tokens.table.write();
            let all = tokens.learn_revoked(revoked);
            let oldest = all.values().min_by_key(|one| one.revoked_at).cloned();
            let oldest = oldest.filter(|_| all.len() > REVOKED_PER_SITE_MAX);
            if let Some(oldest) = &oldest {
                all.remove(&oldest.token.id);
            }
            oldest
        };
        match oldest {
            Some(oldest) => rows::delete(self.store.kv(), &revoked_key_of(&oldest.token)).await,
            None => Ok(()),
        }
    }

    /// Takes back all tokens of a site that is being removed.
    pub async fn revoke_all(&self, site: &str, by: &str) -> Result<(), StoreError> {
        for token in self.tokens(site) {
            self.revoke(site, token.id, by).await?;
        }
        Ok(())
    }

    /// Waits until changes of sites through `seq` are in the table.
    pub async fn applied(&self, seq: Seq) {
        self.caught_up(Cursor::after(seq)).await;
    }

    /// Waits until all changes of sites before this place are in the table.
    pub async fn caught_up(&self, place: Cursor) {
        let mut through = self.through.subscribe();
        // The sender lives as long as `self`.
        let _ = through.wait_for(|cursor| *cursor >= place).await;
    }

    /// Takes over the next records of the log: the changes among them, and how far the log was read.
    pub(crate) fn handle_records<'a>(
        &self,
        changes: impl IntoIterator<Item = (Seq, &'a SiteChange)>,
        through: Cursor,
    ) {
        let mut history = self.history.lock();
        let before = history.len();
        for (seq, change) in changes {
            history.push(seq, change.clone());
        }
        if history.len() != before {
            self.table.store(Arc::new(history.table().clone()));
        }
        drop(history);
        self.through.send_if_modified(|cursor| {
            let newer = *cursor < through;
            *cursor = through.max(*cursor);
            newer
        });
    }

    /// The table as it was at a place of the log that is still retained.
    pub fn table_at(&self, cursor: Cursor) -> SiteTable {
        self.history.lock().table_at(cursor)
    }

    /// How far the log had been taken over when it was last saved.
    pub fn saved_through(&self) -> Cursor {
        self.history.lock().saved_through()
    }

    /// Makes the changes of sites durable beside the log, so that a start need not read the whole of it.
    pub(crate) async fn save(&self) -> Result<(), StoreError> {
        let through = *self.through.borrow();
        if through == self.saved_through() {
            return Ok(());
        }
        let unsaved = self.history.lock().unsaved(through);
        match self.store.is_shared() {
            true => history::save_beside_others(self.store.kv(), &unsaved, through).await?,
            false => history::save(self.store.kv(), &unsaved, through).await?,
        }
        self.history.lock().mark_saved(through);
        Ok(())
    }

    /// Forgets changes that no table at or after `first` needs.
    pub(crate) async fn forget(&self, first: Seq) -> Result<(), StoreError> {
        let superseded = self.history.lock().superseded(first);
        for seq in superseded {
            history::forget(self.store.kv(), seq).await?;
            self.history.lock().remove(seq);
        }
        Ok(())
    }
}
