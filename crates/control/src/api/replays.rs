//! Submissions that were accepted lately, so that a repeat is answered before its items and the quota are looked at: a
//! client that resends must get its reply even if the quota is used up by now.
//!
//! A cache and no more: what is not in here is recognised by the log, when the repeat is appended.

use std::collections::{HashMap, VecDeque};

use batoff_log::Dedupe;
use batoff_types::UnixMillis;
use parking_lot::Mutex;

use crate::commit::Accepted;

/// Keys remembered. The oldest is forgotten first; its repeats then go the longer way, through items, quota and log.
const KEYS_MAX: usize = 131_072;

/// What is known of a repeat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KnownRepeat {
    /// The same request was accepted; this is its reply.
    Repeat(Accepted),
    /// One of its keys was used with another body.
    Conflict,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Replays {
    memory: Mutex<Memory>,
}

#[derive(Debug, Default)]
struct Memory {
    by_key: HashMap<[u8; 32], Remembered>,
    oldest_first: VecDeque<[u8; 32]>,
}

#[derive(Clone, Debug)]
struct Remembered {
    accepted: Accepted,
    body_hash: [u8; 32],
    expires_at: UnixMillis,
}

impl Replays {
    /// What is known under these keys at `now`. A conflict of any key wins; the rule for a single key is the log's
    /// ([`Dedupe`]): within its `fresh_for_ms` a repeat is a new purge.
    pub fn find(&self, keys: &[Dedupe], now: UnixMillis) -> Option<KnownRepeat> {
        let memory = self.memory.lock();
        let mut repeat = None;
        for key in keys {
            let Some(first) = memory.by_key.get(&key.key).filter(|first| now < first.expires_at) else {
                continue;
            };
            if first.body_hash != key.body_hash {
                return Some(KnownRepeat::Conflict);
            }
            let fresh_until = first.accepted.accepted_at.0.saturating_add(key.fresh_for_ms);
            if key.fresh_for_ms == 0 || now.0 >= fresh_until {
                repeat.get_or_insert_with(|| {
                    KnownRepeat::Repeat(Accepted { replayed: true, ..first.accepted.clone() })
                });
            }
        }
        repeat
    }

    /// Remembers an accepted submission. The first under a key stays until it expires, as in the log.
    pub fn remember(&self, keys: &[Dedupe], accepted: &Accepted, now: UnixMillis) {
        let mut memory = self.memory.lock();
        for key in keys {
            let first = memory.by_key.get(&key.key);
            if first.is_some_and(|first| now < first.expires_at) {
                continue;
            }
            let remembered = Remembered {
                accepted: accepted.clone(),
                body_hash: key.body_hash,
                expires_at: key.expires_at,
            };
            if memory.by_key.insert(key.key, remembered).is_none() {
                memory.oldest_first.push_back(key.key);
            }
            if memory.oldest_first.len() > KEYS_MAX
                && let Some(oldest) = memory.oldest_first.pop_front()
            {
                memory.by_key.remove(&oldest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use batoff_types::{Seq, TaskId};

    use super::*;

    fn key(n: u8, body: u8, fresh_for_ms: u64) -> Dedupe {
        Dedupe { key: [n; 32], body_hash: [body; 32], fresh_for_ms, expires_at: UnixMillis(600_000) }
    }

    fn accepted(n: u8, at: u64) -> Accepted {
        Accepted {
            task: TaskId::from_bytes([n; 16]),
            seq: Seq::FIRST,
            accepted_at: UnixMillis(at),
            items_total: 1,
            replayed: false,
        }
    }

    fn task(known: Option<KnownRepeat>) -> Option<TaskId> {
        match known? {
            KnownRepeat::Repeat(accepted) => Some(accepted.task),
            KnownRepeat::Conflict => panic!("a conflict"),
        }
    }

    #[test]
    fn a_repeat_is_new_within_its_fresh_time_and_known_after_it_until_it_expires() {
        let replays = Replays::default();
        let signature = key(1, 1, 2_000);
        replays.remember(std::slice::from_ref(&signature), &accepted(1, 10_000), UnixMillis(10_000));
        let find = |at| replays.find(std::slice::from_ref(&signature), UnixMillis(at));
        assert_eq!(find(11_999), None);
        assert_eq!(task(find(12_000)), Some(accepted(1, 0).task));
        assert_eq!(task(find(599_999)), Some(accepted(1, 0).task));
        assert_eq!(find(600_000), None);
        // A new purge within the fresh time does not take the first one's place.
        replays.remember(std::slice::from_ref(&signature), &accepted(2, 11_000), UnixMillis(11_000));
        assert_eq!(task(find(12_500)), Some(accepted(1, 0).task));
    }

    #[test]
    fn an_idempotency_key_is_known_at_once_and_conflicts_with_another_body() {
        let replays = Replays::default();
        replays.remember(&[key(1, 1, 2_000), key(2, 1, 0)], &accepted(1, 0), UnixMillis(0));
        assert_eq!(
            task(replays.find(&[key(3, 1, 2_000), key(2, 1, 0)], UnixMillis(1))),
            Some(accepted(1, 0).task)
        );
        assert_eq!(replays.find(&[key(2, 9, 0)], UnixMillis(1)), Some(KnownRepeat::Conflict));
    }

    #[test]
    fn the_oldest_is_forgotten_first() {
        let replays = Replays::default();
        let keys = |n: usize| {
            let mut key = key(0, 0, 0);
            key.key[..8].copy_from_slice(&n.to_be_bytes());
            [key]
        };
        for n in 0..=KEYS_MAX {
            replays.remember(&keys(n), &accepted(1, 0), UnixMillis(0));
        }
        assert_eq!(replays.find(&keys(0), UnixMillis(1)), None);
        assert!(replays.find(&keys(1), UnixMillis(1)).is_some());
        assert_eq!(replays.memory.lock().by_key.len(), KEYS_MAX);
    }
}
