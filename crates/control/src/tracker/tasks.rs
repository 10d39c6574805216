//! Tasks: which purge is how far, and what is told of it.
//!
//! | module | answers |
//! | --- | --- |
//! | [`memory`] | Which tasks does memory know, and what has to happen to them next? |
//! | [`live`] | What does memory know of a task? |
//! | [`steps`] | What do records and nodes' messages do to tasks? |
//! | [`progress`] | What does its row in the log say? |
//! | [`decide`] | Who says `completed`, and what is late? |
//! | [`spill`] | What leaves memory? |
//! | [`resolve`] | Which completions are durable, and may be told? |
//! | [`query`] | What is answered to a question about tasks? |
//! | [`events`] | What is told to those who listen, and what do they know already? |
//! | [`view`] | How does all of it look from outside? |

mod decide;
pub(super) mod events;
pub(super) mod live;
pub(super) mod memory;
pub(super) mod progress;
mod query;
mod resolve;
mod spill;
mod steps;
pub(super) mod view;
