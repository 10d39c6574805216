//! Whose the hostnames are, for caches that are told records: what they hold was stored under names that may have changed
//! hands since, and within a group of records.

use std::collections::BTreeSet;
use std::sync::Arc;

use batoff_types::{Body, HostPattern, Record, SiteId, SiteTable};

/// The sites throughout a group of records: before it, after each change in it, and as the index has them, which may be
/// ahead.
#[derive(Debug)]
pub(crate) struct SitesThroughout {
    tables: Vec<Arc<SiteTable>>,
    after: SiteTable,
    changes: bool,
}

impl SitesThroughout {
    /// From `before`, where the records stood that came to the cache until now.
    pub(crate) fn of(records: &[Arc<Record>], before: &SiteTable, now: Arc<SiteTable>) -> Self {
        let mut sites = before.clone();
        let mut tables = vec![now];
        let mut changes = false;
        for record in records {
            if let Body::Site(change) = &record.body {
                tables.push(Arc::new(sites.clone()));
                sites.apply(change);
                changes = true;
            }
        }
        tables.push(Arc::new(sites.clone()));
        Self { tables, after: sites, changes }
    }

    /// Every name that the site has at some time: one that comes or goes within the group counts before and after.
    pub(crate) fn hostnames(&self, site: &SiteId) -> BTreeSet<HostPattern> {
        self.tables.iter().filter_map(|table| table.hostnames(site.as_str())).flatten().cloned().collect()
    }

    /// Whether the group changes them.
    pub(crate) const fn change(&self) -> bool {
        self.changes
    }

    /// Where the group ends.
    pub(crate) fn after(self) -> SiteTable {
        self.after
    }
}
