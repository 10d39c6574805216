//! What is left of a day when its slots are forgotten: one row for each scope, for a little more than a year.
//!
//! A row is made anew from all slots of its day, never added to, so it does not matter how often that happens: once when the
//! day is over, and for the last time right before its first slot is forgotten. A purge that is completed even later is in no
//! row of a day.
//!
//! ```text
//!  day     today-399 …            today-30 | today-29          …         yesterday   today
//!          read from rows of days          | read from slots
//!                                            last made anew here         made here
//! ```

use std::collections::BTreeMap;
use std::time::Duration;

use batoff_log::{Key, Kv, StoreError};
use batoff_types::SiteId;

use super::ledger::{SLOTS_A_DAY, decoded, scope_name, slots_between};
use super::slot::TimeSlot;
use super::view::{DAY, SLA_DAYS_MAX, day_of};
use crate::store::rows;
use crate::tracker::Tracker;

/// Days, with today, of which every slot is there: slots are kept for a day more.
pub(super) const SLOT_DAYS: u64 = 30;

/// Breaches kept of one day, the newest.
const DAY_BREACHES_MAX: usize = 50;

/// Nodes kept of one of them.
const DAY_LATE_MAX: usize = 8;

const ROWS: &str = "sla-days/";

impl Tracker {
    /// Makes the rows of days that are over, of these sites and of all together. To be called once a day and at the start.
    pub(crate) async fn fold_sla_days(&self, sites: &[SiteId]) -> Result<(), StoreError> {
        let today = day_of(self.clock.wall());
        for scope in sites.iter().map(Some).chain([None]) {
            fold(self.store.kv(), scope, today).await?;
        }
        Ok(())
    }
}

/// The first day of which every slot is there.
pub(super) const fn first_of_slots(today: u64) -> u64 {
    (today + 1).saturating_sub(SLOT_DAYS)
}

/// Yesterday, the day whose slots go next, and what a control plane that was down has missed between them.
async fn fold(kv: &dyn Kv, scope: Option<&SiteId>, today: u64) -> Result<(), StoreError> {
    let first = first_of_slots(today);
    let known = rows_of_days(kv, scope, first).await?;
    for day in first..today {
        if day == first || day + 1 == today || !known.contains_key(&day) {
            fold_day(kv, scope, day, today).await?;
        }
    }
    Ok(())
}

async fn fold_day(kv: &dyn Kv, scope: Option<&SiteId>, day: u64, today: u64) -> Result<(), StoreError> {
    let slots = slots_between(kv, scope, day * SLOTS_A_DAY, (day + 1) * SLOTS_A_DAY).await?;
    if slots.is_empty() {
        return Ok(());
    }
    let keep = DAY * u32::try_from((day + SLA_DAYS_MAX + 1).saturating_sub(today)).unwrap_or(u32::MAX);
    rows::put_for(kv, &key(scope, day), summed(slots.values()).encode(), keep.max(Duration::from_secs(1)))
        .await
}

/// One slot that stands for all of them.
fn summed<'a>(slots: impl Iterator<Item = &'a TimeSlot>) -> TimeSlot {
    let mut sum = TimeSlot::default();
    for slot in slots {
        sum.add_other(slot);
        sum.breaches.extend(slot.breaches.iter().cloned());
    }
    sum.breaches.sort_unstable_by_key(|breach| breach.task);
    let too_many = sum.breaches.len().saturating_sub(DAY_BREACHES_MAX);
    sum.breaches.drain(..too_many);
    sum.breaches.iter_mut().for_each(|breach| breach.late.truncate(DAY_LATE_MAX));
    sum
}

/// The rows of the days from `first` on.
pub(super) async fn rows_of_days(
    kv: &dyn Kv,
    scope: Option<&SiteId>,
    first: u64,
) -> Result<BTreeMap<u64, TimeSlot>, StoreError> {
    let prefix = format!("{ROWS}{}/", scope_name(scope));
    let before = first.checked_sub(1).map(digits);
    let rows = rows::all_after(kv, &prefix, before.as_deref(), |day, row| {
        let day: u64 = day.parse().map_err(|_| "its key is no number of a day")?;
        Ok((day, decoded(row)?))
    });
    Ok(rows.await?.into_iter().collect())
}

fn key(scope: Option<&SiteId>, day: u64) -> Key {
    Key::from(format!("{ROWS}{}/{}", scope_name(scope), digits(day)))
}

/// Of one width, so that keys are in the order of their days.
fn digits(day: u64) -> String {
    format!("{day:06}")
}

#[cfg(test)]
mod tests {
    use batoff_log::Store;
    use batoff_log::embedded::{EmbeddedConfig, EmbeddedStore};

    use super::super::view::Breach;
    use super::*;
    use crate::tracker::tasks::view::AwaitedNode;

    fn breach(task: u128) -> Breach {
        let late = |number| AwaitedNode {
            node: format!("fra1/edge-{number}").parse().unwrap(),
            reason: "unreachable, no connection, 1 record behind".into(),
        };
        Breach {
            site: "shop".parse().unwrap(),
            task: ulid::Ulid(task).to_string().parse().unwrap(),
            propagation_ms: Some(2_345),
            late: (0..20).map(late).collect(),
        }
    }

    /// Purges of a slot, taking from 20 ms to half a second.
    fn slot(number: u64, purges: u64) -> TimeSlot {
        let mut slot = TimeSlot::default();
        for n in 0..purges {
            let seq = number * 100_000 + n + 1;
            slot.handle_accepted(seq);
            slot.handle_completed(seq, 20 + (n * 7_919) % 480, true);
        }
        slot
    }

    #[test]
    fn a_day_counts_what_its_slots_count_and_keeps_the_newest_breaches() {
        let slots: Vec<TimeSlot> = (0..SLOTS_A_DAY)
            .map(|number| {
                let mut slot = slot(number, 3);
                slot.handle_breach(&breach(u128::from(number)));
                slot
            })
            .collect();
        let day = TimeSlot::decode(&summed(slots.iter()).encode()).unwrap();
        assert_eq!((day.purges, day.within, day.took.count()), (864, 864, 864));
        assert_eq!(day.max, slots.iter().map(|slot| slot.max).max().unwrap());
        assert_eq!(day.breaches.len(), DAY_BREACHES_MAX);
        assert_eq!(day.breaches.last().unwrap().task, breach(u128::from(SLOTS_A_DAY - 1)).task);
        assert!(day.breaches.iter().all(|breach| breach.late.len() == DAY_LATE_MAX));
    }

    #[tokio::test]
    async fn days_are_made_when_they_are_over_and_anew_before_their_slots_go() {
        let dir = tempfile::tempdir().unwrap();
        let config = EmbeddedConfig::new(dir.path(), batoff_log::system_clock());
        let store = EmbeddedStore::open(config).unwrap();
        let (kv, shop) = (store.kv(), "shop".parse().unwrap());
        let scope = Some(&shop);
        let put = async |day: u64, within: u64, purges| {
            let number = day * SLOTS_A_DAY + within;
            let key = Key::from(format!("sla/shop/{number:010}"));
            rows::put(kv, &key, slot(number, purges).encode()).await.unwrap();
        };
        let purges = async || -> Vec<(u64, u64)> {
            let rows = rows_of_days(kv, scope, 0).await.unwrap();
            rows.into_iter().map(|(day, row)| (day, row.purges)).collect()
        };
        let today = 20_000;
        for day in [today - 30, today - 29, today - 15, today - 1, today] {
            put(day, 0, 2).await;
            put(day, SLOTS_A_DAY - 1, 3).await;
        }
        fold(kv, scope, today).await.unwrap();
        assert_eq!(purges().await, [(today - 29, 5), (today - 15, 5), (today - 1, 5)]);

        // One that was completed late is in the row by the time that nothing else is left of its day.
        put(today - 15, 7, 1).await;
        fold(kv, scope, today).await.unwrap();
        fold(kv, scope, today + 1).await.unwrap();
        assert_eq!(purges().await[1..], [(today - 15, 5), (today - 1, 5), (today, 5)]);
        fold(kv, scope, today - 15 + SLOT_DAYS - 1).await.unwrap();
        assert_eq!(purges().await[1], (today - 15, 6));
        // Its slots are gone by now.
        rows::delete(kv, &Key::from(format!("sla/shop/{:010}", (today - 1) * SLOTS_A_DAY))).await.unwrap();
        fold(kv, scope, today + SLOT_DAYS).await.unwrap();
        assert_eq!(purges().await[2], (today - 1, 5));
    }

    #[test]
    fn a_day_takes_few_bytes_however_much_was_purged() {
        let bytes = |purges| {
            summed((0..SLOTS_A_DAY).map(|number| slot(number, purges)).collect::<Vec<_>>().iter())
                .encode()
                .len()
        };
        // A million purges; what the documents say.
        let (quiet, busy) = (bytes(1), bytes(3_500));
        assert!(quiet < 64 && busy < 1_024, "{quiet} {busy}");
        let mut late = slot(1, 3_500);
        (0..20).for_each(|task| late.handle_breach(&breach(task)));
        let worst = summed(std::iter::repeat_n(&late, 3)).encode().len();
        assert!(worst < 40 * 1_024, "{worst}");
    }
}
