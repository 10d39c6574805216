//! What happened to purges, counted by several control planes together: from tasks' rows, in the log's order, by one of them,
//! once.
//!
//! `sla-through` says through where all is counted, and who counts. A slot's row says itself which of its purges it has, and is
//! only written in the place of what was read: so whoever counts again, because he took over or never learnt that his write
//! succeeded, adds nothing twice; and of two who count at once one begins anew.

use std::collections::BTreeMap;
use std::time::Duration;

use batoff_log::{CasError, Expect, Key, StoreError, Write};
use batoff_types::{Body, Cursor, SiteId, UnixMillis};
use serde::{Deserialize, Serialize};

use super::ledger::{FLEET, KEEP, NO_SLOT, key, number};
use super::slot::TimeSlot;
use super::view::{Breach, SLA_BREACHES_MAX};
use crate::clock::millis;
use crate::store::records::{decode, pages};
use crate::store::rows::{self, json};
use crate::tracker::Tracker;
use crate::tracker::sla::ledger::Judged;
use crate::tracker::state::State;
use crate::tracker::tasks::live::LiveTask;
use crate::tracker::tasks::progress::TaskProgress;

const THROUGH: &str = "sla-through";

/// Records that are counted in one go.
const RECORDS_MAX: u64 = 4_096;

/// All purges through here are counted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct ThroughRow {
    through: u64,
    /// The replica that counts.
    by: u8,
}

/// What was counted, and is not said in `sla-through` yet.
pub(crate) struct CountedThrough {
    row: ThroughRow,
    expect: Expect,
}

/// CountedSlots as they were read, and as they are to be.
#[derive(Default)]
struct CountedSlots(BTreeMap<(String, u64), (Expect, TimeSlot, TimeSlot)>);

impl Tracker {
    /// Counts what is completed and not counted yet, if it is this replica's turn.
    pub(super) async fn count_together(&self) -> Result<(), StoreError> {
        while let Some(counted) = self.count_slots().await? {
            if !self.mark_counted(counted).await? {
                break;
            }
        }
        Ok(())
    }

    /// Brings the slots' rows up to date; `None` when there is nothing to do, or it is another one's turn.
    pub(crate) async fn count_slots(&self) -> Result<Option<CountedThrough>, StoreError> {
        let Some(own) = self.replica else { return Ok(None) };
        let (kv, key) = (self.store.kv(), Key::from(THROUGH));
        let found = kv.get(&key).await?;
        let (before, expect, version) = match found {
            Some(row) => {
                let read = serde_json::from_slice::<ThroughRow>(&row.value);
                let read = read.map_err(|_| rows::unreadable(&key, "it is no JSON of a place"))?;
                (read, Expect::Version(row.version), Some(row.version))
            }
            None => (ThroughRow::default(), Expect::Absent, None),
        };
        let stored = self.state.lock().stored_through();
        let counted = Cursor::new(before.through);
        if stored <= counted {
            self.sla_turn.lock().waits = None;
            return Ok(None);
        }
        let is_turn = before.by == own.0 || version.is_none();
        if !is_turn && !self.sla_turn.lock().take_over(version, self.clock.now(), own) {
            return Ok(None);
        }
        let through = stored.min(Cursor::new(counted.get().saturating_add(RECORDS_MAX)));
        let mut slots = CountedSlots::default();
        let mut pages = pages(self.store.log(), counted.next(), through);
        while let Some(page) = pages.next().await? {
            for stored in page {
                let record = decode(stored.seq, &stored.body)?;
                let Body::Purge(_) = &record.body else { continue };
                let Some(row) = self.store.log().find_task(record.task).await? else { continue };
                let said = row.completion.as_deref().and_then(TaskProgress::decode);
                let Some(said) = said else { continue };
                let Some((_, took)) = said.completed else { continue };
                let judged = Judged::new(&row, Duration::from_millis(took), said.late, &said.slow);
                slots.count(self, &judged).await?;
            }
        }
        if !slots.write(self).await? {
            // Another one counts, too.
            return Ok(None);
        }
        Ok(Some(CountedThrough { row: ThroughRow { through: through.get(), by: own.0 }, expect }))
    }

    /// Says so. False when another one has said something meanwhile.
    pub(in crate::tracker) async fn mark_counted(&self, counted: CountedThrough) -> Result<bool, StoreError> {
        let value = json(&counted.row).into();
        let write = Write::Put { value, ttl: None };
        match self.store.kv().cas(&Key::from(THROUGH), counted.expect, write).await {
            Ok(_) => Ok(true),
            Err(CasError::Conflict(_)) => Ok(false),
            Err(CasError::Store(error)) => Err(error),
        }
    }
}

impl CountedSlots {
    async fn count(&mut self, tracker: &Tracker, judged: &Judged) -> Result<(), StoreError> {
        for scope in [judged.site.as_str(), FLEET] {
            let place = (scope.to_owned(), number(judged.accepted_at));
            if !self.0.contains_key(&place) {
                let key = key(scope, place.1);
                let (expect, slot) = match tracker.store.kv().get(&key).await? {
                    Some(row) => {
                        let slot =
                            TimeSlot::decode(&row.value).ok_or_else(|| rows::unreadable(&key, NO_SLOT))?;
                        (Expect::Version(row.version), slot)
                    }
                    None => (Expect::Absent, TimeSlot::default()),
                };
                self.0.insert(place.clone(), (expect, slot.clone(), slot));
            }
            if let Some((_, _, slot)) = self.0.get_mut(&place) {
                count_in(slot, judged);
            }
        }
        Ok(())
    }

    /// False when a row is not what it was read as.
    async fn write(self, tracker: &Tracker) -> Result<bool, StoreError> {
        for ((scope, number), (expect, before, slot)) in self.0 {
            if slot == before {
                continue;
            }
            let write = Write::Put { value: slot.encode().into(), ttl: Some(KEEP) };
            match tracker.store.kv().cas(&key(&scope, number), expect, write).await {
                Ok(_) => {}
                Err(CasError::Conflict(_)) => return Ok(false),
                Err(CasError::Store(error)) => return Err(error),
            }
        }
        Ok(true)
    }
}

/// Counts a purge in a slot that does not have it yet.
fn count_in(slot: &mut TimeSlot, judged: &Judged) {
    slot.handle_accepted(judged.seq.get());
    if !slot.handle_completed(judged.seq.get(), millis(judged.took), judged.breach.is_none()) {
        return;
    }
    if let Some(breach) = &judged.breach {
        slot.handle_breach(breach);
    }
    if let Some(slow) = &judged.slow {
        slot.handle_slow(slow);
    }
}

impl State {
    /// The tasks past the target that are open, newest first, as far as they are in memory.
    pub(super) fn open_breaches(&self, site: Option<&SiteId>, since: UnixMillis) -> Vec<Breach> {
        let open = self.tasks.overdue_between(self.completed_through());
        let counts = |task: &&LiveTask| {
            task.completed().is_none()
                && task.accepted_at >= since
                && site.is_none_or(|site| task.site == *site)
        };
        let breach = |task: &LiveTask| Breach {
            site: task.site.clone(),
            task: task.task,
            propagation_ms: None,
            late: task.late.clone(),
        };
        open.rev().filter(counts).take(SLA_BREACHES_MAX).map(breach).collect()
    }
}
