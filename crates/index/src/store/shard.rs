//! A part of the store: some of the directories, with all that lies in them.

use std::hint::black_box;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Weak};

use batoff_types::FillToken;
use smallvec::SmallVec;

use super::arena::{Arena, LINE, NONE};
use super::generations::Generations;
use super::global;
use super::held::Held;
use super::key::{HashState, Split, name_hash};
use super::order::PathOrder;
use super::posting::Ref;
use super::record::{self, Draft, directory};
use super::segments::Segments;
use super::tagged::{Departed, Tagged};
use crate::Variant;
use crate::stats::Stats;

/// A bookmark in the list of a directory's objects: the next one to be visited. Moved on by whoever takes that one out.
pub(crate) type DirectoryBookmark = Arc<AtomicU32>;

/// Objects by URL, and by directory in lists, the newest first. Whoever goes through such a list therefore comes to its
/// end, however fast objects are added.
pub(crate) struct Shard<L> {
    /// Which one it is.
    number: usize,
    records: Arena,
    /// With the locator of each; `None` never.
    names: Segments<64, Option<L>>,
    directories: Arena,
    directory_names: Segments<16>,
    generations: Generations,
    bookmarks: Vec<Weak<AtomicU32>>,
    pub(crate) entries: u64,
    pub(crate) urls: u64,
    /// Objects by the host's number.
    by_host: Vec<u32>,
}

impl<L> Shard<L> {
    pub(crate) fn new(number: usize) -> Self {
        Self {
            number,
            records: Arena::default(),
            names: Segments::default(),
            directories: Arena::default(),
            directory_names: Segments::default(),
            generations: Generations::default(),
            bookmarks: Vec::new(),
            entries: 0,
            urls: 0,
            by_host: Vec::new(),
        }
    }

    /// Writes a record that nothing leads to yet. `None` when there is no more room.
    pub(crate) fn draft(
        &mut self,
        name: &str,
        variant: Variant,
        token: FillToken,
        (https, overflows): (bool, bool),
        tags: usize,
    ) -> Option<u32> {
        let tags = u16::try_from(tags).ok()?;
        let token = self.generations.enter(token)?;
        let draft = Draft { name, variant, token, https, overflows, tags };
        let Some(object) = self.records.alloc(draft.len()) else {
            self.generations.leave(token);
            return None;
        };
        draft.write(self.records.at_mut(object));
        Some(object)
    }

    /// Takes a record back that nothing leads to any more.
    pub(crate) fn discard(&mut self, object: u32) {
        let bytes = self.records.at(object);
        let (len, token) = (record::len(bytes), record::token(bytes));
        self.generations.leave(token);
        record::let_go(self.records.at_mut(object));
        self.records.free(object, len);
    }

    /// Writes down which tags it carries: their numbers, and the low halves of their fingerprints.
    pub(crate) fn set_tags(&mut self, object: u32, tags: impl Iterator<Item = (u32, u32)>) {
        record::set_tags(self.records.at_mut(object), tags);
    }

    /// Reads where an insert begins to look for the directory and the name.
    pub(crate) fn touch_slots(&self, hash: u64, by_name: u64) -> u64 {
        self.directory_names.touch(hash) ^ self.names.touch(by_name)
    }

    /// Reads what stands there; the directory's first object, if it has one.
    pub(crate) fn touch_records(&self, hash: u64, by_name: u64) -> u32 {
        let named = self.names.find(by_name, |_| true);
        let directory = self.directory_names.find(hash, |_| true);
        black_box(named.map(|object| record::directory(self.records.at(object))));
        directory.map_or(NONE, |at| {
            let bytes = self.directories.at(at);
            black_box(bytes.get(LINE));
            directory::first(bytes)
        })
    }

    /// Reads a record.
    pub(crate) fn touch_record(&self, object: u32) -> u32 {
        if object == NONE { NONE } else { record::previous(self.records.at(object)) }
    }

    /// As [`Shard::touch_record`], for names that may be dead.
    pub(crate) fn touch_heads(&self, objects: impl Iterator<Item = u32>) {
        black_box(objects.fold(0, |read, object| read ^ self.records.incarnation_now(object).unwrap_or(0)));
    }

    /// Reads all of the objects that a visit and perhaps a removal will need; gives back what they are named under.
    pub(crate) fn touch_all(&self, objects: &[u32], hashes: &HashState) -> SmallVec<[u64; 64]> {
        let mut read = 0;
        for &object in objects {
            let bytes = self.records.at(object);
            black_box(bytes.get(LINE));
            read ^= record::directory(bytes);
        }
        for &object in objects {
            let bytes = self.records.at(object);
            read ^= self.touch_record(record::next(bytes)) ^ self.touch_record(record::previous(bytes));
            read ^= directory::host(self.directories.at(record::directory(bytes)));
        }
        let (mut by_names, mut read_names) = (SmallVec::new(), 0);
        for &object in objects {
            let by_name = self.hash_of(object, hashes);
            read_names ^= self.names.touch(by_name);
            by_names.push(by_name);
        }
        black_box((read, read_names));
        by_names
    }

    /// What an object is named under.
    pub(crate) fn hash_of(&self, object: u32, hashes: &HashState) -> u64 {
        let bytes = self.records.at(object);
        let hash = directory::hash(self.directories.at(record::directory(bytes)));
        name_hash(hashes, hash, record::name(bytes))
    }

    /// What names an object in the lists of its tags.
    pub(crate) fn name(&self, object: u32) -> Ref {
        Ref { handle: global(self.number, object), incarnation: self.records.incarnation(object) }
    }

    /// Puts a record into its directory's list. False when there is no more room.
    pub(crate) fn link(&mut self, object: u32, hash: u64, split: Split<'_>, order: &PathOrder) -> bool {
        let known = self.find_directory(hash, split.directory);
        let Some(at) = known.or_else(|| self.make_directory(hash, split, order)) else { return false };
        let bytes = self.directories.at_mut(at);
        let first = directory::first(bytes);
        directory::set_first(bytes, object);
        directory::set_objects(bytes, directory::objects(bytes) + 1);
        let host = directory::host(bytes) as usize;
        if first != NONE {
            record::set_previous(self.records.at_mut(first), object);
        }
        let bytes = self.records.at_mut(object);
        record::set_directory(bytes, at);
        record::set_next(bytes, first);
        record::set_previous(bytes, NONE);
        if self.by_host.len() <= host {
            self.by_host.resize(host + 1, 0);
        }
        self.by_host[host] += 1;
        self.entries += 1;
        true
    }

    /// Takes a record out of its directory's list, which goes with its last object.
    pub(crate) fn unlink(&mut self, object: u32, order: &PathOrder) {
        let bytes = self.records.at(object);
        let (at, next, previous) = (record::directory(bytes), record::next(bytes), record::previous(bytes));
        if !self.bookmarks.is_empty() {
            self.move_bookmarks(object, next);
        }
        if next != NONE {
            record::set_previous(self.records.at_mut(next), previous);
        }
        if previous != NONE {
            record::set_next(self.records.at_mut(previous), next);
        }
        self.entries -= 1;
        let bytes = self.directories.at_mut(at);
        let objects = directory::objects(bytes) - 1;
        self.by_host[directory::host(bytes) as usize] -= 1;
        directory::set_objects(bytes, objects);
        if previous == NONE {
            directory::set_first(bytes, next);
        }
        if objects == 0 {
            self.drop_directory(at, order);
        }
    }

    /// Lets a linked record be found by its name, in the place of the one of the same name and variant, which is given
    /// back.
    pub(crate) fn publish(&mut self, object: u32, by_name: u64, stale: bool, locator: L) -> Option<u32> {
        let bytes = self.records.at(object);
        let variant = record::variant(bytes);
        let (mut replaced, mut other) = (None, None);
        self.names.find(by_name, |candidate| {
            if self.have_one_url(candidate, object) {
                let candidate_bytes = self.records.at(candidate);
                other = Some(record::is_https(candidate_bytes));
                replaced = (record::variant(candidate_bytes) == variant).then_some(candidate);
            }
            replaced.is_some()
        });
        match replaced {
            Some(old) => self.names.replace(by_name, old, object, Some(locator)),
            None => self.names.insert(by_name, object, Some(locator)),
        }
        let bytes = self.records.at_mut(object);
        if stale {
            record::set_stale(bytes);
        }
        match other {
            Some(https) => record::set_https(bytes, https),
            None => self.urls += 1,
        }
        replaced
    }

    /// Takes out what [`Shard::publish`] gave back: a record that its name leads to no more. Its tags go to `left`.
    pub(crate) fn retire(&mut self, object: u32, order: &PathOrder, left: &mut Departed) {
        let name = self.name(object);
        record::tags(self.records.at(object)).for_each(|(number, _)| left.push((number, name)));
        self.unlink(object, order);
        self.discard(object);
    }

    /// Takes an object out. Its tags go to `left`.
    pub(crate) fn remove(&mut self, object: u32, by_name: u64, order: &PathOrder, left: &mut Departed) {
        self.names.remove(by_name, object);
        if self.names.find(by_name, |other| self.have_one_url(other, object)).is_none() {
            self.urls -= 1;
        }
        self.retire(object, order, left);
    }

    fn have_one_url(&self, one: u32, other: u32) -> bool {
        let (one, other) = (self.records.at(one), self.records.at(other));
        record::directory(one) == record::directory(other) && record::name(one) == record::name(other)
    }

    pub(crate) fn mark(&mut self, object: u32) {
        record::set_stale(self.records.at_mut(object));
    }

    /// The objects of that name, each with its locator; all variants, or those that `wanted` says yes to.
    #[inline]
    pub(crate) fn named(
        &self,
        hash: u64,
        by_name: u64,
        split: Split<'_>,
        mut wanted: impl FnMut(u32, Variant) -> bool,
    ) -> Option<(u32, &L)> {
        // Both searches, and then both records, are waited for at once.
        black_box(self.directory_names.touch(hash) ^ self.names.touch(by_name));
        let guesses = (self.directory_names.find(hash, |_| true)?, self.names.find(by_name, |_| true)?);
        let (directory, bytes) = (self.directories.at(guesses.0), self.records.at(guesses.1));
        black_box((
            directory.get(LINE),
            directory::objects(directory),
            bytes.get(LINE),
            record::directory(bytes),
        ));
        let at = self.find_directory(hash, split.directory)?;
        let found = self.names.find_with_value(by_name, |object| {
            let bytes = self.records.at(object);
            record::name(bytes) == split.name.as_bytes()
                && record::directory(bytes) == at
                && wanted(object, record::variant(bytes))
        });
        found.and_then(|(object, locator)| Some((object, locator.as_ref()?)))
    }

    /// The locator of an object that is found by its name.
    pub(crate) fn locator(&self, object: u32, by_name: u64) -> Option<&L> {
        let (_, locator) = self.names.find_with_value(by_name, |other| other == object)?;
        locator.as_ref()
    }

    /// A view of an object, which has this key and hostname.
    #[inline]
    pub(crate) fn view<'a>(
        &'a self,
        object: u32,
        (key, host): (&'a str, &'a str),
        locator: &'a L,
        tagged: &'a Tagged,
    ) -> Held<'a, L> {
        let record = self.records.at(object);
        Held {
            key,
            host,
            variant: record::variant(record),
            token: self.generations.token(record::token(record)),
            stale: record::is_stale(record),
            locator,
            record,
            tagged,
        }
    }

    /// The object's key, in the place of what is in `bytes`.
    pub(crate) fn key<'a>(&self, object: u32, bytes: &'a mut Vec<u8>) -> &'a str {
        let record = self.records.at(object);
        bytes.clear();
        bytes.extend_from_slice(directory::text(self.directories.at(record::directory(record))));
        bytes.extend_from_slice(record::name(record));
        // Its parts were cut from text.
        std::str::from_utf8(bytes).unwrap_or_default()
    }

    /// A directory's newest object.
    pub(crate) fn first(&self, hash: u64, directory: &str) -> u32 {
        let at = self.find_directory(hash, directory);
        at.map_or(NONE, |at| directory::first(self.directories.at(at)))
    }

    /// A bookmark before an object.
    pub(crate) fn open(&mut self, object: u32) -> DirectoryBookmark {
        let bookmark = Arc::new(AtomicU32::new(object));
        self.bookmarks.retain(|bookmark| bookmark.strong_count() > 0);
        self.bookmarks.push(Arc::downgrade(&bookmark));
        bookmark
    }

    /// Up to `max` objects of a directory's list, from this one on.
    pub(crate) fn list_from(&self, mut object: u32, max: usize) -> SmallVec<[u32; 64]> {
        let mut objects = SmallVec::new();
        while object != NONE && objects.len() < max {
            objects.push(object);
            object = self.next(object);
        }
        objects
    }

    pub(crate) fn next(&self, object: u32) -> u32 {
        record::next(self.records.at(object))
    }

    pub(crate) fn has_name(&self, object: u32, prefix: &str) -> bool {
        prefix.is_empty() || record::name(self.records.at(object)).starts_with(prefix.as_bytes())
    }

    /// Whether the name in a tag's list still names an object.
    pub(crate) fn is_alive(&self, object: Ref, handle: u32) -> bool {
        // A walk may hold names from before all memory was given back.
        self.records.incarnation_now(handle) == Some(object.incarnation)
            && record::is_held(self.records.at(handle))
    }

    pub(crate) fn carries(&self, object: u32, tag: u32) -> bool {
        record::tags(self.records.at(object)).any(|(number, _)| number == tag)
    }

    pub(crate) fn objects_of(&self, host: u32) -> u64 {
        self.by_host.get(host as usize).copied().unwrap_or(0).into()
    }

    /// How many objects a directory holds.
    pub(crate) fn objects_in(&self, hash: u64, directory: &str) -> u64 {
        let at = self.find_directory(hash, directory);
        at.map_or(0, |at| directory::objects(self.directories.at(at)).into())
    }

    /// Gives all memory back. Nothing must be held, and nothing be named by a tag's list: incarnations begin anew.
    pub(crate) fn reset(&mut self) {
        *self = Self::new(self.number);
    }

    /// Adds what this part knows.
    pub(crate) fn describe(&self, stats: &mut Stats) {
        stats.entries += self.entries;
        stats.urls += self.urls;
        stats.bytes.urls += self.records.bytes()
            + self.names.bytes()
            + (self.bookmarks.capacity() * size_of::<Weak<AtomicU32>>()) as u64;
        stats.bytes.order += self.directories.bytes()
            + self.directory_names.bytes()
            + (self.by_host.capacity() * size_of::<u32>()) as u64;
        stats.bytes.free += self.records.free_bytes() + self.directories.free_bytes();
    }

    fn find_directory(&self, hash: u64, directory: &str) -> Option<u32> {
        self.directory_names.find(hash, |at| directory::text(self.directories.at(at)) == directory.as_bytes())
    }

    fn make_directory(&mut self, hash: u64, split: Split<'_>, order: &PathOrder) -> Option<u32> {
        let at = self.directories.alloc(directory::len(split.directory.len()))?;
        let host = order.enter(split.directory);
        directory::write(self.directories.at_mut(at), split, hash, host);
        self.directory_names.insert(hash, at, ());
        Some(at)
    }

    fn drop_directory(&mut self, at: u32, order: &PathOrder) {
        let bytes = self.directories.at(at);
        let (hash, text) = (directory::hash(bytes), directory::text(bytes));
        let len = directory::len(text.len());
        order.leave(std::str::from_utf8(text).unwrap_or_default());
        self.directory_names.remove(hash, at);
        self.directories.free(at, len);
    }

    fn move_bookmarks(&mut self, from: u32, to: u32) {
        self.bookmarks.retain(|bookmark| {
            let Some(bookmark) = bookmark.upgrade() else { return false };
            if bookmark.load(Relaxed) == from {
                bookmark.store(to, Relaxed);
            }
            true
        });
    }
}
