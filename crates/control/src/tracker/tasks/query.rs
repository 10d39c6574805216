//! Questions about tasks: answered from memory where it knows, and from the log's rows where it does not.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use batoff_log::{LIST_TASKS_MAX, StoreError, TaskRow};
use batoff_types::{Moment, Seq, SiteId, TaskId};
use futures_util::stream::{self, BoxStream, StreamExt};

use super::decide::after;
use super::events::{EventPlace, Next};
use super::live::LiveTask;
use super::progress::TaskProgress;
use super::view::{NodeCounts, PopView, TaskEvent, TaskFilter, TaskPage, TaskState, TaskView};
use crate::clock::millis;
use crate::store::task_record;
use crate::tracker::Tracker;
use crate::tracker::state::State;

/// Rows that one page of a filtered list looks at. When none of them fits, the page is empty and names where to go on.
const ROWS_LOOKED_AT: usize = 5_000;

/// Tasks whose present state is sent to a subscriber that was away for too long.
const CATCH_UP_MAX: usize = 1_000;

/// How long an answer is held back for a completion that is decided and being made durable. Longer only when the store
/// does not write, and then the task is rightly not called completed.
const DECIDED_PATIENCE: Duration = Duration::from_millis(250);

/// Events handed to a subscriber at once.
const EVENTS_AT_ONCE: usize = 64;

impl Tracker {
    /// How the task is now; `None` when the site has no such task. Whichever replica accepted or completed it, this one
    /// knows it as of the question, or says that it cannot.
    pub async fn task(&self, site: &SiteId, task: TaskId) -> Result<Option<TaskView>, StoreError> {
        let known = self.task_as_known(site, task).await?;
        if self.is_alone() || known.as_ref().is_some_and(|view| view.state == TaskState::Completed) {
            return Ok(known);
        }
        self.fresh().await?;
        self.task_as_known(site, task).await
    }

    async fn task_as_known(&self, site: &SiteId, task: TaskId) -> Result<Option<TaskView>, StoreError> {
        if let Some(view) = self.settled_view(task).await {
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

    /// No node can serve it any more, but that is not durable yet: waits a moment for that, so that state and counts come
    /// from one look, and nobody reads `in_progress` beside nodes that have all confirmed.
    pub(super) async fn durable(&self, seq: Seq) {
        let mut completed = self.completed.subscribe();
        if !self.state.lock().quorum.decided().covers(seq) || completed.borrow_and_update().covers(seq) {
            return;
        }
        let told = completed.wait_for(|cursor| cursor.covers(seq));
        let _ = tokio::time::timeout(DECIDED_PATIENCE, told).await;
    }

    /// The task PoP by PoP, sorted by name; `None` when the site has no such task.
    pub async fn pops(&self, site: &SiteId, task: TaskId) -> Result<Option<Vec<PopView>>, StoreError> {
        let live = {
            let state = self.state.lock();
            let found =
                state.tasks.by_task.get(&task).and_then(|seq| Some((*seq, state.tasks.live.get(seq)?)));
            found
                .filter(|(_, task)| !task.is_adopted())
                .map(|(seq, task)| (task.site.clone(), live_pops(&state, seq, task)))
        };
        if let Some((owner, pops)) = live {
            return Ok((owner == *site).then_some(pops));
        }
        let row = self.store.log().find_task(task).await?.filter(|row| row.site == *site);
        Ok(row.map(|row| match progress_of(&row) {
            Some(progress) if progress.completed.is_some() => {
                progress.pops.into_iter().map(PopView::from).collect()
            }
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
        self.fresh().await?;
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
    /// accepted and one at each change of state. An id that is too old, or of an earlier start, is answered with the
    /// present state of every task that has changed since; an id that was never given out is no id. The stream ends when
    /// the process drains.
    pub async fn subscribe(
        self: &Arc<Self>,
        site: &SiteId,
        last_event_id: Option<&str>,
    ) -> Result<BoxStream<'static, TaskEvent>, StoreError> {
        if last_event_id.is_some() {
            // Another replica may have told more than is known here.
            self.fresh().await?;
        }
        let here = self.here();
        let place =
            last_event_id.and_then(EventPlace::from_id).filter(|place| place.told.fits(here.told.accepted));
        let place = place.unwrap_or(here);
        let (place, missed) = match self.events.next(place, site, 0) {
            Next::Events(_, place) => (place, Vec::new()),
            Next::Lost(end) => self.missed(site, end).await?,
        };
        let end = self.events.subscribe();
        let told = states_of(&missed);
        let following = Subscriber { tracker: Arc::clone(self), site: site.clone(), place, end, told };
        Ok(stream::iter(missed)
            .chain(stream::unfold(following, Subscriber::next).flat_map(stream::iter))
            .boxed())
    }

    fn here(&self) -> EventPlace {
        let state = self.state.lock();
        self.events.end(state.told())
    }

    /// The present state of the tasks that have changed since all was so that the place's holder was told, and the place
    /// after them. Of more than [`CATCH_UP_MAX`] the newest.
    async fn missed(
        &self,
        site: &SiteId,
        place: EventPlace,
    ) -> Result<(EventPlace, Vec<TaskEvent>), StoreError> {
        let mut tasks = Vec::new();
        let mut before = None;
        // Before any of them is looked at: what becomes so in between is told once more rather than never.
        let all = self.state.lock().told();
        let mut place = place;
        'pages: loop {
            let rows = self.store.log().list_tasks(site, before, LIST_TASKS_MAX).await?;
            let Some(last) = rows.last() else { break };
            before = Some(last.task);
            for row in &rows {
                if place.told.completed.covers(row.seq) || tasks.len() == CATCH_UP_MAX {
                    break 'pages;
                }
                tasks.push(self.view(row).await?);
            }
        }
        let known = place.told;
        let mut events = Vec::new();
        // Oldest first, as they would have come.
        for task in tasks.into_iter().rev() {
            place = place.caught_up(&task, all);
            if !known.knows(&task) {
                events.push(TaskEvent { id: place.to_id(), task });
            }
        }
        Ok((place.following(), events))
    }

    /// The task as memory knows it, its state and its counts from one look.
    async fn settled_view(&self, task: TaskId) -> Option<TaskView> {
        let seq = self.state.lock().tasks.by_task.get(&task).copied()?;
        self.durable(seq).await;
        let view = self.live_view(task)?;
        if view.state == TaskState::Completed || !self.state.lock().quorum.decided().covers(seq) {
            return Some(view);
        }
        // Decided since it was waited for: the counts may say so already, the state does not.
        self.durable(seq).await;
        self.live_view(task)
    }

    fn live_view(&self, task: TaskId) -> Option<TaskView> {
        let state = self.state.lock();
        let seq = *state.tasks.by_task.get(&task)?;
        let task = state.tasks.live.get(&seq).filter(|task| !task.is_adopted())?;
        Some(self.live_view_in(&state, seq, task))
    }

    fn live_view_in(&self, state: &State, seq: Seq, task: &LiveTask) -> TaskView {
        if task.completed().is_some() {
            return task.view(seq, TaskState::Completed, NodeCounts::default());
        }
        let now = self.clock.now();
        task.view(seq, state.open_state(now, seq, task.partial), state.counts_at(seq))
    }

    /// The task of a row: memory knows better where it knows at all.
    async fn view(&self, row: &TaskRow) -> Result<TaskView, StoreError> {
        match self.settled_view(row.task).await {
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
        let mut progress = progress_of(row).unwrap_or_default();
        if progress.completed.is_none() {
            let now = self.clock.now();
            self.state.lock().complete_row(now, row, &mut progress);
        }
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
            approximate: progress.completed.is_some() && progress.approximate,
            objects_evicted: progress.objects,
            objects_final: progress.completed.is_some() && progress.is_final(),
            nodes,
        })
    }
}

impl State {
    /// What may be said of a task that has left memory, is recorded as done among several control planes, and whose row does
    /// not say so yet.
    pub(super) fn complete_row(&self, now: Moment, row: &TaskRow, progress: &mut TaskProgress) {
        if self.quorum.is_alone() || !self.quorum.decided().covers(row.seq) {
            return;
        }
        // By the clock of this process, and told by that of the record: two replicas' clocks may be hours apart. Of what was
        // done before this process started it knows no better.
        let rise = self.quorum.raised_over(row.seq);
        let by_clocks = rise.map_or(0, |rise| rise.at.0.saturating_sub(row.accepted_at.0));
        let took = match rise.map_or(now, |rise| rise.until).since(self.roster.durable_at(row.seq)) {
            Duration::ZERO => Duration::from_millis(by_clocks),
            took => took,
        };
        progress.completed = Some((after(row.accepted_at, took), millis(took)));
        progress.nodes = self.counts_at(row.seq);
        progress.approximate = true;
    }
}

fn live_pops(state: &State, seq: Seq, task: &LiveTask) -> Vec<PopView> {
    match task.completed() {
        Some(decided) => task.pop_views(&decided.by_pop, &state.roll),
        None => task.pop_views(&state.pops_at(seq), &state.roll),
    }
}

pub(in crate::tracker) fn progress_of(row: &TaskRow) -> Option<TaskProgress> {
    row.completion.as_deref().and_then(TaskProgress::decode)
}

fn fits(view: &TaskView, filter: &TaskFilter) -> bool {
    filter.state.is_none_or(|state| view.state == state) && filter.kind.is_none_or(|kind| view.has_kind(kind))
}

/// Between two looks of a subscriber there is so much time for each subscriber: twice of what it takes to tell one of them
/// something. However many listen, however much happens, half of one core is left to those who submit.
const SUBSCRIBER_TIME: Duration = Duration::from_micros(40);

/// A shorter pause than that is none: timers know whole milliseconds.
const SUBSCRIBER_PAUSE_MIN: Duration = Duration::from_millis(1);

/// A subscriber on its way.
struct Subscriber {
    tracker: Arc<Tracker>,
    site: SiteId,
    place: EventPlace,
    end: tokio::sync::watch::Receiver<u64>,
    /// What it was told while it caught up: events that happened meanwhile may be older than that.
    told: HashMap<Seq, TaskState>,
}

fn states_of(events: &[TaskEvent]) -> HashMap<Seq, TaskState> {
    events.iter().map(|event| (event.task.seq, event.task.state)).collect()
}

impl Subscriber {
    /// Whether the task has gone beyond what was told of it while the subscriber caught up.
    fn is_news(&mut self, task: &TaskView) -> bool {
        let Some(told) = self.told.get(&task.seq).copied() else { return true };
        if task.state.rank() > told.rank() {
            self.told.remove(&task.seq);
            return true;
        }
        false
    }

    async fn next(mut self) -> Option<(Vec<TaskEvent>, Self)> {
        loop {
            self.end.borrow_and_update();
            match self.tracker.events.next(self.place, &self.site, EVENTS_AT_ONCE) {
                Next::Events(mut events, place) => {
                    self.place = place;
                    events.retain(|event| self.is_news(&event.task));
                    if !events.is_empty() {
                        return Some((events, self));
                    }
                }
                Next::Lost(end) => {
                    // A store that fails ends the stream; the client comes back with the last id it has.
                    let (place, missed) = self.tracker.missed(&self.site, end).await.ok()?;
                    self.place = place;
                    self.told = states_of(&missed);
                    if !missed.is_empty() {
                        return Some((missed, self));
                    }
                }
            }
            let draining = self.tracker.draining.clone();
            // What happens meanwhile is told together. One subscriber alone hears of everything at once.
            let pause =
                SUBSCRIBER_TIME * u32::try_from(self.tracker.events.subscribers()).unwrap_or(u32::MAX);
            if pause >= SUBSCRIBER_PAUSE_MIN
                && draining.run_until_cancelled(tokio::time::sleep(pause)).await.is_none()
            {
                return None;
            }
            tokio::select! {
                changed = self.end.changed() => changed.ok()?,
                () = draining.cancelled() => return None,
            }
        }
    }
}
