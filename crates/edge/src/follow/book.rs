//! Where the control planes are, as they said themselves.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use batoff_types::Replica;
use batoff_types::message::ReplicaAt;

use crate::config::Endpoint;

/// Each replica that this node keeps a stream to, and where it is reached.
#[derive(Debug, Default)]
pub(super) struct AddressBook {
    places: BTreeMap<Replica, ReplicaPlace>,
    /// Those of the last list that any of them sent.
    listed: BTreeSet<Replica>,
}

#[derive(Debug)]
struct ReplicaPlace {
    endpoint: Endpoint,
    text: Arc<str>,
    /// The replica itself has said so, in this run of the daemon.
    own_word: bool,
}

impl AddressBook {
    /// What was stored, as far as `allowed` takes it.
    pub(super) fn of(
        stored: &BTreeMap<Replica, Arc<str>>,
        allowed: impl Fn(&str) -> Option<Endpoint>,
    ) -> Self {
        let place = |(replica, text): (&Replica, &Arc<str>)| {
            let place = ReplicaPlace { endpoint: allowed(text)?, text: Arc::clone(text), own_word: false };
            Some((*replica, place))
        };
        let places: BTreeMap<_, _> = stored.iter().filter_map(place).collect();
        Self { listed: places.keys().copied().collect(), places }
    }

    /// Replica `from` sent this list. Gives those that are to be reached elsewhere than before.
    ///
    /// Lists of different replicas may cross. So what a replica says of itself stands for as long as there is a stream to it.
    pub(super) fn learn(
        &mut self,
        from: Replica,
        list: &[ReplicaAt],
        is_linked: impl Fn(Replica) -> bool,
        allowed: impl Fn(&str) -> Option<Endpoint>,
    ) -> Vec<Replica> {
        self.listed = list.iter().map(|at| at.replica).collect();
        if let Some(place) = self.places.get_mut(&from) {
            place.own_word = self.listed.contains(&from);
        }
        let mut moved = Vec::new();
        for ReplicaAt { replica, endpoint: text } in list {
            let own_word = *replica == from;
            let known = self.places.get_mut(replica);
            if let Some(known) = &known
                && known.own_word
                && !own_word
                && is_linked(*replica)
            {
                continue;
            }
            match known {
                Some(known) if known.text == *text => known.own_word |= own_word,
                _ => {
                    let Some(endpoint) = allowed(text) else { continue };
                    let place = ReplicaPlace { endpoint, text: Arc::clone(text), own_word };
                    if self.places.insert(*replica, place).is_some() {
                        moved.push(*replica);
                    }
                }
            }
        }
        moved
    }

    /// Forgets those that nobody lists any more, unless they are `needed`, or the replica itself says on a stream where it is.
    pub(super) fn forget(
        &mut self,
        is_needed: impl Fn(Replica) -> bool,
        is_linked: impl Fn(Replica) -> bool,
    ) {
        let Self { places, listed } = self;
        places.retain(|replica, place| {
            listed.contains(replica) || is_needed(*replica) || (place.own_word && is_linked(*replica))
        });
    }

    pub(super) fn endpoint(&self, replica: Replica) -> Option<&Endpoint> {
        self.places.get(&replica).map(|place| &place.endpoint)
    }

    pub(super) fn contains(&self, replica: Replica) -> bool {
        self.places.contains_key(&replica)
    }

    pub(super) fn replicas(&self) -> impl Iterator<Item = Replica> {
        self.places.keys().copied()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// To be stored.
    pub(super) fn texts(&self) -> BTreeMap<Replica, Arc<str>> {
        self.places.iter().map(|(replica, place)| (*replica, Arc::clone(&place.text))).collect()
    }

    /// Whether this is what [`AddressBook::texts`] gives.
    pub(super) fn is(&self, texts: &BTreeMap<Replica, Arc<str>>) -> bool {
        self.places.len() == texts.len()
            && self.places.iter().zip(texts).all(|((a, place), (b, text))| a == b && place.text == *text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(text: &str) -> Option<Endpoint> {
        Endpoint::unchecked(text).filter(|_| text.starts_with("https://"))
    }

    fn list(places: &[(u8, &str)]) -> Vec<ReplicaAt> {
        let at = |(replica, endpoint): &(u8, &str)| ReplicaAt {
            replica: Replica(*replica),
            endpoint: (*endpoint).into(),
        };
        places.iter().map(at).collect()
    }

    fn told(book: &AddressBook) -> Vec<(u8, String)> {
        book.texts().iter().map(|(replica, text)| (replica.0, text.to_string())).collect()
    }

    #[test]
    fn a_replica_knows_best_where_it_is_for_as_long_as_it_can_be_asked() {
        let mut book = AddressBook::default();
        let (one, two, three) = (Replica(1), Replica(2), Replica(3));
        let first = list(&[(1, "https://a"), (2, "https://b"), (3, "http://not-allowed")]);
        assert_eq!(book.learn(one, &first, |_| true, allowed), []);
        assert_eq!(told(&book), [(1, "https://a".to_owned()), (2, "https://b".to_owned())]);
        let moved = list(&[(1, "https://a"), (2, "https://b2"), (3, "https://c")]);
        assert_eq!(book.learn(two, &moved, |_| true, allowed), [two]);
        // The list of one that is late with what it reads.
        assert_eq!(book.learn(one, &first, |_| true, allowed), []);
        assert_eq!(book.endpoint(two), Endpoint::unchecked("https://b2").as_ref());
        assert_eq!(book.learn(three, &first, |replica| replica != two, allowed), [two], "it may be right");
        assert!(book.is(&book.texts()) && !book.is(&BTreeMap::new()));
    }

    #[test]
    fn one_that_is_not_listed_any_more_is_left_when_nothing_needs_it() {
        let mut book = AddressBook::default();
        let all = list(&[(1, "https://a"), (2, "https://b"), (3, "https://c"), (4, "https://d")]);
        book.learn(Replica(3), &all, |_| true, allowed);
        book.learn(Replica(1), &list(&[(1, "https://a")]), |_| true, allowed);
        book.forget(|replica| replica == Replica(2), |_| true);
        assert_eq!(book.replicas().collect::<Vec<_>>(), [1, 2, 3].map(Replica));
        book.forget(|_| false, |_| false);
        assert_eq!(book.replicas().collect::<Vec<_>>(), [Replica(1)]);
    }
}
