//! The stream of one session.

use std::sync::Arc;
use std::time::Duration;

use batoff_types::FillToken;
use batoff_wire::local::OBJECTS_PER_MESSAGE_MAX;
use batoff_wire::local::pb::{self, Verdict, from_cache, to_cache::Body};
use tokio::sync::mpsc;
use tonic::{Code, Status, Streaming};

use super::declared::{Declared, SessionOwner};
use super::session::{CHANNEL_MESSAGES, NotConfirmed, Session};

/// From the opening of the stream to its Hello.
const HELLO_WITHIN: Duration = Duration::from_secs(5);

type ToCache = Result<pb::ToCache, Status>;

/// Serves one stream to its end, beside the caller; what goes out on it.
pub fn start(members: Arc<Declared>, incoming: Streaming<pb::FromCache>) -> mpsc::Receiver<ToCache> {
    let (outgoing, sent) = mpsc::channel(CHANNEL_MESSAGES);
    tokio::spawn(async move {
        if let Err(status) = run(&members, incoming, outgoing.clone()).await {
            // Nobody listens any more when the cache is gone.
            let _ = tokio::time::timeout(HELLO_WITHIN, outgoing.send(Err(status))).await;
        }
    });
    sent
}

async fn run(
    members: &Arc<Declared>,
    mut incoming: Streaming<pb::FromCache>,
    outgoing: mpsc::Sender<ToCache>,
) -> Result<(), Status> {
    let first = tokio::time::timeout(HELLO_WITHIN, incoming.message()).await;
    let first = first.map_err(|_| Status::deadline_exceeded("no Hello within 5 s"))??;
    let Some(pb::FromCache { body: Some(from_cache::Body::Hello(hello)) }) = first else {
        return Err(Status::invalid_argument("the first message must be a Hello"));
    };
    let (owner, session) = members.begin(hello, outgoing)?;
    tracing::info!(cache = owner.name(), session = session.id, software = %session.software, "a cache begins a session");
    let ended = WatchStream::new(members, &owner, &session).follow(incoming).await;
    let why = ended.as_ref().err().map_or("the cache closed it", |status| status.message());
    tracing::info!(cache = owner.name(), session = session.id, why, "a session has ended");
    members.end(&owner, &session);
    ended
}

struct WatchStream<'a> {
    members: &'a Declared,
    owner: &'a SessionOwner,
    session: &'a Session,
    /// What has been purged before this has been met by everything that the cache holds, once it is in sync.
    began_at: FillToken,
    held_all: bool,
    in_sync: bool,
}

impl<'a> WatchStream<'a> {
    fn new(members: &'a Declared, owner: &'a SessionOwner, session: &'a Session) -> Self {
        let began_at = members.around.index.begin_fill();
        Self { members, owner, session, began_at, held_all: false, in_sync: false }
    }

    /// Takes what the cache says, until one side ends it.
    async fn follow(&mut self, mut incoming: Streaming<pb::FromCache>) -> Result<(), Status> {
        loop {
            let message = tokio::select! {
                () = self.members.around.stop.cancelled() => {
                    return Err(Status::unavailable("the daemon is stopping; connect again"));
                }
                () = self.session.over.cancelled() => {
                    return Err(Status::aborted(
                        "another process took this cache's name, this one did not confirm in time, or everything was \
                         cleared",
                    ));
                }
                message = incoming.message() => message?,
            };
            let Some(pb::FromCache { body }) = message else { return Ok(()) };
            match body {
                Some(from_cache::Body::Held(held)) => self.handle_held(&held.objects).await?,
                Some(from_cache::Body::HeldAll(_)) => self.held_all = true,
                Some(from_cache::Body::Confirm(confirm)) => self.session.confirm(confirm.id)?,
                Some(from_cache::Body::Hello(_)) => {
                    return Err(Status::invalid_argument("a second Hello on one stream"));
                }
                None => return Err(Status::invalid_argument("body: missing, or of an unknown kind")),
            }
            self.come_in_sync()?;
        }
    }

    /// Lets objects from before meet the rules; those that were hit are to be evicted.
    async fn handle_held(&self, objects: &[pb::Object]) -> Result<(), Status> {
        if self.held_all {
            return Err(Status::invalid_argument("held: after HeldAll"));
        }
        if objects.len() > OBJECTS_PER_MESSAGE_MAX {
            let message = format!("held.objects: at most {OBJECTS_PER_MESSAGE_MAX}, not {}", objects.len());
            return Err(Status::invalid_argument(message));
        }
        let mut hit = Vec::new();
        for (at, object) in objects.iter().enumerate() {
            let registered = match self.members.register(self.session, object) {
                Ok(registered) => registered,
                // Committed in this session while the cache was listing.
                Err(status) if status.code() == Code::AlreadyExists => continue,
                Err(status) => {
                    let message = format!("held.objects[{at}].{}", status.message());
                    return Err(Status::new(status.code(), message));
                }
            };
            let effect = match registered.verdict {
                Verdict::Store => continue,
                Verdict::StoreStale => pb::Effect::Stale,
                Verdict::Discard | Verdict::Unspecified => pb::Effect::Gone,
            };
            let (url, handle) = (object.url.clone(), object.handle.clone());
            hit.push(pb::Evicted { url, handle, effect: effect.into() });
        }
        if hit.is_empty() {
            return Ok(());
        }
        let evict = |id| Body::Evict(pb::Evict { id, objects: hit });
        match self.session.ask(HELLO_WITHIN, evict).await {
            Ok(_) => Ok(()),
            Err(NotConfirmed::Over) => Err(Status::aborted("the session has ended")),
            Err(NotConfirmed::Late) => Err(does_not_read()),
        }
    }

    /// As soon as everything held is named, and what had to go is gone.
    fn come_in_sync(&mut self) -> Result<(), Status> {
        if self.in_sync || !self.held_all || !self.session.is_idle() {
            return Ok(());
        }
        self.in_sync = match self.owner {
            SessionOwner::Cache(member) => member.in_sync(self.session.id),
            SessionOwner::Check => true,
        };
        if self.in_sync {
            tracing::info!(cache = self.owner.name(), session = self.session.id, "in sync");
            let through = Body::Through(pb::Through { token: Some(self.began_at.into()) });
            if !self.session.tell(Body::InSync(pb::InSync {})) || !self.session.tell(through) {
                return Err(does_not_read());
            }
        }
        Ok(())
    }
}

fn does_not_read() -> Status {
    Status::aborted("the cache does not read what it is sent; it has to read while it writes")
}
