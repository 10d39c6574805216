//! How fast purges were, over a window of time.

use std::collections::BTreeMap;
use std::time::Duration;

use batoff_log::StoreError;
use batoff_types::{SiteId, UnixMillis};

use super::ledger;
use super::slot::TimeSlot;
use super::view::{SLA_BREACHES_MAX, SlaView};
use crate::clock::millis;
use crate::tracker::Tracker;

impl Tracker {
    /// Propagation of the site's purges (of all sites' for `None`) accepted within the last `window`, which is widened to
    /// whole slots of [`SLA_SLOT`](super::ledger::SLA_SLOT).
    pub async fn sla(&self, site: Option<&SiteId>, window: Duration) -> Result<SlaView, StoreError> {
        let since = UnixMillis(self.clock.wall().0.saturating_sub(millis(window)));
        let first = ledger::number(since);
        // Held while rows are written, so that nothing is seen twice or not at all.
        let _writing = self.sla_writes.lock().await;
        let mut slots: BTreeMap<u64, TimeSlot> =
            ledger::rows_from(self.store.kv(), site, first).await?.into_iter().collect();
        let (unsaved, overdue) = {
            let state = self.state.lock();
            (state.ledger.unsaved(site, first), state.overdue(site, since))
        };
        for (number, since) in unsaved {
            slots.entry(number).or_default().add(&since);
        }
        Ok(view(&slots, overdue))
    }

    /// Makes the counts durable. The rows then hold every purge before the returned place, completed or not.
    pub(crate) async fn save_sla(&self) -> Result<u64, StoreError> {
        let _writing = self.sla_writes.lock().await;
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

fn view(slots: &BTreeMap<u64, TimeSlot>, overdue: u64) -> SlaView {
    let mut sum = TimeSlot::default();
    slots.values().for_each(|slot| sum.add_other(slot));
    let mut breaches: Vec<_> = slots.values().rev().flat_map(|slot| slot.breaches.iter().cloned()).collect();
    breaches.sort_unstable_by_key(|breach| std::cmp::Reverse(breach.task));
    breaches.truncate(SLA_BREACHES_MAX);
    let judged = sum.took.count() + overdue;
    let quantile = |per_mille| sum.took.quantile(per_mille).min(sum.max);
    SlaView {
        purges: sum.purges,
        within_target: if judged == 0 { 1.0 } else { sum.within as f64 / judged as f64 },
        p50: quantile(500),
        p95: quantile(950),
        p99: quantile(990),
        p999: quantile(999),
        max: sum.max,
        breaches,
    }
}
