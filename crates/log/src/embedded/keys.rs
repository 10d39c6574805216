//! The keys of accepted requests, by which a repeat is recognised.
//!
//! ```text
//!  fresh ──(checkpoint begins)──▶ leaving ──(its files are durable)──▶ runs on the disk, and where in them each key lies
//! ```
//!
//! A key lies in the log with its record. A checkpoint writes the keys since the last one into files of their own, so
//! called runs, that are deleted whole when their last key has expired; keys that expire within the hour and those that
//! live longer go into different ones. In memory a key of a run is 64 bits of it and its place, and a match is confirmed
//! by reading it. Only the writer uses this.

mod run;

use std::collections::BTreeMap;
use std::sync::Arc;

use batoff_types::UnixMillis;
use hashbrown::HashTable;

pub(super) use self::run::{KeyRows, KeyRun, RunName, WrittenRun, write_runs};
use super::fault::Fault;
use super::rows::SeenKey;

/// Keys of runs that memory has place for. With more of them alive the run that was written first is given up: a repeat
/// of one of its requests is carried out once more, which takes too much away and never too little.
const KEYS_MAX: usize = 16 * 1024 * 1024;

/// Parts of the table in memory. Each grows by itself, so no append waits until all keys have moved.
const SHARDS: usize = 256;

/// The keys of accepted requests.
#[derive(Debug)]
pub(super) struct SeenKeys {
    /// Since the last checkpoint began.
    fresh: KeyRows,
    /// What the checkpoint that is being made takes out of memory.
    leaving: Option<Arc<KeyRows>>,
    shards: Vec<HashTable<KeyPlace>>,
    runs: BTreeMap<u64, KeyRun>,
    /// Which shard is next to lose the places of runs that are gone; `None` when none has any.
    sweep: Option<usize>,
    max: usize,
}

/// Where a key lies.
#[derive(Clone, Copy, Debug)]
struct KeyPlace {
    print: u64,
    run: u64,
    row: u32,
}

impl Default for SeenKeys {
    fn default() -> Self {
        Self {
            fresh: KeyRows::new(),
            leaving: None,
            shards: (0..SHARDS).map(|_| HashTable::new()).collect(),
            runs: BTreeMap::new(),
            sweep: None,
            max: KEYS_MAX,
        }
    }
}

impl SeenKeys {
    /// What is remembered under `key`, expired or not.
    pub(super) fn find(&self, key: &[u8; 32]) -> Result<Option<SeenKey>, Fault> {
        if let Some(seen) = self.fresh.get(key) {
            return Ok(Some(*seen));
        }
        if let Some(seen) = self.leaving.as_ref().and_then(|leaving| leaving.get(key)) {
            return Ok(Some(*seen));
        }
        let (shard, print) = place_of(key);
        let mut found: Option<SeenKey> = None;
        for place in self.shards[shard].iter_hash(print).filter(|place| place.print == print) {
            let Some(run) = self.runs.get(&place.run) else { continue };
            let seen = run.read(place.row)?.and_then(|(at_place, seen)| (at_place == *key).then_some(seen));
            // A key that has expired can be in a later run once more.
            if let Some(seen) = seen
                && found.is_none_or(|other| other.expires_at < seen.expires_at)
            {
                found = Some(seen);
            }
        }
        Ok(found)
    }

    /// Remembers `seen` under `key`; what was remembered under it before has expired.
    pub(super) fn remember(&mut self, key: [u8; 32], seen: SeenKey) {
        self.fresh.insert(key, seen);
    }

    /// Keys that no checkpoint has taken yet.
    pub(super) fn fresh(&self) -> usize {
        self.fresh.len()
    }

    /// What a checkpoint is to write.
    pub(super) fn begin_checkpoint(&mut self) -> Arc<KeyRows> {
        let leaving = Arc::new(std::mem::take(&mut self.fresh));
        self.leaving = Some(Arc::clone(&leaving));
        leaving
    }

    /// The checkpoint is durable, and these are its runs.
    pub(super) fn end_checkpoint(&mut self, written: Vec<WrittenRun>) {
        for WrittenRun { run, keys } in written {
            for (row, key) in (0..).zip(&keys) {
                self.place(key, run.number(), row);
            }
            self.runs.insert(run.number(), run);
        }
        self.leaving = None;
        while self.places() > self.max
            && let Some((number, run)) = self.runs.pop_first()
        {
            tracing::warn!(
                keys = run.rows(),
                run = number,
                "too many keys of requests are alive; repeats of the oldest ones are carried out again"
            );
            self.sweep = Some(0);
            while self.sweep.is_some() {
                self.sweep_one_shard();
            }
        }
    }

    /// A run that was found at the start, with its keys in order.
    pub(super) fn load(&mut self, run: KeyRun, keys: impl Iterator<Item = (u32, [u8; 32])>) {
        for (row, key) in keys {
            self.place(&key, run.number(), row);
        }
        self.runs.insert(run.number(), run);
    }

    /// The number of the next run.
    pub(super) fn next_run(&self) -> u64 {
        self.runs.last_key_value().map_or(1, |(number, _)| number + 1)
    }

    /// The runs that are kept, with how many keys each has and when its last key expires. A checkpoint drops those that
    /// are not among them.
    pub(super) fn alive(&self) -> Vec<RunName> {
        self.runs.values().map(KeyRun::name).collect()
    }

    /// Gives up the runs whose last key has expired, and a part of the places that pointed into such runs.
    pub(super) fn expire(&mut self, now: UnixMillis) {
        let before = self.runs.len();
        self.runs.retain(|_, run| now < run.name().expires_at);
        if self.runs.len() < before {
            self.sweep = Some(0);
        }
        self.sweep_one_shard();
    }

    fn sweep_one_shard(&mut self) {
        let Some(shard) = self.sweep else { return };
        let Self { shards, runs, .. } = self;
        shards[shard].retain(|place| runs.contains_key(&place.run));
        shards[shard].shrink_to_fit(|place| place.print);
        self.sweep = (shard + 1 < SHARDS).then_some(shard + 1);
    }

    fn place(&mut self, key: &[u8; 32], run: u64, row: u32) {
        let (shard, print) = place_of(key);
        self.shards[shard].insert_unique(print, KeyPlace { print, run, row }, |place| place.print);
    }

    fn places(&self) -> usize {
        self.shards.iter().map(HashTable::len).sum()
    }
}

/// A key's shard, and the bits that are kept of it. Keys are hashes, so any bits are as good as others.
fn place_of(key: &[u8; 32]) -> (usize, u64) {
    let print = key[8..].first_chunk::<8>().map_or(0, |bytes| u64::from_le_bytes(*bytes));
    (usize::from(key[0]) % SHARDS, print)
}

#[cfg(test)]
mod tests {
    use batoff_types::TaskId;

    use super::*;

    fn key(number: u64) -> [u8; 32] {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&number.to_le_bytes());
        key[8..16].copy_from_slice(&number.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_le_bytes());
        key
    }

    fn seen(seq: u64, expires_at: u64) -> SeenKey {
        SeenKey {
            seq,
            task: TaskId::from_bytes([1; 16]),
            body_hash: [2; 32],
            first_at: UnixMillis(seq),
            expires_at: UnixMillis(expires_at),
        }
    }

    fn checkpoint(keys: &mut SeenKeys, dir: &std::path::Path, now: u64) {
        let rows = keys.begin_checkpoint();
        let written = write_runs(dir, keys.next_run(), &rows, UnixMillis(now)).unwrap();
        keys.end_checkpoint(written);
    }

    #[test]
    fn a_key_is_found_wherever_it_lies_until_its_run_has_expired() {
        let dir = tempfile::tempdir().unwrap();
        let hour = 3_600_000;
        let mut keys = SeenKeys::default();
        for number in 0..100 {
            keys.remember(key(number), seen(number + 1, if number < 50 { 1_000 } else { 5 * hour }));
        }
        checkpoint(&mut keys, dir.path(), 0);
        assert_eq!(keys.alive().len(), 2, "what lives long and what does not lie apart");
        for number in 100..150 {
            keys.remember(key(number), seen(number + 1, 2_000));
        }
        let leaving = keys.begin_checkpoint();
        keys.remember(key(150), seen(151, 2_000));
        for number in 0..=150 {
            let found = keys.find(&key(number)).unwrap().map(|seen| seen.seq);
            assert_eq!(found, Some(number + 1));
        }
        assert_eq!(keys.find(&key(151)).unwrap(), None);
        keys.end_checkpoint(write_runs(dir.path(), keys.next_run(), &leaving, UnixMillis(0)).unwrap());
        // A key that expired and came once more is the newer one.
        keys.remember(key(0), seen(900, 3_000));
        checkpoint(&mut keys, dir.path(), 0);
        assert_eq!(keys.find(&key(0)).unwrap().map(|seen| seen.seq), Some(900));

        for _ in 0..=SHARDS {
            keys.expire(UnixMillis(2_500));
        }
        assert_eq!(keys.find(&key(1)).unwrap(), None);
        assert_eq!(keys.find(&key(120)).unwrap(), None);
        assert_eq!(keys.find(&key(0)).unwrap().map(|seen| seen.seq), Some(900));
        assert_eq!(keys.find(&key(77)).unwrap().map(|seen| seen.seq), Some(78));
        assert_eq!(keys.places(), 52, "50 long ones, one of key 0, and key 150 with it");
    }

    #[test]
    fn over_the_limit_the_oldest_run_is_given_up() {
        let dir = tempfile::tempdir().unwrap();
        let mut keys = SeenKeys { max: 100, ..SeenKeys::default() };
        for round in 0..3 {
            for number in 0..40 {
                keys.remember(key(40 * round + number), seen(1, 9_000));
            }
            checkpoint(&mut keys, dir.path(), 0);
        }
        assert_eq!(keys.places(), 80);
        assert_eq!(keys.find(&key(0)).unwrap(), None);
        assert!(keys.find(&key(40)).unwrap().is_some());
    }
}
