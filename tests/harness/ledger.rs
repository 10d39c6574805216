use std::collections::{HashMap, HashSet};
use std::fmt;
use std::time::Duration;

use batoff_types::{Body, Record, Selector};
use serde_json::Value;

/// What a customer was promised and what visitors saw, and whether the two agree.
///
/// ```text
///  the editor changes pages      202            the API says completed        a visitor asks
///  ─────────┼─────────────────────┼──────────────────────┼────────────────────────┼────────▶
///       answers of the origin up to here are old         └─ from here on none of them may be seen
/// ```
#[derive(Debug, Default)]
pub struct Ledger {
    promises: HashMap<String, Promise>,
    /// For each page, the last answer of the origin that a completed purge has taken back.
    gone: HashMap<String, u64>,
    violations: Vec<String>,
    answers: u64,
    hits: u64,
    unanswered: u64,
    /// Accepted purges that had to be sent more than once.
    repeated: u64,
    /// How often the one was sent that was sent most often.
    sent_most: u64,
}

/// An accepted purge.
#[derive(Clone, Debug)]
pub struct Promise {
    /// Names this purge alone: a tag among its items.
    pub mark: String,
    /// The pages that it hits.
    pub pages: Vec<String>,
    /// The last answer of the origin that was given before it was submitted.
    pub last_old: u64,
    /// The task as the API showed it when it was completed.
    completed: Option<Value>,
}

impl Promise {
    /// A purge that was answered 202.
    pub fn new(mark: &str, pages: Vec<String>, last_old: u64) -> Self {
        Self { mark: mark.to_owned(), pages, last_old, completed: None }
    }
}

impl Ledger {
    /// A purge was answered 202.
    pub fn accepted(&mut self, task: &str, promise: Promise) {
        if self.promises.insert(task.to_owned(), promise).is_some() {
            self.violations.push(format!("task {task} was given to two purges"));
        }
    }

    /// Until a purge was accepted, it was sent so often.
    pub fn sent(&mut self, times: u64) {
        self.repeated += u64::from(times > 1);
        self.sent_most = self.sent_most.max(times);
    }

    /// The API says that a task is completed, seen so long after its submission began. Its pages, which may be asked for now.
    pub fn completed(&mut self, task: &str, shown: &Value, after: Duration) -> Vec<String> {
        let Some(promise) = self.promises.get_mut(task) else {
            self.violations.push(format!("task {task} is completed and was never accepted"));
            return Vec::new();
        };
        let took = shown["propagation_ms"].as_u64();
        if took.is_none_or(|took| u128::from(took) > after.as_millis() + 1) {
            self.violations
                .push(format!("task {task} claims {took:?} ms, it was known for {after:?}: {shown}"));
        }
        let nodes = |state: &str| shown["nodes"][state].as_u64().unwrap_or(u64::MAX);
        // A replica that has just been started, or has lost a stream, knows of each node only what it has heard itself.
        let is_own_view = shown["approximate"] == true;
        let is_everywhere = nodes("confirmed") + nodes("fenced") == nodes("total");
        if nodes("unreachable") > 0 || !(is_everywhere || is_own_view) {
            self.violations.push(format!("task {task} is completed, but not on every node: {shown}"));
        }
        promise.completed = Some(shown.clone());
        for page in &promise.pages {
            let gone = self.gone.entry(page.clone()).or_default();
            *gone = (*gone).max(promise.last_old);
        }
        promise.pages.clone()
    }

    /// A replica says something else of a task than the one that called it completed.
    pub fn differs(&mut self, task: &str, shown: &Value, said: &str) {
        self.violations.push(format!("task {task} was shown as {shown}, and another replica says {said}"));
    }

    /// Purges that took longer than two seconds.
    pub fn late(&self) -> usize {
        let took = |promise: &Promise| promise.completed.as_ref()?["propagation_ms"].as_u64();
        self.promises.values().filter_map(took).filter(|took| *took > 2_000).count()
    }

    /// What the slowest purge took.
    pub fn slowest(&self) -> Duration {
        let took = |promise: &Promise| promise.completed.as_ref()?["propagation_ms"].as_u64();
        Duration::from_millis(self.promises.values().filter_map(took).max().unwrap_or(0))
    }

    /// A task of strict nodes was shown in a state on its way.
    pub fn on_its_way(&mut self, task: &str, shown: &Value) {
        if shown["state"] == "partial" {
            self.violations.push(format!("task {task} waits for a node that is fenced: {shown}"));
        }
    }

    /// A visitor is about to ask for a page: the last answer of the origin that may no longer come.
    pub fn asks(&self, page: &str) -> u64 {
        self.gone.get(page).copied().unwrap_or(0)
    }

    /// A visitor who asked when `gone` was [`Ledger::asks`] was given this answer of the origin.
    pub fn answered(&mut self, node: &str, page: &str, gone: u64, number: u64, x_cache: &str) {
        self.answers += 1;
        self.hits += u64::from(x_cache == "HIT");
        if number <= gone {
            self.violations.push(format!(
                "I1: {node} served answer {number} of {page} ({x_cache}); up to {gone} everything was purged, and \
                 completed, before the visitor asked"
            ));
        }
    }

    /// A visitor was given none: the node is down, or its origin.
    pub fn unanswered(&mut self) {
        self.unanswered += 1;
    }

    /// Compares with the purge log: each accepted purge stands in it once, under its task, and no purge twice.
    pub fn compare_log(&mut self, records: &[Record]) {
        let mut marks: HashMap<String, String> = HashMap::new();
        for (place, record) in records.iter().enumerate() {
            if record.seq.get() != place as u64 + 1 {
                self.violations.push(format!("record {} is number {} of the log", record.seq, place + 1));
            }
            let Body::Purge(purge) = &record.body else { continue };
            for mark in purge.selectors.iter().filter_map(mark_of) {
                let task = record.task.to_string();
                if let Some(first) = marks.insert(mark.clone(), task.clone()) {
                    self.violations.push(format!("{mark} is in the log twice, as {first} and as {task}"));
                }
            }
        }
        for (task, promise) in &self.promises {
            if marks.get(&promise.mark) != Some(task) {
                let found = marks.get(&promise.mark);
                self.violations
                    .push(format!("{} was answered 202 as {task}; the log has {found:?}", promise.mark));
            }
        }
    }

    /// Compares what two replicas list, when all is quiet and written down: the same of each task, figures and all.
    pub fn compare_lists(&mut self, one: &[Value], other: &[Value]) {
        let of = |listed: &[Value]| -> HashMap<String, Value> {
            let tasks = listed
                .iter()
                .filter_map(|shown| Some((shown["task_id"].as_str()?.to_owned(), shown.clone())));
            tasks.collect()
        };
        let (one, other) = (of(one), of(other));
        for (task, shown) in &one {
            if other.get(task) != Some(shown) {
                let other = other.get(task);
                self.violations.push(format!("one replica lists {shown}, another {other:?}"));
            }
        }
    }

    /// Compares with the API's list of tasks: each accepted purge is listed once, completed, as it was shown before.
    pub fn compare_tasks(&mut self, listed: &[Value]) {
        let mut seen = HashSet::new();
        let listed: HashMap<&str, &Value> = listed
            .iter()
            .filter_map(|shown| Some((shown["task_id"].as_str()?, shown)))
            .inspect(|(task, _)| {
                if !seen.insert(*task) {
                    self.violations.push(format!("task {task} is listed twice"));
                }
            })
            .collect();
        for (task, promise) in &self.promises {
            let Some(before) = &promise.completed else {
                self.violations.push(format!("task {task} was never shown as completed"));
                continue;
            };
            let same = |member| listed.get(task.as_str()).is_some_and(|now| now[member] == before[member]);
            // Until it is written down what became of it, each replica tells its own figures, and says so.
            let told = if before["approximate"] == true { 2 } else { 4 };
            if !["state", "started_at", "completed_at", "propagation_ms"].into_iter().take(told).all(same) {
                let now = listed.get(task.as_str());
                self.violations.push(format!("task {task} was shown as {before}, and is listed as {now:?}"));
            }
        }
    }

    /// Tasks that the API has not yet called completed.
    pub fn open(&self) -> Vec<String> {
        let open = self.promises.iter().filter(|(_, promise)| promise.completed.is_none());
        open.map(|(task, _)| task.clone()).collect()
    }

    /// Every task that was accepted.
    pub fn tasks(&self) -> Vec<String> {
        self.promises.keys().cloned().collect()
    }

    /// How many purges were accepted.
    pub fn len(&self) -> usize {
        self.promises.len()
    }

    /// Whether none was.
    pub fn is_empty(&self) -> bool {
        self.promises.is_empty()
    }

    /// What did not agree.
    pub fn violations(&self) -> &[String] {
        &self.violations
    }

    /// # Panics
    /// With what did not agree.
    pub fn must_agree(&self) {
        eprintln!("{self}");
        assert!(self.violations.is_empty(), "{}", self.violations.join("\n"));
    }
}

fn mark_of(selector: &Selector) -> Option<String> {
    match selector {
        Selector::Tag(tag) if tag.as_str().starts_with("mark:") => Some(tag.as_str().to_owned()),
        _ => None,
    }
}

impl fmt::Display for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut took: Vec<u64> =
            self.promises.values().filter_map(|p| p.completed.as_ref()?["propagation_ms"].as_u64()).collect();
        took.sort_unstable();
        let at = |share: usize| took.get(took.len() * share / 100).or(took.last()).copied().unwrap_or(0);
        write!(
            f,
            "{} purges accepted ({} sent again, at most {} times), {} completed (propagation p50 {} ms, p99 {} ms, max {} ms; {} within 2 s); {} answers \
             to visitors, {} of them from a cache, {} not given; violations: {}",
            self.promises.len(),
            self.repeated,
            self.sent_most.saturating_sub(1),
            took.len(),
            at(50),
            at(99),
            took.last().copied().unwrap_or(0),
            took.iter().filter(|took| **took <= 2_000).count(),
            self.answers,
            self.hits,
            self.unanswered,
            self.violations.len()
        )
    }
}

#[cfg(test)]
mod tests;
