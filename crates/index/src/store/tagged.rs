//! Tags by text and by number, and which objects carry each.

use std::collections::VecDeque;
use std::hint::black_box;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use batoff_types::Tag;
use parking_lot::{Mutex, RwLock, RwLockWriteGuard};
use smallvec::SmallVec;

use super::arena::NONE;
use super::key::{SHARDS, shard_of};
use super::posting::{Place, Ref, Shelf};
use crate::rules::Printer;
use crate::stats::Stats;

/// The low bits of a tag's number are its handle in its shelf.
const HANDLE_BITS: u32 = 28;
const HANDLE: u32 = (1 << HANDLE_BITS) - 1;

/// An object's tags with their fingerprints, in the order of these, each once.
pub(crate) type Printed<'a> = SmallVec<[(u64, &'a Tag); 16]>;
/// Of an object's tags.
pub(crate) type Numbers = SmallVec<[u32; 16]>;

/// Each distinct text once, with a list of names of the objects that carry it.
///
/// Tags of different sites with the same text share a list: whose an object is, is asked at evaluation. An object that
/// leaves stays in the lists, and only the number of live ones falls: to take it out, each list would have to be
/// searched. Lists in which more names are dead than alive are gone through later, a few names at a time
/// ([`Tagged::due`]).
pub(crate) struct Tagged {
    printer: Printer,
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

/// The shelves of one object's tags, held for it to be entered.
///
/// Where a tag stands has to be waited for, then what stands there, then the list that it names: three waits for memory,
/// which are the same three for all tags, and for whatever else is touched meanwhile, if each step is taken for all of
/// them before the next one is taken for any.
pub(crate) struct Shelves<'a> {
    /// A bit for each shelf that is held.
    wanted: u32,
    shelves: SmallVec<[RwLockWriteGuard<'a, Shelf>; 8]>,
    tags: &'a [(u64, &'a Tag)],
    guesses: SmallVec<[u32; 16]>,
}

impl Shelves<'_> {
    pub(crate) fn touch_texts(&self) -> u64 {
        self.tags.iter().fold(0, |read, &(hash, _)| read ^ self.shelves[self.at(hash)].touch_text(hash))
    }

    pub(crate) fn touch_tags(&mut self) -> u32 {
        let mut read = 0;
        for &(hash, _) in self.tags {
            let shelf = &self.shelves[self.at(hash)];
            let guess = shelf.guess(hash).unwrap_or(NONE);
            read ^= shelf.touch(guess);
            self.guesses.push(guess);
        }
        read
    }

    pub(crate) fn touch_blocks(&self) -> u8 {
        let guessed = self.tags.iter().zip(&self.guesses);
        guessed.fold(0, |read, (&(hash, _), &guess)| {
            let shelf = &self.shelves[self.at(hash)];
            read ^ shelf.touch_block(shelf.touch(guess))
        })
    }

    /// An object that carries the tags came; their numbers, fewer when there is no more room.
    pub(crate) fn enter(&mut self, object: Ref) -> Numbers {
        let mut numbers = Numbers::new();
        for (&(hash, tag), &guess) in self.tags.iter().zip(&self.guesses) {
            let guess = (guess != NONE).then_some(guess);
            let shelf = self.at(hash);
            let Some(handle) = self.shelves[shelf].enter(hash, tag.as_str(), guess, object) else { break };
            numbers.push((shard_of(hash) as u32) << HANDLE_BITS | handle);
        }
        numbers
    }

    /// Which of the held shelves a tag is on: as many are before it as bits below its own.
    #[inline]
    fn at(&self, hash: u64) -> usize {
        (self.wanted & ((1 << shard_of(hash)) - 1)).count_ones() as usize
    }
}

impl Tagged {
    pub(crate) fn new(printer: Printer) -> Self {
        Self { printer, shelves: Default::default(), due: Mutex::default(), due_len: AtomicUsize::new(0) }
    }

    /// The tags with their fingerprints: to be had before any lock is.
    pub(crate) fn printed<'a>(&self, tags: &'a [Tag]) -> Printed<'a> {
        let mut printed = Printed::new();
        printed.extend(tags.iter().map(|tag| (self.printer.text(tag.as_str()), tag)));
        printed.sort_unstable();
        printed.dedup();
        printed
    }

    /// The shelves of these tags, in their order: nobody else who has one waits for a lower one.
    pub(crate) fn hold<'a>(&'a self, tags: &'a [(u64, &'a Tag)]) -> Shelves<'a> {
        let wanted = tags.iter().fold(0_u32, |wanted, &(hash, _)| wanted | 1 << shard_of(hash));
        let mut shelves = SmallVec::new();
        let mut left = wanted;
        while left != 0 {
            shelves.push(self.shelves[left.trailing_zeros() as usize].write());
            left &= left - 1;
        }
        Shelves { wanted, shelves, tags, guesses: SmallVec::new() }
    }

    /// Objects left that carried these; a number comes once for each. Their order is changed.
    pub(crate) fn leave(&self, numbers: &mut [u32]) {
        numbers.sort_unstable();
        let of_shelves = || numbers.chunk_by(|a, b| a >> HANDLE_BITS == b >> HANDLE_BITS);
        // All of them at once, so that the memory of all tags is waited for at once.
        let mut shelves: SmallVec<[RwLockWriteGuard<'_, Shelf>; SHARDS]> =
            of_shelves().map(|numbers| self.at(numbers[0]).0.write()).collect();
        let read = of_shelves().zip(&shelves).fold(0, |read, (numbers, shelf)| {
            numbers.iter().fold(read, |read, &number| read ^ shelf.touch(number & HANDLE))
        });
        black_box(read);
        for (numbers, shelf) in of_shelves().zip(&mut shelves) {
            for &number in numbers {
                if shelf.leave(number & HANDLE, |text| self.printer.text(text)) {
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
        let hash = self.printer.text(tag);
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
        let hash = self.printer.text(tag);
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
}
