//! What goes to and fro between the stream, the applier, and those who work for it.

use batoff_delivery::Received;
use batoff_types::message::{RecordReport, Reset, Trouble};
use batoff_types::{Seq, SiteTable, TaskId};

/// What the stream asks for.
#[derive(Debug)]
pub(crate) enum Order {
    /// Apply this.
    Record(Received),
    /// Drop everything.
    Reset { reset: Reset, sites: SiteTable },
}

/// What the stream hears.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// Cannot be served from any cache here any more. In the order of the log.
    Applied { seq: Seq, task: TaskId, report: RecordReport },
    /// More about a record that was applied before.
    Report(RecordReport),
    /// Everything is dropped.
    Reset(Reset),
    /// A cache is in the way, or no longer.
    Trouble(Trouble),
}

/// The number of an order; only rising.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Ticket(pub(super) u64);

/// What the lanes and the sweeper tell the applier.
#[derive(Debug)]
pub(super) enum News {
    /// A cache is done with everything before this.
    CacheDone { cache: String, ticket: Ticket },
    /// Whether what records through `asked` hit is held back.
    HeldBack { asked: Ticket, held: bool },
    /// All objects of a record were handed to the lanes.
    Swept { ticket: Ticket, report: RecordReport },
    /// A cache is in the way, or no longer.
    Trouble(Trouble),
}
