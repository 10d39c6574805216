//! What the cache holds: objects by URL, by directory in order, and by tag.
//!
//! A URL is cut behind the last slash of its path: the *directory* is kept once, the *name* in the object's own record,
//! a few bytes in a large allocation that a 28-bit handle names. All objects of a directory lie in one of 16 shards.
//!
//! | noun | is | where |
//! | --- | --- | --- |
//! | shard | one of 16 parts behind a lock: some of the directories, and all that lies in them | [`shard`] |
//! | record | what is kept of one object, or of one directory, as bytes | [`record`] |
//! | arena, handle | blocks of bytes in few allocations; 28 bits that name a block, and four more that name the shard | [`arena`] |
//! | incarnation | how often a block was given back: tells who names what is here from who named what was | [`arena`] |
//! | segments | handles by hash, with a value beside each: names with their locators, directories, tags | [`segments`] |
//! | order | the directories in the order of their bytes, host by host | [`order`] |
//! | tag shard | one of 16 parts behind a lock: some of the tags by text, and for each a list of names | [`posting`], all of them: [`tagged`] |
//! | name in a list | a handle with an incarnation ([`Ref`]); *dead* once its object has left | [`posting`] |
//! | block | a piece of a tag's list; the newest is written to, and walks go from it to the oldest | [`posting`] |
//! | bookmark | where a walk goes on, in a directory's list or in a tag's; moved by whoever moves what it stands at | [`shard`], [`posting`] |
//! | held | one object as it is shown to somebody, who says by an [`Act`] what becomes of it | [`held`] |
//! | entering | an object that every walk finds and nobody can act on yet: kept or taken back by what is judged then | here |
//!
//! [`walks`] go through all that, and [`count`] counts without looking at objects. Bytes an object and times stand in
//! `benches/README.md`.
//!
//! What costs time is waiting for memory, so what several searches need is read before any of them goes on. A lookup waits
//! twice in a row (table, record), the directory's search beside it. An insert waits three times: for slots, for records,
//! for the ends of lists.

mod arena;
mod count;
mod generations;
mod held;
mod key;
mod order;
mod posting;
mod record;
mod segments;
mod shard;
mod tagged;
mod walks;

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst, fence};

use batoff_types::{FillToken, PurgeUrl, SiteTable};
use parking_lot::{RwLock, RwLockWriteGuard};
use smallvec::SmallVec;

pub(crate) use self::held::{Act, Held};
use self::key::{HashState, SHARDS, Split, directory_hash, name_hash, shard_of};
use self::order::PathOrder;
use self::posting::Ref;
use self::shard::Shard;
use self::tagged::{Departed, Numbers, Tagged};
pub(crate) use self::walks::{InDirectory, InTag, Progress};
use crate::place::{OVERFLOW, host_of};
use crate::rules::{CarriedTags, Printer, Target};
use crate::stats::Stats;
use crate::{Entry, Refused, Variant, Verdict, admission};

/// The bits of a handle that name a block in its shard's arena; the others name the shard.
const HANDLE_BITS: u32 = 28;

/// Locks: a shard's first, then at most one of `order` and `tagged`, never the other way round, and never two shards'.
/// Every object is found by name, by directory and by tag, or not at all, as seen by whoever holds its shard.
pub(crate) struct Store<L> {
    hashes: HashState,
    shards: [RwLock<Shard<L>>; SHARDS],
    order: PathOrder,
    tagged: Tagged,
    entries: AtomicU64,
    /// How often a shard's memory was given back. Names that a walk took from a list before that are dead, and what they
    /// say must not be looked at: something else may begin elsewhere there.
    resets: AtomicU64,
}

impl<L> Store<L> {
    /// An empty store, whose tags have the fingerprints that the rules are asked with.
    pub(crate) fn new(printer: Printer) -> Self {
        Self {
            hashes: HashState::default(),
            shards: std::array::from_fn(|number| RwLock::new(Shard::new(number))),
            order: PathOrder::default(),
            tagged: Tagged::new(printer),
            entries: AtomicU64::new(0),
            resets: AtomicU64::new(0),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.load(SeqCst) == 0
    }

    /// Stores an object in the place of the one of the same URL and variant, unless `judge` says that it is Gone: asked
    /// before, and again when every walk finds the object and nobody can act on it yet.
    ///
    /// # Errors
    /// Gone; or there is no room, or it has more than 65,535 tags. Whatever was stored before under this name is still
    /// stored, and no walk has missed it.
    pub(crate) fn put(
        &self,
        entry: Entry<L>,
        mut judge: impl FnMut(&Target<'_>, FillToken) -> Verdict,
    ) -> Result<(), Refused> {
        let Entry { url, variant, tags, token, locator } = entry;
        let tags = self.tagged.printed(&tags);
        let object = Target { key: url.key(), host: url.host(), tags: CarriedTags::Printed(&tags) };
        let mut no_room = false;
        let admitted = admission::admit(
            || judge(&object, token),
            || fence(SeqCst),
            || self.enter(&url, variant, &tags, token),
            |entered, verdict| match entered {
                Some(entered) => entered.keep(locator, verdict == Verdict::Stale),
                None => no_room = true,
            },
            |entered| {
                if let Some(entered) = entered {
                    entered.take_back();
                }
            },
        );
        self.tidy();
        if no_room { Err(Refused::Gone) } else { admitted }
    }

    /// An object that every walk leads to and no name, in a shard that is held. `None` when there is no room.
    fn enter(
        &self,
        url: &PurgeUrl,
        variant: Variant,
        tags: &[(u64, &str)],
        token: FillToken,
    ) -> Option<Entering<'_, L>> {
        let (split, hash, by_name) = self.file(url.key());
        let number = shard_of(hash);
        let mut shard = self.shards[number].write();
        let mut locked = self.tagged.hold(tags);
        // Whatever will be needed lies anywhere in memory, up to three steps away: each step is waited for once.
        black_box((shard.touch_slots(hash, by_name), locked.touch_texts()));
        let first = shard.touch_records(hash, by_name);
        black_box(locked.touch_tags());
        black_box((shard.touch_record(first), locked.touch_blocks()));

        let https = url.as_str().starts_with("https:");
        let overflows = tags.iter().any(|&(_, text)| text == OVERFLOW);
        let object = shard.draft(split.name, variant, token, (https, overflows), tags.len())?;
        let name = shard.name(object);
        let numbers = locked.enter(name);
        drop(locked);
        shard.set_tags(object, numbers.iter().zip(tags).map(|(&number, &(print, _))| (number, print as u32)));
        let linked = numbers.len() == tags.len() && shard.link(object, hash, split, &self.order);
        let entering = Entering { store: self, shard, object, by_name, name, tags: numbers };
        if linked {
            self.entries.fetch_add(1, SeqCst);
            return Some(entering);
        }
        entering.discard();
        None
    }

    /// Shows one object.
    pub(crate) fn look<T>(
        &self,
        url: &PurgeUrl,
        variant: Variant,
        show: impl FnOnce(&Held<'_, L>) -> T,
    ) -> Option<T> {
        let (split, hash, by_name) = self.file(url.key());
        let shard = self.shards[shard_of(hash)].read();
        let (object, locator) = shard.named(hash, by_name, split, |_, other| other == variant)?;
        Some(show(&shard.view(object, (url.key(), url.host()), locator, &self.tagged)))
    }

    /// Goes through the objects under a URL; false when `act` stopped it.
    pub(crate) fn revise(&self, key: &str, mut act: impl FnMut(&Held<'_, L>) -> Act) -> bool {
        let (split, hash, by_name) = self.file(key);
        let mut shard = self.shards[shard_of(hash)].write();
        let mut objects = SmallVec::<[u32; 4]>::new();
        shard.named(hash, by_name, split, |object, _| {
            objects.push(object);
            false
        });
        let (mut all, mut left) = (true, Departed::new());
        for object in objects {
            let act = shard.locator(object, by_name).map_or(Act::Keep, |locator| {
                act(&shard.view(object, (key, host_of(key)), locator, &self.tagged))
            });
            if act == Act::Stop {
                all = false;
                break;
            }
            self.carry_out(&mut shard, (object, by_name), act, &mut left);
        }
        self.tagged.leave(&mut left);
        drop(shard);
        self.tidy();
        all
    }

    /// Fills in what the store knows. Waits for each shard in turn.
    pub(crate) fn describe(&self, sites: &SiteTable, stats: &mut Stats) {
        let unowned = self.order.hosts_where(|host| sites.owner(host).is_none());
        for shard in &self.shards {
            let shard = shard.read();
            stats.unowned += unowned.iter().map(|&host| shard.objects_of(host)).sum::<u64>();
        }
        self.describe_size(stats);
    }

    /// Adds everything but what needs a look at each host.
    pub(crate) fn describe_size(&self, stats: &mut Stats) {
        self.shards.iter().for_each(|shard| shard.read().describe(stats));
        stats.bytes.order += self.order.bytes();
        self.tagged.describe(stats);
    }

    /// A key in its parts, with the directory's hash and the name's.
    fn file<'a>(&self, key: &'a str) -> (Split<'a>, u64, u64) {
        let split = Split::of(key);
        let hash = directory_hash(&self.hashes, split.directory);
        (split, hash, name_hash(&self.hashes, hash, split.name.as_bytes()))
    }

    /// An object comes with what it is named under. `left` takes the tags of one that leaves: they are to be told before
    /// the shard is let go.
    fn carry_out(&self, shard: &mut Shard<L>, (object, by_name): (u32, u64), act: Act, left: &mut Departed) {
        match act {
            Act::Keep | Act::Stop => {}
            Act::Mark => shard.mark(object),
            Act::Leave => {
                shard.remove(object, by_name, &self.order, left);
                self.entries.fetch_sub(1, SeqCst);
            }
        }
    }

    /// What is left to do after a change, with no lock held.
    fn tidy(&self) {
        self.tagged.compact(|names| self.alive(names));
        if self.is_empty() {
            self.give_back();
        }
    }

    fn alive(&self, names: &[Ref]) -> Vec<bool> {
        let mut alive = vec![false; names.len()];
        let mut order: Vec<usize> = (0..names.len()).collect();
        order.sort_unstable_by_key(|&at| names[at].handle);
        for of_shard in order.chunk_by(|&a, &b| local(names[a].handle).0 == local(names[b].handle).0) {
            let shard = self.shards[local(names[of_shard[0]].handle).0].read();
            shard.touch_heads(of_shard.iter().map(|&at| local(names[at].handle).1));
            for &at in of_shard {
                alive[at] = shard.is_alive(names[at], local(names[at].handle).1);
            }
        }
        alive
    }

    /// Gives the memory of empty shards back. Not while any tag has a list: it may name what was here.
    fn give_back(&self) {
        for shard in &self.shards {
            let mut shard = shard.write();
            if shard.entries == 0 && self.tagged.is_empty() {
                self.resets.fetch_add(1, SeqCst);
                shard.reset();
            }
        }
    }
}

const fn global(shard: usize, handle: u32) -> u32 {
    (shard as u32) << HANDLE_BITS | handle
}

const fn local(handle: u32) -> (usize, u32) {
    ((handle >> HANDLE_BITS) as usize, handle & ((1 << HANDLE_BITS) - 1))
}

/// An object that every walk finds and nobody can act on: its shard is held. What it will replace is still what its name
/// leads to.
struct Entering<'a, L> {
    store: &'a Store<L>,
    shard: RwLockWriteGuard<'a, Shard<L>>,
    object: u32,
    by_name: u64,
    name: Ref,
    tags: Numbers,
}

impl<L> Entering<'_, L> {
    fn keep(mut self, locator: L, stale: bool) {
        let Store { order, tagged, entries, .. } = self.store;
        if let Some(replaced) = self.shard.publish(self.object, self.by_name, stale, locator) {
            let mut left = Departed::new();
            self.shard.retire(replaced, order, &mut left);
            tagged.leave(&mut left);
            entries.fetch_sub(1, SeqCst);
        }
    }

    fn take_back(mut self) {
        self.shard.unlink(self.object, &self.store.order);
        self.store.entries.fetch_sub(1, SeqCst);
        self.discard();
    }

    fn discard(mut self) {
        self.store.tagged.retract(&self.tags, self.name);
        self.shard.discard(self.object);
    }
}
