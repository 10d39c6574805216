use std::collections::VecDeque;

use batoff_types::{Body, Moment, Record};

/// A record, and when it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// The record.
    pub record: Record,
    /// When it came, by the node's clock; the times of a report count from here.
    pub at: Moment,
}

/// Records received and not yet polled, counted and weighed.
#[derive(Debug)]
pub(super) struct Queue {
    records: VecDeque<Received>,
    bytes: usize,
    records_max: usize,
    bytes_max: usize,
}

impl Queue {
    pub(super) const fn new(records_max: usize, bytes_max: usize) -> Self {
        Self { records: VecDeque::new(), bytes: 0, records_max, bytes_max }
    }

    pub(super) fn push(&mut self, received: Received) {
        self.bytes += weight(&received.record);
        self.records.push_back(received);
    }

    pub(super) fn pop(&mut self) -> Option<Received> {
        let received = self.records.pop_front()?;
        self.bytes -= weight(&received.record);
        Some(received)
    }

    pub(super) fn clear(&mut self) {
        self.records.clear();
        self.bytes = 0;
    }

    pub(super) fn is_full(&self) -> bool {
        self.records.len() >= self.records_max || self.bytes >= self.bytes_max
    }

    pub(super) fn len(&self) -> usize {
        self.records.len()
    }
}

/// About how many bytes of memory a record takes.
fn weight(record: &Record) -> usize {
    /// A hostname or selector besides its text: the enum, two reference counts, the allocator's own.
    const ITEM: usize = 96;
    let body = match &record.body {
        Body::Purge(purge) => purge.selectors.iter().map(|selector| ITEM + selector.value().len()).sum(),
        Body::Site(change) => {
            let names = change.hostnames.as_ref().map_or(0, Vec::len) + change.affected.len();
            names * (ITEM + 64)
        }
        Body::NodeRegistered(_) | Body::NodeRemoved(_) | Body::ReplicaSet(_) | Body::Unknown => 0,
    };
    size_of::<Received>() + record.request_id.len() + body
}
