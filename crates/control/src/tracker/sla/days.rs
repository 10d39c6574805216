//! Was the promise kept, day by day?

use std::collections::BTreeMap;

use batoff_log::StoreError;
use batoff_types::{SiteId, UnixMillis};

use super::archive;
use super::ledger::SLOTS_A_DAY;
use super::query::view;
use super::slot::TimeSlot;
use super::view::{SLA_DAYS_MAX, SLA_REPORT_BREACHES_MAX, SlaDay, SlaReport, begin_of, day_of};
use crate::tracker::Tracker;

impl Tracker {
    /// Propagation of the site's purges (of all sites' for `None`) that were accepted on the days from the one in which
    /// `from` lies through that in which `until` lies: at most [`SLA_DAYS_MAX`], the last of them.
    pub async fn sla_days(
        &self,
        site: Option<&SiteId>,
        from: UnixMillis,
        until: UnixMillis,
    ) -> Result<SlaReport, StoreError> {
        let last = day_of(until.max(from));
        let first = day_of(from).max((last + 1).saturating_sub(SLA_DAYS_MAX));
        let slots = self.sla_slots(site, first * SLOTS_A_DAY).await?;
        let first_of_slots = archive::first_of_slots(day_of(self.clock.wall()));
        let archived = match first < first_of_slots {
            true => archive::rows_of_days(self.store.kv(), site, first).await?,
            false => BTreeMap::new(),
        };
        let overdue = self.state.lock().overdue_at(site, begin_of(first));
        let mut days: BTreeMap<u64, (BTreeMap<u64, TimeSlot>, u64)> =
            (first..=last).map(|day| (day, Default::default())).collect();
        for (number, slot) in slots {
            if let Some((slots, _)) = days.get_mut(&(number / SLOTS_A_DAY)) {
                slots.insert(number, slot);
            }
        }
        // Slots of such a day go one by one; its row has all of them.
        for (day, row) in archived.into_iter().filter(|(day, _)| *day < first_of_slots) {
            if let Some((slots, _)) = days.get_mut(&day) {
                *slots = BTreeMap::from([(day * SLOTS_A_DAY, row)]);
            }
        }
        for at in overdue {
            if let Some((_, overdue)) = days.get_mut(&day_of(at)) {
                *overdue += 1;
            }
        }
        let all: BTreeMap<u64, TimeSlot> =
            days.values().flat_map(|(slots, _)| slots.iter().map(|(at, slot)| (*at, slot.clone()))).collect();
        let (mut total, mut breaches) =
            view(&all, days.values().map(|(_, overdue)| overdue).sum(), SLA_REPORT_BREACHES_MAX);
        total.breaches = Vec::new();
        breaches.truncate(SLA_REPORT_BREACHES_MAX);
        let day = |(day, (slots, overdue)): (&u64, &(BTreeMap<u64, TimeSlot>, u64))| SlaDay {
            begins: begin_of(*day),
            view: view(slots, *overdue, 0).0,
        };
        Ok(SlaReport {
            site: site.cloned(),
            from: begin_of(first),
            until: begin_of(last + 1),
            days: days.iter().map(day).collect(),
            total,
            breaches,
        })
    }
}
