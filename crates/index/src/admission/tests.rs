//! Every interleaving of an insert and a record, by loom: with the order as it is nothing is missed, and with each
//! step out of order the model finds how something is.

use std::cell::Cell;

use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed, Ordering::SeqCst, fence};
use loom::sync::{Arc, Mutex};

use super::{admit, enforce};
use crate::{Refused, Verdict};

/// What both sides touch, as small as it can be: a rule, a page, a tag's list, and the number of objects.
struct World {
    /// Published like the state: loads and stores are of the weakest order that such a publication has.
    purged: AtomicBool,
    page: Mutex<Option<Object>>,
    tagged: Mutex<Vec<u32>>,
    entries: AtomicUsize,
}

#[derive(Clone, Copy, PartialEq, Debug)]
struct Object {
    id: u32,
    stale: bool,
}

/// How the steps are done: as they must be, or with one out of order.
#[derive(Clone, Copy, PartialEq)]
enum Order {
    Right,
    AskOnlyBefore,
    AskBeforeEntering,
    WalkBeforePublishing,
    NoFence,
}

impl World {
    /// With an object that has been here for long, and carries no tag.
    fn new(older: bool) -> Self {
        let older = older.then_some(Object { id: 1, stale: false });
        Self {
            purged: AtomicBool::new(false),
            page: Mutex::new(older),
            tagged: Mutex::new(Vec::new()),
            entries: AtomicUsize::new(usize::from(older.is_some())),
        }
    }

    fn ask(&self) -> Verdict {
        if self.purged.load(loom::sync::atomic::Ordering::Acquire) { Verdict::Gone } else { Verdict::Fresh }
    }

    fn fence(order: Order) {
        if order != Order::NoFence {
            fence(SeqCst);
        }
    }

    /// Object 2 comes, which was fetched before the purge.
    fn insert(&self, order: Order) -> Result<(), Refused> {
        let asked = Cell::new(0);
        let early = self.ask();
        admit(
            || {
                asked.set(asked.get() + 1);
                match order {
                    Order::AskBeforeEntering => early,
                    Order::AskOnlyBefore if asked.get() == 2 => Verdict::Fresh,
                    _ => self.ask(),
                }
            },
            || Self::fence(order),
            || {
                let mut page = self.page.lock().unwrap();
                let replaced = page.replace(Object { id: 2, stale: false });
                self.tagged.lock().unwrap().push(2);
                self.entries.fetch_add(1, Relaxed);
                (page, replaced)
            },
            |(page, replaced), _| {
                if replaced.is_some() {
                    self.entries.fetch_sub(1, Relaxed);
                }
                drop(page);
            },
            |(mut page, replaced)| {
                *page = replaced;
                self.tagged.lock().unwrap().retain(|&id| id != 2);
                self.entries.fetch_sub(1, Relaxed);
            },
        )
    }

    /// The tag is purged; what the walk took out.
    fn purge(&self, order: Order) -> Option<Object> {
        let publish = || self.purged.store(true, loom::sync::atomic::Ordering::Release);
        if order == Order::WalkBeforePublishing {
            let found = self.walk();
            publish();
            return found;
        }
        let nothing_held = enforce(publish, || Self::fence(order), || self.entries.load(Relaxed) == 0);
        if nothing_held { None } else { self.walk() }
    }

    fn walk(&self) -> Option<Object> {
        let met = self.tagged.lock().unwrap().first().copied();
        let mut page = self.page.lock().unwrap();
        page.take_if(|object| Some(object.id) == met).inspect(|object| {
            self.tagged.lock().unwrap().retain(|id| *id != object.id);
            self.entries.fetch_sub(1, Relaxed);
        })
    }
}

/// Runs every interleaving of one insert and one purge.
fn explore(order: Order, older: bool) {
    loom::model(move || {
        let world = Arc::new(World::new(older));
        let inserting = {
            let world = world.clone();
            loom::thread::spawn(move || world.insert(order))
        };
        let found = world.purge(order);
        let inserted = inserting.join().unwrap();

        let left = *world.page.lock().unwrap();
        assert!(left.is_none_or(|object| object.id != 2), "missed by both");
        // What was refused was not handed out, and what was taken was.
        assert_eq!(inserted.is_ok(), found.is_some_and(|object| object.id == 2));
        if older && inserted.is_err() {
            assert_eq!(
                left,
                Some(Object { id: 1, stale: false }),
                "what it would have replaced is still there"
            );
        }
        assert_eq!(world.entries.load(SeqCst), usize::from(left.is_some()));
        assert!(world.tagged.lock().unwrap().is_empty());
    });
}

#[test]
fn an_insert_sees_the_rule_or_the_walk_sees_the_object() {
    explore(Order::Right, false);
    explore(Order::Right, true);
}

/// Loom ends a run at the first interleaving that fails, by its panic.
fn is_found(order: Order) -> bool {
    let Err(panic) = std::panic::catch_unwind(|| explore(order, false)) else { return false };
    panic.downcast_ref::<&str>() == Some(&"missed by both")
}

#[test]
fn an_insert_that_does_not_ask_again_is_found() {
    assert!(is_found(Order::AskOnlyBefore));
}

#[test]
fn an_insert_that_asks_again_before_it_can_be_found_is_found() {
    assert!(is_found(Order::AskBeforeEntering));
}

#[test]
fn a_record_that_walks_before_it_publishes_is_found() {
    assert!(is_found(Order::WalkBeforePublishing));
}

#[test]
fn steps_without_a_fence_between_them_are_found() {
    assert!(is_found(Order::NoFence));
}
