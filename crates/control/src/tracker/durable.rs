//! What outlives this process, beside the log and the rows of tasks, and what a start makes of it.
//!
//! | module | answers |
//! | --- | --- |
//! | [`saved`] | What do the small records say: terms, nodes, how far all of them are? |
//! | [`learn`] | What does a replica take from another one's rows, when its own end before the log begins? |
//! | [`recover`] | What does a start find, and which tasks may be open? |
//! | [`ownership`] | Is the log still ours, after this process stood still? |

mod learn;
pub(super) mod ownership;
pub(super) mod recover;
pub(super) mod saved;
