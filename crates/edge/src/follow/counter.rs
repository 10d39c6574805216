//! Answers questions of how much a purge would hit: one at a time, each within the time that somebody waits, and never
//! more than half of one core. Applying records does not wait for it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use batoff_index::Index;
use batoff_types::message::{Count, Counted, FromNode};
use tokio::sync::mpsc;

/// Questions that wait for their turn; further ones are not answered, and whoever asked counts this node as silent.
const QUESTIONS_MAX: usize = 4;

/// How long a question is worked on at most.
const ANSWER_WITHIN_MAX: Duration = Duration::from_secs(1);

struct Question {
    count: Count,
    expires: Instant,
    outgoing: mpsc::Sender<FromNode>,
}

/// The way to the task that counts. It ends when this is dropped.
pub(super) struct Counter {
    questions: mpsc::Sender<Question>,
}

impl Counter {
    /// `uncounted`: the caches of which the index does not know what they hold.
    pub(super) fn spawn<L: Clone + Send + Sync + 'static>(
        index: Arc<Index<L>>,
        uncounted: Vec<String>,
    ) -> Self {
        let (questions, mut asked) = mpsc::channel::<Question>(QUESTIONS_MAX);
        tokio::spawn(async move {
            while let Some(question) = asked.recv().await {
                if question.is_stale() {
                    continue;
                }
                let (began, index, uncounted) = (Instant::now(), Arc::clone(&index), uncounted.clone());
                // An error would be a panic in the index, which its own log line tells.
                let _ = tokio::task::spawn_blocking(move || question.answer(&index, uncounted)).await;
                tokio::time::sleep(began.elapsed().min(ANSWER_WITHIN_MAX)).await;
            }
        });
        Self { questions }
    }

    /// The answer goes to `outgoing`, if there is one in time.
    pub(super) fn ask(&self, count: Count, outgoing: &mpsc::Sender<FromNode>) {
        let within = count.answer_within.unwrap_or(ANSWER_WITHIN_MAX).min(ANSWER_WITHIN_MAX);
        let question = Question { count, expires: Instant::now() + within, outgoing: outgoing.clone() };
        // Full: an answer that comes too late is none.
        let _ = self.questions.try_send(question);
    }
}

impl Question {
    /// Whether nobody waits any more.
    fn is_stale(&self) -> bool {
        Instant::now() >= self.expires || self.outgoing.is_closed()
    }

    fn answer<L: Clone + Send + Sync + 'static>(self, index: &Index<L>, uncounted: Vec<String>) {
        let objects = if uncounted.is_empty() { self.objects(index) } else { None };
        let counted = Counted { id: self.count.id, objects: objects.unwrap_or_default(), uncounted };
        // A stream that is full or gone needs no answer.
        let _ = self.outgoing.try_send(FromNode::Counted(counted));
    }

    fn objects<L: Clone + Send + Sync + 'static>(&self, index: &Index<L>) -> Option<Vec<u64>> {
        let Count { site, selectors, .. } = &self.count;
        let one = |selector| {
            if self.is_stale() {
                return None;
            }
            index.count_while(site, selector, || !self.is_stale())
        };
        selectors.iter().map(one).collect()
    }
}

#[cfg(test)]
mod tests {
    use batoff_index::{Entry, IndexConfig, Variant};
    use batoff_types::{CacheTags, Cursor, Generation, Selector, SiteTable};

    use super::*;

    fn index(objects: usize) -> Arc<Index<()>> {
        let index = Index::new(IndexConfig::default());
        let mut sites = SiteTable::default();
        sites.set(&"shop".parse().unwrap(), Some(&["www.example.test".parse().unwrap()]));
        index.reset(Generation(1), Cursor::START, sites);
        for n in 0..objects {
            let entry = Entry {
                url: format!("https://www.example.test/a{n}").parse().unwrap(),
                variant: Variant::MAIN,
                tags: CacheTags::default(),
                token: index.begin_fill(),
                locator: (),
            };
            index.insert(entry).unwrap();
        }
        Arc::new(index)
    }

    fn question(id: u64, within: Duration) -> Count {
        let prefix = Selector::Prefix("https://www.example.test/a".parse().unwrap());
        let site = "shop".parse().unwrap();
        Count { id, site, selectors: vec![prefix], answer_within: Some(within) }
    }

    #[tokio::test]
    async fn a_flood_of_questions_is_answered_one_at_a_time_and_the_stale_ones_not_at_all() {
        let counter = Counter::spawn(index(1_000), Vec::new());
        let (outgoing, mut answers) = mpsc::channel(1_024);
        for id in 0..1_000 {
            counter.ask(question(id, Duration::from_secs(1)), &outgoing);
        }
        drop(outgoing);
        let mut answered = Vec::new();
        while let Some(FromNode::Counted(counted)) = answers.recv().await {
            answered.push((counted.id, counted.objects));
        }
        let waiting = (0..QUESTIONS_MAX as u64).map(|id| (id, vec![1_000])).collect::<Vec<_>>();
        assert_eq!(answered, waiting, "no more than may wait are worked on");
    }

    #[tokio::test]
    async fn a_question_that_nobody_waits_for_any_more_is_not_worked_on() {
        let counter = Counter::spawn(index(1_000), Vec::new());
        let (outgoing, mut answers) = mpsc::channel(16);
        counter.ask(question(1, Duration::ZERO), &outgoing);
        counter.ask(question(2, Duration::from_secs(1)), &outgoing);
        let Some(FromNode::Counted(counted)) = answers.recv().await else { panic!("no answer") };
        assert_eq!(counted.id, 2);
    }

    #[tokio::test]
    async fn a_node_whose_cache_finds_its_objects_itself_does_not_say_that_there_are_none() {
        let counter = Counter::spawn(index(0), vec!["varnish".to_owned()]);
        let (outgoing, mut answers) = mpsc::channel(16);
        counter.ask(question(1, Duration::from_secs(1)), &outgoing);
        let Some(FromNode::Counted(counted)) = answers.recv().await else { panic!("no answer") };
        assert_eq!((counted.id, counted.objects), (1, Vec::new()));
        assert_eq!(counted.uncounted, ["varnish"]);
    }
}
