//! What happened to purges since the slots' rows were last written, and how it gets into them, once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use batoff_delivery::PURGE_TARGET;
use batoff_log::{Key, Kv, StoreError, TaskRow};
use batoff_types::{Seq, SiteId, TaskId, UnixMillis};
use futures_util::future::try_join_all;

use super::slot::TimeSlot;
use super::view::{Breach, DAY, SlowPurge};
use crate::clock::millis;
use crate::store::rows;
use crate::tracker::tasks::live::LiveTask;
use crate::tracker::tasks::propagation::NodeLine;
use crate::tracker::tasks::view::AwaitedNode;

/// Purges accepted within so much time are counted together.
pub const SLA_SLOT: Duration = Duration::from_secs(300);

/// Slots of one day.
pub(super) const SLOTS_A_DAY: u64 = DAY.as_secs() / SLA_SLOT.as_secs();

/// How long slots are kept: as long as tasks, and a day more.
pub(super) const KEEP: Duration = Duration::from_secs(31 * 24 * 3_600);

const ROWS: &str = "sla/";

pub(super) const NO_SLOT: &str = "is not the message of a slot";

/// The scope of all sites together; no site has this name.
pub(super) const FLEET: &str = "*";

/// Slots written at once; the store makes them durable together.
const WRITES_AT_ONCE: usize = 64;

/// Whose purges a slot counts, and its number since 1970.
type SlotKey = (String, u64);

/// What happened since slots were last made durable.
#[derive(Debug, Default)]
pub(in crate::tracker) struct SlaLedger {
    since: BTreeMap<SlotKey, TimeSlot>,
    /// On its way to the disk. Written as it is until that has succeeded, so that a row can tell whether it has it.
    writing: Option<Arc<Unsaved>>,
    /// Whether nothing is counted here, because several control planes count together, from tasks' rows.
    is_shared: bool,
}

/// A purge that is completed.
#[derive(Clone, Debug)]
pub(in crate::tracker) struct Judged {
    pub site: SiteId,
    pub seq: Seq,
    pub accepted_at: UnixMillis,
    pub took: Duration,
    /// Set when the target passed before it was completed.
    pub breach: Option<Breach>,
    /// Set when it is the slowest of its slot so far, and what it waited for is known.
    pub slow: Option<SlowPurge>,
}

impl Judged {
    /// Of the task of a row; `late` are the nodes that it waited for when the target passed, if it did.
    pub(in crate::tracker) fn new(
        row: &TaskRow,
        took: Duration,
        late: Vec<AwaitedNode>,
        slow: &[NodeLine],
    ) -> Self {
        let judged = Self::of(&row.site, row.task, row.seq, row.accepted_at, took, late);
        let slow = slow_purge(&row.site, row.task, took, slow);
        Self { slow: Some(slow), ..judged }
    }

    /// The same of a task in memory.
    pub(in crate::tracker) fn of_live(seq: Seq, task: &LiveTask, took: Duration) -> Self {
        Self::of(&task.site, task.task, seq, task.accepted_at, took, task.late.clone())
    }

    /// With the nodes that it waited for.
    pub(in crate::tracker) fn with_slow(self, task: TaskId, slow: &[NodeLine]) -> Self {
        Self { slow: Some(slow_purge(&self.site, task, self.took, slow)), ..self }
    }

    fn of(
        site: &SiteId,
        task: TaskId,
        seq: Seq,
        accepted_at: UnixMillis,
        took: Duration,
        late: Vec<AwaitedNode>,
    ) -> Self {
        // Late nodes tell of a target that passed before a restart, from which `took` is counted anew.
        let is_breach = took >= PURGE_TARGET || !late.is_empty();
        let breach =
            is_breach.then(|| Breach { site: site.clone(), task, propagation_ms: Some(millis(took)), late });
        Self { site: site.clone(), seq, accepted_at, took, breach, slow: None }
    }
}

fn slow_purge(site: &SiteId, task: TaskId, took: Duration, slow: &[NodeLine]) -> SlowPurge {
    let slowest = slow.iter().max_by_key(|line| line.until_ms().unwrap_or(u64::MAX));
    SlowPurge {
        site: site.clone(),
        task,
        propagation_ms: millis(took),
        node: slowest.map(|line| (line.node.clone(), line.cause)),
        detail: slowest.map(|line| Arc::clone(&line.detail)).unwrap_or_default(),
    }
}

impl SlaLedger {
    /// Of one of several control planes, which counts nothing by itself: see `sla::shared`.
    pub(in crate::tracker) fn shared() -> Self {
        Self { is_shared: true, ..Self::default() }
    }

    /// A purge is in the log.
    pub(in crate::tracker) fn handle_accepted(&mut self, site: &SiteId, seq: Seq, at: UnixMillis) {
        self.each(site, at, |slot| slot.handle_accepted(seq.get()));
    }

    /// The target has passed, and it is not completed.
    pub(in crate::tracker) fn handle_breach(&mut self, breach: &Breach, at: UnixMillis) {
        self.each(&breach.site, at, |slot| slot.handle_breach(breach));
    }

    /// Its completion is durable. In the order of the log.
    pub(in crate::tracker) fn handle_completed(&mut self, completed: &Judged) {
        let Judged { site, seq, accepted_at, took, breach, slow } = completed;
        self.each(site, *accepted_at, |slot| {
            if !slot.handle_completed(seq.get(), millis(*took), breach.is_none()) {
                return;
            }
            if let Some(breach) = breach {
                slot.handle_breach(breach);
            }
            if let Some(slow) = slow {
                slot.handle_slow(slow);
            }
        });
    }

    /// Whether a purge that took so long would be the slowest of its slot, as far as that is not in the rows.
    pub(in crate::tracker) fn is_slowest(&self, site: &SiteId, at: UnixMillis, took: Duration) -> bool {
        let slot = self.since.get(&(site.as_str().to_owned(), number(at)));
        slot.is_none_or(|slot| slot.max <= millis(took))
    }

    fn each(&mut self, site: &SiteId, at: UnixMillis, change: impl Fn(&mut TimeSlot)) {
        if self.is_shared {
            return;
        }
        for scope in [site.as_str(), FLEET] {
            change(self.since.entry((scope.to_owned(), number(at))).or_default());
        }
    }

    /// What is to be written next; `None` when everything is.
    pub(in crate::tracker) fn next_to_write(&mut self) -> Option<Arc<Unsaved>> {
        if self.writing.is_none() && !self.since.is_empty() {
            self.writing = Some(Arc::new(Unsaved(std::mem::take(&mut self.since))));
        }
        self.writing.clone()
    }

    /// Whether the last write is still to succeed.
    pub(in crate::tracker) const fn is_behind(&self) -> bool {
        self.writing.is_some()
    }

    /// What [`SlaLedger::next_to_write`] gave is durable.
    pub(in crate::tracker) fn handle_written(&mut self) {
        self.writing = None;
    }

    /// What is not in the rows, of the slots from `first` on.
    pub(super) fn unsaved(&self, scope: Option<&SiteId>, first: u64) -> Vec<(u64, TimeSlot)> {
        let scope = scope_name(scope);
        let of = |slots: &BTreeMap<SlotKey, TimeSlot>| -> Vec<(u64, TimeSlot)> {
            slots
                .range((scope.to_owned(), first)..)
                .take_while(|((of, _), _)| of == scope)
                .map(|((_, number), slot)| (*number, slot.clone()))
                .collect()
        };
        let mut slots = self.writing.as_ref().map(|writing| of(&writing.0)).unwrap_or_default();
        slots.extend(of(&self.since));
        slots
    }
}

/// Counts on their way to the disk.
#[derive(Debug)]
pub(in crate::tracker) struct Unsaved(BTreeMap<SlotKey, TimeSlot>);

impl Unsaved {
    /// Adds them to the rows. When it fails it is to be repeated: a row tells what it has already.
    pub(in crate::tracker) async fn write(&self, kv: &dyn Kv) -> Result<(), StoreError> {
        let slots: Vec<_> = self.0.iter().collect();
        for some in slots.chunks(WRITES_AT_ONCE) {
            try_join_all(some.iter().map(|(place, since)| add_to_row(kv, place, since))).await?;
        }
        Ok(())
    }
}

/// Only one control plane writes these rows, and one call at a time.
async fn add_to_row(kv: &dyn Kv, (scope, number): &SlotKey, since: &TimeSlot) -> Result<(), StoreError> {
    let key = key(scope, *number);
    let mut slot = row(kv, &key).await?;
    slot.add(since);
    rows::put_for(kv, &key, slot.encode(), KEEP).await
}

async fn row(kv: &dyn Kv, key: &Key) -> Result<TimeSlot, StoreError> {
    let row = rows::get(kv, key, |row| TimeSlot::decode(row).ok_or(NO_SLOT)).await?;
    Ok(row.unwrap_or_default())
}

/// The rows of the slots from `first` on.
pub(super) async fn rows_from(
    kv: &dyn Kv,
    scope: Option<&SiteId>,
    first: u64,
) -> Result<Vec<(u64, TimeSlot)>, StoreError> {
    let scope = scope_name(scope);
    let before = first.checked_sub(1).map(digits);
    rows::all_after(kv, &format!("{ROWS}{scope}/"), before.as_deref(), |number, row| {
        let number = number.parse().map_err(|_| "its key is no number of a slot")?;
        Ok((number, TimeSlot::decode(row).ok_or(NO_SLOT)?))
    })
    .await
}

/// The rows of the slots from `first` up to, not with, `end`.
pub(super) async fn slots_between(
    kv: &dyn Kv,
    scope: Option<&SiteId>,
    first: u64,
    end: u64,
) -> Result<BTreeMap<u64, TimeSlot>, StoreError> {
    let scope = scope_name(scope);
    let prefix = format!("{ROWS}{scope}/");
    let before = first.checked_sub(1).map(digits);
    let most = usize::try_from(end.saturating_sub(first)).unwrap_or(usize::MAX);
    rows::some_after(kv, &prefix, before.as_deref(), most, |number, row| {
        let number = number.parse().map_err(|_| "its key is no number of a slot")?;
        Ok((number, decoded(row)?))
    })
    .await
    .map(|slots| slots.into_iter().filter(|(number, _)| *number < end).collect())
}

/// What a row says.
pub(super) fn decoded(row: &[u8]) -> Result<TimeSlot, &'static str> {
    TimeSlot::decode(row).ok_or(NO_SLOT)
}

/// What a start counts again: purges that were accepted or completed after the last write. Knows what the rows have.
#[derive(Debug, Default)]
pub(in crate::tracker) struct Recount {
    rows: BTreeMap<SlotKey, TimeSlot>,
    ledger: SlaLedger,
}

impl Recount {
    /// A purge of the log, and its completion if it has one.
    pub(in crate::tracker) async fn handle(
        &mut self,
        kv: &dyn Kv,
        site: &SiteId,
        seq: Seq,
        at: UnixMillis,
        completed: Option<&Judged>,
    ) -> Result<(), StoreError> {
        for scope in [site.as_str(), FLEET] {
            let place = (scope.to_owned(), number(at));
            if !self.rows.contains_key(&place) {
                let known = row(kv, &key(scope, number(at))).await?;
                let counted = TimeSlot {
                    accepted_through: known.accepted_through,
                    completed_through: known.completed_through,
                    ..TimeSlot::default()
                };
                self.ledger.since.insert(place.clone(), counted);
                self.rows.insert(place, known);
            }
        }
        self.ledger.handle_accepted(site, seq, at);
        if let Some(completed) = completed {
            self.ledger.handle_completed(completed);
        }
        Ok(())
    }

    /// What is to be added to the rows.
    pub(in crate::tracker) fn finish(self) -> SlaLedger {
        let Self { rows, mut ledger } = self;
        ledger.since.retain(|place, slot| {
            rows.get(place).is_none_or(|row| {
                (slot.accepted_through, slot.completed_through)
                    != (row.accepted_through, row.completed_through)
            })
        });
        ledger
    }
}

pub(super) fn number(at: UnixMillis) -> u64 {
    at.as_secs() / SLA_SLOT.as_secs()
}

pub(super) fn scope_name(scope: Option<&SiteId>) -> &str {
    scope.map_or(FLEET, SiteId::as_str)
}

pub(super) fn key(scope: &str, number: u64) -> Key {
    Key::from(format!("{ROWS}{scope}/{}", digits(number)))
}

/// Of one width, so that keys are in the order of their slots.
fn digits(number: u64) -> String {
    format!("{number:010}")
}
