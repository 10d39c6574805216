//! A cache tier between edge and origin, and the comparison that keeps it from undoing purges.
//!
//! A parent that has not applied what its child has may hold an object that was purged, and the child would keep it as
//! newer than the purge. So a child says how far it had come when its fetch began, and a parent that has not come so far
//! does not answer from its cache:
//!
//! ```text
//!  child, applied 42                                parent
//!  X-Batoff-Seq: <log id>;42  ──────────────────▶   applied ≥ 42 in the same log: the rules decide, as always
//!                                                   else: fetch from the origin, or from the next parent through 42
//!                             ◀──────────────────   X-Batoff-Seq: <log id>;42 or more: what you get is good through it
//! ```
//! The answer says that the parent has compared. A cache that knows nothing of this (stock nginx) says nothing, and
//! what it answers is served and not stored. The same holds for a confirmation (304).
//!
//! The comparison is with what the parent has *applied*, after which its rules judge each object and each fetch under way
//! by its own token: a purge that is applied is in the rules, however old the object is. An object older than the child's
//! seq that no purge has hit is as good as a new one, or one purge of anything would empty the parent for its children.
//!
//! A seq means something within one log only, so the log's id goes with it, and a parent that follows another log cannot
//! compare. A node's generation is a counter of its own and never leaves it: a reset moves the node's cursor, and it is
//! the cursor that others compare.
//!
//! A daemon that has not caught up since it started may stand before what its predecessor acknowledged. Until it has, it
//! asks with `origin;<nonce>`: out of no cache at all.
//!
//! To ask is to go past the cache, so only configured children may.
//!
//! **Why this exists beside `[path] parents`.** That a purged page does not come back through a parent is shown, for every
//! kind of cache alike, by the token of a fill being the least position on its path (`batoff_edge::Path`): until all
//! parents have confirmed a purge, what it hit is passed on and not stored. Between two of these proxies the comparison
//! does more: the visitor who comes in between gets the new page and not the parent's old one, and it is stored at once. It
//! is not needed for `completed` to be true. What a parent vouches for is stored under this node's own position, anything
//! else under that of the path; where no path is declared, what nobody vouches for is not stored at all.

use std::net::IpAddr;
use std::sync::Arc;

use batoff_edge::Standing;
use batoff_types::{Cursor, FillToken};

mod children;
mod demand;

pub use self::children::Children;
pub(crate) use self::demand::{Demand, Through, Unreadable, X_BATOFF_SEQ};

/// What a proxy knows of the tiers around it.
#[derive(Debug)]
pub struct Shield {
    standing: Arc<Standing>,
    children: Children,
}

/// What a child wants; the error is a wish in a form that this build does not know, which it cannot vouch for.
pub(crate) type Asked = Result<Demand, Unreadable>;

impl Shield {
    /// For a node that stands at `standing` and answers `children`.
    pub const fn new(standing: Arc<Standing>, children: Children) -> Self {
        Self { standing, children }
    }

    /// Whether who connects from there is one of the children.
    pub(crate) fn is_child(&self, from: IpAddr) -> bool {
        self.children.contain(from)
    }

    /// What the header of a request says, if who sent it may say such a thing.
    pub(crate) fn asked(&self, from: IpAddr, value: &[u8]) -> Option<Asked> {
        let asked = || std::str::from_utf8(value).map_err(|_| Unreadable).and_then(str::parse);
        self.children.contain(from).then(asked)
    }

    /// How far an answer from the cache reaches, if that is far enough for `asked`. `now` must be taken *before* the
    /// rules are asked about the object; `good` is what its own fetch was good for.
    pub(crate) fn reach(&self, asked: Asked, now: FillToken, good: Option<Through>) -> Option<Through> {
        let Ok(Demand::Through(asked)) = asked else { return None };
        let here = self.standing.log_of(now).map(|log_id| Through { log_id, cursor: now.applied });
        here.into_iter().chain(good).find(|reach| reach.reaches(asked))
    }

    /// How new the answer to a fetch with this token has to be, for the child that it is made for and for this node.
    /// `nonce` is used once.
    pub(crate) fn demand(&self, token: FillToken, child: Option<Asked>, nonce: u64) -> Demand {
        match self.good_for(token, child) {
            Some(through) => Demand::Through(through),
            None => Demand::Origin(nonce),
        }
    }

    /// What an answer to such a fetch is good for; `None` when that is no place in the log.
    pub(crate) fn good_for(&self, token: FillToken, child: Option<Asked>) -> Option<Through> {
        let own = Through { log_id: self.standing.caught_up_log_of(token)?, cursor: token.applied };
        match child {
            None => Some(own),
            Some(Ok(Demand::Through(child))) if child.log_id == own.log_id => {
                let cursor: Cursor = own.cursor.max(child.cursor);
                Some(Through { cursor, ..own })
            }
            Some(Ok(Demand::Through(_) | Demand::Origin(_)) | Err(_)) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use batoff_types::{Generation, LogId};

    use super::*;

    fn at(log: u8, seq: u64) -> Through {
        Through { log_id: LogId::from_bytes([log; 16]), cursor: Cursor::new(seq) }
    }

    fn asks(log: u8, seq: u64) -> Asked {
        Ok(Demand::Through(at(log, seq)))
    }

    fn token(applied: u64) -> FillToken {
        FillToken { generation: Generation(1), applied: Cursor::new(applied) }
    }

    fn shield(caught_up: bool) -> Shield {
        let standing = Standing::nowhere();
        standing.set(LogId::from_bytes([1; 16]), Generation(1), caught_up);
        Shield::new(Arc::new(standing), Children::parse(&["192.0.2.0/24"]).unwrap())
    }

    #[test]
    fn a_cache_answers_up_to_where_its_rules_or_the_fetch_itself_reach() {
        let shield = shield(false);
        assert_eq!(shield.reach(asks(1, 5), token(5), None), Some(at(1, 5)));
        assert_eq!(shield.reach(asks(1, 5), token(9), None), Some(at(1, 9)));
        assert_eq!(shield.reach(asks(1, 5), token(4), None), None);
        assert_eq!(
            shield.reach(asks(1, 5), token(4), Some(at(1, 5))),
            Some(at(1, 5)),
            "fetched for such a child"
        );
        assert_eq!(shield.reach(asks(1, 5), token(4), Some(at(2, 9))), None);
        assert_eq!(shield.reach(asks(2, 5), token(9), None), None, "another log");
        assert_eq!(shield.reach(Ok(Demand::Origin(1)), token(9), Some(at(1, 9))), None);
        assert_eq!(shield.reach(Err(Unreadable), token(9), None), None);
    }

    #[test]
    fn a_fetch_asks_for_the_most_that_anybody_behind_it_needs() {
        let shield = shield(true);
        assert_eq!(shield.demand(token(5), None, 7), Demand::Through(at(1, 5)));
        assert_eq!(shield.demand(token(5), Some(asks(1, 8)), 7), Demand::Through(at(1, 8)));
        assert_eq!(shield.demand(token(5), Some(asks(1, 3)), 7), Demand::Through(at(1, 5)));
        for cannot in [asks(2, 3), Ok(Demand::Origin(1)), Err(Unreadable)] {
            assert_eq!(shield.demand(token(5), Some(cannot), 7), Demand::Origin(7));
        }
        let before_a_reset = FillToken { generation: Generation(0), ..token(5) };
        assert_eq!(shield.demand(before_a_reset, None, 7), Demand::Origin(7));
    }

    #[test]
    fn who_has_not_caught_up_asks_no_cache() {
        assert_eq!(shield(false).demand(token(5), None, 7), Demand::Origin(7));
        assert_eq!(shield(false).demand(token(5), Some(asks(1, 8)), 7), Demand::Origin(7));
    }

    #[test]
    fn a_strangers_word_is_not_heard() {
        let shield = shield(true);
        let value = Demand::Through(at(1, 5)).to_string();
        let asked = |from: &str, value: &[u8]| shield.asked(from.parse().unwrap(), value);
        assert_eq!(asked("192.0.2.9", value.as_bytes()), Some(asks(1, 5)));
        assert_eq!(asked("198.51.100.9", value.as_bytes()), None);
        assert_eq!(asked("192.0.2.9", b"\xff"), Some(Err(Unreadable)));
    }
}
