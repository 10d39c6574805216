//! Going through directories and tags in steps.

use std::sync::atomic::Ordering::{Relaxed, SeqCst};

use smallvec::SmallVec;

use super::arena::NONE;
use super::held::{Act, Held};
use super::key::{directory_hash, shard_of};
use super::posting::Ref;
use super::shard::{DirectoryBookmark, Shard};
use super::tagged::{Departed, TagWalk};
use super::{Store, local};
use crate::place::host_of;

/// Objects visited under one lock of a shard: some ten microseconds.
const PER_LOCK: usize = 64;

/// Names taken from a tag's list at once.
const NAMES_AT_ONCE: usize = 512;

/// How far a visit came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// There is nothing more.
    Over,
    /// The budget is spent.
    More,
    /// [`Act::Stop`].
    Stopped,
}

/// A walk through the objects of one directory: those that were in it when the walk began, and none that came since.
#[derive(Debug)]
pub(crate) struct InDirectory {
    directory: Box<str>,
    /// What the names that are wanted begin with.
    names: Box<str>,
    hash: u64,
    /// The next one; `None` before the first.
    bookmark: Option<DirectoryBookmark>,
}

/// A walk through the objects that carry a tag: those that did when the walk began.
#[derive(Debug)]
pub(crate) struct InTag {
    walk: TagWalk,
    /// Taken from the list and not visited yet, in the order of their shards.
    names: Vec<Ref>,
    /// [`Store::resets`] before they were taken.
    resets: u64,
}

impl<L> Store<L> {
    /// A walk through the directory `host[:port]/a/b/`.
    pub(crate) fn enter_directory(&self, directory: &str, names: &str) -> InDirectory {
        let hash = directory_hash(&self.hashes, directory);
        InDirectory { directory: directory.into(), names: names.into(), hash, bookmark: None }
    }

    /// Visits the objects whose name begins as the walk wants it. `budget` falls with every object that was looked at.
    pub(crate) fn walk_directory(
        &self,
        walk: &mut InDirectory,
        budget: &mut usize,
        visit: &mut dyn FnMut(&Held<'_, L>) -> Act,
    ) -> Progress {
        let progress = loop {
            if *budget == 0 {
                break Progress::More;
            }
            let mut shard = self.shards[shard_of(walk.hash)].write();
            let next = match &walk.bookmark {
                Some(bookmark) => bookmark.load(Relaxed),
                None => shard.first(walk.hash, &walk.directory),
            };
            let objects = shard.list_from(next, PER_LOCK.min(*budget));
            let (next, progress) = self.visit_list(&mut shard, &objects, walk, budget, visit);
            if progress == Progress::Over {
                break progress;
            }
            match &walk.bookmark {
                Some(bookmark) => bookmark.store(next, Relaxed),
                None => walk.bookmark = Some(shard.open(next)),
            }
            if progress == Progress::Stopped {
                break progress;
            }
        };
        self.tidy();
        progress
    }

    /// Visits those of a directory's objects; the next one, and how far it came.
    fn visit_list(
        &self,
        shard: &mut Shard<L>,
        objects: &[u32],
        walk: &InDirectory,
        budget: &mut usize,
        visit: &mut dyn FnMut(&Held<'_, L>) -> Act,
    ) -> (u32, Progress) {
        let by_names = shard.touch_all(objects, &self.hashes);
        let (mut key, mut left) = (Vec::new(), Departed::new());
        let (mut next, mut stopped) = (objects.first().copied().unwrap_or(NONE), false);
        for (&object, &by_name) in objects.iter().zip(&by_names) {
            let act = if shard.has_name(object, &walk.names) {
                self.show(shard, object, by_name, &mut key, visit)
            } else {
                Act::Keep
            };
            if act == Act::Stop {
                stopped = true;
                break;
            }
            *budget -= 1;
            next = shard.next(object);
            self.carry_out(shard, (object, by_name), act, &mut left);
        }
        self.tagged.leave(&mut left);
        match (next, stopped) {
            (_, true) => (next, Progress::Stopped),
            (NONE, false) => (NONE, Progress::Over),
            (next, false) => (next, Progress::More),
        }
    }

    /// A walk through what carries the tag, if anything does.
    pub(crate) fn enter_tag(&self, tag: &str) -> Option<InTag> {
        Some(InTag { walk: self.tagged.walk(tag)?, names: Vec::new(), resets: 0 })
    }

    /// Visits the objects. `budget` falls with every name that was looked at.
    pub(crate) fn walk_tag(
        &self,
        walk: &mut InTag,
        budget: &mut usize,
        visit: &mut dyn FnMut(&Held<'_, L>) -> Act,
    ) -> Progress {
        let mut key = Vec::new();
        let progress = loop {
            if *budget == 0 {
                break Progress::More;
            }
            if walk.names.is_empty() {
                // In this order: a list that is still there after it was not reset before.
                walk.resets = self.resets.load(SeqCst);
                walk.names = self.tagged.walk_on(&walk.walk, NAMES_AT_ONCE);
                walk.names.sort_unstable_by_key(|name| name.handle);
            }
            let Some(last) = walk.names.last() else { break Progress::Over };
            let (number, _) = local(last.handle);
            if !self.visit_in(number, walk, budget, &mut key, visit) {
                break Progress::Stopped;
            }
        };
        self.tidy();
        progress
    }

    /// Visits, from the back, what lies in that shard; false when stopped.
    fn visit_in(
        &self,
        number: usize,
        walk: &mut InTag,
        budget: &mut usize,
        key: &mut Vec<u8>,
        visit: &mut dyn FnMut(&Held<'_, L>) -> Act,
    ) -> bool {
        let mut shard = self.shards[number].write();
        if walk.resets != self.resets.load(SeqCst) {
            walk.names.clear();
            return true;
        }
        let begins = walk.names.partition_point(|name| local(name.handle).0 < number);
        let from = begins.max(walk.names.len().saturating_sub(PER_LOCK.min(*budget)));
        let carries = |shard: &Shard<L>, name: &Ref, object: u32| {
            // A new list may have begun under the old number, or a new object where the old one was.
            shard.is_alive(*name, object) && shard.carries(object, walk.walk.number)
        };
        shard.touch_heads(walk.names[from..].iter().map(|name| local(name.handle).1));
        let mut objects: SmallVec<[u32; PER_LOCK]> = SmallVec::new();
        for name in walk.names[from..].iter().rev() {
            let (_, object) = local(name.handle);
            // A list may show an object twice. In the order of handles, that is with nothing but dead names between; and the
            // first visit may be its last.
            if objects.last() != Some(&object) && carries(&shard, name, object) {
                objects.push(object);
            }
        }
        let by_names = shard.touch_all(&objects, &self.hashes);
        let mut left = Departed::new();
        let mut stopped = false;
        for (&object, &by_name) in objects.iter().zip(&by_names) {
            let act = self.show(&shard, object, by_name, key, visit);
            if act == Act::Stop {
                stopped = true;
                break;
            }
            self.carry_out(&mut shard, (object, by_name), act, &mut left);
            *budget -= 1;
            // Dead names before it went with it.
            while let Some(name) = walk.names.pop()
                && local(name.handle).1 != object
            {
                *budget = budget.saturating_sub(1);
            }
        }
        if !stopped {
            *budget = budget.saturating_sub(walk.names.len() - from);
            walk.names.truncate(from);
        }
        self.tagged.leave(&mut left);
        !stopped
    }

    /// Shows an object to whoever walks.
    fn show(
        &self,
        shard: &Shard<L>,
        object: u32,
        by_name: u64,
        key: &mut Vec<u8>,
        visit: &mut dyn FnMut(&Held<'_, L>) -> Act,
    ) -> Act {
        let Some(locator) = shard.locator(object, by_name) else { return Act::Keep };
        let key = shard.key(object, key);
        visit(&shard.view(object, (key, host_of(key)), locator, &self.tagged))
    }

    /// The first host after `after` among those that hold anything.
    pub(crate) fn host_after(&self, after: Option<&str>) -> Option<Box<str>> {
        self.order.host_after(after)
    }

    /// Up to `max` directories of the host, without its name, that begin with `prefix`, after `after`.
    pub(crate) fn directories(
        &self,
        host: &str,
        prefix: &str,
        after: Option<&str>,
        max: usize,
    ) -> Vec<Box<str>> {
        self.order.directories(host, prefix, after, max)
    }
}
