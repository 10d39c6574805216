//! Who is signed in, and until when: sessions, looked at anew for each request.

use std::net::IpAddr;
use std::sync::Arc;

use super::account::AccountName;
use super::cookie::{self, SessionId};
use super::password::Hashing;
use super::proxied::ProxiedUsers;
use super::refusals::RefusedSignIns;
use super::row::{self, StoredAccount};
use super::session::{NewSession, SessionReport, SessionTimes, StoredSession};
use super::table::AccountTable;
use super::throttle::Throttle;
use super::viewer::{Grant, Viewer};
use crate::audit::{Audit, AuditAction, AuditEntry};
use crate::catalog::MasterKey;
use crate::clock::Clock;
use crate::store::rows;
use batoff_log::{CasError, Expect, Key, Store, StoreError, Write};

/// Sessions that one account may have; the one that was not used for longest ends for a new one.
pub const SESSIONS_PER_ACCOUNT_MAX: usize = 32;

/// Under this prefix are the sessions: `console/sessions/<SHA-256 of the secret>`.
const SESSIONS: &str = "console/sessions/";

/// How old the note of a session's last use may become before it is written anew.
const SEEN_MILLIS: u64 = 60_000;

/// The accounts of the console, and who is signed in.
pub struct Accounts {
    pub(super) table: AccountTable,
    pub(super) clock: Clock,
    pub(super) audit: Arc<Audit>,
    pub(super) master: MasterKey,
    pub(super) times: SessionTimes,
    pub(super) hashing: Hashing,
    pub(super) throttle: Throttle,
    pub(super) refused: RefusedSignIns,
    pub(super) proxied: ProxiedUsers,
}

impl Accounts {
    /// Over the store's rows. The secrets of authenticators are derived from `master`; sessions last as `times` says.
    pub fn new(
        store: Arc<dyn Store>,
        clock: Clock,
        audit: Arc<Audit>,
        master: MasterKey,
        times: SessionTimes,
    ) -> Self {
        Self {
            table: AccountTable::new(store),
            clock,
            audit,
            master,
            times,
            hashing: Hashing::default(),
            throttle: Throttle::default(),
            refused: RefusedSignIns::default(),
            proxied: ProxiedUsers::default(),
        }
    }

    /// Who holds the cookie with this value, if its session goes on; a request from `from` uses it.
    ///
    /// # Errors
    /// The store cannot say; nobody is signed in then.
    pub async fn session(&self, cookie_value: &str, from: IpAddr) -> Result<Option<Viewer>, StoreError> {
        if !cookie::is_secret(cookie_value) {
            return Ok(None);
        }
        let id = SessionId::of(cookie_value);
        let key = key_of(&id);
        let Some(row) = self.table.kv().get(&key).await? else { return Ok(None) };
        let session = row::decode_session(&row.value).map_err(|why| rows::unreadable(&key, why))?;
        let now = self.clock.wall();
        let account = self.account_of(&session).await?;
        let Some((account, left)) = account.zip(session.left(now, self.times)) else {
            rows::delete(self.table.kv(), &key).await?;
            return Ok(None);
        };
        let viewer = self.viewer(&account, id);
        if now.0.saturating_sub(session.seen_at.0) >= SEEN_MILLIS {
            let seen = StoredSession { seen_at: now, address: from, ..session };
            let write = Write::Put { value: row::encode_session(&seen).into(), ttl: Some(left) };
            // By what was read, so that a session that was ended meanwhile does not come back.
            match self.table.kv().cas(&key, Expect::Version(row.version), write).await {
                Ok(_) | Err(CasError::Conflict(_)) => {}
                Err(CasError::Store(error)) => {
                    tracing::warn!(%error, "that a session was used cannot be written down; it may end early");
                }
            }
        }
        Ok(Some(viewer))
    }

    /// Ends the viewer's session; whom a proxy names has none, and signs in anew when it names him again.
    ///
    /// # Errors
    /// The store failed: the session may go on. Repeat it.
    pub async fn sign_out(&self, viewer: &Viewer, from: IpAddr) -> Result<(), StoreError> {
        match &viewer.session {
            Some(session) => rows::delete(self.table.kv(), &key_of(session)).await?,
            None => self.proxied.forget(&viewer.name),
        }
        self.audit.note(self.entry(viewer.actor(), AuditAction::UserSignOut, &viewer.name, from));
        Ok(())
    }

    /// Ends all sessions of the viewer's account, this one too.
    ///
    /// # Errors
    /// The store failed: they may go on. Repeat it.
    pub async fn sign_out_everywhere(&self, viewer: &Viewer, from: IpAddr) -> Result<(), StoreError> {
        let ending = |stored: &mut StoredAccount| {
            stored.era = new_era();
            Ok::<_, StoreError>(())
        };
        self.table.change(&viewer.name, ending).await?;
        let everywhere = Some("everywhere".to_owned());
        let entry = self.entry(viewer.actor(), AuditAction::UserSignOut, &viewer.name, from);
        self.audit.note(AuditEntry { what: everywhere, ..entry });
        // They are over by their era; the rows need not wait for their end.
        self.end_sessions(&viewer.name, |_| true).await
    }

    /// The sessions of the viewer's account, the one used last first.
    ///
    /// # Errors
    /// The store cannot say.
    pub async fn sessions(&self, viewer: &Viewer) -> Result<Vec<SessionReport>, StoreError> {
        let Some(account) = self.table.get(&viewer.name).await? else { return Ok(Vec::new()) };
        let mut sessions = self.sessions_of(&viewer.name).await?;
        sessions.retain(|(_, session)| session.era == account.era);
        Ok(sessions
            .into_iter()
            .map(|(id, session)| SessionReport {
                id,
                began_at: session.began_at,
                seen_at: session.seen_at,
                address: session.address,
            })
            .collect())
    }

    /// Ends one session of the viewer's account; one that is another's is left alone.
    ///
    /// # Errors
    /// The store failed: the session may go on. Repeat it.
    pub async fn end_session(&self, viewer: &Viewer, session: &str, from: IpAddr) -> Result<(), StoreError> {
        self.end_sessions(&viewer.name, |id| id.as_str() == session).await?;
        let entry = self.entry(viewer.actor(), AuditAction::UserSignOut, &viewer.name, from);
        self.audit.note(AuditEntry { what: Some("another session".to_owned()), ..entry });
        Ok(())
    }

    /// Begins a session; durable when it is returned. It is over at once when the account has changed its era meanwhile.
    pub(super) async fn begin_session(
        &self,
        account: &StoredAccount,
        from: IpAddr,
    ) -> Result<NewSession, StoreError> {
        let name = &account.account.name;
        let sessions = self.sessions_of(name).await?;
        for (id, _) in sessions.iter().skip(SESSIONS_PER_ACCOUNT_MAX - 1) {
            rows::delete(self.table.kv(), &key_of(id)).await?;
        }
        let now = self.clock.wall();
        let session = StoredSession {
            account: name.to_string(),
            era: account.era,
            began_at: now,
            seen_at: now,
            address: from,
        };
        let cookie_value = cookie::secret();
        let id = SessionId::of(&cookie_value);
        let lasts = self.times.absolute;
        rows::put_for(self.table.kv(), &key_of(&id), row::encode_session(&session), lasts).await?;
        Ok(NewSession { viewer: self.viewer(account, id), cookie_value, lasts })
    }

    /// The account that a session is of, unless it is over for it.
    async fn account_of(&self, session: &StoredSession) -> Result<Option<StoredAccount>, StoreError> {
        let Ok(name) = session.account.parse() else { return Ok(None) };
        let account = self.table.get(&name).await?;
        Ok(account.filter(|account| account.era == session.era && !account.account.is_disabled))
    }

    /// Those of one account that are not over, the one used last first.
    async fn sessions_of(&self, name: &AccountName) -> Result<Vec<(SessionId, StoredSession)>, StoreError> {
        let read = |rest: &str, value: &[u8]| Ok((SessionId::from_key(rest), row::decode_session(value)?));
        let mut sessions = rows::all_under(self.table.kv(), SESSIONS, read).await?;
        let now = self.clock.wall();
        sessions.retain(|(_, session)| {
            session.account == name.as_str() && session.left(now, self.times).is_some()
        });
        sessions.sort_by_key(|(_, session)| std::cmp::Reverse(session.seen_at));
        Ok(sessions)
    }

    pub(super) async fn end_sessions(
        &self,
        name: &AccountName,
        which: impl Fn(&SessionId) -> bool,
    ) -> Result<(), StoreError> {
        for (id, _) in self.sessions_of(name).await? {
            if which(&id) {
                rows::delete(self.table.kv(), &key_of(&id)).await?;
            }
        }
        Ok(())
    }

    fn viewer(&self, stored: &StoredAccount, id: SessionId) -> Viewer {
        let account = &stored.account;
        Viewer {
            name: account.name.clone(),
            grants: vec![Grant { role: account.role, sites: account.sites.clone() }],
            language: account.language,
            session: Some(id),
            must_change_password: account.must_change_password,
        }
    }

    /// Of something that was done with an account.
    pub(super) fn entry(
        &self,
        actor: String,
        action: AuditAction,
        name: &AccountName,
        from: IpAddr,
    ) -> AuditEntry {
        AuditEntry {
            object: Some(name.to_string()),
            address: Some(from),
            ..AuditEntry::new(self.clock.wall(), actor, action)
        }
    }
}

/// An era that no session is of.
pub(super) fn new_era() -> u64 {
    rand::random()
}

fn key_of(id: &SessionId) -> Key {
    Key::from(format!("{SESSIONS}{}", id.as_str()))
}
