//! The engine: the log, the seats, and what is recorded as done. Linearizable, and sometimes out of reach.

use std::collections::BTreeMap;

use batoff_delivery::{LogView, ReplicaSet, SeatAnswer, SeatRecord, SeatRequest, SetHistory};
use batoff_types::{Cursor, LogId, Record, Replica, SEMANTICS_VERSION, Seq, TaskId, UnixMillis};

use super::cluster::{Cluster, Step};
use crate::Switch;

pub(super) const LOG: LogId = LogId::from_bytes([1; 16]);

/// What a record says.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Entry {
    Purge,
    /// A node, by its number, counts from here on.
    Registered(usize),
    Removed(usize),
    Set(ReplicaSet),
}

/// What a process asks of the engine.
#[derive(Clone, Debug)]
pub(super) enum Call {
    Seat(SeatRequest),
    /// Completed through there.
    Record(Cursor),
}

/// What came of it.
#[derive(Clone, Debug)]
pub(super) enum Reply {
    Seat(SeatAnswer),
    /// What is recorded now; `None`: the engine was out of reach.
    Recorded(Option<Cursor>),
}

#[derive(Debug)]
pub(super) struct Engine {
    pub(super) entries: Vec<(u64, Entry)>,
    /// The first record that is retained.
    pub(super) first: u64,
    pub(super) seats: BTreeMap<Replica, SeatRecord>,
    pub(super) done: Cursor,
    pub(super) down_until: u64,
    pub(super) initial: ReplicaSet,
}

impl Engine {
    pub(super) const fn new(initial: ReplicaSet) -> Self {
        Self {
            entries: Vec::new(),
            first: 1,
            seats: BTreeMap::new(),
            done: Cursor::START,
            down_until: 0,
            initial,
        }
    }

    pub(super) fn head(&self) -> Cursor {
        Cursor::new(self.entries.len() as u64)
    }

    pub(super) fn view(&self, tail: Cursor) -> LogView {
        LogView { log_id: LOG, first: Cursor::new(self.first - 1).next(), tail }
    }

    pub(super) fn entry(&self, seq: u64) -> Option<&Entry> {
        self.entries.get(usize::try_from(seq).ok()?.checked_sub(1)?).map(|(_, entry)| entry)
    }

    /// The sets as somebody knows them who has read through there.
    pub(super) fn sets_through(&self, tail: Cursor) -> SetHistory {
        let mut sets = SetHistory::new(Cursor::START, self.initial.clone());
        for (index, (_, entry)) in self.entries.iter().enumerate().take(tail.get() as usize) {
            if let (Entry::Set(set), Some(seq)) = (entry, Seq::new(index as u64 + 1)) {
                sets.handle_set(seq, set.clone());
            }
        }
        sets
    }

    pub(super) fn set_at(&self, cursor: Cursor) -> ReplicaSet {
        self.sets_through(cursor).as_of(cursor).clone()
    }

    /// The task of the record right before the cursor, if that is retained.
    pub(super) fn task_at(&self, cursor: Cursor) -> Option<TaskId> {
        let seq = cursor
            .last()
            .filter(|seq| seq.get() >= self.first && *seq <= self.head().last().unwrap_or(*seq))?;
        Some(task(seq))
    }

    pub(super) fn records(first: Seq, last: Seq) -> Vec<Record> {
        let record = |number: u64| {
            let seq = Seq::new(number)?;
            Some(Record {
                seq,
                accepted_at: UnixMillis(0),
                task: task(seq),
                request_id: "".into(),
                semantics: SEMANTICS_VERSION,
                trace: None,
                body: batoff_types::Body::Unknown,
            })
        };
        (first.get()..=last.get()).filter_map(record).collect()
    }
}

fn task(seq: Seq) -> TaskId {
    TaskId::from_bytes(u128::from(seq.get()).to_be_bytes())
}

impl Cluster {
    /// A record is durable. Whoever follows the log hears of it.
    pub(super) fn append(&mut self, entry: Entry) {
        self.say("log", || format!("#{} {entry:?}", self.engine.entries.len() + 1));
        self.outcome.records += 1;
        self.engine.entries.push((self.now, entry));
        for process in 0..self.processes.len() {
            self.watch(process);
        }
    }

    /// The process will be told how far the log is.
    pub(super) fn watch(&mut self, process: usize) {
        let delay = self.watch_delay();
        let to = self.engine.head();
        self.after(delay, Step::Follow { process, to });
    }

    fn watch_delay(&mut self) -> f64 {
        if self.is_wild() && self.random.chance(0.5) {
            self.random.around(0.33)
        } else {
            self.random.between(0.002, 0.04)
        }
    }

    pub(super) fn call(&mut self, process: usize, call: Call) {
        let way = self.random.between(0.001, 0.02);
        self.after(way, Step::Asked { process, call });
    }

    fn is_cut(&self, process: usize) -> bool {
        self.engine.down_until > self.now || self.processes[process].cut_until > self.now
    }

    /// A call arrives, or does not.
    pub(super) fn asked(&mut self, process: usize, call: Call) {
        if self.is_cut(process) {
            let reply = Self::no_reply(&call);
            return self.after(0.2, Step::Answered { process, reply, counts: false });
        }
        let replica = self.processes[process].replica;
        let reply = match call {
            Call::Seat(SeatRequest::Read) => {
                Reply::Seat(SeatAnswer::Record(self.engine.seats.get(&replica).cloned()))
            }
            Call::Seat(SeatRequest::Head) => {
                let stale = self.without == Some(Switch::StaleHead);
                let less = if stale { self.random.below(13) as u64 } else { 0 };
                Reply::Seat(SeatAnswer::Head(Cursor::new(self.engine.head().get().saturating_sub(less))))
            }
            Call::Seat(SeatRequest::Replace { expected, new }) => {
                Reply::Seat(if self.engine.seats.get(&replica) == expected.as_ref() {
                    self.say(&replica.to_string(), || format!("takes its seat: {new:?}"));
                    self.engine.seats.insert(replica, new);
                    SeatAnswer::Replaced
                } else {
                    SeatAnswer::Conflict
                })
            }
            Call::Record(through) => {
                self.record_done(through);
                Reply::Recorded(Some(self.engine.done))
            }
        };
        let back = self.random.between(0.001, if self.is_wild() { 0.2 } else { 0.02 });
        self.after(back, Step::Answered { process, reply, counts: true });
    }

    pub(super) const fn no_reply(call: &Call) -> Reply {
        match call {
            Call::Seat(_) => Reply::Seat(SeatAnswer::Unknown),
            Call::Record(_) => Reply::Recorded(None),
        }
    }

    fn record_done(&mut self, through: Cursor) {
        if through <= self.engine.done {
            return;
        }
        self.engine.done = through;
        self.verdict.done(self.now, through);
        for process in 0..self.processes.len() {
            let delay = self.watch_delay();
            self.after(delay, Step::DoneSeen { process, done: through });
        }
    }
}
