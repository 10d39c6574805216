//! The way to a node's stream, and the questions that wait for nodes' answers.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use batoff_types::message::{Count, Counted, GoAwayReason};
use batoff_types::{NodeName, Selector, SiteId};
use parking_lot::Mutex;
use tokio::sync::{Semaphore, mpsc, oneshot};

use super::text::cut;

/// How long a count waits for the nodes' answers.
pub const COUNT_PATIENCE: Duration = Duration::from_secs(1);

/// Counts being asked at one time; further ones wait for their turn, within the same second. As many as a node lets wait:
/// more would only be thrown away there.
const COUNTS_MAX: usize = 4;

/// Caches of one node that are named as ones that cannot be counted.
const UNCOUNTED_CACHES_MAX: usize = 4;

/// Questions that wait to be sent to one node. When it is full the node counts as not having answered.
pub(crate) const MAILBOX: usize = 16;

/// How many cached objects selectors would hit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Objects a selector, in the question's order, summed over the nodes that answered.
    pub objects: Vec<u64>,
    /// Registered nodes.
    pub nodes_total: u32,
    /// Nodes that answered in time.
    pub nodes_answered: u32,
    /// Nodes that have not answered, or cannot say what their caches hold, and may serve from them: available ones,
    /// whether or not they are connected, and strict ones that may have a lease.
    pub missing: Vec<NodeName>,
    /// Those of them that will never be able to say it, with the caches that find their objects by their own means.
    pub uncounted: Vec<(NodeName, Vec<String>)>,
}

impl Counts {
    /// Over all selectors. An object that several of them hit counts for each.
    pub fn total(&self) -> u64 {
        self.objects.iter().fold(0, |sum, objects| sum.saturating_add(*objects))
    }
}

/// What a node's stream is told to send beside records and leases.
#[derive(Clone, Debug)]
pub enum Directive {
    /// Ask this.
    Count(Arc<Count>),
    /// Say good-bye and end.
    GoAway(GoAwayReason),
}

/// The way to a node's stream.
pub type Mailbox = mpsc::Sender<Directive>;

/// Questions to the nodes that wait for their answers.
pub(in crate::tracker) struct CountDesk {
    next: AtomicU64,
    turns: Semaphore,
    open: Mutex<HashMap<u64, OpenQuestion>>,
}

struct OpenQuestion {
    waiting: Vec<NodeName>,
    answered: Vec<NodeName>,
    counts: Counts,
    done: Option<oneshot::Sender<()>>,
}

impl CountDesk {
    pub(in crate::tracker) fn new() -> Self {
        Self { next: AtomicU64::new(1), turns: Semaphore::new(COUNTS_MAX), open: Mutex::default() }
    }

    /// Asks the nodes that have a stream, and waits. `counting` are those that must have answered for the sum to hold.
    pub(in crate::tracker) async fn ask(
        &self,
        site: &SiteId,
        selectors: &[Selector],
        nodes_total: u32,
        streams: impl FnOnce() -> Vec<(NodeName, Mailbox)>,
        counting: impl FnOnce() -> Vec<NodeName>,
    ) -> Counts {
        let nothing = Counts { objects: vec![0; selectors.len()], nodes_total, ..Counts::default() };
        let (mut counts, answered) = self.answers(site, selectors, nothing, streams).await;
        counts.missing = counting();
        counts.missing.retain(|node| !answered.contains(node));
        let Counts { missing, uncounted, .. } = &mut counts;
        uncounted.retain(|(node, _)| missing.contains(node));
        counts
    }

    /// What was answered, and by whom.
    async fn answers(
        &self,
        site: &SiteId,
        selectors: &[Selector],
        nothing: Counts,
        streams: impl FnOnce() -> Vec<(NodeName, Mailbox)>,
    ) -> (Counts, Vec<NodeName>) {
        let deadline = tokio::time::Instant::now() + COUNT_PATIENCE;
        let Ok(Ok(_turn)) = tokio::time::timeout_at(deadline, self.turns.acquire()).await else {
            return (nothing, Vec::new());
        };

        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let answer_within = Some(deadline.saturating_duration_since(tokio::time::Instant::now()));
        let question =
            Arc::new(Count { id, site: site.clone(), selectors: selectors.to_vec(), answer_within });
        let (done, all_answered) = oneshot::channel();
        let streams = streams();
        if streams.is_empty() {
            return (nothing, Vec::new());
        }
        let waiting = streams.iter().map(|(name, _)| name.clone()).collect();
        // Closes the question whatever happens to the caller.
        let guard = QuestionGuard { desk: self, id };
        self.open.lock().insert(
            id,
            OpenQuestion { waiting, answered: Vec::new(), counts: nothing.clone(), done: Some(done) },
        );
        for (name, mailbox) in streams {
            if mailbox.try_send(Directive::Count(Arc::clone(&question))).is_err() {
                self.settle(id, &name, &Counted::default());
            }
        }
        let _ = tokio::time::timeout_at(deadline, all_answered).await;
        guard.close().unwrap_or((nothing, Vec::new()))
    }

    /// A node has answered. An answer that nobody waits for, or of another length than the question, is dropped.
    pub(in crate::tracker) fn handle_counted(&self, node: &NodeName, counted: &Counted) {
        self.settle(counted.id, node, counted);
    }

    fn settle(&self, id: u64, node: &NodeName, counted: &Counted) {
        let mut open = self.open.lock();
        let Some(question) = open.get_mut(&id) else { return };
        let Some(at) = question.waiting.iter().position(|name| name == node) else { return };
        let node = question.waiting.swap_remove(at);
        if !counted.uncounted.is_empty() {
            let caches = counted.uncounted.iter().take(UNCOUNTED_CACHES_MAX);
            question.counts.uncounted.push((node, caches.map(|cache| cut(cache).to_owned()).collect()));
        } else if counted.objects.len() == question.counts.objects.len() {
            question.answered.push(node);
            question.counts.nodes_answered += 1;
            for (sum, more) in question.counts.objects.iter_mut().zip(&counted.objects) {
                *sum = sum.saturating_add(*more);
            }
        }
        if question.waiting.is_empty()
            && let Some(done) = question.done.take()
        {
            let _ = done.send(());
        }
    }
}

struct QuestionGuard<'a> {
    desk: &'a CountDesk,
    id: u64,
}

impl QuestionGuard<'_> {
    fn close(self) -> Option<(Counts, Vec<NodeName>)> {
        self.desk.open.lock().remove(&self.id).map(|open| (open.counts, open.answered))
    }
}

impl Drop for QuestionGuard<'_> {
    fn drop(&mut self) {
        self.desk.open.lock().remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(text: &str) -> NodeName {
        text.parse().unwrap()
    }

    fn counted(id: u64, objects: &[u64]) -> Counted {
        Counted { id, objects: objects.to_vec(), uncounted: Vec::new() }
    }

    #[tokio::test]
    async fn a_count_sums_the_answers_and_waits_at_most_a_second_for_the_rest() {
        let desk = Arc::new(CountDesk::new());
        let (quick, mut quick_box) = mpsc::channel(1);
        let (mute, _mute_box) = mpsc::channel(1);
        let answering = Arc::clone(&desk);
        tokio::spawn(async move {
            while let Some(Directive::Count(count)) = quick_box.recv().await {
                answering.handle_counted(&node("a/1"), &counted(count.id, &[2, 3]));
                answering.handle_counted(&node("a/1"), &counted(count.id, &[2, 3]));
                answering.handle_counted(&node("c/3"), &counted(count.id, &[9, 9]));
            }
        });
        let (site, selectors) = ("shop".parse().unwrap(), [Selector::Everything, Selector::Everything]);
        let both = desk
            .ask(
                &site,
                &selectors,
                3,
                || vec![(node("a/1"), quick.clone()), (node("b/2"), mute.clone())],
                || vec![node("a/1"), node("b/2")],
            )
            .await;
        let missing = vec![node("b/2")];
        assert_eq!(
            both,
            Counts { objects: vec![2, 3], nodes_total: 3, nodes_answered: 1, missing, uncounted: Vec::new() }
        );
        let one =
            desk.ask(&site, &selectors, 3, || vec![(node("a/1"), quick.clone())], || vec![node("a/1")]).await;
        assert_eq!((one.nodes_answered, one.missing), (1, vec![]));
        assert!(desk.open.lock().is_empty());
    }
}
