//! What slots are like, and which there should be.

use std::time::Duration;

/// How the slot that begins at 1700.4 s is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlotNames {
    /// `1700.4`, as nginx cuts it out of `$msec`.
    Decimal,
    /// `17004`, as VCL counts it.
    Plain,
}

/// What the slots are like.
#[derive(Clone, Copy, Debug)]
pub struct SlotsConfig {
    /// What they are called.
    pub names: SlotNames,
    /// How long before its lease ends a node's cache stops serving.
    pub guard: Duration,
    /// Whether a slot goes with this process when it is killed, and not only by the clock: its file is then a link to
    /// the process. The cache must see the same `/proc`.
    pub follows_process: bool,
}

/// What the folders should hold now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DueSlots {
    /// Slots since 1970.
    pub(super) slots: std::ops::Range<u64>,
    pub(super) open: bool,
}
