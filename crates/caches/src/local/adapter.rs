//! A cache of the local API as the daemon drives it: tells the session what was hit, and waits for what the mode asks for.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use batoff_edge::cache::{Cache, CacheTrouble, Needs, Proof};
use batoff_index::{Effect, Match};
use batoff_types::{Cursor, Moment, Record, Seq};
use batoff_wire::local::OBJECTS_PER_MESSAGE_MAX;
use batoff_wire::local::pb::{self, to_cache::Body};

use super::config::Mode;
use super::member::Member;
use super::session::{NotConfirmed, Session};
use crate::Locator;

/// A cache of the local API, as the daemon drives it.
pub struct Adapter {
    /// `local/` and the name that the cache is declared under.
    name: String,
    member: Arc<Member>,
}

impl Adapter {
    pub fn new(member: Arc<Member>) -> Self {
        Self { name: format!("local/{}", member.name), member }
    }

    /// What follows from an answer that did not come.
    fn not_confirmed(&self, session: &Session, why: NotConfirmed) -> Result<(), CacheTrouble> {
        match (why, self.member.mode) {
            // What it held meets the rules when it comes back; `finish` waits for that.
            (NotConfirmed::Over, _) => Ok(()),
            (NotConfirmed::Late, Mode::Page) => {
                self.member.fence("it did not confirm within caches.local.confirm_within_ms");
                Ok(())
            }
            (NotConfirmed::Late, Mode::Lookup) => {
                // It serves nothing that was purged; but what it was told cannot be taken for done.
                self.member.end_session(session.id);
                Ok(())
            }
            (NotConfirmed::Late, Mode::Evict) => {
                Err(self.member.trouble("it does not confirm; is its process alive?"))
            }
        }
    }
}

#[async_trait]
impl Cache<Locator> for Adapter {
    fn name(&self) -> &str {
        &self.name
    }

    fn needs(&self) -> Needs {
        Needs::Objects
    }

    fn proof(&self) -> Proof {
        match self.member.mode {
            Mode::Page | Mode::Evict => Proof::Eviction,
            Mode::Lookup => Proof::Rule,
        }
    }

    /// Fills that begin from now on are newer than the purges.
    async fn begin(&self, _: &[Arc<Record>]) -> Result<(), CacheTrouble> {
        self.member.refresh();
        Ok(())
    }

    async fn evict(&self, objects: &[Match<Locator>]) -> Result<(), CacheTrouble> {
        let Some(session) = self.member.session() else { return Ok(()) };
        let ours: Vec<pb::Evicted> = objects.iter().filter_map(|object| evicted(&session, object)).collect();
        let gone = ours.iter().filter(|object| object.effect == pb::Effect::Gone as i32).count();
        match evict(&session, self.member.confirm_within(), ours).await {
            Ok(()) => {
                session.count_out(gone as u64);
                Ok(())
            }
            Err(why) => self.not_confirmed(&session, why),
        }
    }

    async fn finish(&self) -> Result<(), CacheTrouble> {
        self.member.settled().await
    }

    async fn flush(&self) -> Result<(), CacheTrouble> {
        if let Some(session) = self.member.session() {
            let within = self.member.confirm_within();
            let asked = session.ask(within, |id| Body::Clear(pb::Clear { id })).await;
            let cleared = match asked {
                Ok(id) => session.confirmed(id, within).await,
                Err(why) => Err(why),
            };
            match cleared {
                // What the index knows of it is void; it begins anew, with what it has stored since.
                Ok(()) => self.member.end_session(session.id),
                Err(why) => self.not_confirmed(&session, why)?,
            }
        }
        self.member.settled().await
    }

    fn let_go(&self, through: Seq) {
        self.member.tell_through(Cursor::after(through));
    }

    fn serve_until(&self, _: Moment) {
        self.member.refresh();
    }
}

/// Has objects evicted and waits until it is done.
async fn evict(session: &Session, within: Duration, objects: Vec<pb::Evicted>) -> Result<(), NotConfirmed> {
    let mut last = None;
    for objects in objects.chunks(OBJECTS_PER_MESSAGE_MAX) {
        let objects = objects.to_vec();
        last = Some(session.ask(within, |id| Body::Evict(pb::Evict { id, objects })).await?);
    }
    match last {
        Some(id) => session.confirmed(id, within).await,
        None => Ok(()),
    }
}

/// The object as the cache is told of it; `None` when it is another cache's, or of a session that is over.
fn evicted(session: &Session, object: &Match<Locator>) -> Option<pb::Evicted> {
    let Locator::Local { cache, handle } = &object.locator else { return None };
    let effect = match object.effect {
        Effect::Evicted => pb::Effect::Gone,
        Effect::Stale => pb::Effect::Stale,
    };
    (*cache == session.number).then(|| pb::Evicted {
        url: object.url.as_str().to_owned(),
        handle: handle.to_vec().into(),
        effect: effect.into(),
    })
}
