//! All tokens, and those that were: found by what is sent, and by site.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use batoff_log::{Key, Kv, StoreError};
use batoff_types::SiteId;

use super::row;
use super::token::{RevokedToken, Token, TokenId};
use crate::store::rows;

/// Under this prefix are the tokens: `tokens/<site>/<id>`.
pub(super) const TOKENS: &str = "tokens/";

/// Under this prefix are those that were revoked, `revoked-tokens/<site>/<id>`: apart, so that no build that knows
/// nothing of revoked tokens takes one for a token.
pub(super) const REVOKED: &str = "revoked-tokens/";

/// Tokens in memory.
#[derive(Default)]
pub(super) struct TokenTable {
    pub by_hash: HashMap<[u8; 32], Arc<Token>>,
    pub by_site: HashMap<SiteId, BTreeMap<TokenId, Arc<Token>>>,
    pub revoked: HashMap<SiteId, BTreeMap<TokenId, Arc<RevokedToken>>>,
}

impl TokenTable {
    /// Takes over a token, unless it was revoked.
    pub(super) fn insert(&mut self, token: Arc<Token>) {
        if self.revoked.get(&token.site).is_some_and(|all| all.contains_key(&token.id)) {
            return;
        }
        let known = self.by_site.get(&token.site).and_then(|all| all.get(&token.id));
        match known.cloned() {
            // Its key for signatures is not derived again.
            Some(known) if known == token => return,
            Some(known) => self.remove(&known),
            None => {}
        }
        self.by_hash.insert(token.hash, Arc::clone(&token));
        self.by_site.entry(token.site.clone()).or_default().insert(token.id, token);
    }

    pub(super) fn remove(&mut self, token: &Token) {
        self.by_hash.remove(&token.hash);
        if let Some(all) = self.by_site.get_mut(&token.site) {
            all.remove(&token.id);
        }
    }

    /// Takes over that a token was revoked; all of its site's that were.
    pub(super) fn learn_revoked(
        &mut self,
        revoked: Arc<RevokedToken>,
    ) -> &mut BTreeMap<TokenId, Arc<RevokedToken>> {
        self.remove(&revoked.token);
        let all = self.revoked.entry(revoked.token.site.clone()).or_default();
        all.insert(revoked.token.id, revoked);
        all
    }
}

pub(super) fn key_of(token: &Token) -> Key {
    Key::from(format!("{TOKENS}{}/{}", token.site, token.id))
}

pub(super) fn revoked_key_of(token: &Token) -> Key {
    Key::from(format!("{REVOKED}{}/{}", token.site, token.id))
}

/// What the store holds.
pub(super) async fn load_tokens(kv: &dyn Kv) -> Result<TokenTable, StoreError> {
    let mut tokens = TokenTable::default();
    for revoked in rows::all_under(kv, REVOKED, |_, value| row::decode_revoked(value)).await? {
        let all = tokens.revoked.entry(revoked.token.site.clone()).or_default();
        all.insert(revoked.token.id, Arc::new(revoked));
    }
    for token in rows::all_under(kv, TOKENS, |_, value| row::decode_token(value)).await? {
        if tokens.revoked.get(&token.site).is_some_and(|all| all.contains_key(&token.id)) {
            rows::delete(kv, &key_of(&token)).await?;
            continue;
        }
        tokens.insert(Arc::new(token));
    }
    Ok(tokens)
}
