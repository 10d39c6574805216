//! Appends: which record is new, and what is stored together with it.

use batoff_types::{Cursor, Seq};

use super::super::fault::Fault;
use super::super::rows::SeenKey;
use super::super::segments::put_record;
use super::draft::GroupDraft;
use crate::purge_log::{Appended, Dedupe, NewRecord, StoredRecord, TaskRow};

impl GroupDraft<'_> {
    pub(super) fn append(&mut self, batch: Vec<NewRecord>) -> Result<Vec<Appended>, Fault> {
        batch.into_iter().map(|record| self.append_one(record)).collect()
    }

    fn append_one(&mut self, record: NewRecord) -> Result<Appended, Fault> {
        let NewRecord { body, accepted_at, task, dedupe } = record;
        let absent = match self.recognise(&dedupe)? {
            Recognised::Known(known) => return Ok(known),
            Recognised::New { absent } => absent,
        };
        let seq = self.group.committed.tail.next();
        let mut stored: Vec<([u8; 32], SeenKey)> = Vec::new();
        let mut is_new_task = false;
        if let Some(task) = &task {
            is_new_task = self.seq_of(task.task)?.is_none();
            for key in absent {
                let seen = SeenKey {
                    seq: seq.get(),
                    task: task.task,
                    body_hash: key.body_hash,
                    first_at: self.now,
                    expires_at: key.expires_at,
                };
                if seen.expires_at > self.now && stored.iter().all(|(other, _)| *other != key.key) {
                    stored.push((key.key, seen));
                }
            }
        }
        let row = task.filter(|_| is_new_task);
        let indexed = row.as_ref().map(|row| (&row.site, row.task, &*row.meta));
        put_record(self.out, accepted_at, &body, indexed, &stored);

        let group = &mut self.group;
        group.keys.extend(stored);
        if let Some(row) = row {
            group.by_task.insert(row.task, seq.get());
            group.committed.last_task = group.committed.last_task.max(row.task);
            group.tasks.push(TaskRow {
                site: row.site,
                task: row.task,
                seq,
                accepted_at,
                meta: row.meta,
                completion: None,
            });
        }
        group.committed.high = group.committed.high.max(accepted_at);
        group.committed.tail = Cursor::after(seq);
        group.records.push(StoredRecord { seq, accepted_at, body });
        Ok(Appended::New { seq })
    }

    /// What an append with these keys would be answered, if it would not be new.
    pub(super) fn look_up(&self, keys: &[Dedupe]) -> Result<Option<Appended>, Fault> {
        Ok(match self.recognise(keys)? {
            Recognised::Known(known) => Some(known),
            Recognised::New { .. } => None,
        })
    }

    /// Whether a request with these keys was accepted before, or cannot be now.
    fn recognise<'k>(&self, keys: &'k [Dedupe]) -> Result<Recognised<'k>, Fault> {
        let (mut duplicate, mut absent) = (None, Vec::new());
        for key in keys {
            let seen = match self.group.keys.get(&key.key) {
                Some(seen) => Some(*seen),
                None => self.keys.find(&key.key)?,
            };
            let Some(seen) = seen.filter(|seen| self.now < seen.expires_at) else {
                absent.push(key);
                continue;
            };
            if seen.body_hash != key.body_hash {
                return Ok(Recognised::Known(Appended::Conflict));
            }
            // A clock that was set back makes the first one fresh: a purge too many, never one too few.
            let age_ms = self.now.0.saturating_sub(seen.first_at.0);
            if age_ms >= key.fresh_for_ms && duplicate.is_none() {
                let seq = Seq::new(seen.seq)
                    .ok_or_else(|| Fault::Damaged("a remembered request names record 0".to_owned()))?;
                duplicate = Some(Appended::Duplicate { seq, task: seen.task });
            }
        }
        Ok(duplicate.map_or(Recognised::New { absent }, Recognised::Known))
    }
}

/// What the keys of a request say of it.
enum Recognised<'k> {
    Known(Appended),
    /// It is new, and these keys are to be stored with it.
    New {
        absent: Vec<&'k Dedupe>,
    },
}
