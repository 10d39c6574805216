//! Which purge is where, and when is it completed? The clocked, durable shell of [`batoff_delivery::Roster`], which
//! alone decides what `completed` means.

mod view;

use std::sync::Arc;
use std::time::Duration;

use batoff_log::StoreError;
use batoff_types::{Selector, SiteId, TaskId};
use futures_util::stream::BoxStream;

pub use self::view::{
    Breach, Counts, LateNode, NodeCounts, PopView, SlaView, TaskEvent, TaskFilter, TaskPage, TaskState, TaskView,
};

/// Breaches that one SLA answer lists.
pub const SLA_BREACHES_MAX: usize = 100;

/// See the module.
pub struct Tracker {}

#[expect(unused_variables, clippy::unused_async, reason = "the interface, ahead of its body")]
impl Tracker {
    /// How the task is now; `None` when the site has no such task.
    pub async fn task(&self, site: &SiteId, task: TaskId) -> Result<Option<TaskView>, StoreError> {
        Ok(None)
    }

    /// The same, held back until the task is completed, `at_most` has passed, or the process drains.
    pub async fn wait(
        &self,
        site: &SiteId,
        task: TaskId,
        at_most: Duration,
    ) -> Result<Option<TaskView>, StoreError> {
        Ok(None)
    }

    /// The task PoP by PoP, sorted by name; `None` when the site has no such task.
    pub async fn pops(&self, site: &SiteId, task: TaskId) -> Result<Option<Vec<PopView>>, StoreError> {
        Ok(None)
    }

    /// The site's tasks, newest first.
    pub async fn list(&self, site: &SiteId, filter: &TaskFilter) -> Result<TaskPage, StoreError> {
        Ok(TaskPage::default())
    }

    /// What happens to the site's tasks from now on, or from right after the event of that id: one event when a task is
    /// accepted and one at each change of state. An id that is too old is answered with the present state of every task
    /// that may have changed since. The stream ends when the process drains.
    pub async fn subscribe(
        &self,
        site: &SiteId,
        last_event_id: Option<&str>,
    ) -> Result<BoxStream<'static, TaskEvent>, StoreError> {
        Ok(Box::pin(futures_util::stream::empty()))
    }

    /// Asks every connected node how many objects the selectors would hit; waits at most a second.
    pub async fn count(&self, site: &SiteId, selectors: &[Selector]) -> Counts {
        Counts::default()
    }

    /// Propagation of the site's purges (of all sites' for `None`) accepted within the last `window`.
    pub async fn sla(&self, site: Option<&SiteId>, window: Duration) -> Result<SlaView, StoreError> {
        Ok(SlaView::default())
    }
}
