//! One cache's way through the log: its own queue, its own task, its own troubles.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use batoff_index::Match;
use batoff_types::message::Trouble;
use batoff_types::{Record, Seq};
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc};

use super::{News, Ticket};
use crate::caches::{Cache, CacheTrouble, Needs, Proof};
use crate::metrics;

/// Objects that may wait for one cache. When more are hit while it does not answer, its queue is given up and the whole
/// cache is flushed as soon as it answers again: wider, never narrower, and bounded.
const WAITING_OBJECTS_MAX: usize = 200_000;

/// Jobs that may wait for one cache, for caches that are told selectors; the consequence is the same.
const WAITING_JOBS_MAX: usize = 20_000;

/// The first wait after a failure; it doubles up to [`RETRY_MAX`].
const RETRY_MIN: Duration = Duration::from_millis(50);

/// The longest wait after a failure. A cache that has come back is noticed within it.
const RETRY_MAX: Duration = Duration::from_secs(5);

enum Job<L> {
    Evict {
        stuck: Option<Seq>,
        objects: Arc<[Match<L>]>,
    },
    Purge(Arc<Record>),
    Flush {
        stuck: Option<Seq>,
    },
    /// Everything before is done in this cache.
    Mark(Ticket),
}

struct Queue<L> {
    jobs: VecDeque<Job<L>>,
    objects: usize,
}

/// The queue of one cache.
pub(super) struct Lane<L> {
    cache: Arc<dyn Cache<L>>,
    queue: Mutex<Queue<L>>,
    filled: Notify,
}

impl<L: Send + Sync + 'static> Lane<L> {
    pub(super) fn new(cache: Arc<dyn Cache<L>>) -> Self {
        metrics::trouble(cache.name(), false);
        Self { cache, queue: Mutex::new(Queue { jobs: VecDeque::new(), objects: 0 }), filled: Notify::new() }
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
        if self.cache.needs() == Needs::Selectors {
            self.push(Job::Purge(Arc::clone(record)));
        }
    }

    /// News is to be given when everything before this is done.
    pub(super) fn push_mark(&self, ticket: Ticket) {
        self.push(Job::Mark(ticket));
    }

    /// Everything that waits is void; the cache is to be flushed.
    pub(super) fn push_flush(&self, ticket: Ticket) {
        let mut queue = self.queue.lock();
        queue.jobs.clear();
        queue.objects = 0;
        queue.jobs.push_back(Job::Flush { stuck: None });
        if self.is_waited_for() {
            queue.jobs.push_back(Job::Mark(ticket));
        }
        drop(queue);
        self.filled.notify_one();
    }

    fn push(&self, job: Job<L>) {
        let mut queue = self.queue.lock();
        queue.objects += job.objects();
        queue.jobs.push_back(job);
        if queue.objects > WAITING_OBJECTS_MAX || queue.jobs.len() > WAITING_JOBS_MAX {
            queue.collapse();
            tracing::warn!(cache = self.cache.name(), "too much waits for this cache; it will be flushed");
        }
        drop(queue);
        self.filled.notify_one();
    }

    /// Works through the queue for ever.
    pub(super) async fn run(self: Arc<Self>, news: mpsc::UnboundedSender<News>) {
        // What was last said to be the trouble; a flush that takes the place of a job takes over its trouble too.
        let mut trouble = None;
        loop {
            let job = loop {
                let filled = self.filled.notified();
                if let Some(job) = self.queue.lock().pop() {
                    break job;
                }
                filled.await;
            };
            if let Job::Mark(ticket) = job {
                let done = News::CacheDone { cache: self.cache.name().to_owned(), ticket };
                if news.send(done).is_err() {
                    return;
                }
                continue;
            }
            self.work(job, &mut trouble, &news).await;
        }
    }

    /// Repeats one job until the cache has done it, or until a flush that was asked for in the meantime covers it.
    async fn work(&self, job: Job<L>, trouble: &mut Option<String>, news: &mpsc::UnboundedSender<News>) {
        let mut wait = RETRY_MIN;
        while let Err(CacheTrouble(message)) = self.attempt(&job).await {
            if trouble.as_ref() != Some(&message) {
                tracing::warn!(cache = self.cache.name(), stuck = ?job.seq(), %message, "cache in trouble");
                metrics::trouble(self.cache.name(), true);
                self.say(news, message.clone(), job.seq());
                *trouble = Some(message);
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(RETRY_MAX);
            if self.queue.lock().begins_with_flush() {
                return;
            }
        }
        if trouble.take().is_some() {
            tracing::info!(cache = self.cache.name(), "cache works again");
            metrics::trouble(self.cache.name(), false);
            self.say(news, String::new(), None);
        }
    }

    async fn attempt(&self, job: &Job<L>) -> Result<(), CacheTrouble> {
        match job {
            Job::Evict { objects, .. } => self.cache.evict(objects).await,
            Job::Purge(record) => self.cache.purge(record).await,
            Job::Flush { .. } => self.cache.flush().await,
            Job::Mark(_) => Ok(()),
        }
    }

    fn say(&self, news: &mpsc::UnboundedSender<News>, message: String, stuck: Option<Seq>) {
        let trouble = Trouble { cache: self.cache.name().to_owned(), message, stuck };
        // Fails only when the daemon is stopping.
        let _ = news.send(News::Trouble(trouble));
    }
}

impl<L> Job<L> {
    fn objects(&self) -> usize {
        match self {
            Self::Evict { objects, .. } => objects.len(),
            Self::Purge(_) | Self::Flush { .. } | Self::Mark(_) => 0,
        }
    }

    fn seq(&self) -> Option<Seq> {
        match self {
            Self::Purge(record) => Some(record.seq),
            Self::Evict { stuck, .. } | Self::Flush { stuck } => *stuck,
            Self::Mark(_) => None,
        }
    }
}

impl<L> Queue<L> {
    fn pop(&mut self) -> Option<Job<L>> {
        let job = self.jobs.pop_front()?;
        self.objects -= job.objects();
        Some(job)
    }

    fn begins_with_flush(&self) -> bool {
        matches!(self.jobs.front(), Some(Job::Flush { .. }))
    }

    /// One flush in place of everything that waits.
    fn collapse(&mut self) {
        let stuck = self.jobs.iter().find_map(Job::seq);
        let mark = self.jobs.iter().rev().find_map(|job| match job {
            Job::Mark(ticket) => Some(*ticket),
            Job::Evict { .. } | Job::Purge(_) | Job::Flush { .. } => None,
        });
        self.jobs.clear();
        self.objects = 0;
        self.jobs.push_back(Job::Flush { stuck });
        self.jobs.extend(mark.map(Job::Mark));
    }
}
