//! The connection to the daemon as a cache uses it: a token before a fetch, a commit when it is stored, the right to serve
//! at each hit.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use batoff_types::FillToken;
use batoff_wire::local::pb::local_client::LocalClient;
use batoff_wire::local::pb::{self, Verdict, lookup_reply};
use batoff_wire::local::{MESSAGE_BYTES_MAX, OBJECTS_PER_MESSAGE_MAX};
use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

use crate::page::Page;
use crate::{Filled, Objects};

/// For the socket to be accepted.
const CONNECT_MAX: Duration = Duration::from_secs(2);

/// How a cache reaches its daemon.
#[derive(Clone, Debug)]
pub struct Config {
    /// The daemon's socket.
    pub socket: PathBuf,
    /// The name under which the daemon's configuration declares this cache.
    pub cache: String,
    /// What it is, for people.
    pub software: String,
}

impl Config {
    /// The cache of that name, at the default socket.
    pub fn new(cache: &str) -> Self {
        let software = concat!("batoff-edge-client ", env!("CARGO_PKG_VERSION")).to_owned();
        Self { socket: PathBuf::from("/run/batoff-edge/local.sock"), cache: cache.to_owned(), software }
    }
}

/// A cache's connection to its daemon: kept up for ever, whichever of the two is restarted. Clones are the same one; it
/// ends with the last of them.
#[derive(Clone)]
pub struct EdgeClient {
    shared: Arc<Shared>,
    _watching: Arc<Watching>,
}

/// What the calls and the stream have in common.
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) objects: Arc<dyn Objects>,
    pub(crate) state: Mutex<State>,
    /// The last Welcome's session, and the page that it named.
    page: RwLock<Option<(u64, Arc<Page>)>>,
    /// The last session that came in sync; 0 before the first.
    in_sync: watch::Sender<u64>,
    channel: Channel,
    /// When this process began, in nanoseconds: what is held from before has other handles.
    run: u64,
    next_handle: AtomicU64,
}

/// Under the one lock that the contract asks for.
#[derive(Default)]
pub(crate) struct State {
    /// The session that there is now.
    pub(crate) session: Option<u64>,
    /// Commits that are not answered, and whether they are void.
    pub(crate) pending: HashMap<Bytes, bool>,
    /// Everything purged before this is confirmed.
    pub(crate) through: Option<FillToken>,
}

struct Watching(tokio::task::JoinHandle<()>);

impl Drop for Watching {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What became of an object that was to be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Committed {
    /// It was kept.
    Fresh,
    /// It was kept, and is stale: a soft purge came while it was fetched.
    Stale,
    /// It was not kept: a purge came while it was fetched, or the session ended.
    Discarded,
}

/// What the daemon says to a hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Looked {
    /// It may be served.
    Fresh,
    /// It may be served only while it is revalidated.
    Stale,
    /// It must not be served: it was purged, it is not registered, or the node is fenced.
    No,
}

/// A call had no result.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// There is no session now: the daemon is away, or has just come. What was fetched is not to be stored.
    #[error("there is no session with the daemon now")]
    NoSession,
    /// The daemon refused or did not answer; the text says why.
    #[error("{}: {}", .0.code(), .0.message())]
    Status(Status),
}

impl EdgeClient {
    /// Connects, and keeps connected. Needs a tokio runtime; returns at once.
    ///
    /// # Errors
    /// When the socket's path is no text. Whether anybody listens there is found out later.
    pub fn start(config: Config, objects: Arc<impl Objects>) -> io::Result<Self> {
        let channel = lazily(&config.socket)?;
        let run = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64);
        let shared = Arc::new(Shared {
            config,
            objects,
            state: Mutex::default(),
            page: RwLock::new(None),
            in_sync: watch::Sender::new(0),
            channel,
            run,
            next_handle: AtomicU64::new(1),
        });
        let watching = tokio::spawn(crate::watch::run(Arc::clone(&shared)));
        Ok(Self { shared, _watching: Arc::new(Watching(watching)) })
    }

    /// Whether a cached object may be served now. **The last step of a hit**: no call, and reads the clock itself.
    pub fn may_serve(&self) -> bool {
        let been_in_sync = *self.shared.in_sync.borrow() > 0;
        let page = self.shared.page.read().clone();
        page.is_some_and(|(session, page)| page.may_serve(session, been_in_sync))
    }

    /// The token of a fill that begins now, from the page; to be asked for **before** the request goes to the origin.
    /// `None`: what is fetched must not be stored.
    pub fn fill_token(&self) -> Option<FillToken> {
        self.shared.state.lock().session?;
        self.shared.page.read().clone()?.1.fill_token()
    }

    /// The same by a call, for a process that cannot map the page.
    pub async fn begin_fill(&self) -> Result<FillToken, CallError> {
        let reply =
            self.shared.client().begin_fill(pb::BeginFillRequest {}).await.map_err(CallError::Status)?;
        let token = reply.into_inner().token;
        token
            .map(FillToken::from)
            .ok_or_else(|| CallError::Status(Status::internal("a reply without a token")))
    }

    /// A handle that no object of this cache has had: 16 bytes, in rising order as long as the time of day rises.
    pub fn new_handle(&self) -> Bytes {
        let number = self.shared.next_handle.fetch_add(1, Ordering::Relaxed);
        [self.shared.run.to_be_bytes(), number.to_be_bytes()].concat().into()
    }

    /// Registers an object. `keep` puts it where it is served from; it is called at once when the object may be kept, in
    /// the one place where no eviction can be missed, and must be short. Otherwise the object is to be dropped.
    ///
    /// When it takes another object's place, say [`EdgeClient::gone`] of that one afterwards.
    pub async fn commit(&self, object: Filled, keep: impl FnOnce(Committed)) -> Result<Committed, CallError> {
        let pending = Pending::begin(&self.shared, object.handle.clone())?;
        let request = pb::CommitRequest { session: pending.session, object: Some(object.encode()) };
        let reply = self.shared.client().commit(request).await.map_err(CallError::Status)?;
        let verdict = match reply.into_inner().verdict() {
            Verdict::Store => Committed::Fresh,
            Verdict::StoreStale => Committed::Stale,
            Verdict::Discard | Verdict::Unspecified => Committed::Discarded,
        };
        Ok(pending.end(verdict, keep))
    }

    /// These objects (URL and handle) have left the cache by themselves: expired, replaced, no room.
    pub async fn gone(&self, objects: Vec<(String, Bytes)>) -> Result<(), CallError> {
        let Some(session) = self.shared.state.lock().session else { return Ok(()) };
        for objects in objects.chunks(OBJECTS_PER_MESSAGE_MAX) {
            let objects =
                objects.iter().cloned().map(|(url, handle)| pb::GoneObject { url, handle }).collect();
            match self.shared.client().gone(pb::GoneRequest { session, objects }).await {
                Ok(_) => {}
                // The next one begins with what is held then.
                Err(status) if status.code() == Code::FailedPrecondition => return Ok(()),
                Err(status) => return Err(CallError::Status(status)),
            }
        }
        Ok(())
    }

    /// Asks at a hit, for a cache in mode "lookup".
    pub async fn lookup(&self, url: &str, handle: Bytes) -> Result<Looked, CallError> {
        let session = self.shared.state.lock().session.ok_or(CallError::NoSession)?;
        let request = pb::LookupRequest { session, url: url.to_owned(), handle };
        let reply = self.shared.client().lookup(request).await.map_err(CallError::Status)?.into_inner();
        // The last step: the clock is read here, whatever stood still in between.
        let leased = crate::page::nanos_since_boot() < reply.serve_until;
        Ok(match reply.state() {
            lookup_reply::State::Fresh if leased => Looked::Fresh,
            lookup_reply::State::Stale if leased => Looked::Stale,
            _ => Looked::No,
        })
    }

    /// Waits until there is a session in which everything held has met every purge.
    pub async fn in_sync(&self) {
        let mut in_sync = self.shared.in_sync.subscribe();
        // Ends with an error only when `self` is gone.
        let now = |id: &u64| *id > 0 && self.shared.state.lock().session == Some(*id);
        let _ = in_sync.wait_for(now).await;
    }
}

impl Shared {
    pub(crate) fn client(&self) -> LocalClient<Channel> {
        LocalClient::new(self.channel.clone())
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX)
    }

    pub(crate) fn set_page(&self, session: u64, page: Page) {
        *self.page.write() = Some((session, Arc::new(page)));
    }

    pub(crate) fn set_in_sync(&self, session: u64) {
        self.in_sync.send_replace(session);
    }
}

/// A commit that is not answered.
struct Pending<'a> {
    shared: &'a Shared,
    session: u64,
    handle: Bytes,
}

impl<'a> Pending<'a> {
    fn begin(shared: &'a Shared, handle: Bytes) -> Result<Self, CallError> {
        let mut state = shared.state.lock();
        let session = state.session.ok_or(CallError::NoSession)?;
        state.pending.insert(handle.clone(), false);
        Ok(Self { shared, session, handle })
    }

    /// Keeps the object, unless it was evicted before the answer came.
    fn end(self, verdict: Committed, keep: impl FnOnce(Committed)) -> Committed {
        let mut state = self.shared.state.lock();
        let void = state.pending.remove(&self.handle).unwrap_or(true) || state.session != Some(self.session);
        if void || verdict == Committed::Discarded {
            return Committed::Discarded;
        }
        // Under the lock: an eviction either has come before this, or finds the object.
        keep(verdict);
        drop(state);
        verdict
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        self.shared.state.lock().pending.remove(&self.handle);
    }
}

/// Connects when it is used, and again whenever it has to.
fn lazily(socket: &Path) -> io::Result<Channel> {
    let invalid = || io::Error::new(io::ErrorKind::InvalidInput, format!("{} is no text", socket.display()));
    let path = socket.to_str().ok_or_else(invalid)?;
    let endpoint = Endpoint::from_shared(format!("unix:{path}")).map_err(|_| invalid())?;
    Ok(endpoint.connect_timeout(CONNECT_MAX).connect_lazy())
}
