//! The one place where an insert and a record meet without a lock: the order of their steps.
//!
//! A record publishes its rules, then walks. An insert puts its object where every walk finds it, then asks for the
//! rules. Between the two steps of each lies a fence, so at least one of them sees the other's first step: either the
//! insert sees the rule, or the walk sees the object. There is no third case. Both see each other when the steps
//! interleave; then the object is taken back, or was handed out, by whoever holds its page first.
//!
//! What stands under a lock needs no fence; but whether anything is held at all is asked without one.

use crate::{Refused, Verdict};

/// What an insert does. `ask` is the verdict by the rules as they stand; `enter` makes the object findable by every
/// walk, and keeps others from acting on it until `keep` or `take_back`.
///
/// # Errors
/// What the verdict was when it is Gone, before or after.
pub(crate) fn admit<E>(
    mut ask: impl FnMut() -> Verdict,
    fence: impl FnOnce(),
    enter: impl FnOnce() -> E,
    keep: impl FnOnce(E, Verdict),
    take_back: impl FnOnce(E),
) -> Result<(), Refused> {
    // Most that is refused is refused here, without having been anywhere.
    if ask() == Verdict::Gone {
        return Err(Refused::Gone);
    }
    let entered = enter();
    fence();
    match ask() {
        Verdict::Gone => {
            take_back(entered);
            Err(Refused::Gone)
        }
        verdict => {
            keep(entered, verdict);
            Ok(())
        }
    }
}

/// What a record does: `publish` puts its rules in force, and `walk` begins to look for what they hit.
pub(crate) fn enforce<W>(publish: impl FnOnce(), fence: impl FnOnce(), walk: impl FnOnce() -> W) -> W {
    publish();
    fence();
    walk()
}

#[cfg(test)]
mod tests;
