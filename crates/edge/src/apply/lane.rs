//! One cache's way through the log: its own queue, its own task, its own troubles.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use batoff_index::Match;
use batoff_types::message::Trouble;
use batoff_types::{Record, Seq};
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc};

use self::group::{Group, Job, Jobs, Milestone, Step};
use super::news::{News, Ticket};
use crate::cache::{Cache, CacheTrouble, Needs, Proof};
use crate::metrics;

mod group;

/// Objects that may wait for one cache. When more are hit while it does not answer, its queue is given up and the whole
/// cache is flushed as soon as it answers again: wider, never narrower, and bounded.
const WAITING_OBJECTS_MAX: usize = 200_000;

/// Jobs that may wait for one cache, for caches that are told selectors; the consequence is the same.
const WAITING_JOBS_MAX: usize = 20_000;

/// Objects that wait for a cache that does answer, over which no more are looked for: listing is faster than removing.
const ROOM_OBJECTS: usize = 20_000;

/// The first wait after a failure; it doubles up to [`RETRY_MAX`].
const RETRY_MIN: Duration = Duration::from_millis(50);

/// The longest wait after a failure. A cache that has come back is noticed within it.
const RETRY_MAX: Duration = Duration::from_secs(5);

/// Between two looks at whether a cache that has nothing to do is well.
const LOOK: Duration = Duration::from_secs(1);

/// The queue of one cache.
pub(super) struct Lane<L> {
    cache: Arc<dyn Cache<L>>,
    queue: Mutex<Jobs<L>>,
    filled: Notify,
    emptied: Notify,
    in_trouble: AtomicBool,
}

impl<L: Send + Sync + 'static> Lane<L> {
    pub(super) fn new(cache: Arc<dyn Cache<L>>) -> Self {
        metrics::trouble(cache.name(), false);
        Self {
            cache,
            queue: Mutex::default(),
            filled: Notify::new(),
            emptied: Notify::new(),
            in_trouble: AtomicBool::new(false),
        }
    }

    pub(super) fn name(&self) -> &str {
        self.cache.name()
    }

    /// Whether an ack must wait for this cache.
    pub(super) fn is_waited_for(&self) -> bool {
        self.cache.proof() == Proof::Eviction
    }

    /// Objects that were hit, by the record `stuck` if by one alone.
    pub(super) fn push_objects(&self, stuck: Option<Seq>, objects: &Arc<[Match<L>]>) {
        if self.cache.needs() == Needs::Objects && !objects.is_empty() {
            self.push(Job::Evict { stuck, objects: Arc::clone(objects) });
        }
    }

    /// A record as such.
    pub(super) fn push_record(&self, record: &Arc<Record>) {
        match self.cache.needs() {
            Needs::Nothing => {}
            Needs::Objects => {
                self.queue.lock().push_begin(Arc::clone(record));
                self.filled.notify_one();
            }
            Needs::Selectors => self.push(Job::Purge(Arc::clone(record))),
        }
    }

    /// News is to be given when everything before this is done.
    pub(super) fn push_mark(&self, ticket: Ticket, through: Seq) {
        self.push(Job::Milestone(Milestone { ticket, through: Some(through) }));
    }

    /// Everything that waits is void; the cache is to be flushed.
    pub(super) fn push_flush(&self, ticket: Ticket) {
        let mark = self.is_waited_for().then_some(Milestone { ticket, through: None });
        self.queue.lock().flush(mark);
        self.filled.notify_one();
    }

    /// Waits until more objects may be pushed. A cache in trouble is not waited for: its queue is bounded by itself.
    pub(super) async fn has_room(&self) {
        loop {
            let emptied = self.emptied.notified();
            if self.queue.lock().objects() <= ROOM_OBJECTS || self.in_trouble.load(Ordering::Acquire) {
                return;
            }
            emptied.await;
        }
    }

    /// See [`Cache::hold_back`].
    pub(super) async fn hold_back(&self, records: &[Arc<Record>]) -> bool {
        self.cache.hold_back(records).await
    }

    /// See [`Cache::held_in_vain`].
    pub(super) fn held_in_vain(&self) {
        self.cache.held_in_vain();
    }

    fn push(&self, job: Job<L>) {
        let mut queue = self.queue.lock();
        queue.push(job);
        if queue.objects() > WAITING_OBJECTS_MAX || queue.len() > WAITING_JOBS_MAX {
            queue.collapse();
            tracing::warn!(cache = self.cache.name(), "too much waits for this cache; it will be flushed");
        }
        drop(queue);
        self.filled.notify_one();
    }

    /// Works through the queue for ever.
    pub(super) async fn run(self: Arc<Self>, news: mpsc::UnboundedSender<News>) {
        // What was last said to be the trouble; a flush that takes the place of a group takes over its trouble too.
        let mut trouble = None;
        loop {
            let group = loop {
                let filled = self.filled.notified();
                if let Some(group) = self.queue.lock().pop() {
                    break group;
                }
                if tokio::time::timeout(LOOK, filled).await.is_err() {
                    self.look(&mut trouble, &news);
                }
            };
            self.emptied.notify_one();
            if !self.work(&group, &mut trouble, &news).await {
                // The flush that comes covers what this group was about.
                self.queue.lock().carry(group.mark);
                continue;
            }
            let Some(mark) = group.mark else { continue };
            if let Some(through) = mark.through {
                self.cache.let_go(through);
            }
            let done = News::CacheDone { cache: self.cache.name().to_owned(), ticket: mark.ticket };
            if news.send(done).is_err() {
                return;
            }
        }
    }

    /// Whether the group was done, and not given up for a flush.
    async fn work(
        &self,
        group: &Group<L>,
        trouble: &mut Option<String>,
        news: &mpsc::UnboundedSender<News>,
    ) -> bool {
        for step in group.steps() {
            if !self.repeat(&step, trouble, news).await {
                return false;
            }
        }
        true
    }

    /// Repeats one step until the cache has done it, or until a flush that was asked for in the meantime covers it.
    async fn repeat(
        &self,
        step: &Step<'_, L>,
        trouble: &mut Option<String>,
        news: &mpsc::UnboundedSender<News>,
    ) -> bool {
        let mut wait = RETRY_MIN;
        while let Err(CacheTrouble(message)) = self.attempt(step).await {
            if trouble.as_ref() != Some(&message) {
                tracing::warn!(cache = self.cache.name(), stuck = ?step.stuck(), %message, "cache in trouble");
                metrics::trouble(self.cache.name(), true);
                self.in_trouble.store(true, Ordering::Release);
                self.emptied.notify_one();
                self.say(news, message.clone(), step.stuck());
                *trouble = Some(message);
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(RETRY_MAX);
            if self.queue.lock().begins_with_flush() {
                return false;
            }
        }
        if trouble.take().is_some() {
            tracing::info!(cache = self.cache.name(), "cache works again");
            metrics::trouble(self.cache.name(), false);
            self.in_trouble.store(false, Ordering::Release);
            self.say(news, String::new(), None);
        }
        true
    }

    /// Says what is wrong with a cache that nothing is asked of, and when it is well again.
    fn look(&self, trouble: &mut Option<String>, news: &mpsc::UnboundedSender<News>) {
        let now = self.cache.trouble();
        if now == *trouble {
            return;
        }
        metrics::trouble(self.cache.name(), now.is_some());
        match &now {
            Some(message) => tracing::warn!(cache = self.cache.name(), %message, "cache in trouble"),
            None => tracing::info!(cache = self.cache.name(), "cache works again"),
        }
        self.say(news, now.clone().unwrap_or_default(), None);
        *trouble = now;
    }

    async fn attempt(&self, step: &Step<'_, L>) -> Result<(), CacheTrouble> {
        match step {
            Step::Flush { .. } => self.cache.flush().await,
            Step::Begin(records) => self.cache.begin(records).await,
            Step::Purge(records) => self.cache.purge(records).await,
            Step::Evict { objects, .. } => self.cache.evict(objects).await,
            Step::Finish { .. } => self.cache.finish().await,
        }
    }

    fn say(&self, news: &mpsc::UnboundedSender<News>, message: String, stuck: Option<Seq>) {
        let trouble = Trouble { cache: self.cache.name().to_owned(), message, stuck };
        // Fails only when the daemon is stopping.
        let _ = news.send(News::Trouble(trouble));
    }
}
