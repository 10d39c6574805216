//! The tags of a shard, and for each of them which objects carry it.

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Weak};

use smallvec::SmallVec;

use super::arena::{Arena, LINE, NONE, put_u16, put_u32, u16_at, u32_at};
use super::segments::Segments;

/// Names a record, as long as the record's block has this incarnation.
///
/// It wraps after 256 uses of one block, and the block that was given back last is used first: a few hundred objects that
/// are stored anew one after the other are enough. A name that old passes for a new one if the new object carries the same
/// tag and the list was not compacted in between; then the list shows that object twice. A free block passes for nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ref {
    pub(crate) handle: u32,
    pub(crate) incarnation: u8,
}

const REF: usize = 5;

// A tag: live u32, incarnation u8, due u8, text length u16, names u32, newest block u32, text.
const LIVE: usize = 0;
const DUE: usize = 5;
const TEXT_LEN: usize = 6;
const NAMES: usize = 8;
const NEWEST: usize = 12;
const TEXT: usize = 16;

// A block of names, the newest last: older block u32, incarnation u8, unused u8, length u16, newer block u32,
// capacity u16, names.
const OLDER: usize = 0;
const LEN: usize = 6;
const NEWER: usize = 8;
const CAP: usize = 12;
const REFS: usize = 14;

/// Up to this many names the newest block grows by moving; more are put into one more block.
const GROWS_UP_TO: usize = 64;
/// The longest block, so that none takes long to go through.
const BLOCK_MAX: usize = 800;
/// Lists of up to so many names, 160 bytes, are searched for a name that dies, and have no dead ones. A longer one would take
/// longer to search than what it saves.
const STRUCK_MAX: u32 = 32;
/// Dead names that a longer list may have besides a quarter as many as live ones, before it is compacted. Then five names are
/// looked at for each that is taken away, and a list is an eighth longer than it needs to be, on average.
const DEAD_SPARED: u32 = 4;

/// Tags whose bookmarks are kept, before those are looked for that nobody goes on from.
const BOOKMARKS_SPARED: usize = 64;

/// A bookmark among a tag's names: block and index, all names before it unvisited. Moved by whoever moves names.
pub(crate) type TagBookmark = Arc<AtomicU64>;

type Bookmarks = hashbrown::HashMap<u32, SmallVec<[Weak<AtomicU64>; 1]>, foldhash::fast::RandomState>;

/// Some of the tags, behind one lock.
#[derive(Default)]
pub(crate) struct TagShard {
    arena: Arena,
    by_text: Segments<16>,
    /// By tag. Whoever holds a bookmark may drop it without a word.
    bookmarks: Bookmarks,
    /// So many tags, and those are looked for.
    bookmarks_max: usize,
    pub(crate) tags: u64,
}

impl TagShard {
    pub(crate) fn find(&self, hash: u64, text: &str) -> Option<u32> {
        self.by_text.find(hash, |tag| self.text_bytes(tag) == text.as_bytes())
    }

    pub(crate) fn text(&self, tag: u32) -> &str {
        // It came as text.
        std::str::from_utf8(self.text_bytes(tag)).unwrap_or_default()
    }

    pub(crate) fn live(&self, tag: u32) -> u32 {
        u32_at(self.arena.at(tag), LIVE)
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.arena.bytes() + self.by_text.bytes() + self.bookmarks.allocation_size() as u64
    }

    pub(crate) fn free_bytes(&self) -> u64 {
        self.arena.free_bytes()
    }

    /// Reads what [`TagShard::guess`] will need.
    #[inline]
    pub(crate) fn touch_text(&self, hash: u64) -> u64 {
        self.by_text.touch(hash)
    }

    /// The tag with this hash, mostly: to be asked for many before any of them is needed, so that the memory of all is
    /// waited for at once.
    #[inline]
    pub(crate) fn guess(&self, hash: u64) -> Option<u32> {
        self.by_text.find(hash, |_| true)
    }

    /// Reads what [`TagShard::enter`] and [`TagShard::leave`] will need first.
    #[inline]
    pub(crate) fn touch(&self, tag: u32) -> u32 {
        if tag == NONE {
            return NONE;
        }
        let record = self.arena.at(tag);
        black_box(record.get(LINE - 1));
        u32_at(record, NEWEST)
    }

    /// Reads what [`TagShard::enter`] will need next, after [`TagShard::touch`] said where.
    #[inline]
    pub(crate) fn touch_block(&self, block: u32) -> u8 {
        if block == NONE { 0 } else { self.arena.at(block)[LEN] }
    }

    /// An object that carries the tag came. `None` when there is no more room.
    pub(crate) fn enter(&mut self, hash: u64, text: &str, guess: Option<u32>, object: Ref) -> Option<u32> {
        // Another may have gone to make room for the tag that was guessed, but not for one of the same text.
        let guessed = guess.filter(|&tag| self.text_bytes(tag) == text.as_bytes());
        let tag = match guessed.or_else(|| self.find(hash, text)) {
            Some(tag) => tag,
            None => self.make(hash, text)?,
        };
        let newest = u32_at(self.arena.at(tag), NEWEST);
        let has_room = newest != NONE && {
            let block = self.arena.at(newest);
            u16_at(block, LEN) < u16_at(block, CAP)
        };
        let Some(newest) = (if has_room { Some(newest) } else { self.make_room(tag, newest) }) else {
            if self.live(tag) == 0 {
                self.drop_tag(hash, tag);
            }
            return None;
        };
        let block = self.arena.at_mut(newest);
        let len = u16_at(block, LEN);
        put_ref(block, usize::from(len), object);
        put_u16(block, LEN, len + 1);
        let record = self.arena.at_mut(tag);
        put_u32(record, NAMES, u32_at(record, NAMES) + 1);
        put_u32(record, LIVE, u32_at(record, LIVE) + 1);
        Some(tag)
    }

    /// An object that carried the tag left. True when the tag has just become due for compaction.
    pub(crate) fn leave(&mut self, tag: u32, object: Ref, hash: impl FnOnce(&str) -> u64) -> bool {
        let record = self.arena.at_mut(tag);
        let (live, names) = (u32_at(record, LIVE) - 1, u32_at(record, NAMES));
        put_u32(record, LIVE, live);
        if live == 0 {
            let hash = hash(self.text(tag));
            self.drop_tag(hash, tag);
            return false;
        }
        if names <= STRUCK_MAX && self.strike(tag, object) {
            return false;
        }
        let record = self.arena.at_mut(tag);
        let due = record[DUE] == 0 && names - live > live / 4 + DEAD_SPARED;
        if due {
            record[DUE] = 1;
        }
        due
    }

    /// Takes a name out of a list that is one block; false when it is not there.
    fn strike(&mut self, tag: u32, object: Ref) -> bool {
        let record = self.arena.at(tag);
        let (names, newest) = (u32_at(record, NAMES), u32_at(record, NEWEST));
        let block = self.arena.at_mut(newest);
        let len = usize::from(u16_at(block, LEN));
        if len != names as usize {
            return false;
        }
        let Some(at) = (0..len).rev().find(|&at| ref_at(block, at) == object) else { return false };
        block.copy_within(REFS + (at + 1) * REF..REFS + len * REF, REFS + at * REF);
        put_u16(block, LEN, (len - 1) as u16);
        put_u32(self.arena.at_mut(tag), NAMES, names - 1);
        self.move_bookmarks(tag, |of, index| {
            (of == newest).then_some((of, if index > at { index - 1 } else { index }))
        });
        true
    }

    /// Takes the newest name away if it is this one: it has just been entered.
    pub(crate) fn retract(&mut self, tag: u32, object: Ref) {
        let newest = u32_at(self.arena.at(tag), NEWEST);
        let block = self.arena.at_mut(newest);
        let len = u16_at(block, LEN);
        if len > 0 && ref_at(block, usize::from(len) - 1) == object {
            put_u16(block, LEN, len - 1);
            let record = self.arena.at_mut(tag);
            put_u32(record, NAMES, u32_at(record, NAMES) - 1);
        }
    }

    /// A bookmark before which all names lie that the tag has now.
    pub(crate) fn open(&mut self, tag: u32) -> TagBookmark {
        let newest = u32_at(self.arena.at(tag), NEWEST);
        let bookmark = Arc::new(AtomicU64::new(pack(newest, self.len_of(newest))));
        if self.bookmarks.len() >= self.bookmarks_max.max(BOOKMARKS_SPARED) {
            self.bookmarks
                .retain(|_, bookmarks| bookmarks.iter().any(|bookmark| bookmark.strong_count() > 0));
            self.bookmarks_max = self.bookmarks.len() * 2;
        }
        let bookmarks = self.bookmarks.entry(tag).or_default();
        bookmarks.retain(|bookmark| bookmark.strong_count() > 0);
        bookmarks.push(Arc::downgrade(&bookmark));
        bookmark
    }

    /// The names right before the bookmark, up to `max` and of one block only, in their order; none at all at the end. The
    /// bookmark itself is moved only from one block to the older one.
    pub(crate) fn names(&self, bookmark: &TagBookmark, max: usize, names: &mut Vec<Ref>) {
        let (mut block, mut index) = unpack(bookmark.load(Relaxed));
        while block != NONE {
            index = index.min(self.len_of(block));
            bookmark.store(pack(block, index), Relaxed);
            if index > 0 {
                let bytes = self.arena.at(block);
                names.extend((index.saturating_sub(max)..index).map(|at| ref_at(bytes, at)));
                return;
            }
            block = u32_at(self.arena.at(block), OLDER);
            index = self.len_of(block);
        }
    }

    /// Moves the bookmark before the `count` names that [`TagShard::names`] has just given.
    pub(crate) fn pass(bookmark: &TagBookmark, count: usize) {
        let (block, index) = unpack(bookmark.load(Relaxed));
        if block != NONE {
            bookmark.store(pack(block, index.saturating_sub(count)), Relaxed);
        }
    }

    /// Takes dead names away. `names` lay right before the bookmark a moment ago; those that are not `alive` are dead for
    /// good. The bookmark then lies before all of them.
    pub(crate) fn drop_dead(&mut self, tag: u32, bookmark: &TagBookmark, names: &[Ref], alive: &[bool]) {
        let (block, index) = unpack(bookmark.load(Relaxed));
        if block == NONE {
            return; // the tag itself has gone
        }
        let bytes = self.arena.at_mut(block);
        let len = usize::from(u16_at(bytes, LEN));
        let to = index.min(len);
        let from = to.saturating_sub(names.len());
        let mut kept_before = vec![0; to - from + 1];
        let mut kept = from;
        for at in from..to {
            let object = ref_at(bytes, at);
            let dead = names.get(at - from) == Some(&object) && alive.get(at - from) == Some(&false);
            if !dead {
                put_ref(bytes, kept, object);
                kept += 1;
            }
            kept_before[at - from + 1] = kept - from;
        }
        bytes.copy_within(REFS + to * REF..REFS + len * REF, REFS + kept * REF);
        let dropped = to - kept;
        put_u16(bytes, LEN, (len - dropped) as u16);
        let record = self.arena.at_mut(tag);
        put_u32(record, NAMES, u32_at(record, NAMES) - dropped as u32);
        self.move_bookmarks(tag, |at, index| {
            let moved = if index >= to {
                index - dropped
            } else if index > from {
                from + kept_before[index - from]
            } else {
                index
            };
            (at == block).then_some((block, moved))
        });
        bookmark.store(pack(block, from), Relaxed);
        if from == 0 {
            self.fit(tag, block);
        }
    }

    /// Whether a compaction has come to its end, or its tag has gone. In the first case the tag may become due again.
    pub(crate) fn is_compacted(&mut self, tag: u32, bookmark: &TagBookmark) -> bool {
        let (block, index) = unpack(bookmark.load(Relaxed));
        if block == NONE {
            return true;
        }
        let is_over = index == 0 && self.neighbours(block).0 == NONE;
        if is_over {
            self.arena.at_mut(tag)[DUE] = 0;
        }
        is_over
    }

    /// After a compaction: an empty block goes, and one of which a quarter is empty becomes shorter.
    fn fit(&mut self, tag: u32, block: u32) {
        let (len, cap) = (self.len_of(block), self.cap_of(block));
        if len == 0 {
            let (older, newer) = self.neighbours(block);
            if older == NONE && newer == NONE {
                return;
            }
            // Nowhere is where the bookmarks of a tag are that has gone.
            let before = if older == NONE { (newer, 0) } else { (older, self.len_of(older)) };
            self.join(tag, older, newer);
            self.move_bookmarks(tag, |at, _| (at == block).then_some(before));
            self.arena.free(block, REFS + cap * REF);
        } else if len * 4 < cap * 3 {
            self.resize(tag, block, len + len / 16 + 1);
        }
    }

    fn make(&mut self, hash: u64, text: &str) -> Option<u32> {
        let tag = self.arena.alloc(TEXT + text.len())?;
        let record = self.arena.at_mut(tag);
        record[DUE] = 0;
        put_u32(record, LIVE, 0);
        put_u16(record, TEXT_LEN, text.len() as u16);
        put_u32(record, NAMES, 0);
        put_u32(record, NEWEST, NONE);
        record[TEXT..TEXT + text.len()].copy_from_slice(text.as_bytes());
        self.by_text.insert(hash, tag, ());
        self.tags += 1;
        Some(tag)
    }

    fn drop_tag(&mut self, hash: u64, tag: u32) {
        self.by_text.remove(hash, tag);
        let record = self.arena.at(tag);
        let (mut block, text_len) = (u32_at(record, NEWEST), usize::from(u16_at(record, TEXT_LEN)));
        while block != NONE {
            let older = u32_at(self.arena.at(block), OLDER);
            self.arena.free(block, REFS + self.cap_of(block) * REF);
            block = older;
        }
        self.move_bookmarks(tag, |_, _| Some((NONE, 0)));
        self.bookmarks.remove(&tag);
        self.arena.free(tag, TEXT + text_len);
        self.tags -= 1;
        if self.tags == 0 {
            *self = Self::default();
        }
    }

    /// Makes the newest block longer, or a newer one; the newest then.
    fn make_room(&mut self, tag: u32, newest: u32) -> Option<u32> {
        if newest == NONE {
            let block = self.block(2)?;
            self.join(tag, block, NONE);
            return Some(block);
        }
        let cap = self.cap_of(newest);
        if cap < GROWS_UP_TO {
            return self.resize(tag, newest, cap * 7 / 5 + 3);
        }
        let names = u32_at(self.arena.at(tag), NAMES) as usize;
        let block = self.block((names / 4).clamp(GROWS_UP_TO, BLOCK_MAX))?;
        self.join(tag, newest, block);
        self.join(tag, block, NONE);
        Some(block)
    }

    /// A new block for at least `cap` names.
    fn block(&mut self, cap: usize) -> Option<u32> {
        let cap = (Arena::room(REFS + cap * REF) - REFS) / REF;
        let block = self.arena.alloc(REFS + cap * REF)?;
        let bytes = self.arena.at_mut(block);
        put_u32(bytes, OLDER, NONE);
        put_u32(bytes, NEWER, NONE);
        put_u16(bytes, LEN, 0);
        put_u16(bytes, CAP, cap as u16);
        Some(block)
    }

    /// Moves a block's names into a new one.
    fn resize(&mut self, tag: u32, old: u32, cap: usize) -> Option<u32> {
        let new = self.block(cap)?;
        let (len, old_cap) = (self.len_of(old), self.cap_of(old));
        let (older, newer) = self.neighbours(old);
        let names = self.arena.at(old)[REFS..REFS + len * REF].to_vec();
        let bytes = self.arena.at_mut(new);
        bytes[REFS..REFS + len * REF].copy_from_slice(&names);
        put_u16(bytes, LEN, len as u16);
        self.join(tag, older, new);
        self.join(tag, new, newer);
        self.move_bookmarks(tag, |at, index| (at == old).then_some((new, index)));
        self.arena.free(old, REFS + old_cap * REF);
        Some(new)
    }

    /// Makes two blocks neighbours; `NONE` as the newer one makes the other the newest.
    fn join(&mut self, tag: u32, older: u32, newer: u32) {
        if older != NONE {
            put_u32(self.arena.at_mut(older), NEWER, newer);
        }
        if newer == NONE {
            put_u32(self.arena.at_mut(tag), NEWEST, older);
        } else {
            put_u32(self.arena.at_mut(newer), OLDER, older);
        }
    }

    fn move_bookmarks(&mut self, tag: u32, moved: impl Fn(u32, usize) -> Option<(u32, usize)>) {
        for bookmark in self.bookmarks.get(&tag).into_iter().flatten().filter_map(Weak::upgrade) {
            let (block, index) = unpack(bookmark.load(Relaxed));
            if let Some((block, index)) = moved(block, index) {
                bookmark.store(pack(block, index), Relaxed);
            }
        }
    }

    fn neighbours(&self, block: u32) -> (u32, u32) {
        let bytes = self.arena.at(block);
        (u32_at(bytes, OLDER), u32_at(bytes, NEWER))
    }

    fn len_of(&self, block: u32) -> usize {
        if block == NONE { 0 } else { usize::from(u16_at(self.arena.at(block), LEN)) }
    }

    fn cap_of(&self, block: u32) -> usize {
        if block == NONE { 0 } else { usize::from(u16_at(self.arena.at(block), CAP)) }
    }

    fn text_bytes(&self, tag: u32) -> &[u8] {
        let record = self.arena.at(tag);
        &record[TEXT..TEXT + usize::from(u16_at(record, TEXT_LEN))]
    }
}

fn ref_at(block: &[u8], at: usize) -> Ref {
    let at = REFS + at * REF;
    Ref { handle: u32_at(block, at), incarnation: block[at + 4] }
}

fn put_ref(block: &mut [u8], at: usize, object: Ref) {
    let at = REFS + at * REF;
    put_u32(block, at, object.handle);
    block[at + 4] = object.incarnation;
}

const fn pack(block: u32, index: usize) -> u64 {
    if block == NONE { 0 } else { (block as u64) << 32 | index as u64 }
}

const fn unpack(bookmark: u64) -> (u32, usize) {
    ((bookmark >> 32) as u32, bookmark as u32 as usize)
}
