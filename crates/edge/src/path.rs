//! What lies between this node and the origins: other nodes, its *parents*, through which its cache fetches.
//!
//! A fill has begun after a purge only if everything between here and the origin had applied the purge when it began.
//! What this node has applied says nothing about a parent, which may still answer with the page that was purged. So the
//! token of a fill is the least position on its path:
//!
//! ```text
//!  visitor ──▶ this node ──▶ parent ──▶ … ──▶ origin
//!              applied 42     through 40 (told by the control plane, which has the parents' acks and leases)
//!              token = min(42, 40) = 40: what it brings is judged by purges 41 and 42, as it may be older than they
//! ```
//! Rules refuse an object whose token is older than a purge that hits it. Until the parents are there, what was purged is
//! therefore fetched and passed on, and not stored; nothing is applied twice, and no ack waits.
//!
//! A parent also hands out stale objects (after a soft purge, or in an origin's own windows), which the child could not
//! tell from fresh ones: those carry [`X_BATOFF_STALE`].

use batoff_types::{Cursor, FillToken, Generation};
use http::{HeaderMap, HeaderName, header};
use tokio::sync::watch;

/// The mark of a stale answer, with the value [`STALE`].
///
/// A node puts it on every answer (200 or 304, HEAD included) that it serves *stale*: from its cache, without the
/// origin's confirmation, because of a soft purge, `stale-while-revalidate`, `stale-if-error`, or any window of its own.
/// It is passed on unchanged, through however many nodes, to the visitor. **A node never stores an answer that carries
/// it, whatever its value, and never refreshes a stored object by a 304 that carries it**: by `Age` and `Cache-Control` it
/// looks fresh after a soft purge, so a child would keep it for its whole lifetime, and by the child's token it may even be
/// newer than the purge. A node that answers from its own cache, fresh, cannot carry it, because such an answer was not
/// stored.
pub const X_BATOFF_STALE: HeaderName = HeaderName::from_static("x-batoff-stale");

/// The value that a node writes into [`X_BATOFF_STALE`].
pub const STALE: &str = "1";

/// Whether an answer carries the mark of a stale one.
pub fn is_marked_stale(headers: &HeaderMap) -> bool {
    headers.contains_key(X_BATOFF_STALE)
}

/// How far the parents of this node are, as the control plane last told; shared by the stream, which is told, and
/// whatever gives out fill tokens.
///
/// **When the value may rise, and why that is sound.** The control plane tells the least place through which *all* nodes
/// behind this one, parents of parents included, can no longer serve anything that was purged: they have acknowledged it
/// in this log, or are strict and certainly without a lease. Such a place stays true of a node for as long as the log
/// lives: what a node has acknowledged is in force there whatever happens to its daemon, and one that was fenced gets a
/// lease only after it has applied everything up to where it was fenced. So a value that was true when it was sent is
/// true when it arrives, and at every later fetch; it needs no time limit and no clock, and it goes on to count while this
/// node has no stream. It is *not* known, and counts as [`Cursor::START`], when this process has not been told yet, after
/// a reset until the control plane tells anew (the old place was one in another order), and when the control plane does
/// not know a parent, which it says then. It may fall, for instance when a node joins a PoP that is named as a parent.
///
/// The order matters on the way out: the token is taken **before** the request goes to the parent, from a value that was
/// told before, so the parent was there when the fetch began.
#[derive(Debug)]
pub struct Path {
    has_parents: bool,
    told: watch::Sender<Option<Reached>>,
}

/// A place that all parents have reached, in the order that this node follows in `generation`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Reached {
    generation: Generation,
    through: Cursor,
}

impl Path {
    /// With parents, of which nothing is known yet; or straight to the origins.
    pub fn new(has_parents: bool) -> Self {
        Self { has_parents, told: watch::Sender::new(None) }
    }

    /// Whether the configuration names parents.
    pub const fn has_parents(&self) -> bool {
        self.has_parents
    }

    /// The token of a fill that begins now: the least position on the path. `own` is what
    /// [`Index::begin_fill`](batoff_index::Index::begin_fill) has just given. Without parents it is `own`.
    ///
    /// With parents, and before this run has caught up with the log and heard of them, it is a token under which nothing is
    /// ever stored, of no generation that a node can have. The run before this one may have acknowledged what this one does
    /// not know of yet: without parents a fetch that begins now is newer than all of that, but out of a parent's cache it may
    /// be older, and no rule here would say so.
    #[must_use]
    pub fn token(&self, own: FillToken) -> FillToken {
        if self.has_parents && self.told.borrow().is_none() {
            return FillToken { generation: Generation(0), applied: Cursor::START };
        }
        match self.through(own.generation) {
            Some(through) => FillToken { applied: own.applied.min(through), ..own },
            None => own,
        }
    }

    /// Through where the parents are, in the order that is followed in `generation`; [`Cursor::START`] when that is not
    /// known. `None` without parents: there is no bound. An adapter that can refuse to store at all does so while this is
    /// [`Cursor::START`], for the reason that [`Path::token`] gives.
    pub fn through(&self, generation: Generation) -> Option<Cursor> {
        if !self.has_parents {
            return None;
        }
        let told = self.told.borrow().filter(|told| told.generation == generation);
        Some(told.map_or(Cursor::START, |told| told.through))
    }

    /// To wait for the next change.
    pub fn changes(&self) -> PathChanges {
        PathChanges(self.told.subscribe())
    }

    /// Nothing is known of the parents, or this node does not know yet what was completed before it.
    pub(crate) fn forget(&self) {
        self.told.send_if_modified(|told| told.take().is_some());
    }

    /// The control plane has said so of the order that is followed in `generation`. For the daemon, and for tests.
    pub fn tell(&self, generation: Generation, through: Cursor) {
        let next = Some(Reached { generation, through });
        self.told.send_if_modified(|told| std::mem::replace(told, next) != next);
    }
}

/// Waits for changes of a [`Path`]. What changed before it was made, or since it last waited, is not lost.
#[derive(Clone, Debug)]
pub struct PathChanges(watch::Receiver<Option<Reached>>);

impl PathChanges {
    /// Returns when [`Path::token`] may give something else than when this last returned; never without parents, or once
    /// the path is gone. Cancel-safe.
    pub async fn changed(&mut self) {
        if self.0.changed().await.is_err() {
            std::future::pending().await
        }
    }
}

/// Headers that only caches write.
const MARKS: [&str; 7] = [
    "x-cache",
    "x-cache-hits",
    "x-cache-status",
    "cf-cache-status",
    "cache-status",
    "x-varnish",
    "x-served-by",
];

/// The marks of another cache on an answer as it came from upstream, each as `name: value`: an `Age` above 0, `Via`,
/// `X-Cache` and its kin, `X-Batoff-*`. What is found there on a node without [`Path::has_parents`] is a parent that was
/// not declared, and its stale pages would be stored as new. Names in `own` are those that this node's own cache writes,
/// for who can see the answer only behind it.
pub fn marks_of_another_cache(headers: &HeaderMap, own: &[HeaderName]) -> Vec<String> {
    let mut marks: Vec<String> = headers
        .iter()
        .filter(|(name, value)| {
            let is_age = **name == header::AGE && !matches!(value.to_str().map(str::trim), Ok("" | "0"));
            let is_mark = **name == header::VIA
                || MARKS.contains(&name.as_str())
                || name.as_str().starts_with("x-batoff-");
            (is_age || is_mark) && !own.contains(name)
        })
        .map(|(name, value)| {
            let value: String = String::from_utf8_lossy(value.as_bytes()).chars().take(80).collect();
            format!("{name}: {value}")
        })
        .collect();
    marks.sort();
    marks
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(generation: u64, applied: u64) -> FillToken {
        FillToken { generation: Generation(generation), applied: Cursor::new(applied) }
    }

    #[test]
    fn a_token_is_the_least_position_on_the_path() {
        let path = Path::new(true);
        assert_eq!(path.token(token(1, 9)), token(0, 0), "nothing is known of the parents yet");
        path.tell(Generation(1), Cursor::new(7));
        assert_eq!(path.token(token(1, 9)), token(1, 7));
        assert_eq!(path.token(token(1, 5)), token(1, 5));
        assert_eq!(path.token(token(2, 9)), token(2, 0), "told before a reset");
        path.tell(Generation(2), Cursor::new(3));
        assert_eq!(path.token(token(2, 9)), token(2, 3), "a place may fall");
        path.forget();
        assert_eq!(
            (path.token(token(2, 9)), path.through(Generation(2))),
            (token(0, 0), Some(Cursor::START))
        );
        assert_eq!(Path::new(false).token(token(1, 9)), token(1, 9), "straight to the origin");
    }

    #[tokio::test]
    async fn who_waits_for_the_parents_is_woken_by_a_change_and_by_nothing_else() {
        let path = Path::new(true);
        let mut changes = path.changes();
        path.tell(Generation(1), Cursor::new(7));
        changes.changed().await;
        path.tell(Generation(1), Cursor::new(7));
        let again = tokio::time::timeout(std::time::Duration::from_millis(5), changes.changed()).await;
        assert!(again.is_err(), "nothing has changed");
    }

    #[test]
    fn another_cache_is_known_by_its_marks() {
        let marks = |lines: &[(&'static str, &'static str)]| {
            let lines = lines.iter().map(|(name, value)| {
                (HeaderName::from_static(name), header::HeaderValue::from_static(value))
            });
            marks_of_another_cache(&lines.collect(), &[HeaderName::from_static("x-cache")])
        };
        let of_an_origin = [("age", "0"), ("date", "x"), ("server", "nginx"), ("x-cache", "HIT")];
        assert_eq!(marks(&of_an_origin), [""; 0], "x-cache is this node's own here");
        assert_eq!(marks(&[("via", "1.1 varnish"), ("age", "12")]), ["age: 12", "via: 1.1 varnish"]);
        for name in ["x-varnish", "cf-cache-status", "x-batoff-stale"] {
            assert_eq!(marks(&[(name, "1")]).len(), 1, "{name}");
        }
    }
}
