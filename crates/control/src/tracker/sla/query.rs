//! How fast purges were, over a window of time.

use std::collections::BTreeMap;
use std::time::Duration;

use batoff_log::StoreError;
use batoff_types::{SiteId, UnixMillis};

use super::ledger;
use super::slot::TimeSlot;
use super::view::{Breach, SLA_BREACHES_MAX, SlaView};
use crate::clock::millis;
use crate::tracker::Tracker;

impl Tracker {
    /// Propagation of the site's purges (of all sites' for `None`) accepted within the last `window`, which is widened to
    /// whole slots of [`SLA_SLOT`](super::ledger::SLA_SLOT).
    pub async fn sla(&self, site: Option<&SiteId>, window: Duration) -> Result<SlaView, StoreError> {
        let since = UnixMillis(self.clock.wall().0.saturating_sub(millis(window)));
        let slots = self.sla_slots(site, ledger::number(since)).await?;
        let overdue = self.state.lock().overdue_at(site, since).len() as u64;
        let (mut sum, mut breaches) = view(&slots, overdue, SLA_BREACHES_MAX);
        if !self.is_alone() {
            // Together they count what is completed. What is open and late is known to each.
            sum.purges += overdue;
            breaches.splice(0..0, self.state.lock().open_breaches(site, since));
            breaches.truncate(SLA_BREACHES_MAX);
        }
        Ok(SlaView { breaches, ..sum })
    }

    /// The slots from `first` on, those that are not on the disk yet among them.
    pub(super) async fn sla_slots(
        &self,
        site: Option<&SiteId>,
        first: u64,
    ) -> Result<BTreeMap<u64, TimeSlot>, StoreError> {
        // Held while rows are written, so that nothing is seen twice or not at all.
        let _writing = self.sla_writes.lock().await;
        let mut slots: BTreeMap<u64, TimeSlot> =
            ledger::rows_from(self.store.kv(), site, first).await?.into_iter().collect();
        let unsaved = self.state.lock().ledger.unsaved(site, first);
        for (number, since) in unsaved {
            slots.entry(number).or_default().add(&since);
        }
        Ok(slots)
    }

    /// Makes the counts durable. The rows then hold every purge before the returned place, completed or not.
    pub(crate) async fn save_sla(&self) -> Result<u64, StoreError> {
        let _writing = self.sla_writes.lock().await;
        if !self.is_alone() {
            self.count_together().await?;
            return Ok(self.state.lock().stored_through().get());
        }
        loop {
            let (unsaved, is_last, through) = {
                let mut state = self.state.lock();
                let is_last = !state.ledger.is_behind();
                (state.ledger.next_to_write(), is_last, state.completed_through().get())
            };
            let Some(unsaved) = unsaved else { return Ok(through) };
            unsaved.write(self.store.kv()).await?;
            self.state.lock().ledger.handle_written();
            if is_last {
                return Ok(through);
            }
        }
    }
}

/// All slots together, of which so many more are past the target and open; and the newest breaches.
pub(super) fn view(
    slots: &BTreeMap<u64, TimeSlot>,
    overdue: u64,
    breaches_max: usize,
) -> (SlaView, Vec<Breach>) {
    let mut sum = TimeSlot::default();
    slots.values().for_each(|slot| sum.add_other(slot));
    let mut breaches: Vec<_> = slots.values().rev().flat_map(|slot| &slot.breaches).collect();
    breaches.sort_unstable_by_key(|breach| std::cmp::Reverse(breach.task));
    breaches.truncate(breaches_max);
    let breaches = breaches.into_iter().cloned().collect();
    let judged = sum.took.count() + overdue;
    let quantile = |per_mille| sum.took.quantile(per_mille).min(sum.max);
    let sum = SlaView {
        purges: sum.purges,
        judged,
        within: sum.within,
        within_target: if judged == 0 { 1.0 } else { sum.within as f64 / judged as f64 },
        p50: quantile(500),
        p95: quantile(950),
        p99: quantile(990),
        p999: quantile(999),
        max: sum.max,
        slowest: sum.slowest,
        breaches: Vec::new(),
    };
    (sum, breaches)
}
