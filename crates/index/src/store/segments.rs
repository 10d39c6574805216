//! A hash table in parts, so that none of its growths takes long.

/// The least room of a part that holds anything.
const ROOM_MIN: usize = 4;

/// Handles by hash, in `N` parts (a power of two, at most 64).
///
/// A part is an array in which handles lie in the order of their hashes, each as near as possible behind the place that
/// its hash says. So one stretch of memory answers, mostly one cache line; a search in vain ends as soon as one that
/// finds; and room need not double: it grows by a quarter, without a look at what the handles name. A part of 10,000
/// handles grows within some ten microseconds.
pub(crate) struct Segments<const N: usize> {
    parts: [Part; N],
}

#[derive(Default)]
struct Part {
    /// A handle and, above it, its hash; 0: nothing (no handle is 0). Handles that found no place within the room lie
    /// behind it.
    slots: Vec<u64>,
    room: usize,
    len: usize,
}

impl<const N: usize> Default for Segments<N> {
    fn default() -> Self {
        Self { parts: std::array::from_fn(|_| Part::default()) }
    }
}

impl<const N: usize> Segments<N> {
    /// The handle with this hash that `is_it` says yes to.
    #[inline]
    pub(crate) fn find(&self, hash: u64, is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        let part = &self.parts[part::<N>(hash)];
        part.find(hash as u32, is_it).map(|at| part.slots[at] as u32)
    }

    /// Reads where [`Segments::find`] begins. To be called for several before any is searched: a search goes on when it
    /// knows what it has found, but these do not wait for each other.
    #[inline]
    pub(crate) fn touch(&self, hash: u64) -> u64 {
        let part = &self.parts[part::<N>(hash)];
        part.slots.get(part.place(hash as u32)).copied().unwrap_or_default()
    }

    /// `handle` must not be 0.
    pub(crate) fn insert(&mut self, hash: u64, handle: u32) {
        self.parts[part::<N>(hash)].insert(slot(hash as u32, handle));
    }

    /// Puts `new` in the place of `old`.
    pub(crate) fn replace(&mut self, hash: u64, old: u32, new: u32) {
        let part = &mut self.parts[part::<N>(hash)];
        if let Some(at) = part.find(hash as u32, |handle| handle == old) {
            part.slots[at] = slot(hash as u32, new);
        }
    }

    pub(crate) fn remove(&mut self, hash: u64, handle: u32) {
        self.parts[part::<N>(hash)].remove(hash as u32, handle);
    }

    /// Memory held beyond `self`.
    pub(crate) fn bytes(&self) -> u64 {
        self.parts.iter().map(|part| (part.slots.capacity() * size_of::<u64>()) as u64).sum()
    }
}

impl Part {
    #[inline]
    fn find(&self, hash: u32, mut is_it: impl FnMut(u32) -> bool) -> Option<usize> {
        let from = self.place(hash);
        for (at, &slot) in self.slots.get(from..)?.iter().enumerate() {
            if slot == 0 || hash_in(slot) > hash {
                return None;
            }
            if hash_in(slot) == hash && is_it(slot as u32) {
                return Some(from + at);
            }
        }
        None
    }

    fn insert(&mut self, mut carried: u64) {
        // Four fifths: then a search looks at three slots on average.
        if (self.len + 1) * 5 > self.room * 4 {
            self.resize((self.room * 5 / 4 + 1).max(ROOM_MIN));
        }
        let mut at = self.place(hash_in(carried));
        // Whoever lies here and should lie further back moves on by one.
        while let Some(here) = self.slots.get_mut(at) {
            if *here == 0 || *here > carried {
                std::mem::swap(here, &mut carried);
            }
            if carried == 0 {
                break;
            }
            at += 1;
        }
        if carried != 0 {
            self.push(carried);
        }
        self.len += 1;
    }

    fn remove(&mut self, hash: u32, handle: u32) {
        let Some(mut at) = self.find(hash, |other| other == handle) else { return };
        self.slots[at] = 0;
        self.len -= 1;
        // Whoever was pushed back comes forward by one.
        while let Some(&next) = self.slots.get(at + 1)
            && next != 0
            && self.place(hash_in(next)) <= at
        {
            self.slots.swap(at, at + 1);
            at += 1;
        }
        if self.len == 0 {
            *self = Self::default();
        } else if self.len * 4 < self.room && self.room > ROOM_MIN {
            self.resize((self.len * 3 / 2).max(ROOM_MIN));
        }
    }

    fn resize(&mut self, room: usize) {
        let mut slots = Vec::with_capacity(room + room / 64 + 2);
        std::mem::swap(&mut self.slots, &mut slots);
        self.room = room;
        // In the order of their hashes, so each goes behind the one before, or further on.
        for slot in slots.into_iter().filter(|&slot| slot != 0) {
            let place = self.place(hash_in(slot));
            if place > self.slots.len() {
                self.slots.resize(place, 0);
            }
            self.push(slot);
        }
        if self.slots.len() < room {
            self.slots.resize(room, 0);
        }
    }

    fn push(&mut self, slot: u64) {
        if self.slots.len() == self.slots.capacity() {
            self.slots.reserve_exact(8);
        }
        self.slots.push(slot);
    }

    #[inline]
    fn place(&self, hash: u32) -> usize {
        ((u64::from(hash) * self.room as u64) >> 32) as usize
    }
}

/// The parts are told apart by bits that neither the shard nor the place is taken from.
const fn part<const N: usize>(hash: u64) -> usize {
    const { assert!(N.is_power_of_two() && N <= 64) };
    (hash >> 52) as usize & (N - 1)
}

const fn slot(hash: u32, handle: u32) -> u64 {
    (hash as u64) << 32 | handle as u64
}

const fn hash_in(slot: u64) -> u32 {
    (slot >> 32) as u32
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn in_order(part: &Part) -> bool {
        let mut before = 0;
        part.slots.iter().enumerate().all(|(at, &slot)| {
            let fits = slot == 0 || slot > before && part.place(hash_in(slot)) <= at;
            // Nothing empty lies between a handle and its place.
            let reached =
                slot == 0 || part.slots[part.place(hash_in(slot))..at].iter().all(|&other| other != 0);
            before = before.max(slot);
            fits && reached
        })
    }

    proptest! {
        #[test]
        fn what_was_put_in_and_not_taken_out_is_found(
            steps in proptest::collection::vec((any::<bool>(), 1_u32..200, 0_u32..12), 1..500),
        ) {
            let mut part = Part::default();
            let mut model = BTreeSet::new();
            for (remove, handle, at_end) in steps {
                // Few hashes, many at the end of the room: runs, and handles behind the room.
                let hash = if at_end < 6 { u32::MAX - handle % 3 } else { (handle % 7) << 28 };
                if remove {
                    part.remove(hash, handle);
                    model.remove(&(hash, handle));
                } else if model.insert((hash, handle)) {
                    part.insert(slot(hash, handle));
                }
                prop_assert!(in_order(&part), "{:x?}", part.slots);
                prop_assert_eq!(part.len, model.len());
                for &(hash, handle) in &model {
                    prop_assert!(part.find(hash, |other| other == handle).is_some());
                }
                let absent = part.find(hash, |other| other == handle).is_some();
                prop_assert_eq!(absent, model.contains(&(hash, handle)));
            }
            for (hash, handle) in model {
                part.remove(hash, handle);
            }
            prop_assert_eq!(part.slots.capacity(), 0);
        }
    }
}
