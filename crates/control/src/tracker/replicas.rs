//! What several control planes beside one log call completed, and the one that is alone.
//!
//! | module | answers |
//! | --- | --- |
//! | [`quorum`] | Who has stated what, and through where is that recorded as done? |
//! | [`rows`] | How does all of it look in the store? |
//! | [`several`], [`recover`] | What is a start told, and what does it find of it? |
//! | [`done`] | How is it recorded, and how is it heard that another one has? |
//! | [`exchange`] | How do they tell one another what each has stated? |
//! | [`adopt`] | How does the same become of tasks here that another one has written down, and who writes in its place? |
//! | [`settings`] | Have all of them the settings alike that they must? |
//! | [`clocks`] | When was it here, when another's clock showed a time? |
//! | [`view`], [`query`] | How do they look from outside, and may others count from now on? |
//! | [`fresh`], [`shared_reads`] | How is an answer not older than its question? |
//!
//! Where a control plane is alone, none of it runs but [`quorum`], which then passes on what the roster says.

mod adopt;
pub(super) mod clocks;
mod done;
mod exchange;
mod fresh;
mod query;
pub(super) mod quorum;
pub(super) mod recover;
pub(super) mod rows;
pub(super) mod settings;
pub(super) mod several;
pub(super) mod shared_reads;
pub(super) mod view;
