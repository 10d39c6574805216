//! Where this node stands, as another node may be told.

use batoff_types::{FillToken, Generation, LogId};
use parking_lot::Mutex;

/// Which log the tokens of this node count in, and whether this run has once caught up with it.
///
/// Tokens of two nodes can be compared only when both count in the same log; the generation is a counter of one node and
/// says nothing to another, so it never leaves it. The daemon keeps this up to date; a cache only reads.
#[derive(Debug, Default)]
pub struct Standing(Mutex<Option<Claim>>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Claim {
    log_id: LogId,
    generation: Generation,
    caught_up: bool,
}

impl Standing {
    /// Nowhere: nothing can be compared.
    pub fn nowhere() -> Self {
        Self::default()
    }

    /// The index follows `log_id` in `generation`. `caught_up`: it has had in force what the log held when this run first
    /// connected, so it does not stand before what its predecessor has acknowledged.
    pub fn set(&self, log_id: LogId, generation: Generation, caught_up: bool) {
        *self.0.lock() = Some(Claim { log_id, generation, caught_up });
    }

    /// The log may be another one from here on.
    pub fn clear(&self) {
        *self.0.lock() = None;
    }

    /// The log that `token` counts in; `None` when that is not known, or the token is from before a reset.
    pub fn log_of(&self, token: FillToken) -> Option<LogId> {
        self.of(token).map(|at| at.log_id)
    }

    /// As [`Standing::log_of`], and `None` before this run has caught up: what its predecessor acknowledged may be
    /// declared completed, and this run may not know of it yet.
    pub fn caught_up_log_of(&self, token: FillToken) -> Option<LogId> {
        self.of(token).filter(|at| at.caught_up).map(|at| at.log_id)
    }

    fn of(&self, token: FillToken) -> Option<Claim> {
        self.0.lock().filter(|at| at.generation == token.generation)
    }
}

#[cfg(test)]
mod tests {
    use batoff_types::Cursor;

    use super::*;

    #[test]
    fn a_token_counts_in_the_log_of_its_generation() {
        let token = |generation| FillToken { generation: Generation(generation), applied: Cursor::new(5) };
        let log_id = LogId::from_bytes([1; 16]);
        let standing = Standing::nowhere();
        assert_eq!(standing.log_of(token(1)), None);
        standing.set(log_id, Generation(2), false);
        assert_eq!(standing.log_of(token(1)), None, "from before the reset");
        assert_eq!((standing.log_of(token(2)), standing.caught_up_log_of(token(2))), (Some(log_id), None));
        standing.set(log_id, Generation(2), true);
        assert_eq!(standing.caught_up_log_of(token(2)), Some(log_id));
        standing.clear();
        assert_eq!(standing.log_of(token(2)), None);
    }
}
