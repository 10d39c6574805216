//! Tags by text and by number, and which objects carry each.

use std::collections::VecDeque;
use std::hint::black_box;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use batoff_types::CacheTags;
use parking_lot::{Mutex, RwLock, RwLockWriteGuard};
use smallvec::SmallVec;

use super::arena::NONE;
use super::key::{SHARDS, shard_of};
use super::posting::{Ref, TagBookmark, TagShard};
use crate::place::OVERFLOW;
use crate::rules::Printer;
use crate::stats::Stats;

/// The low bits of a tag's number are its handle in its shard.
const HANDLE_BITS: u32 = 28;
const HANDLE: u32 = (1 << HANDLE_BITS) - 1;

/// An object's tags with their fingerprints, in the order of these, each once; overflow among them.
pub(crate) type Printed<'a> = SmallVec<[(u64, &'a str); 16]>;
/// Of an object's tags.
pub(crate) type Numbers = SmallVec<[u32; 16]>;
/// Tags' numbers, each with the name of an object that carried it.
pub(crate) type Departed = SmallVec<[(u32, Ref); 16]>;

/// Each distinct text once, with a list of names of the objects that carry it.
///
/// Tags of different sites with the same text share a list: whose an object is, is asked at evaluation. An object that
/// leaves stays in the lists, and only the number of live ones falls: to take it out, each list would have to be
/// searched. Lists in which too many names are dead are gone through later, some names at a time
/// ([`Tagged::compact`]).
pub(crate) struct Tagged {
    printer: Printer,
    shards: [RwLock<TagShard>; SHARDS],
    due: Mutex<VecDeque<Due>>,
    /// Looks at names, by [`Tagged::compact`].
    owed: AtomicUsize,
}

/// Names looked at in one go of [`Tagged::compact`]: some tens of microseconds.
const COMPACTED_AT_ONCE: usize = 256;

/// Names that are to be looked at for each that died. Five are enough, once a list is due; the sixth is for lists that grow
/// meanwhile.
const LOOKS_OWED: usize = 6;

/// A list that is to be compacted, and how far that has come.
struct Due {
    number: u32,
    bookmark: TagBookmark,
}

/// A walk over the objects of a tag: those that carried it when it began.
#[derive(Debug)]
pub(crate) struct TagWalk {
    /// The tag's; another tag may have it once the walk is over.
    pub(crate) number: u32,
    bookmark: TagBookmark,
}

/// The shards of one object's tags, held for it to be entered.
///
/// Where a tag stands has to be waited for, then what stands there, then the list that it names: three waits for memory,
/// which are the same three for all tags, and for whatever else is touched meanwhile, if each step is taken for all of
/// them before the next one is taken for any.
pub(crate) struct LockedTags<'a> {
    /// A bit for each shard that is held.
    wanted: u32,
    shards: SmallVec<[RwLockWriteGuard<'a, TagShard>; 8]>,
    tags: &'a [(u64, &'a str)],
    guesses: SmallVec<[u32; 16]>,
}

impl LockedTags<'_> {
    pub(crate) fn touch_texts(&self) -> u64 {
        self.tags.iter().fold(0, |read, &(hash, _)| read ^ self.shards[self.at(hash)].touch_text(hash))
    }

    pub(crate) fn touch_tags(&mut self) -> u32 {
        let mut read = 0;
        for &(hash, _) in self.tags {
            let shard = &self.shards[self.at(hash)];
            let guess = shard.guess(hash).unwrap_or(NONE);
            read ^= shard.touch(guess);
            self.guesses.push(guess);
        }
        read
    }

    pub(crate) fn touch_blocks(&self) -> u8 {
        let guessed = self.tags.iter().zip(&self.guesses);
        guessed.fold(0, |read, (&(hash, _), &guess)| {
            let shard = &self.shards[self.at(hash)];
            read ^ shard.touch_block(shard.touch(guess))
        })
    }

    /// An object that carries the tags came; their numbers, fewer when there is no more room.
    pub(crate) fn enter(&mut self, object: Ref) -> Numbers {
        let mut numbers = Numbers::new();
        for (&(hash, tag), &guess) in self.tags.iter().zip(&self.guesses) {
            let guess = (guess != NONE).then_some(guess);
            let shard = self.at(hash);
            let Some(handle) = self.shards[shard].enter(hash, tag, guess, object) else { break };
            numbers.push((shard_of(hash) as u32) << HANDLE_BITS | handle);
        }
        numbers
    }

    /// Which of the held shards a tag is on: as many are before it as bits below its own.
    #[inline]
    fn at(&self, hash: u64) -> usize {
        (self.wanted & ((1 << shard_of(hash)) - 1)).count_ones() as usize
    }
}

impl Tagged {
    pub(crate) fn new(printer: Printer) -> Self {
        Self { printer, shards: Default::default(), due: Mutex::default(), owed: AtomicUsize::new(0) }
    }

    /// The tags with their fingerprints: to be had before any lock is.
    pub(crate) fn printed<'a>(&self, tags: &'a CacheTags) -> Printed<'a> {
        let mut printed = Printed::new();
        printed.extend(tags.tags.iter().map(|tag| (self.printer.text(tag.as_str()), tag.as_str())));
        if tags.overflows() {
            printed.push((self.printer.text(OVERFLOW), OVERFLOW));
        }
        printed.sort_unstable();
        printed.dedup();
        printed
    }

    /// The shards of these tags, in their order: nobody else who has one waits for a lower one.
    pub(crate) fn hold<'a>(&'a self, tags: &'a [(u64, &'a str)]) -> LockedTags<'a> {
        let wanted = tags.iter().fold(0_u32, |wanted, &(hash, _)| wanted | 1 << shard_of(hash));
        let mut shards = SmallVec::new();
        let mut left = wanted;
        while left != 0 {
            shards.push(self.shards[left.trailing_zeros() as usize].write());
            left &= left - 1;
        }
        LockedTags { wanted, shards, tags, guesses: SmallVec::new() }
    }

    /// Objects left that carried these. Their order is changed.
    pub(crate) fn leave(&self, left: &mut [(u32, Ref)]) {
        self.owed.fetch_add(left.len() * LOOKS_OWED, Relaxed);
        left.sort_unstable_by_key(|&(number, _)| number);
        let of_shards = || left.chunk_by(|(a, _), (b, _)| a >> HANDLE_BITS == b >> HANDLE_BITS);
        // All of them at once, so that the memory of all tags is waited for at once, and then that of all lists.
        let mut shards: SmallVec<[RwLockWriteGuard<'_, TagShard>; SHARDS]> =
            of_shards().map(|left| self.at(left[0].0).0.write()).collect();
        let each = |touch: &dyn Fn(&TagShard, u32) -> u32| {
            let all = of_shards().zip(&shards);
            all.fold(0, |read, (left, shard)| {
                left.iter().fold(read, |read, &(number, _)| read ^ touch(shard, number & HANDLE))
            })
        };
        black_box(each(&TagShard::touch));
        black_box(each(&|shard, tag| shard.touch_block(shard.touch(tag)).into()));
        for (left, shard) in of_shards().zip(&mut shards) {
            for &(number, object) in left {
                if shard.leave(number & HANDLE, object, |text| self.printer.text(text)) {
                    let bookmark = shard.open(number & HANDLE);
                    self.due.lock().push_back(Due { number, bookmark });
                }
            }
        }
    }

    /// The object was entered a moment ago, and leaves without a trace.
    pub(crate) fn retract(&self, numbers: &[u32], object: Ref) {
        for &number in numbers {
            let (shard, handle) = self.at(number);
            shard.write().retract(handle, object);
        }
        let mut left: Departed = numbers.iter().map(|&number| (number, object)).collect();
        self.leave(&mut left);
    }

    /// Shows a tag's text.
    pub(crate) fn show(&self, number: u32, show: impl FnOnce(&str)) {
        let (shard, handle) = self.at(number);
        show(shard.read().text(handle));
    }

    /// A walk over what carries the tag now.
    pub(crate) fn walk(&self, tag: &str) -> Option<TagWalk> {
        let hash = self.printer.text(tag);
        let number = shard_of(hash);
        let mut shard = self.shards[number].write();
        let handle = shard.find(hash, tag)?;
        let bookmark = shard.open(handle);
        Some(TagWalk { number: (number as u32) << HANDLE_BITS | handle, bookmark })
    }

    /// Up to `max` further names of objects, dead ones among them; none at all at the end.
    pub(crate) fn walk_on(&self, walk: &TagWalk, max: usize) -> Vec<Ref> {
        let (shard, _) = self.at(walk.number);
        // For writing: nobody may move the bookmark meanwhile.
        let shard = shard.write();
        let mut names = Vec::with_capacity(max);
        while names.len() < max {
            let before = names.len();
            shard.names(&walk.bookmark, max - before, &mut names);
            if names.len() == before {
                break;
            }
            TagShard::pass(&walk.bookmark, names.len() - before);
        }
        names
    }

    /// How many objects carry the tag.
    pub(crate) fn live(&self, tag: &str) -> u64 {
        let hash = self.printer.text(tag);
        let shard = self.shards[shard_of(hash)].read();
        shard.find(hash, tag).map_or(0, |handle| u64::from(shard.live(handle)))
    }

    /// Whether no object carries any tag, so that no list names anything.
    pub(crate) fn is_empty(&self) -> bool {
        self.shards.iter().all(|shard| shard.read().tags == 0)
    }

    /// Goes through some of the lists in which too many names are dead, if it is time to. `alive` says of names whether they
    /// are; no lock is held while it is asked: a name that is dead stays dead.
    ///
    /// Each object that leaves makes it owe some looks at names, and a change that leaves nothing pays nothing. They are taken
    /// many at a time, from many lists: most of what they take is waiting for memory. A step of a sweep, of which hundreds
    /// of objects leave, pays one go and is let off the rest, so that no step takes long: the lists wait their turn.
    pub(crate) fn compact(&self, alive: impl FnOnce(&[Ref]) -> Vec<bool>) {
        if self.owed.load(Relaxed) < COMPACTED_AT_ONCE {
            return;
        }
        self.owed.store(0, Relaxed);
        let mut names = Vec::with_capacity(COMPACTED_AT_ONCE);
        let mut parts = Vec::new();
        while names.len() < COMPACTED_AT_ONCE {
            // A statement of its own: whoever holds a shard may wait for this lock.
            let due = self.due.lock().pop_front();
            let Some(due) = due else { break };
            let from = names.len();
            // For writing: nobody may move the bookmark meanwhile.
            let shard = self.at(due.number).0.write();
            shard.names(&due.bookmark, COMPACTED_AT_ONCE - from, &mut names);
            parts.push((due, from..names.len()));
        }
        let alive = alive(&names);
        for (due, part) in parts {
            let (shard, handle) = self.at(due.number);
            let mut shard = shard.write();
            shard.drop_dead(handle, &due.bookmark, &names[part.clone()], &alive[part]);
            if !shard.is_compacted(handle, &due.bookmark) {
                // In this order, as in `leave`.
                self.due.lock().push_back(due);
            }
        }
    }

    /// Fills in what this part knows.
    pub(crate) fn describe(&self, stats: &mut Stats) {
        for shard in &self.shards {
            let shard = shard.read();
            stats.tags += shard.tags;
            stats.bytes.tags += shard.bytes();
            stats.bytes.free += shard.free_bytes();
        }
        stats.overflowing = self.live(OVERFLOW);
        stats.tags -= u64::from(stats.overflowing > 0);
    }

    fn at(&self, number: u32) -> (&RwLock<TagShard>, u32) {
        (&self.shards[(number >> HANDLE_BITS) as usize], number & HANDLE)
    }
}
