//! Was the promise kept? Counts by slots of five minutes, for each site and for all, kept as long as tasks; and by days,
//! for 400 days.
//!
//! | module | answers |
//! | --- | --- |
//! | [`slot`], `histogram` | What happened to the purges of one site within five minutes? |
//! | [`ledger`] | Which of it is not in the rows yet, and how does it get there, once? |
//! | `shared`, [`turn`] | The same, when several control planes count together |
//! | `archive` | What is left of a day when its slots are forgotten? |
//! | `days` | How fast were they on each day? |
//! | [`query`] | How fast were purges over a window? |

mod archive;
mod days;
mod histogram;
pub(super) mod ledger;
mod query;
mod shared;
mod slot;
pub(super) mod turn;
pub(super) mod view;
