use std::collections::BTreeMap;

use batoff_types::Seq;
use batoff_types::message::RecordReport;

/// Reports in one ack, at most. More go into the next.
const REPORTS_PER_ACK: usize = 512;

/// Records with a report that waits to be sent, at most. Over it the oldest is given up: its task will not show how
/// many objects this node evicted for it, and is completed all the same.
const REPORTS_MAX: usize = 8_192;

/// What became of records, until an ack takes it along. Reports on one record are added up.
#[derive(Debug, Default)]
pub(super) struct Reports {
    pending: BTreeMap<Seq, RecordReport>,
    dropped: u64,
}

impl Reports {
    pub(super) fn add(&mut self, report: RecordReport) {
        self.pending
            .entry(report.seq)
            .and_modify(|pending| {
                pending.objects = pending.objects.saturating_add(report.objects);
                pending.last |= report.last;
                pending.in_force_after = pending.in_force_after.max(report.in_force_after);
                pending.evicted_after = pending.evicted_after.max(report.evicted_after);
            })
            .or_insert(report);
        if self.pending.len() > REPORTS_MAX {
            self.pending.pop_first();
            self.dropped += 1;
        }
    }

    /// The oldest, as many as an ack may hold.
    pub(super) fn take(&mut self) -> Vec<RecordReport> {
        let count = self.pending.len().min(REPORTS_PER_ACK);
        std::iter::from_fn(|| self.pending.pop_first()).take(count).map(|(_, report)| report).collect()
    }

    pub(super) fn clear(&mut self) {
        self.pending.clear();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    pub(super) const fn dropped(&self) -> u64 {
        self.dropped
    }
}
