//! The stream of sessions, one after the other for ever.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use batoff_types::FillToken;
use batoff_wire::local::OBJECTS_PER_MESSAGE_MAX;
use batoff_wire::local::pb::{self, from_cache, to_cache::Body};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use crate::client::Shared;
use crate::page::Page;
use crate::{Evicted, Objects};

/// The first wait before connecting again; it doubles up to [`AGAIN_MAX`].
const AGAIN_MIN: Duration = Duration::from_millis(50);

/// The longest wait before connecting again.
const AGAIN_MAX: Duration = Duration::from_secs(2);

/// For the daemon to answer a Hello.
const WELCOME_MAX: Duration = Duration::from_secs(5);

/// Messages on their way to the daemon: a resync is made no faster than the daemon takes it.
const CHANNEL_MESSAGES: usize = 16;

pub async fn run(shared: Arc<Shared>) {
    let mut again = AGAIN_MIN;
    let mut last_reason = String::new();
    loop {
        let mut in_sync = false;
        let ended = session(&shared, &mut in_sync).await;
        {
            let mut state = shared.state.lock();
            state.session = None;
            state.pending.values_mut().for_each(|void| *void = true);
        }
        if in_sync {
            again = AGAIN_MIN;
        }
        let reason = ended
            .err()
            .map_or_else(|| "the daemon closed it".to_owned(), |status| status.message().to_owned());
        if reason != last_reason {
            tracing::warn!(cache = %shared.config.cache, %reason, "no session with the daemon; trying on");
            last_reason = reason;
        }
        tokio::time::sleep(again).await;
        again = (again * 2).min(AGAIN_MAX);
    }
}

/// One session, to its end.
async fn session(shared: &Arc<Shared>, in_sync: &mut bool) -> Result<(), Status> {
    let (outgoing, sent) = mpsc::channel(CHANNEL_MESSAGES);
    let (cache, software) = (shared.config.cache.clone(), shared.config.software.clone());
    say(&outgoing, from_cache::Body::Hello(pb::Hello { cache, software })).await?;
    let opening = async {
        let mut incoming = shared.client().watch(ReceiverStream::new(sent)).await?.into_inner();
        let first = incoming.message().await?;
        Ok::<_, Status>((incoming, first))
    };
    let opened = tokio::time::timeout(WELCOME_MAX, opening).await;
    let (mut incoming, first) =
        opened.map_err(|_| Status::deadline_exceeded("the daemon does not answer"))??;
    let Some(pb::ToCache { body: Some(Body::Welcome(welcome)) }) = first else {
        return Err(Status::internal("the daemon's first message is not a Welcome"));
    };
    if !welcome.page.is_empty() {
        let page = Page::open(Path::new(&welcome.page));
        let page = page.map_err(|error| Status::unavailable(error.to_string()))?;
        shared.set_page(welcome.session, page);
    }
    let through = {
        let mut state = shared.state.lock();
        // Commits of the session before are void, whenever their answers come.
        state.pending.clear();
        state.session = Some(welcome.session);
        state.through
    };
    let naming = tokio::task::spawn_blocking({
        let (objects, outgoing) = (Arc::clone(&shared.objects), outgoing.clone());
        move || name_all(objects.as_ref(), through, &outgoing)
    });
    let ended = follow(shared, &mut incoming, &outgoing, welcome.session, in_sync).await;
    // Its channel has no other end any more, so it stops at the next message.
    drop(incoming);
    drop(outgoing);
    drop(naming);
    ended
}

/// Names everything that is held. Ends early when the stream does.
fn name_all(objects: &dyn Objects, through: Option<FillToken>, outgoing: &mpsc::Sender<pb::FromCache>) {
    let mut held = objects.held().map(|held| held.encode(through)).peekable();
    while held.peek().is_some() {
        let objects = held.by_ref().take(OBJECTS_PER_MESSAGE_MAX).collect();
        let message = pb::FromCache { body: Some(from_cache::Body::Held(pb::Held { objects })) };
        if outgoing.blocking_send(message).is_err() {
            return;
        }
    }
    // As above.
    let _ = outgoing.blocking_send(pb::FromCache { body: Some(from_cache::Body::HeldAll(pb::HeldAll {})) });
}

async fn follow(
    shared: &Arc<Shared>,
    incoming: &mut Streaming<pb::ToCache>,
    outgoing: &mpsc::Sender<pb::FromCache>,
    session: u64,
    in_sync: &mut bool,
) -> Result<(), Status> {
    while let Some(pb::ToCache { body }) = incoming.message().await? {
        match body {
            Some(Body::InSync(_)) => {
                *in_sync = true;
                shared.set_in_sync(session);
                tracing::info!(cache = %shared.config.cache, session, "in sync with the daemon");
            }
            Some(Body::Evict(pb::Evict { id, objects })) => {
                evict(shared, objects).await?;
                confirm(outgoing, id).await?;
            }
            Some(Body::Clear(pb::Clear { id })) => {
                clear(shared).await?;
                confirm(outgoing, id).await?;
            }
            Some(Body::Through(pb::Through { token })) => {
                shared.state.lock().through = token.map(FillToken::from);
            }
            Some(Body::Welcome(_)) => return Err(Status::internal("a second Welcome")),
            None => {
                return Err(Status::unimplemented(
                    "the daemon asks for something that this build does not know; update the cache",
                ));
            }
        }
    }
    Ok(())
}

async fn evict(shared: &Arc<Shared>, objects: Vec<pb::Evicted>) -> Result<(), Status> {
    {
        let mut state = shared.state.lock();
        for object in &objects {
            // Its commit is not answered yet: whatever the answer says, it is not kept. Also for a stale one: simpler, and
            // as right.
            if let Some(void) = state.pending.get_mut(&object.handle) {
                *void = true;
            }
        }
    }
    let cache = Arc::clone(&shared.objects);
    blocking(move || {
        for object in objects {
            let stale = object.effect() == pb::Effect::Stale;
            let object = Evicted { url: object.url, handle: object.handle };
            if stale { cache.turn_stale(&object) } else { cache.evict(&object) }
        }
    })
    .await
}

async fn clear(shared: &Arc<Shared>) -> Result<(), Status> {
    {
        let mut state = shared.state.lock();
        state.pending.values_mut().for_each(|void| *void = true);
        state.through = None;
    }
    let cache = Arc::clone(&shared.objects);
    blocking(move || cache.clear()).await
}

/// An eviction that did not happen must not be confirmed: a panic ends the session.
async fn blocking(work: impl FnOnce() + Send + 'static) -> Result<(), Status> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| Status::internal(format!("the cache failed: {error}")))
}

async fn confirm(outgoing: &mpsc::Sender<pb::FromCache>, id: u64) -> Result<(), Status> {
    say(outgoing, from_cache::Body::Confirm(pb::Confirm { id })).await
}

async fn say(outgoing: &mpsc::Sender<pb::FromCache>, body: from_cache::Body) -> Result<(), Status> {
    let message = pb::FromCache { body: Some(body) };
    outgoing.send(message).await.map_err(|_| Status::unavailable("the stream has ended"))
}
