//! Tags by text and by number, and which objects carry each.

use std::collections::VecDeque;
use std::hint::black_box;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use batoff_types::Tag;
use parking_lot::{Mutex, RwLock, RwLockWriteGuard};
use smallvec::SmallVec;

use super::key::{HashState, SHARDS, directory_hash, shard_of};
use super::posting::{Place, Ref, Shelf};
use crate::stats::Stats;

/// The low bits of a tag's number are its handle in its shelf.
const HANDLE_BITS: u32 = 28;
const HANDLE: u32 = (1 << HANDLE_BITS) - 1;

/// Of an object's tags.
pub(crate) type Hashes = SmallVec<[u64; 16]>;
pub(crate) type Numbers = SmallVec<[u32; 16]>;

/// Each distinct text once, with a list of names of the objects that carry it.
///
/// Tags of different sites with the same text share a list: whose an object is, is asked at evaluation. An object that
/// leaves stays in the lists, and only the number of live ones falls: to take it out, each list would have to be
/// searched. Lists in which more names are dead than alive are gone through later, a few names at a time
/// ([`Tagged::due`]).
#[derive(Default)]
pub(crate) struct Tagged {
    hashes: HashState,
    shelves: [RwLock<Shelf>; SHARDS],
    due: Mutex<VecDeque<Due>>,
    due_len: AtomicUsize,
}

/// A list that is to be compacted, and how far that has come.
pub(crate) struct Due {
    number: u32,
    place: Place,
}

/// A walk over the objects of a tag: those that carried it when it began.
#[derive(Debug)]
pub(crate) struct TagWalk {
    /// The tag's; another tag may have it once the walk is over.
    pub(crate) number: u32,
    place: Place,
}

impl Tagged {
    /// The tags' hashes: to be had before any lock is.
    pub(crate) fn hashes(&self, tags: &[Tag]) -> Hashes {
        tags.iter().map(|tag| directory_hash(&self.hashes, tag.as_str())).collect()
    }

    /// An object that carries the tags came; their numbers, fewer when there is no more room.
    pub(crate) fn enter(&self, tags: &[Tag], hashes: &Hashes, object: Ref) -> Numbers {
        let mut held = self.hold(hashes.iter().map(|&hash| shard_of(hash)));
        // Where the tags stand has to be waited for, and what stands there. So for all of them at once: nothing here
        // depends on what was read for another tag.
        black_box(hashes.iter().fold(0, |read, &hash| {
            read ^ held[shard_of(hash)].as_ref().map_or(0, |shelf| shelf.touch_text(hash))
        }));
        let guesses: SmallVec<[Option<u32>; 16]> =
            hashes.iter().map(|&hash| held[shard_of(hash)].as_ref()?.guess(hash)).collect();
        let mut read = 0;
        let mut blocks = SmallVec::<[(usize, u32); 16]>::new();
        for (&hash, guess) in hashes.iter().zip(&guesses) {
            if let (Some(shelf), Some(tag)) = (&held[shard_of(hash)], *guess) {
                blocks.push((shard_of(hash), shelf.touch(tag)));
            }
        }
        for (number, block) in blocks {
            read ^= held[number].as_ref().map_or(0, |shelf| shelf.touch_block(block));
        }
        black_box(read);

        let mut numbers = Numbers::new();
        for ((tag, &hash), guess) in tags.iter().zip(hashes).zip(guesses) {
            let number = shard_of(hash);
            let Some(shelf) = &mut held[number] else { break };
            let Some(handle) = shelf.enter(hash, tag.as_str(), guess, object) else { break };
            numbers.push((number as u32) << HANDLE_BITS | handle);
        }
        numbers
    }

    /// Objects left that carried these; a number comes once for each. Their order is changed.
    pub(crate) fn leave(&self, numbers: &mut [u32]) {
        numbers.sort_unstable();
        for numbers in numbers.chunk_by(|a, b| a >> HANDLE_BITS == b >> HANDLE_BITS) {
            let mut shelf = self.at(numbers[0]).0.write();
            let read = numbers.iter().fold(0, |read, &number| read ^ shelf.touch(number & HANDLE));
            black_box(read);
            for &number in numbers {
                if shelf.leave(number & HANDLE, |text| directory_hash(&self.hashes, text)) {
                    let place = shelf.open(number & HANDLE);
                    self.put_due(Due { number, place });
                }
            }
        }
    }

    /// The object was entered a moment ago, and leaves without a trace.
    pub(crate) fn retract(&self, numbers: &mut [u32], object: Ref) {
        for &number in &*numbers {
            let (shelf, handle) = self.at(number);
            shelf.write().retract(handle, object);
        }
        self.leave(numbers);
    }

    /// Shows a tag's text.
    pub(crate) fn show(&self, number: u32, show: impl FnOnce(&str)) {
        let (shelf, handle) = self.at(number);
        show(shelf.read().text(handle));
    }

    /// A walk over what carries the tag now.
    pub(crate) fn walk(&self, tag: &str) -> Option<TagWalk> {
        let hash = directory_hash(&self.hashes, tag);
        let number = shard_of(hash);
        let mut shelf = self.shelves[number].write();
        let handle = shelf.find(hash, tag)?;
        let place = shelf.open(handle);
        Some(TagWalk { number: (number as u32) << HANDLE_BITS | handle, place })
    }

    /// Up to `max` further names of objects, dead ones among them; none at all at the end.
    pub(crate) fn walk_on(&self, walk: &TagWalk, max: usize) -> Vec<Ref> {
        let (shelf, _) = self.at(walk.number);
        // For writing: nobody may move the place meanwhile.
        let shelf = shelf.write();
        let mut names = Vec::with_capacity(max);
        while names.len() < max {
            let before = names.len();
            shelf.names(&walk.place, max - before, &mut names);
            if names.len() == before {
                break;
            }
            Shelf::pass(&walk.place, names.len() - before);
        }
        names
    }

    /// How many objects carry the tag.
    pub(crate) fn live(&self, tag: &str) -> u64 {
        let hash = directory_hash(&self.hashes, tag);
        let shelf = self.shelves[shard_of(hash)].read();
        shelf.find(hash, tag).map_or(0, |handle| u64::from(shelf.live(handle)))
    }

    /// Whether no object carries any tag, so that no list names anything.
    pub(crate) fn is_empty(&self) -> bool {
        self.shelves.iter().all(|shelf| shelf.read().tags == 0)
    }

    /// A list that is to be compacted: to be given back with [`Tagged::put_due`] unless [`Tagged::compact`] is done.
    pub(crate) fn due(&self) -> Option<Due> {
        if self.due_len.load(Relaxed) == 0 {
            return None;
        }
        let due = self.due.lock().pop_front();
        if due.is_some() {
            self.due_len.fetch_sub(1, Relaxed);
        }
        due
    }

    pub(crate) fn put_due(&self, due: Due) {
        self.due.lock().push_back(due);
        self.due_len.fetch_add(1, Relaxed);
    }

    /// Looks at up to `max` names and takes the dead ones away; false when there are no more. No lock is held while
    /// `alive` is asked: a name that is dead stays dead.
    pub(crate) fn compact(&self, due: &Due, max: usize, alive: impl FnOnce(&[Ref]) -> Vec<bool>) -> bool {
        let (shelf, handle) = self.at(due.number);
        let mut names = Vec::new();
        {
            let mut shelf = shelf.write();
            let gone = due.place.load(Relaxed) == 0;
            shelf.names(&due.place, max, &mut names);
            if names.is_empty() {
                if !gone {
                    shelf.compacted(handle);
                }
                return false;
            }
        }
        let alive = alive(&names);
        shelf.write().drop_dead(handle, &due.place, &names, &alive);
        true
    }

    /// Fills in what this part knows.
    pub(crate) fn describe(&self, stats: &mut Stats) {
        for shelf in &self.shelves {
            let shelf = shelf.read();
            stats.tags += shelf.tags;
            stats.bytes.tags += shelf.bytes();
            stats.bytes.free += shelf.free_bytes();
        }
    }

    fn at(&self, number: u32) -> (&RwLock<Shelf>, u32) {
        (&self.shelves[(number >> HANDLE_BITS) as usize], number & HANDLE)
    }

    /// These shelves, in their order: nobody else who has one waits for a lower one.
    fn hold(&self, numbers: impl Iterator<Item = usize>) -> [Option<RwLockWriteGuard<'_, Shelf>>; SHARDS] {
        let wanted = numbers.fold(0_u32, |wanted, number| wanted | 1 << number);
        std::array::from_fn(|number| (wanted >> number & 1 == 1).then(|| self.shelves[number].write()))
    }
}
