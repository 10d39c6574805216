//! What the purge log and the small records beside it hold, as what it is.
//!
//! | module | answers |
//! | --- | --- |
//! | [`records`] | What stands at a place of the log? |
//! | [`task_record`] | What was purged by a task, whose record the log may have dropped? |
//! | [`rows`] | What do the small records under a key say? |
//! | [`turn`] | Which of several control planes does it now? |
//!
//! Whoever reads a record or a row in this crate does it through here. So one that cannot be read is named and counted
//! in one place, and nobody passes it over without having said so. **Invariant, by what is absent:** nothing here knows
//! what a purge, a node or a customer is for; it stands on the ground, beside [`clock`](crate::clock) and
//! [`ids`](crate::ids).

pub(crate) mod records;
pub(crate) mod rows;
pub(crate) mod task_record;
pub(crate) mod turn;

#[cfg(test)]
mod shared;
#[cfg(test)]
pub(crate) use self::shared::SharedStore;
