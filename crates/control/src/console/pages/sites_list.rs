//! One list of purges over several sites, newest first.

use std::collections::VecDeque;

use batoff_log::StoreError;
use batoff_types::{Seq, SiteId, TaskId};

use crate::service::Services;
use crate::tracker::{TaskFilter, TaskPage, TaskView};

/// Questions to the log beside one a site. What they do not reach is on the next page, which may make a page short.
const MORE_QUESTIONS: usize = 64;

/// What is known of one site.
struct SiteQueue {
    site: SiteId,
    /// Not taken yet, newest first.
    waiting: VecDeque<TaskView>,
    /// Where to ask on; `None` when there is no more.
    next: Option<TaskId>,
    asked: bool,
}

impl SiteQueue {
    /// Whether its newest purge that is not taken yet is not known.
    fn is_open(&self) -> bool {
        self.waiting.is_empty() && (!self.asked || self.next.is_some())
    }
}

/// A page of these sites' purges. With a filter it may be short, or empty, and still not be the last, as
/// [`TaskPage::next`] says.
pub async fn page(
    services: &Services,
    sites: &[SiteId],
    filter: &TaskFilter,
) -> Result<TaskPage, StoreError> {
    if let [site] = sites {
        return services.tracker.list(site, filter).await;
    }
    let new =
        |site: &SiteId| SiteQueue { site: site.clone(), waiting: VecDeque::new(), next: None, asked: false };
    let mut sources: Vec<SiteQueue> = sites.iter().map(new).collect();
    // Mostly a few sites have most of the purges; those are asked again.
    let at_once = (filter.limit * 4 / sites.len().max(1)).clamp(4, filter.limit.max(4));
    let mut questions = sites.len() + MORE_QUESTIONS;
    let mut page = TaskPage::default();
    while page.tasks.len() < filter.limit {
        while questions > 0
            && let Some(open) = sources.iter_mut().find(|source| source.is_open())
        {
            questions -= 1;
            let before = if open.asked { open.next } else { filter.before };
            let asked = TaskFilter { before, limit: at_once, ..filter.clone() };
            let found = services.tracker.list(&open.site, &asked).await?;
            (open.waiting, open.next, open.asked) = (found.tasks.into(), found.next, true);
        }
        if sources.iter().any(SiteQueue::is_open) {
            return cut(services, sources, page).await;
        }
        let newest = sources.iter_mut().max_by_key(|source| source.waiting.front().map(|task| task.seq));
        match newest.and_then(|source| source.waiting.pop_front()) {
            Some(task) => page.tasks.push(task),
            None => return Ok(page),
        }
    }
    let more = sources.iter().any(|source| !source.waiting.is_empty() || source.is_open());
    page.next = page.tasks.last().filter(|_| more).map(|task| task.task);
    Ok(page)
}

/// The questions are used up: the page ends where the first site is not known any further.
async fn cut(
    services: &Services,
    sources: Vec<SiteQueue>,
    mut page: TaskPage,
) -> Result<TaskPage, StoreError> {
    let mut known_to: Option<(Seq, TaskId)> = None;
    for next in sources.iter().filter(|source| source.is_open()).filter_map(|source| source.next) {
        if let Some(row) = services.store.log().find_task(next).await? {
            known_to = known_to.max(Some((row.seq, next)));
        }
    }
    let known = sources.into_iter().flat_map(|source| source.waiting);
    let mut rest: Vec<TaskView> =
        known.filter(|task| known_to.is_none_or(|(seq, _)| task.seq > seq)).collect();
    rest.sort_unstable_by_key(|task| std::cmp::Reverse(task.seq));
    page.tasks.extend(rest);
    page.next = known_to.map(|(_, task)| task);
    Ok(page)
}
