use batoff_types::{Cursor, Generation, SiteTable, TaskId};

use crate::Rule;

/// What an index must remember across a restart, as plain data. The entries are not part of it: the cache itself is the
/// truth about what it holds, and tells the index again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The generation.
    pub generation: Generation,
    /// What was applied.
    pub cursor: Cursor,
    /// The task of the record right before the cursor; `None` at the start of a log and after a reset.
    pub task: Option<TaskId>,
    /// Whose each hostname was.
    pub sites: SiteTable,
    /// What arrives with an older token than this is Gone without asking the rules.
    pub forgotten_through: Cursor,
    /// The rules in force, in no particular order.
    pub rules: Vec<Rule>,
}
