//! Tasks: which purge is how far, and what is told of it.
//!
//! | module | answers |
//! | --- | --- |
//! | [`memory`] | Which tasks does memory know, and what has to happen to them next? |
//! | [`live`] | What does memory know of a task? |
//! | [`marks`] | When did it come how far, on which node and in which PoP? |
//! | [`steps`] | What do records and nodes' messages do to tasks? |
//! | [`progress`] | What does its row in the log say? |
//! | [`rows`] | Of what is that row made? |
//! | [`decide`] | Who says `completed`, and what is late? |
//! | [`took`] | How long did it take, where several clocks tell of it? |
//! | [`spill`] | What leaves memory? |
//! | [`resolve`] | Which completions are durable, and may be told? |
//! | [`lines`] | What is told and kept of that, PoP by PoP? |
//! | [`cause`] | Why was a node late, in a word? |
//! | [`propagation`] | How does its way look from outside: who was late, and why? |
//! | [`strip`] | What is answered to the question how a purge spread? |
//! | [`query`] | What is answered to a question about tasks? |
//! | [`events`] | What is told to those who listen, and what do they know already? |
//! | [`follow`], [`news`] | The same of all sites, for one listener that tells many |
//! | [`view`] | How does all of it look from outside? |

pub(super) mod cause;
mod decide;
pub(super) mod events;
mod follow;
mod lines;
pub(super) mod live;
pub(super) mod marks;
pub(super) mod memory;
pub(super) mod news;
pub(super) mod progress;
pub(super) mod propagation;
mod query;
mod resolve;
mod rows;
mod spill;
mod steps;
mod strip;
mod took;
pub(super) mod view;
