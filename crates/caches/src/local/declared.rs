//! Which caches are declared, and which of them have a session.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use batoff_types::{HostPattern, InstanceId, SiteTable};
use batoff_wire::local::pb::{self, to_cache::Body};
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tonic::Status;

use super::config::{CHECK, LocalSection};
use super::figures;
use super::member::Member;
use super::session::Session;
use crate::{Locator, Surroundings};

/// The declared caches, and the sessions that there are.
pub struct Declared {
    pub instance: InstanceId,
    pub around: Arc<Surroundings>,
    pub objects_max: u64,
    all: Vec<Arc<Member>>,
    /// The session of `batoff-edge check local`: it holds nothing that is served, so nobody waits for it.
    check: Mutex<Option<Arc<Session>>>,
    /// In the upper half of each session's id, so that a session of an earlier process is not taken for one of ours.
    run: u32,
    next_number: AtomicU32,
}

/// Whose a session is.
#[derive(Clone)]
pub enum SessionOwner {
    Cache(Arc<Member>),
    Check,
}

impl SessionOwner {
    pub fn name(&self) -> &str {
        match self {
            Self::Cache(member) => &member.name,
            Self::Check => CHECK,
        }
    }

    pub fn lease(&self, around: &Surroundings) -> u64 {
        match self {
            Self::Cache(member) => member.lease(),
            Self::Check if around.fence.may_serve() => u64::MAX,
            Self::Check => 0,
        }
    }
}

impl Declared {
    pub fn new(
        instance: InstanceId,
        all: Vec<Arc<Member>>,
        section: &LocalSection,
        around: Arc<Surroundings>,
    ) -> Self {
        let run = rand::random_range(1..1 << 31);
        let (check, next_number) = (Mutex::new(None), AtomicU32::new(1));
        let objects_max = section.objects_max;
        Self { instance, around, objects_max, all, check, run, next_number }
    }

    /// Begins a session for a cache that has said who it is.
    pub fn begin(
        &self,
        hello: pb::Hello,
        outgoing: mpsc::Sender<Result<pb::ToCache, Status>>,
    ) -> Result<(SessionOwner, Arc<Session>), Status> {
        let owner = self.owner(&hello.cache)?;
        let number = self.next_number.fetch_add(1, Ordering::Relaxed);
        let id = u64::from(self.run) << 32 | u64::from(number);
        let software = hello.software.chars().take(128).collect();
        let session = Arc::new(Session::new(id, number, software, outgoing));
        // Before anybody else can say something on this stream; the first message of all finds room.
        let _ = session.tell(self.welcome(&owner, id));
        match &owner {
            SessionOwner::Cache(member) => member.begin_session(Arc::clone(&session)),
            SessionOwner::Check => {
                if let Some(before) = self.check.lock().replace(Arc::clone(&session)) {
                    before.over.cancel();
                }
            }
        }
        Ok((owner, session))
    }

    fn welcome(&self, owner: &SessionOwner, session: u64) -> Body {
        let (page, confirm_within) = match owner {
            SessionOwner::Cache(member) => (member.page().display().to_string(), member.confirm_within()),
            SessionOwner::Check => (String::new(), Duration::ZERO),
        };
        let owned_hostname = match owner {
            SessionOwner::Cache(_) => String::new(),
            SessionOwner::Check => owned_hostname(&self.around.index.sites()).unwrap_or_default(),
        };
        Body::Welcome(pb::Welcome {
            session,
            instance: self.instance.to_bytes().to_vec().into(),
            page,
            confirm_within_millis: u64::try_from(confirm_within.as_millis()).unwrap_or(u64::MAX),
            owned_hostname,
        })
    }

    /// A session has ended, whoever ended it: what it registered leaves the index.
    pub fn end(&self, owner: &SessionOwner, session: &Arc<Session>) {
        session.over.cancel();
        if let SessionOwner::Cache(member) = owner {
            member.end_session(session.id);
        }
        if session.objects.load(Ordering::Relaxed) > 0 {
            let (index, session) = (Arc::clone(&self.around.index), Arc::clone(session));
            tokio::task::spawn_blocking(move || {
                let ours = |locator: &Locator| matches!(locator, Locator::Local { cache, .. } if *cache == session.number);
                for object in index.iter().filter(|object| ours(&object.locator)) {
                    index.remove_if(&object.url, object.variant, |locator, _| ours(locator));
                }
            });
        }
    }

    /// The live session with this id.
    pub fn session(&self, id: u64) -> Result<(SessionOwner, Arc<Session>), Status> {
        let live = |session: &Option<Arc<Session>>| session.clone().filter(|session| session.id == id);
        let of_a_cache = self
            .all
            .iter()
            .find_map(|member| Some((SessionOwner::Cache(Arc::clone(member)), live(&member.session())?)));
        of_a_cache
            .or_else(|| Some((SessionOwner::Check, live(&self.check.lock())?)))
            .ok_or_else(|| Status::failed_precondition("this session has ended; connect anew with Watch"))
    }

    /// The caches and where they stand.
    pub fn status(&self) -> Vec<pb::CacheStatus> {
        let status = |member: &Arc<Member>| {
            let session = member.session();
            pb::CacheStatus {
                cache: member.name.clone(),
                mode: member.mode.as_str().to_owned(),
                presence: member.presence().into(),
                objects: session.as_ref().map_or(0, |session| session.objects.load(Ordering::Relaxed)),
                software: session.map(|session| session.software.clone()).unwrap_or_default(),
                page: member.page().display().to_string(),
            }
        };
        self.all.iter().map(status).collect()
    }

    /// Brings the gauges up to date.
    pub fn measure(&self) {
        for member in &self.all {
            let objects = member.session().map_or(0, |session| session.objects.load(Ordering::Relaxed));
            figures::objects(&member.name, objects);
        }
    }

    fn owner(&self, name: &str) -> Result<SessionOwner, Status> {
        if name == CHECK {
            return Ok(SessionOwner::Check);
        }
        let member = self.all.iter().find(|member| member.name == name);
        member.map(|member| SessionOwner::Cache(Arc::clone(member))).ok_or_else(|| {
            let declared: Vec<_> = self.all.iter().map(|member| member.name.as_str()).collect();
            Status::permission_denied(format!(
                "hello.cache: {name:?} is not declared under [caches.local.caches]; declared are: {}",
                declared.join(", ")
            ))
        })
    }
}

/// Some hostname that a site owns: nothing is stored under any other.
fn owned_hostname(sites: &SiteTable) -> Option<String> {
    let mut names = sites.iter().flat_map(|(_, names)| names);
    names.next().map(|name| match name {
        HostPattern::Exact(name) => name.to_string(),
        HostPattern::Under(parent) => format!("batoff-check.{parent}"),
    })
}
