use std::collections::{BTreeMap, BTreeSet};

/// Pages that do not say yet what groups in the log say of their rows.
///
/// A group may only be trimmed when all it says of trimmed records stands in their pages.
#[derive(Default)]
pub(super) struct DirtyPages(BTreeMap<u64, Groups>);

/// The first and the last group that say something of a page.
#[derive(Clone, Copy, Debug)]
struct Groups {
    first: u64,
    last: u64,
}

impl DirtyPages {
    pub(super) fn mark(&mut self, page: u64, group: u64) {
        let groups = self.0.entry(page).or_insert(Groups { first: group, last: group });
        groups.last = group;
    }

    /// Pages up to this one of which groups through this one say something.
    pub(super) fn through(&self, group: u64, last_page: u64) -> BTreeSet<u64> {
        let pages = self.0.range(..=last_page);
        pages.filter(|(_, groups)| groups.first <= group).map(|(page, _)| *page).collect()
    }

    /// What groups through this one say stands in the pages.
    pub(super) fn written_through(&mut self, group: u64) {
        self.0.retain(|_, groups| groups.last > group);
        for groups in self.0.values_mut() {
            groups.first = groups.first.max(group + 1);
        }
    }
}
