//! Caches that register what they store with this daemon: the local API (`proto/batoff/edge/v1/local.proto`).
//!
//! ```text
//!  cache process            daemon
//!  hit:  page ◀───────────── PageFile ◀── fence, index          no call
//!  fill: page, Commit ─────▶ Service ───▶ index.insert          one call an object
//!        Watch ◀──── Evict ─ Session ◀─── Adapter ◀── lane      confirmed before the ack
//! ```
//!
//! What each cache is owed stands in one place, `Member`: whether it has a session, whether that is in sync with the
//! index, and whether it may be serving without one. The page says the same to the cache.

use std::sync::Arc;
use std::time::Duration;

use batoff_edge::cache::Cache;
use batoff_edge::config::ConfigError;
use batoff_edge::{PathChanges, boottime};
use batoff_program::doctor::Diagnosis;
use batoff_program::doctor::folder::FolderUse;
use batoff_types::InstanceId;
use tokio_util::sync::CancellationToken;
use ulid::Ulid;

use self::adapter::Adapter;
use self::declared::Declared;
use self::member::Member;
use self::page::PageFile;
use crate::section::{Beside, Section};
use crate::shared::report::{CheckError, Report};
use crate::{CacheOpenError, Locator, Surroundings};

mod adapter;
mod check;
mod config;
mod declared;
mod figures;
mod glance;
mod member;
mod object;
mod page;
mod service;
mod session;
mod socket;
mod watch;

#[cfg(test)]
mod tests;

pub use self::check::CheckArgs;
pub use self::config::{LocalSection, Mode};
pub(crate) use self::service::CONNECTIONS_MAX;

impl Section for LocalSection {
    type Look = CheckArgs;
    const IS_REGISTRY: bool = true;

    fn validate(&self, beside: &Beside) -> Result<(), ConfigError> {
        Self::validate(self, beside.policy)
    }

    async fn open(&self, around: Surroundings) -> Result<Vec<Box<dyn Cache<Locator>>>, CacheOpenError> {
        open(self, around).await
    }

    async fn examine(&self, _: &Beside<'_>, running: &FolderUse, report: &mut Diagnosis) {
        glance::examine(self, running, report).await;
    }

    async fn check(&self, with: &CheckArgs, beside: &Beside<'_>) -> Result<Report, CheckError> {
        check::check(with, self, beside.has_parents).await
    }
}

/// Between two refreshes of the pages when nothing happens: a lease that nobody announces ends there this much late at
/// most, and it is never shown longer than it is.
const REFRESH_EVERY: Duration = Duration::from_millis(100);

/// Makes the pages, fences whoever was served before, and opens the socket.
pub async fn open(
    section: &LocalSection,
    around: Surroundings,
) -> Result<Vec<Box<dyn Cache<Locator>>>, CacheOpenError> {
    let group = section.group.as_deref().map(socket::group_id).transpose()?;
    let instance = InstanceId::from_ulid(Ulid::from_parts(boottime().as_micros(), rand::random()));
    let stop = around.stop.clone();
    let path = around.path.changes();
    let around = Arc::new(around);
    let mut all = Vec::new();
    for (name, mode) in &section.caches {
        let page = PageFile::open(&section.pages, name, instance, group)?;
        all.push(Arc::new(Member::new(name, *mode, section, page, Arc::clone(&around))));
    }
    let members = Arc::new(Declared::new(instance, all.clone(), section, around));
    let listener = socket::listen(&section.socket, group).await?;
    tokio::spawn(service::serve(listener, Arc::clone(&members), stop.clone()));
    tokio::spawn(refresh(all.clone(), members, path, stop));
    Ok(all.into_iter().map(|member| Box::new(Adapter::new(member)) as Box<dyn Cache<Locator>>).collect())
}

async fn refresh(
    all: Vec<Arc<Member>>,
    members: Arc<Declared>,
    mut path: PathChanges,
    stop: CancellationToken,
) {
    let mut ticks = tokio::time::interval(REFRESH_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => members.measure(),
            () = path.changed() => {}
        }
        all.iter().for_each(|member| member.refresh());
    }
}
