//! Nodes, beside the rules of delivery: what is durable about them, what they say of themselves, how to reach them.
//!
//! | module | answers |
//! | --- | --- |
//! | [`roll`] | Which names are there, and what is known of each? |
//! | [`steps`] | What does a node's message do to that? |
//! | [`mailbox`] | How is a node asked for something, and who waits for its answer? |
//! | [`sent`] | When were records handed to its stream? |
//! | [`parents`] | What is a node told of the caches that it fetches through? |
//! | [`status`] | How does a node look to the operator? |
//! | [`text`] | How much of what a node writes is kept? |
//! | [`concerns`] | What about them needs attention, why, and since when? |
//! | `fleet` | How are all of them together? |
//! | [`query`] | What is answered to a question about nodes? |

pub(super) mod concerns;
mod fleet;
pub(super) mod mailbox;
pub(super) mod parents;
mod query;
pub(super) mod roll;
pub(super) mod sent;
pub(super) mod status;
mod steps;
pub(super) mod text;
pub(super) mod voices;
