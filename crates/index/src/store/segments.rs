//! A hash table in parts, so that none of its growths takes long.

use hashbrown::HashTable;

/// What the table keeps of an object: enough to grow without looking at it.
#[derive(Clone, Copy)]
struct Slot {
    hash: u32,
    handle: u32,
}

/// Handles by hash, in `N` parts (a power of two, at most 64). A part of a table with a million handles a shard grows
/// within some hundred microseconds.
pub(crate) struct Segments<const N: usize> {
    tables: [HashTable<Slot>; N],
}

impl<const N: usize> Default for Segments<N> {
    fn default() -> Self {
        Self { tables: std::array::from_fn(|_| HashTable::new()) }
    }
}

impl<const N: usize> Segments<N> {
    /// The handle with this hash that `is_it` says yes to.
    #[inline]
    pub(crate) fn find(&self, hash: u64, mut is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        let short = hash as u32;
        let table = &self.tables[part::<N>(hash)];
        table.find(spread(short), |slot| slot.hash == short && is_it(slot.handle)).map(|slot| slot.handle)
    }

    pub(crate) fn insert(&mut self, hash: u64, handle: u32) {
        let slot = Slot { hash: hash as u32, handle };
        self.tables[part::<N>(hash)].insert_unique(spread(slot.hash), slot, |slot| spread(slot.hash));
    }

    /// Puts `new` in the place of `old`.
    pub(crate) fn replace(&mut self, hash: u64, old: u32, new: u32) {
        let table = &mut self.tables[part::<N>(hash)];
        if let Some(slot) = table.find_mut(spread(hash as u32), |slot| slot.handle == old) {
            slot.handle = new;
        }
    }

    pub(crate) fn remove(&mut self, hash: u64, handle: u32) {
        let table = &mut self.tables[part::<N>(hash)];
        if let Ok(entry) = table.find_entry(spread(hash as u32), |slot| slot.handle == handle) {
            entry.remove();
        }
        // Far emptier than it would be after growing: what a purge of almost everything leaves.
        if table.len() * 8 < table.capacity() {
            table.shrink_to(table.len() * 2, |slot| spread(slot.hash));
        }
    }

    /// Memory held beyond `self`.
    pub(crate) fn bytes(&self) -> u64 {
        self.tables.iter().map(|table| table.allocation_size() as u64).sum()
    }
}

/// The parts are told apart by bits that neither the shard nor the slot's place is taken from.
const fn part<const N: usize>(hash: u64) -> usize {
    const { assert!(N.is_power_of_two() && N <= 64) };
    (hash >> 52) as usize & (N - 1)
}

/// A table takes the place from the low bits and a check from the high ones.
const fn spread(short: u32) -> u64 {
    (short as u64) << 32 | short as u64
}
