//! A cache tier between edge and origin, and the one comparison that keeps it from undoing purges.

use batoff_types::message::Position;

/// Whether a parent that stands at `parent` may answer a child that stood at `child` when it began its fetch.
///
/// A parent that has not applied what its child has may hold an object that was purged, and the child would keep it
/// under a token that says it is newer. Cursors are compared within one log only: after the log was replaced the same
/// number is another record.
pub(crate) fn may_answer(child: Option<Position>, parent: Option<Position>) -> bool {
    match (child, parent) {
        (Some(child), Some(parent)) => child.log_id == parent.log_id && parent.cursor >= child.cursor,
        // Who stands nowhere cannot compare.
        _ => false,
    }
}
