//! Files that cannot be served any more and still lie in the directory.
//!
//! To spoil a file is to write eight bytes; to unlink it is work for the file system, and where files have reached the disk
//! it takes ten times as long and longer. Nothing is proved by it, so it is done behind the purge, by `unlink`.
//!
//! A power cut may undo either, as both reach the disk some seconds later. What was purged meets its rule again when the next
//! daemon reads the directory: rules outlive it for ten minutes at least.

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::name::FileName;

/// Files that are unlinked before the thread waits for `watch` to hear of them: each is an event, and the kernel's queue is
/// finite.
const AT_ONCE: usize = 512;

/// The longest wait for some.
const PAUSE: Duration = Duration::from_secs(1);

/// What is to be unlinked, oldest first.
#[derive(Debug, Default)]
pub(super) struct Spoiled {
    files: Mutex<Waiting>,
    some: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    order: VecDeque<FileName>,
    names: HashSet<FileName>,
}

impl Spoiled {
    /// This file is spoiled.
    pub(super) fn add(&self, name: FileName) {
        let mut files = self.files.lock();
        if files.names.insert(name) {
            files.order.push_back(name);
            self.some.notify_one();
        }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.files.lock().order.len()
    }

    /// Takes the oldest, or waits a while for some.
    pub(super) fn take(&self) -> Vec<FileName> {
        let mut files = self.files.lock();
        if files.order.is_empty() {
            self.some.wait_for(&mut files, PAUSE);
        }
        let many = files.order.len().min(AT_ONCE);
        let taken: Vec<_> = files.order.drain(..many).collect();
        for name in &taken {
            files.names.remove(name);
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_file_waits_once_and_the_oldest_comes_first() {
        let spoiled = Spoiled::default();
        let name = |n: u8| FileName([n; 16]);
        for n in [3, 1, 3, 2] {
            spoiled.add(name(n));
        }
        assert_eq!((spoiled.len(), spoiled.take()), (3, vec![name(3), name(1), name(2)]));
        spoiled.add(name(3));
        assert_eq!((spoiled.take(), spoiled.len()), (vec![name(3)], 0), "spoiled anew, it waits anew");
    }
}
