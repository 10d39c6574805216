//! Tasks: which purge is how far, and what is told of it.
//!
//! | module | answers |
//! | --- | --- |
//! | [`live`] | What does memory know of a task? |
//! | [`progress`] | What does its row in the log say? |
//! | [`resolve`] | Which completions are durable, and may be told? |
//! | [`query`] | What is answered to a question about tasks? |
//! | [`events`] | What is told to those who listen, and what do they know already? |
//! | [`view`] | How does all of it look from outside? |

pub(super) mod events;
pub(super) mod live;
pub(super) mod progress;
mod query;
mod resolve;
pub(super) mod view;
