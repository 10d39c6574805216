//! A hash table in parts, so that none of its growths takes long.

/// The least room of a part that holds anything.
const ROOM_MIN: usize = 4;

/// Slots that most searches look at: what is touched, so that the line that they may reach into is there, too.
const SEARCHED: usize = 4;

/// Handles by hash, each with a value beside it, in `N` parts (a power of two, at most 64).
///
/// What is needed as soon as a handle is found stands here and not where the handle leads: then one wait for memory gives
/// both. A part is an array in which handles lie in the order of their hashes, each as near as possible behind the place that
/// its hash says. So one stretch of memory answers, mostly one cache line; a search in vain ends as soon as one that
/// finds; and room need not double: it grows by a quarter, without a look at what the handles name. A part of 10,000
/// handles grows within some ten microseconds.
pub(crate) struct Segments<const N: usize, V = ()> {
    parts: [Segment<V>; N],
}

struct Segment<V> {
    /// Handles that found no place within the room lie behind it.
    slots: Vec<Cell<V>>,
    room: usize,
    len: usize,
}

/// Its members are such that a value of four bytes makes it one of twelve.
#[derive(Debug, Default)]
struct Cell<V> {
    hash: u32,
    /// 0: nothing.
    handle: u32,
    value: V,
}

impl<V> Cell<V> {
    /// What slots are in the order of.
    #[inline]
    const fn order(&self) -> u64 {
        (self.hash as u64) << 32 | self.handle as u64
    }
}

impl<const N: usize, V> Default for Segments<N, V> {
    fn default() -> Self {
        Self { parts: std::array::from_fn(|_| Segment::default()) }
    }
}

impl<V> Default for Segment<V> {
    fn default() -> Self {
        Self { slots: Vec::new(), room: 0, len: 0 }
    }
}

impl<const N: usize, V: Default> Segments<N, V> {
    /// The handle with this hash that `is_it` says yes to.
    #[inline]
    pub(crate) fn find(&self, hash: u64, is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        self.find_with_value(hash, is_it).map(|(handle, _)| handle)
    }

    /// As [`Segments::find`], with what stands beside the handle.
    #[inline]
    pub(crate) fn find_with_value(&self, hash: u64, is_it: impl FnMut(u32) -> bool) -> Option<(u32, &V)> {
        let part = &self.parts[part::<N>(hash)];
        let at = part.find(hash as u32, is_it)?;
        let slot = part.slots.get(at)?;
        Some((slot.handle, &slot.value))
    }

    /// Reads where [`Segments::find`] begins. To be called for several before any is searched: a search goes on when it
    /// knows what it has found, but these do not wait for each other.
    #[inline]
    pub(crate) fn touch(&self, hash: u64) -> u64 {
        let part = &self.parts[part::<N>(hash)];
        let place = part.place(hash as u32);
        let order_at = |at: usize| part.slots.get(at).map_or(0, Cell::order);
        order_at(place) ^ order_at(place + SEARCHED)
    }

    /// `handle` must not be 0.
    pub(crate) fn insert(&mut self, hash: u64, handle: u32, value: V) {
        self.parts[part::<N>(hash)].insert(Cell { hash: hash as u32, handle, value });
    }

    /// Puts `new` and its value in the place of `old` and its.
    pub(crate) fn replace(&mut self, hash: u64, old: u32, new: u32, value: V) {
        let part = &mut self.parts[part::<N>(hash)];
        if let Some(at) = part.find(hash as u32, |handle| handle == old) {
            part.slots[at] = Cell { hash: hash as u32, handle: new, value };
        }
    }

    pub(crate) fn remove(&mut self, hash: u64, handle: u32) {
        self.parts[part::<N>(hash)].remove(hash as u32, handle);
    }

    /// Memory held beyond `self`.
    pub(crate) fn bytes(&self) -> u64 {
        self.parts.iter().map(|part| (part.slots.capacity() * size_of::<Cell<V>>()) as u64).sum()
    }
}

impl<V: Default> Segment<V> {
    #[inline]
    fn find(&self, hash: u32, mut is_it: impl FnMut(u32) -> bool) -> Option<usize> {
        let from = self.place(hash);
        for (at, slot) in self.slots.get(from..)?.iter().enumerate() {
            if slot.handle == 0 || slot.hash > hash {
                return None;
            }
            if slot.hash == hash && is_it(slot.handle) {
                return Some(from + at);
            }
        }
        None
    }

    fn insert(&mut self, mut carried: Cell<V>) {
        // Four fifths: then a search looks at three slots on average.
        if (self.len + 1) * 5 > self.room * 4 {
            self.resize((self.room * 5 / 4 + 1).max(ROOM_MIN));
        }
        let mut at = self.place(carried.hash);
        // Whoever lies here and should lie further back moves on by one.
        while let Some(here) = self.slots.get_mut(at) {
            if here.handle == 0 {
                *here = carried;
                self.len += 1;
                return;
            }
            if here.order() > carried.order() {
                std::mem::swap(here, &mut carried);
            }
            at += 1;
        }
        self.push(carried);
        self.len += 1;
    }

    fn remove(&mut self, hash: u32, handle: u32) {
        let Some(mut at) = self.find(hash, |other| other == handle) else { return };
        self.slots[at] = Cell::default();
        self.len -= 1;
        // Whoever was pushed back comes forward by one.
        while let Some(next) = self.slots.get(at + 1)
            && next.handle != 0
            && self.place(next.hash) <= at
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
        for slot in slots.into_iter().filter(|slot| slot.handle != 0) {
            let place = self.place(slot.hash);
            if place > self.slots.len() {
                self.slots.resize_with(place, Cell::default);
            }
            self.push(slot);
        }
        if self.slots.len() < room {
            self.slots.resize_with(room, Cell::default);
        }
    }

    fn push(&mut self, slot: Cell<V>) {
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn in_order(part: &Segment<u32>) -> bool {
        let mut before = 0;
        part.slots.iter().enumerate().all(|(at, slot)| {
            let (place, is_empty) = (part.place(slot.hash), slot.handle == 0);
            let fits = is_empty || slot.order() > before && place <= at;
            // Nothing empty lies between a handle and its place, and a value goes where its handle goes.
            let reached = is_empty || part.slots[place..at].iter().all(|other| other.handle != 0);
            before = before.max(if is_empty { 0 } else { slot.order() });
            fits && reached && slot.value == slot.handle
        })
    }

    proptest! {
        #[test]
        fn what_was_put_in_and_not_taken_out_is_found(
            steps in proptest::collection::vec((any::<bool>(), 1_u32..200, 0_u32..12), 1..500),
        ) {
            let mut part = Segment::default();
            let mut model = BTreeSet::new();
            for (remove, handle, at_end) in steps {
                // Few hashes, many at the end of the room: runs, and handles behind the room.
                let hash = if at_end < 6 { u32::MAX - handle % 3 } else { (handle % 7) << 28 };
                if remove {
                    part.remove(hash, handle);
                    model.remove(&(hash, handle));
                } else if model.insert((hash, handle)) {
                    part.insert(Cell { hash, handle, value: handle });
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
