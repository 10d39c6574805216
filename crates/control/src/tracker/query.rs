use std::sync::Arc;
use std::time::Duration;

use batoff_log::{LIST_TASKS_MAX, StoreError, TaskRow};
use batoff_types::{Seq, SiteId, TaskId};
use futures_util::stream::{self, BoxStream, StreamExt};

use super::Tracker;
use super::events::{Next, Place};
use super::live::LiveTask;
use super::progress::Progress;
use super::state::State;
use super::view::{NodeCounts, PopView, TaskEvent, TaskFilter, TaskPage, TaskState, TaskView};
use crate::task_record;

/// Rows that one page of a filtered list looks at. When none of them fits, the page is empty and names where to go on.
const ROWS_LOOKED_AT: usize = 5_000;

/// Tasks whose present state is sent to a subscriber that was away for too long.
const CATCH_UP_MAX: usize = 1_000;

/// Events handed to a subscriber at once.
const EVENTS_AT_ONCE: usize = 64;

impl Tracker {
    /// How the task is now; `None` when the site has no such task.
    pub async fn task(&self, site: &SiteId, task: TaskId) -> Result<Option<TaskView>, StoreError> {
        if let Some(view) = self.live_view(task) {
            return Ok((view.site == *site).then_some(view));
        }
        let row = self.store.log().find_task(task).await?;
        match row.filter(|row| row.site == *site) {
            Some(row) => self.view_row(&row).await.map(Some),
            None => Ok(None),
        }
    }

    /// The same, held back until the task is completed, `at_most` has passed, or the process drains.
    pub async fn wait(
        &self,
        site: &SiteId,
        task: TaskId,
        at_most: Duration,
    ) -> Result<Option<TaskView>, StoreError> {
        let mut completed = self.completed.subscribe();
        let now = self.task(site, task).await?;
        let Some(view) = now else { return Ok(None) };
        if view.state == TaskState::Completed || at_most.is_zero() {
            return Ok(Some(view));
        }
        tokio::select! {
            _ = completed.wait_for(|cursor| cursor.covers(view.seq)) => {}
            () = tokio::time::sleep(at_most) => {}
            () = self.draining.cancelled() => {}
        }
        self.task(site, task).await
    }

    /// The task PoP by PoP, sorted by name; `None` when the site has no such task.
    pub async fn pops(&self, site: &SiteId, task: TaskId) -> Result<Option<Vec<PopView>>, StoreError> {
        let live = {
            let state = self.state.lock();
            let found = state.by_task.get(&task).and_then(|seq| Some((*seq, state.live.get(seq)?)));
            found.map(|(seq, task)| (task.site.clone(), live_pops(&state, seq, task)))
        };
        if let Some((owner, pops)) = live {
            return Ok((owner == *site).then_some(pops));
        }
        let row = self.store.log().find_task(task).await?.filter(|row| row.site == *site);
        Ok(row.map(|row| match progress_of(&row) {
            Some(progress) if progress.completed.is_some() => progress.pops,
            _ => {
                let by_pop = self.state.lock().pops_at(row.seq);
                let view = |(pop, nodes): &(Arc<str>, NodeCounts)| PopView {
                    pop: Arc::clone(pop),
                    nodes: *nodes,
                    slowest_ms: None,
                    objects_evicted: 0,
                };
                by_pop.iter().map(view).collect()
            }
        }))
    }

    /// The site's tasks, newest first.
    pub async fn list(&self, site: &SiteId, filter: &TaskFilter) -> Result<TaskPage, StoreError> {
        let limit = filter.limit.max(1);
        let mut page = TaskPage::default();
        let mut before = filter.before;
        let mut looked_at = 0;
        loop {
            // One more than asked for tells whether there is a next page.
            let rows = self.store.log().list_tasks(site, before, (limit + 1).min(LIST_TASKS_MAX)).await?;
            if rows.is_empty() {
                page.next = None;
                return Ok(page);
            }
            for row in rows {
                if page.tasks.len() == limit || looked_at == ROWS_LOOKED_AT {
                    page.next = before;
                    return Ok(page);
                }
                looked_at += 1;
                before = Some(row.task);
                if filter.since.is_some_and(|since| row.accepted_at < since) {
                    // Times of neighbours may be a little out of order, but not by a second.
                    if filter.since.is_some_and(|since| row.accepted_at.0 + 1_000 < since.0) {
                        return Ok(page);
                    }
                    continue;
                }
                let view = self.view(&row).await?;
                page.tasks.extend(fits(&view, filter).then_some(view));
            }
        }
    }

    /// What happens to the site's tasks from now on, or from right after the event of that id: one event when a task is
    /// accepted and one at each change of state. An id that is too old is answered with the present state of every task
    /// that may have changed since. The stream ends when the process drains.
    pub async fn subscribe(
        self: &Arc<Self>,
        site: &SiteId,
        last_event_id: Option<&str>,
    ) -> Result<BoxStream<'static, TaskEvent>, StoreError> {
        let place = last_event_id.and_then(Place::from_id).unwrap_or_else(|| self.here());
        let (place, missed) = match self.events.next(place, site, 0) {
            Next::Events(_, place) => (place, Vec::new()),
            Next::Lost(end) => (end, self.missed(site, end).await?),
        };
        let end = self.events.subscribe();
        let following = Following { tracker: Arc::clone(self), site: site.clone(), place, end };
        Ok(stream::iter(missed)
            .chain(stream::unfold(following, Following::next).flat_map(stream::iter))
            .boxed())
    }

    fn here(&self) -> Place {
        let state = self.state.lock();
        self.events.end(state.completed_through())
    }

    /// The present state of all tasks that may have changed since everything through `place.completed` was completed.
    async fn missed(&self, site: &SiteId, place: Place) -> Result<Vec<TaskEvent>, StoreError> {
        let mut events = Vec::new();
        let mut before = None;
        'pages: loop {
            let rows = self.store.log().list_tasks(site, before, LIST_TASKS_MAX).await?;
            let Some(last) = rows.last() else { break };
            before = Some(last.task);
            for row in &rows {
                if place.completed.covers(row.seq) || events.len() == CATCH_UP_MAX {
                    break 'pages;
                }
                events.push(TaskEvent { id: place.to_id(), task: self.view(row).await? });
            }
        }
        // Oldest first, as they would have come. Only the last names the place after all of them: whoever is cut off
        // in between is sent them again.
        events.reverse();
        let count = events.len();
        for event in events.iter_mut().take(count.saturating_sub(1)) {
            event.id = place.to_lost_id();
        }
        Ok(events)
    }

    fn live_view(&self, task: TaskId) -> Option<TaskView> {
        let state = self.state.lock();
        let seq = *state.by_task.get(&task)?;
        let task = state.live.get(&seq)?;
        Some(self.live_view_in(&state, seq, task))
    }

    fn live_view_in(&self, state: &State, seq: Seq, task: &LiveTask) -> TaskView {
        if task.stored().is_some() {
            return task.view(seq, TaskState::Completed, NodeCounts::default());
        }
        let now = self.clock.now();
        task.view(seq, state.open_state(now, seq, task.partial), state.counts_at(seq))
    }

    /// The task of a row: memory knows better where it knows at all.
    async fn view(&self, row: &TaskRow) -> Result<TaskView, StoreError> {
        match self.live_view(row.task) {
            Some(view) => Ok(view),
            None => self.view_row(row).await,
        }
    }

    async fn view_row(&self, row: &TaskRow) -> Result<TaskView, StoreError> {
        let found = task_record::of_row(self.store.as_ref(), row).await?;
        let (request_id, selectors, soft) = match found {
            Some((record, purge)) => (record.request_id, purge.selectors.into(), purge.soft),
            None => (Arc::from(""), Arc::from([]), false),
        };
        let progress = progress_of(row).unwrap_or_default();
        let (state, nodes) = match progress.completed {
            Some(_) => (TaskState::Completed, progress.nodes),
            None => {
                let state = self.state.lock();
                (state.open_state(self.clock.now(), row.seq, false), state.counts_at(row.seq))
            }
        };
        Ok(TaskView {
            task: row.task,
            site: row.site.clone(),
            seq: row.seq,
            request_id,
            state,
            selectors,
            soft,
            started_at: row.accepted_at,
            completed_at: progress.completed.map(|(at, _)| at),
            propagation_ms: progress.completed.map(|(_, took)| took),
            objects_evicted: progress.objects,
            objects_final: progress.completed.is_some() && progress.is_final(),
            nodes,
        })
    }
}

fn live_pops(state: &State, seq: Seq, task: &LiveTask) -> Vec<PopView> {
    match task.stored() {
        Some(decided) => task.pop_views(&decided.by_pop, &state.roll),
        None => task.pop_views(&state.pops_at(seq), &state.roll),
    }
}

pub(super) fn progress_of(row: &TaskRow) -> Option<Progress> {
    row.completion.as_deref().and_then(Progress::decode)
}

fn fits(view: &TaskView, filter: &TaskFilter) -> bool {
    filter.state.is_none_or(|state| view.state == state) && filter.kind.is_none_or(|kind| view.has_kind(kind))
}

/// A subscriber on its way.
struct Following {
    tracker: Arc<Tracker>,
    site: SiteId,
    place: Place,
    end: tokio::sync::watch::Receiver<u64>,
}

impl Following {
    async fn next(mut self) -> Option<(Vec<TaskEvent>, Self)> {
        loop {
            self.end.borrow_and_update();
            match self.tracker.events.next(self.place, &self.site, EVENTS_AT_ONCE) {
                Next::Events(events, place) => {
                    self.place = place;
                    if !events.is_empty() {
                        return Some((events, self));
                    }
                }
                Next::Lost(end) => {
                    // A store that fails ends the stream; the client comes back with the last id it has.
                    let missed = self.tracker.missed(&self.site, end).await.ok()?;
                    self.place = end;
                    if !missed.is_empty() {
                        return Some((missed, self));
                    }
                }
            }
            let draining = self.tracker.draining.clone();
            tokio::select! {
                changed = self.end.changed() => changed.ok()?,
                () = draining.cancelled() => return None,
            }
        }
    }
}
