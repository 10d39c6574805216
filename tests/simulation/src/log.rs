use std::sync::Arc;

use batoff_delivery::LogView;
use batoff_types::{Body, Cursor, LogId, Record, SEMANTICS_VERSION, Seq, SiteTable, TaskId, UnixMillis};

/// The purge log on its disk: what is in here is durable, and survives every crash.
#[derive(Debug)]
pub(crate) struct Log {
    pub(crate) id: LogId,
    /// The first record that is retained.
    first: u64,
    records: Vec<Record>,
    /// No append succeeds until then.
    pub(crate) broken_until: u64,
    /// It has everything up to here in common with the log before it.
    pub(crate) restored_through: u64,
    /// Backups that were restored.
    pub(crate) replaced: u8,
    tasks: u64,
}

impl Log {
    pub(crate) const fn new() -> Self {
        let records = Vec::new();
        Self {
            id: LogId::from_bytes([1; 16]),
            first: 1,
            records,
            broken_until: 0,
            restored_through: 0,
            replaced: 0,
            tasks: 0,
        }
    }

    pub(crate) fn append(&mut self, body: Body, now: u64) -> &Record {
        self.tasks += 1;
        let seq = Cursor::new(self.records.len() as u64).next();
        let record = Record {
            seq,
            accepted_at: UnixMillis(now / 1_000),
            task: TaskId::from_bytes(u128::from(self.tasks).to_be_bytes()),
            request_id: Arc::from(""),
            semantics: SEMANTICS_VERSION,
            trace: None,
            body,
        };
        self.records.push(record);
        &self.records[self.records.len() - 1]
    }

    pub(crate) fn tail(&self) -> Cursor {
        Cursor::new(self.records.len() as u64)
    }

    pub(crate) fn view(&self) -> LogView {
        LogView { log_id: self.id, first: Cursor::new(self.first - 1).next(), tail: self.tail() }
    }

    pub(crate) fn range(&self, first: Seq, last: Seq) -> Vec<Record> {
        self.records[first.get() as usize - 1..last.get() as usize].to_vec()
    }

    /// The task of the record right before the cursor, if that is retained.
    pub(crate) fn task_at(&self, cursor: Cursor) -> Option<TaskId> {
        let seq = cursor.last().filter(|seq| seq.get() >= self.first)?;
        self.records.get(seq.get() as usize - 1).map(|record| record.task)
    }

    /// Whose each host was at that place.
    pub(crate) fn sites_at(&self, cursor: Cursor) -> SiteTable {
        let mut table = SiteTable::default();
        for record in self.records.iter().take(cursor.get() as usize) {
            if let Body::Site(change) = &record.body {
                table.apply(change);
            }
        }
        table
    }

    /// Drops records up to there.
    pub(crate) fn trim(&mut self, through: Cursor) {
        self.first = self.first.max(through.get().min(self.tail().get()) + 1);
    }

    /// The last record that says which nodes there are, or whose a host is: a backup is never older than that here.
    pub(crate) fn last_administrative(&self) -> u64 {
        let last = self.records.iter().rposition(|record| !matches!(record.body, Body::Purge(_)));
        last.map_or(0, |index| index as u64 + 1)
    }

    /// A backup is restored: what came after `through` is gone. With `keeps_identity` as if it had never been.
    pub(crate) fn restore(&mut self, through: Cursor, keeps_identity: bool) {
        self.records.truncate(through.get() as usize);
        self.first = self.first.min(through.get() + 1);
        self.replaced += 1;
        self.restored_through = through.get();
        if !keeps_identity {
            self.id = LogId::from_bytes([1 + self.replaced; 16]);
        }
    }
}
