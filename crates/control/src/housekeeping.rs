//! What may be forgotten: old records, superseded changes of sites, old tasks.

use std::sync::Arc;
use std::time::Duration;

use batoff_log::{Store, StoreError};
use batoff_types::{Cursor, Seq, UnixMillis};
use tokio_util::sync::CancellationToken;

use crate::audit::Audit;
use crate::catalog::Catalog;
use crate::clock::Clock;
use crate::config::RetentionConfig;
use crate::store::records::pages;
use crate::store::turn::SharedTurn;
use crate::tracker::{DAY, Tracker, saved_places};

/// How often it is looked at what may be forgotten.
const EVERY: Duration = Duration::from_secs(60);

/// How often changes of sites are saved beside the log.
const SAVE_EVERY: Duration = Duration::from_secs(1);

/// How often they are saved where several control planes save the same.
const SAVE_SHARED_EVERY: Duration = Duration::from_secs(10);

/// The record that says which of several control planes forgets.
const TURN: &str = "housekeeping-turn";

/// For how long, unless it is told anew: twice what passes between two looks, and a little.
const TURN_TIME: Duration = Duration::from_secs(150);

/// Records trimmed at once at most, so that no trim holds up the purges that wait behind it for long.
const TRIM_RECORDS_MAX: u64 = 50_000;

/// Forgets what is past its time: records, superseded changes of sites, tasks.
pub struct Housekeeping {
    /// What is kept.
    pub store: Arc<dyn Store>,
    /// Its changes of sites are saved and forgotten.
    pub catalog: Arc<Catalog>,
    /// Knows what is saved of nodes and tasks.
    pub tracker: Arc<Tracker>,
    /// Its old entries are forgotten; it reads the log, too.
    pub audit: Arc<Audit>,
    /// Ages are by its wall clock.
    pub clock: Clock,
    /// For how long.
    pub retention: RetentionConfig,
    /// How large the log is.
    pub size: LogSize,
    /// Where several control planes share the store, one of them forgets for all.
    pub(crate) turn: Option<SharedTurn>,
}

/// How many bytes the retained log has, by spans of records: the store keeps no sum.
#[derive(Default)]
pub struct LogSize {
    /// The place up to which records have been added.
    through: Cursor,
    /// `(first seq, bytes)` of spans of records, oldest first.
    spans: std::collections::VecDeque<(Seq, u64)>,
    bytes: u64,
}

/// Records of one span, so that the spans of a full log are few.
const SPAN_BYTES: u64 = 1 << 20;

impl Housekeeping {
    /// Until `stopping` is cancelled.
    pub async fn run(mut self, stopping: CancellationToken) {
        let save_every = if self.store.is_shared() { SAVE_SHARED_EVERY } else { SAVE_EVERY };
        let mut save = tokio::time::interval(save_every);
        save.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut tidy = tokio::time::interval(EVERY);
        tidy.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut folded_on = None;
        loop {
            let outcome = tokio::select! {
                _ = save.tick() => self.save().await,
                _ = tidy.tick() => match self.tidy().await {
                    Ok(()) => self.fold(&mut folded_on).await,
                    failed => failed,
                },
                () = stopping.cancelled() => {
                    if let Some(turn) = self.turn.take() {
                        turn.give_back().await;
                    }
                    return;
                }
            };
            if let Err(error) = outcome {
                tracing::warn!(%error, "housekeeping did not get through; trying again");
            }
        }
    }

    async fn save(&self) -> Result<(), StoreError> {
        self.catalog.save().await?;
        self.catalog.save_uses().await
    }

    /// Whether it is this control plane that forgets what all share.
    async fn is_our_turn(&mut self) -> Result<bool, StoreError> {
        if !self.store.is_shared() {
            return Ok(true);
        }
        if let Some(turn) = &mut self.turn {
            if turn.keep(TURN_TIME).await? {
                return Ok(true);
            }
            self.turn = None;
        }
        self.turn = SharedTurn::take(&self.store, TURN, TURN_TIME).await?;
        Ok(self.turn.is_some())
    }

    /// Once a day of UTC, and after the start; of several control planes by the one whose turn it is.
    async fn fold(&self, folded_on: &mut Option<u64>) -> Result<(), StoreError> {
        let today = self.clock.wall().as_secs() / DAY.as_secs();
        if *folded_on != Some(today) && (self.turn.is_some() || !self.store.is_shared()) {
            let sites: Vec<_> = self.catalog.sites().into_iter().map(|site| site.id).collect();
            self.tracker.fold_sla_days(&sites).await?;
            *folded_on = Some(today);
        }
        Ok(())
    }

    /// Once.
    pub(crate) async fn tidy(&mut self) -> Result<(), StoreError> {
        let log = self.store.log();
        let now = self.clock.wall().0;
        let ago = |time: Duration| {
            UnixMillis(now.saturating_sub(u64::try_from(time.as_millis()).unwrap_or(u64::MAX)))
        };

        // By each: what has expired goes from its memory, too.
        let forgotten = log.forget_tasks(ago(days(self.retention.task_days))).await?;
        if forgotten > 0 {
            tracing::info!(forgotten, "old tasks forgotten");
        }
        if !self.is_our_turn().await? {
            // What is kept in memory of changes that nobody needs any more.
            self.size = LogSize::default();
            let first = self.store.log().state().await?.first;
            return self.catalog.forget(first).await;
        }
        let log = self.store.log();
        let state = log.state().await?;
        self.size.add_through(self.store.as_ref(), state.first, state.tail).await?;
        let by_age = log.find_by_time(ago(hours(self.retention.log_hours))).await?;
        let by_size = self.size.first_within(self.retention.log_bytes).unwrap_or(state.first);
        // A start reads on from what is saved, so nothing after that goes.
        let saved = self.catalog.saved_through().min(self.tracker.saved_through());
        // Nor what has no entry in the audit log yet.
        self.audit.flush().await?;
        let saved = saved.min(self.audit.saved_through());
        let wanted = by_age.max(by_size);
        let saved = match self.store.is_shared() {
            true => saved.min(self.saved_by_all(wanted, state.first).await?),
            false => saved,
        };
        let keep_from = wanted.min(saved.next());
        let mut at = state.first;
        while at < keep_from {
            let step =
                Seq::new(at.get().saturating_add(TRIM_RECORDS_MAX)).unwrap_or(keep_from).min(keep_from);
            let first = log.trim(step).await?;
            if first <= at {
                break;
            }
            at = first;
        }
        if at > state.first {
            tracing::info!(first = %at, "old records trimmed");
            self.size.drop_before(at);
        }
        self.catalog.forget(at).await?;
        let RetentionConfig { audit_days, audit_bytes, .. } = self.retention;
        self.audit.forget(UnixMillis(now), days(audit_days), audit_bytes).await
    }
}

impl Housekeeping {
    /// What the control plane needs of the log that has come least far, be it that it is down: a start reads on from there.
    /// One that is away for twice the retention does not fill the store: it learns from another's rows.
    async fn saved_by_all(&self, wanted: Seq, first: Seq) -> Result<Cursor, StoreError> {
        let all = saved_places(self.store.kv()).await?;
        let Some((replica, least)) = all.into_iter().min_by_key(|(_, saved)| *saved) else {
            return Ok(Cursor::default());
        };
        if least.next() >= wanted {
            return Ok(least);
        }
        tracing::warn!(
            %replica, saved = %least, %wanted,
            "records are kept beyond their retention, for a control plane has not saved what they say of nodes; start it, or \
             take it out of the set"
        );
        let RetentionConfig { log_hours, log_bytes, .. } = self.retention;
        let age = hours(log_hours.saturating_mul(2));
        let oldest = self.clock.wall().0.saturating_sub(u64::try_from(age.as_millis()).unwrap_or(u64::MAX));
        let by_age = self.store.log().find_by_time(UnixMillis(oldest)).await?;
        let by_size = self.size.first_within(log_bytes.saturating_mul(2)).unwrap_or(first);
        Ok(least.max(Cursor::before(by_age.max(by_size))))
    }
}

impl LogSize {
    async fn add_through(&mut self, store: &dyn Store, first: Seq, tail: Cursor) -> Result<(), StoreError> {
        self.through = self.through.max(Cursor::before(first));
        let mut pages = pages(store.log(), self.through.next(), tail);
        while let Some(page) = pages.next().await? {
            for record in page {
                self.add(record.seq, record.body.len() as u64);
                self.through = Cursor::after(record.seq);
            }
        }
        Ok(())
    }

    fn add(&mut self, seq: Seq, bytes: u64) {
        self.bytes += bytes;
        match self.spans.back_mut() {
            Some((_, span)) if *span < SPAN_BYTES => *span += bytes,
            _ => self.spans.push_back((seq, bytes)),
        }
    }

    /// From where on at most `max` bytes are kept; `None` when all of it may stay.
    fn first_within(&self, max: u64) -> Option<Seq> {
        let mut left = self.bytes;
        let mut spans = self.spans.iter();
        while left > max {
            let (_, bytes) = spans.next()?;
            left -= bytes;
        }
        (left < self.bytes).then(|| spans.next().map_or(self.through.next(), |(first, _)| *first))
    }

    fn drop_before(&mut self, first: Seq) {
        while let Some((_, bytes)) = self.spans.front().copied()
            && self.spans.get(1).map_or(self.through.next(), |(next, _)| *next) <= first
        {
            self.bytes -= bytes;
            self.spans.pop_front();
        }
    }
}

const fn days(count: u64) -> Duration {
    hours(count.saturating_mul(24))
}

const fn hours(count: u64) -> Duration {
    Duration::from_secs(count.saturating_mul(3_600))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_spans_go_first_and_no_more_than_needed() {
        let mut size = LogSize::default();
        for seq in 1..=10 {
            size.add(Seq::new(seq).unwrap(), SPAN_BYTES);
            size.through = Cursor::new(seq);
        }
        assert_eq!(size.first_within(10 * SPAN_BYTES), None);
        assert_eq!(size.first_within(7 * SPAN_BYTES), Seq::new(4));
        assert_eq!(size.first_within(7 * SPAN_BYTES + 1), Seq::new(4));
        assert_eq!(size.first_within(0), Seq::new(11));
        size.drop_before(Seq::new(4).unwrap());
        assert_eq!((size.bytes, size.first_within(7 * SPAN_BYTES)), (7 * SPAN_BYTES, None));
    }
}
