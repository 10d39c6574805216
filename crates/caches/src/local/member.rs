//! What one declared cache is owed: whether it has a session, whether that is in sync with the index, and whether it may be
//! serving without one. Decides what a purge waits for.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use batoff_edge::cache::CacheTrouble;
use batoff_types::{Cursor, FillToken};
use batoff_wire::local::page::NO_LIMIT;
use batoff_wire::local::pb::{self, cache_status::Presence, to_cache::Body};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::config::{LocalSection, Mode};
use super::figures;
use super::page::PageFile;
use super::session::Session;
use crate::Surroundings;

/// One declared cache: what is known of it, and its page, which says the same to it.
///
/// ```text
///               Hello                  everything held has met the rules
///   no session ───────▶ resyncing ─────────────────────────────────────▶ in sync
///       ▲                   │ stream ends                                   │ stream ends, or it does
///       └───────────────────┴───────────────────────────────────────────────┘ not confirm in time
/// ```
/// A cache that is not in sync is either *fenced* (its page says so) or *awaited* (it may be serving). A purge waits for
/// the latter only.
pub struct Member {
    /// As it is declared.
    pub name: String,
    /// What makes a purged object unservable in it.
    pub mode: Mode,
    confirm_within: Duration,
    resync_within: Duration,
    around: Arc<Surroundings>,
    state: Mutex<State>,
    changed: Notify,
}

struct State {
    page: PageFile,
    /// Why the page could not be written the last time; what it says is not known then.
    page_trouble: Option<String>,
    session: Option<Arc<Session>>,
    in_sync: bool,
    /// Whether it may be serving although it is not in sync.
    serves_on: bool,
    /// When the first purge began to wait for it since it was last in sync.
    awaited_since: Option<Instant>,
}

impl Member {
    pub fn new(
        name: &str,
        mode: Mode,
        section: &LocalSection,
        page: PageFile,
        around: Arc<Surroundings>,
    ) -> Self {
        figures::declare(name);
        let state = State {
            page,
            page_trouble: None,
            session: None,
            in_sync: false,
            serves_on: false,
            awaited_since: None,
        };
        let (confirm_within, resync_within) = (section.confirm_within(), section.resync_within());
        let (name, changed) = (name.to_owned(), Notify::new());
        let member =
            Self { name, mode, confirm_within, resync_within, around, state: Mutex::new(state), changed };
        {
            // The process that ran before this one may have had it in sync.
            let mut state = member.state.lock();
            state.serves_on = member.is_available();
            member.show(&mut state);
        }
        member
    }

    /// How long it has to confirm.
    pub const fn confirm_within(&self) -> Duration {
        self.confirm_within
    }

    /// Where its page is.
    pub fn page(&self) -> PathBuf {
        self.state.lock().page.path().to_owned()
    }

    /// Its session, if it has one.
    pub fn session(&self) -> Option<Arc<Session>> {
        self.state.lock().session.clone()
    }

    /// What is known of it.
    pub fn presence(&self) -> Presence {
        let state = self.state.lock();
        match (&state.session, state.in_sync) {
            (Some(_), true) => Presence::InSync,
            (Some(_), false) => Presence::Resyncing,
            (None, _) if self.is_awaited(&state) => Presence::Awaited,
            (None, _) => Presence::Fenced,
        }
    }

    /// Brings the page up to date.
    pub fn refresh(&self) {
        self.show(&mut self.state.lock());
    }

    /// A session begins, in place of any that there is.
    pub fn begin_session(&self, session: Arc<Session>) {
        let mut state = self.state.lock();
        self.leave(&mut state);
        state.session = Some(session);
        self.show(&mut state);
        drop(state);
        self.changed.notify_waiters();
    }

    /// Everything that the cache holds has met every rule. False when the session has been replaced meanwhile.
    pub fn in_sync(&self, id: u64) -> bool {
        let mut state = self.state.lock();
        if state.session.as_ref().is_none_or(|session| session.id != id) {
            return false;
        }
        state.in_sync = true;
        state.awaited_since = None;
        self.show(&mut state);
        drop(state);
        figures::in_sync(&self.name, true);
        self.changed.notify_waiters();
        true
    }

    /// The session has ended by itself.
    pub fn end_session(&self, id: u64) {
        let mut state = self.state.lock();
        if state.session.as_ref().is_some_and(|session| session.id == id) {
            self.leave(&mut state);
            self.show(&mut state);
            drop(state);
            self.changed.notify_waiters();
        }
    }

    /// Ends the session and fences the cache through its page, because it did not do what it was asked in time.
    pub fn fence(&self, why: &str) {
        let mut state = self.state.lock();
        self.leave(&mut state);
        state.serves_on = false;
        self.show(&mut state);
        drop(state);
        tracing::warn!(cache = %self.name, why, "fenced through its page");
        figures::fenced(&self.name);
        self.changed.notify_waiters();
    }

    /// Waits until the cache either has met every rule that is in force, or is fenced.
    pub async fn settled(&self) -> Result<(), CacheTrouble> {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            let until = {
                let mut state = self.state.lock();
                self.show(&mut state);
                if state.in_sync || self.mode == Mode::Lookup {
                    return Ok(());
                }
                if !state.serves_on && self.mode == Mode::Page {
                    // What an operator can mend.
                    return match &state.page_trouble {
                        Some(error) => Err(self.trouble(&format!("its page cannot be written: {error}"))),
                        None => Ok(()),
                    };
                }
                *state.awaited_since.get_or_insert_with(Instant::now) + self.resync_within
            };
            tokio::select! {
                () = &mut changed => {}
                () = tokio::time::sleep_until(until) => match self.mode {
                    Mode::Evict => {
                        return Err(self.trouble("it has no session that is in sync, and reads no page that could fence it"));
                    }
                    Mode::Page | Mode::Lookup => self.fence_if_awaited(),
                },
            }
        }
    }

    /// Everything that was purged before this token is confirmed by it.
    pub fn tell_through(&self, through: Cursor) {
        let index = &self.around.index;
        let token = FillToken { generation: index.generation(), applied: through };
        let state = self.state.lock();
        if let (Some(session), true) = (&state.session, state.in_sync && through <= index.applied()) {
            // One that was missed is covered by the next.
            let _ = session.tell(Body::Through(pb::Through { token: Some(token.into()) }));
        }
    }

    /// The end of the right to serve, in nanoseconds of `CLOCK_BOOTTIME`, as far as the node's lease goes.
    pub fn lease(&self) -> u64 {
        if self.is_available() {
            NO_LIMIT
        } else {
            self.around.fence.until().as_micros().saturating_mul(1_000)
        }
    }

    pub fn trouble(&self, what: &str) -> CacheTrouble {
        CacheTrouble(format!("{}: {what}", self.name))
    }

    fn fence_if_awaited(&self) {
        let awaited = {
            let state = self.state.lock();
            !state.in_sync && state.serves_on
        };
        if awaited {
            self.fence("it has not come in sync within caches.local.resync_within_ms while a purge waited");
        }
    }

    /// Without its session.
    fn leave(&self, state: &mut State) {
        if let Some(session) = state.session.take() {
            session.over.cancel();
        }
        if std::mem::take(&mut state.in_sync) {
            state.serves_on = self.is_available();
            state.awaited_since = None;
        }
        figures::in_sync(&self.name, false);
    }

    fn is_awaited(&self, state: &State) -> bool {
        match self.mode {
            Mode::Page => state.serves_on,
            Mode::Evict => true,
            Mode::Lookup => false,
        }
    }

    /// Whether the node serves without a lease, and the control plane knows.
    fn is_available(&self) -> bool {
        self.around.fence.serves_without_lease()
    }

    fn show(&self, state: &mut State) {
        let (session, until) = match &state.session {
            Some(session) if state.in_sync => (session.id, self.lease()),
            _ if state.serves_on => (0, NO_LIMIT),
            _ => (0, 0),
        };
        let Surroundings { index, path, .. } = &*self.around;
        let (token, floor) = (path.token(index.begin_fill()), index.forgotten_through());
        let shown = state.page.show(token, floor, session, until);
        let trouble = shown.err().map(|error| error.to_string());
        if let Some(error) = &trouble
            && state.page_trouble.is_none()
        {
            tracing::error!(cache = %self.name, page = %state.page.path().display(), %error, "the page cannot be written");
        }
        state.page_trouble = trouble;
    }
}
