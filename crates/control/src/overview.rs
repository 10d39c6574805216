//! Is all well, and if not, what needs attention? One answer for all who ask within a second.

use std::sync::Arc;
use std::time::Duration;

use batoff_log::{Health, Store, StoreError};
use batoff_types::{Moment, SiteId, UnixMillis};
use parking_lot::Mutex;

use crate::clock::Clock;
use crate::tls::OwnCertificates;
use crate::tracker::{Concern, ConcernKind, FleetState, SlaView, Tracker, most_urgent};

/// How long an answer is good for.
const FRESH_FOR: Duration = Duration::from_secs(1);

/// The window that propagation is told over.
const WINDOW: Duration = Duration::from_secs(3_600);

/// The store is nearly full when less than this part of its file system is free …
const FREE_PART: u64 = 10;

/// … and less than this, in bytes: a tenth of a very large disk is plenty.
const FREE_BYTES: u64 = 8 << 30;

/// How long a refused purge of a site is told of.
const OVER_QUOTA_FOR: Duration = Duration::from_secs(300);

/// Sites whose refusals are remembered; of more the newest.
const OVER_QUOTA_MAX: usize = 256;

/// How everything is.
#[derive(Clone, Debug)]
pub struct Overview {
    /// When it was looked at.
    pub at: UnixMillis,
    /// The nodes, and what needs attention.
    pub fleet: FleetState,
    /// Propagation of the last hour, widened to whole slots of five minutes.
    pub hour: SlaView,
}

/// Who looks at everything, at most once a second however many ask.
pub struct Overviews {
    clock: Clock,
    store: Arc<dyn Store>,
    tracker: Arc<Tracker>,
    certificates: Arc<OwnCertificates>,
    data_dir: Option<std::path::PathBuf>,
    over_quota: Mutex<Vec<RefusedSite>>,
    latest: tokio::sync::Mutex<Option<(Moment, Arc<Overview>)>>,
}

/// A site whose quota did not suffice.
#[derive(Clone, Debug)]
struct RefusedSite {
    site: SiteId,
    /// The first of the refusals that followed each other closely.
    since: UnixMillis,
    last: Moment,
    detail: String,
}

impl Overviews {
    /// Nothing is looked at yet. `data_dir` is where the store is; `None` when it has no disk here.
    pub fn new(
        clock: Clock,
        store: Arc<dyn Store>,
        tracker: Arc<Tracker>,
        certificates: Arc<OwnCertificates>,
        data_dir: Option<std::path::PathBuf>,
    ) -> Self {
        let (over_quota, latest) = (Mutex::default(), tokio::sync::Mutex::default());
        Self { clock, store, tracker, certificates, data_dir, over_quota, latest }
    }

    /// How everything is, or was within the last second.
    pub async fn now(&self) -> Result<Arc<Overview>, StoreError> {
        let mut latest = self.latest.lock().await;
        let now = self.clock.now();
        if let Some((at, overview)) = &*latest
            && now.since(*at) < FRESH_FOR
        {
            return Ok(Arc::clone(overview));
        }
        let overview = Arc::new(self.look(now).await?);
        *latest = Some((now, Arc::clone(&overview)));
        Ok(overview)
    }

    /// A site was refused a purge because of its quota.
    pub fn handle_over_quota(&self, site: &SiteId, detail: &str) {
        let (now, wall) = (self.clock.now(), self.clock.wall());
        let mut refused = self.over_quota.lock();
        refused.retain(|known| now.since(known.last) < OVER_QUOTA_FOR);
        if let Some(known) = refused.iter_mut().find(|known| known.site == *site) {
            known.last = now;
            detail.clone_into(&mut known.detail);
            return;
        }
        if refused.len() == OVER_QUOTA_MAX {
            refused.remove(0);
        }
        refused.push(RefusedSite { site: site.clone(), since: wall, last: now, detail: detail.to_owned() });
    }

    async fn look(&self, now: Moment) -> Result<Overview, StoreError> {
        let hour = self.tracker.sla(None, WINDOW).await?;
        let at = self.clock.wall();
        let mut fleet = self.tracker.fleet();
        let mut concerns = std::mem::take(&mut fleet.concerns);
        concerns.extend(self.store_concerns().await);
        let ends = self.certificates.ends();
        concerns.extend(ends.iter().filter_map(|(name, end)| Concern::of_certificate(at, name, *end)));
        concerns.extend(self.quota_concerns(now));
        let (concerns, more) = most_urgent(concerns);
        fleet.concerns = concerns;
        fleet.concerns_more += more;
        Ok(Overview { at, fleet, hour })
    }

    async fn store_concerns(&self) -> Vec<Concern> {
        let mut concerns = Vec::new();
        match &*self.store.health().borrow() {
            Health::Ok => {}
            Health::Degraded { reason, .. } | Health::Stopped { reason } | Health::Down { reason } => {
                concerns.push(self.of_store(format!("the purge log takes no writes: {reason}")));
            }
        }
        let Some(dir) = self.data_dir.clone() else { return concerns };
        // A disk that hangs must hang nobody else.
        let asked = tokio::task::spawn_blocking(move || rustix::fs::statvfs(&dir));
        if let Ok(Ok(found)) = asked.await
            && let Some(detail) = nearly_full(found.f_blocks, found.f_bavail, found.f_frsize)
        {
            concerns.push(self.of_store(detail));
        }
        concerns
    }

    fn of_store(&self, detail: String) -> Concern {
        Concern {
            kind: ConcernKind::Store,
            subject: self.data_dir.as_ref().map_or("etcd".into(), |dir| dir.display().to_string().into()),
            cause: None,
            detail,
            since: None,
            until: None,
        }
    }

    fn quota_concerns(&self, now: Moment) -> Vec<Concern> {
        let mut refused = self.over_quota.lock();
        refused.retain(|known| now.since(known.last) < OVER_QUOTA_FOR);
        let concern = |known: &RefusedSite| Concern {
            kind: ConcernKind::OverQuota,
            subject: known.site.as_str().into(),
            cause: None,
            detail: known.detail.clone(),
            since: Some(known.since),
            until: None,
        };
        refused.iter().map(concern).collect()
    }
}

/// What is to be said of a file system of so many blocks, of which so many are free to us.
fn nearly_full(blocks: u64, free: u64, block_bytes: u64) -> Option<String> {
    let free_bytes = free.saturating_mul(block_bytes);
    if blocks == 0 || free >= blocks / FREE_PART || free_bytes >= FREE_BYTES {
        return None;
    }
    let percent = free.saturating_mul(100).checked_div(blocks).unwrap_or_default();
    Some(format!("nearly full: {} MiB are free ({percent} %)", free_bytes >> 20))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_nearly_full_when_little_is_left_in_parts_and_in_bytes() {
        let (block, gib) = (4_096, (1 << 30) / 4_096);
        assert_eq!(nearly_full(100 * gib, 10 * gib, block), None);
        assert_eq!(nearly_full(1_000 * gib, 9 * gib, block), None, "nine GiB are plenty");
        assert_eq!(nearly_full(100 * gib, gib, block).unwrap(), "nearly full: 1024 MiB are free (1 %)");
        assert_eq!(nearly_full(0, 0, block), None, "a file system without blocks says nothing");
    }
}
