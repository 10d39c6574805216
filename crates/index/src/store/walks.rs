//! Going through directories and tags in steps.

use std::sync::atomic::Ordering::Relaxed;

use batoff_types::Tag;

use super::arena::NONE;
use super::held::{Act, Held};
use super::key::{directory_hash, shard_of};
use super::posting::Ref;
use super::shard::Place;
use super::tagged::TagWalk;
use super::{Store, local};

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
    shard: usize,
    place: Place,
}

/// A walk through the objects that carry a tag: those that did when the walk began.
#[derive(Debug)]
pub(crate) struct InTag {
    walk: TagWalk,
    /// Taken from the list and not visited yet, in the order of their shards.
    names: Vec<Ref>,
}

impl<L> Store<L> {
    /// A walk through the directory `host[:port]/a/b/`, if it holds anything.
    pub(crate) fn enter_directory(&self, directory: &str) -> Option<InDirectory> {
        let hash = directory_hash(&self.hashes, directory);
        let shard = shard_of(hash);
        let place = self.shards[shard].write().open(hash, directory)?;
        Some(InDirectory { shard, place })
    }

    /// Visits the objects whose name begins with `names`. `budget` falls with every object that was looked at.
    pub(crate) fn walk_directory(
        &self,
        walk: &InDirectory,
        names: &str,
        budget: &mut usize,
        visit: &mut dyn FnMut(&Held<'_, L>) -> Act,
    ) -> Progress {
        let mut key = String::new();
        let progress = 'walk: loop {
            let mut shard = self.shards[walk.shard].write();
            for _ in 0..PER_LOCK {
                let object = walk.place.load(Relaxed);
                if object == NONE {
                    break 'walk Progress::Over;
                }
                if *budget == 0 {
                    break 'walk Progress::More;
                }
                *budget -= 1;
                let mut act = Act::Keep;
                if shard.has_name(object, names) {
                    shard.write_key(object, &mut key);
                    act = shard.view(object, &key, &self.tagged).map_or(Act::Keep, |held| visit(&held));
                }
                if act == Act::Stop {
                    break 'walk Progress::Stopped;
                }
                walk.place.store(shard.next(object), Relaxed);
                self.carry_out(&mut shard, object, act);
            }
        };
        self.tidy();
        progress
    }

    /// A walk through what carries the tag, if anything does.
    pub(crate) fn enter_tag(&self, tag: &Tag) -> Option<InTag> {
        Some(InTag { walk: self.tagged.walk(tag.as_str())?, names: Vec::new() })
    }

    /// Visits the objects. `budget` falls with every name that was looked at.
    pub(crate) fn walk_tag(
        &self,
        walk: &mut InTag,
        budget: &mut usize,
        visit: &mut dyn FnMut(&Held<'_, L>) -> Act,
    ) -> Progress {
        let mut key = String::new();
        let progress = loop {
            if *budget == 0 {
                break Progress::More;
            }
            if walk.names.is_empty() {
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
        key: &mut String,
        visit: &mut dyn FnMut(&Held<'_, L>) -> Act,
    ) -> bool {
        let mut shard = self.shards[number].write();
        for _ in 0..PER_LOCK.min(*budget) {
            let Some(name) = walk.names.last() else { return true };
            let (lies_in, object) = local(name.handle);
            if lies_in != number {
                return true;
            }
            *budget -= 1;
            // A new list may have begun under the old number, or a new object where the old one was.
            if shard.is_alive(*name, object) && shard.carries(object, walk.walk.number) {
                shard.write_key(object, key);
                let act = shard.view(object, key, &self.tagged).map_or(Act::Keep, |held| visit(&held));
                if act == Act::Stop {
                    return false;
                }
                self.carry_out(&mut shard, object, act);
            }
            walk.names.pop();
        }
        true
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
