use std::collections::HashSet;
use std::time::SystemTime;

use parking_lot::Mutex;
use pingora::cache::CacheMeta;
use pingora::cache::key::HashBinary;

use crate::page::Page;

/// Objects remembered. Over it all are forgotten, and whatever was stored before then is fetched anew.
const OBJECTS_MAX: usize = 65_536;

/// Stored objects that their origin has taken back without giving anything else to be stored. The proxy's storage still
/// has them, and a soft purge would let it serve them until their stale window ends (RFC 9111, section 4.3.3).
#[derive(Debug, Default)]
pub(crate) struct Withdrawn(Mutex<TakenBack>);

#[derive(Debug, Default)]
struct TakenBack {
    objects: HashSet<StoredVersion>,
    /// Whatever was stored or confirmed by then counts as taken back.
    everything_until: Option<SystemTime>,
}

/// One stored object of a page; another takes its place with another time.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct StoredVersion {
    key: Vec<u8>,
    variance: Option<HashBinary>,
    since: SystemTime,
}

impl StoredVersion {
    pub(crate) fn of(page: &Page, meta: &CacheMeta) -> Self {
        Self { key: page.key.clone(), variance: meta.variance(), since: meta.epoch() }
    }
}

impl Withdrawn {
    pub(crate) fn contains(&self, object: &StoredVersion) -> bool {
        let state = self.0.lock();
        state.everything_until.is_some_and(|until| object.since <= until) || state.objects.contains(object)
    }

    pub(crate) fn note(&self, object: StoredVersion) {
        let mut state = self.0.lock();
        if state.objects.len() >= OBJECTS_MAX {
            state.objects.clear();
            // The latest of both, should the clock have been set back.
            let now = SystemTime::now().max(object.since);
            state.everything_until = Some(state.everything_until.map_or(now, |until| until.max(now)));
        } else {
            state.objects.insert(object);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn object(number: usize, since: SystemTime) -> StoredVersion {
        StoredVersion { key: number.to_string().into_bytes(), variance: None, since }
    }

    #[test]
    fn what_was_taken_back_is_known_until_something_else_is_stored() {
        let (withdrawn, then) = (Withdrawn::default(), SystemTime::UNIX_EPOCH);
        withdrawn.note(object(1, then));
        assert!(withdrawn.contains(&object(1, then)) && !withdrawn.contains(&object(2, then)));
        assert!(!withdrawn.contains(&object(1, then + Duration::from_secs(1))));
    }

    #[test]
    fn what_is_forgotten_counts_as_taken_back() {
        let (withdrawn, then) = (Withdrawn::default(), SystemTime::UNIX_EPOCH);
        for number in 0..OBJECTS_MAX {
            withdrawn.note(object(number, then));
        }
        assert!(!withdrawn.contains(&object(OBJECTS_MAX + 1, then)));
        withdrawn.note(object(OBJECTS_MAX, then));
        for number in [1, OBJECTS_MAX, OBJECTS_MAX + 1] {
            assert!(withdrawn.contains(&object(number, then)));
        }
        assert!(!withdrawn.contains(&object(1, SystemTime::now() + Duration::from_secs(60))));
    }
}
