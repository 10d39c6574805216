//! What happens, as it happens: one stream of server-sent events a browser, one rendering for all of them.
//!
//! Every [`EVERY`] the rows of the tasks that have changed are rendered, once in each language, whoever looks on; a listener is
//! handed those of its sites. Nothing is queued for a listener: it holds a place, and one that was away for longer than
//! [`BATCHES_KEPT`] is given the rows that have changed since, or told to ask for its page anew. While nobody listens nothing
//! is rendered.

use std::collections::{HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use askama::Template;
use batoff_log::StoreError;
use batoff_types::{SiteId, TaskId};
use bytes::Bytes;
use futures_util::FutureExt;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::pages::purge_row::{PurgeRow, RowPart};
use super::pages::requesters;
use crate::language::Language;
use crate::metrics;
use crate::service::Services;
use crate::tracker::{NewsPlace, TaskView};

/// How often news are told: soon enough for eyes, seldom enough that a storm of purges costs little.
pub const EVERY: Duration = Duration::from_millis(250);

/// Rows of one site in one piece of news, at most: no table shows more.
const ROWS_PER_SITE_MAX: usize = 50;

/// Pieces of news kept for listeners that are slow.
const BATCHES_KEPT: usize = 64;

/// After a defect rendering begins anew so much later: one that comes back each time costs little.
const AFTER_DEFECT: Duration = Duration::from_secs(1);

/// Rendering ends when nobody has listened for so long.
const IDLE: Duration = Duration::from_secs(10);

const LANGUAGES: [Language; 2] = [Language::English, Language::Russian];

/// The news, rendered.
pub struct Live {
    kept: Mutex<VecDeque<Arc<NewsBatch>>>,
    /// Told after each piece.
    told: watch::Sender<()>,
    is_running: AtomicBool,
    #[cfg(test)]
    is_to_fail: AtomicBool,
}

/// The rows of the tasks that have changed between two places.
pub struct NewsBatch {
    from: NewsPlace,
    to: NewsPlace,
    rows: Vec<(SiteId, [String; 2])>,
    /// The event with all rows, in each language.
    whole: [Bytes; 2],
}

/// What a listener is handed.
pub enum NewsPiece {
    /// These events; it stands there now.
    Told(Vec<Bytes>, NewsPlace),
    /// There is no going on from where it stood: its page is to be asked for anew.
    Lost(Bytes, NewsPlace),
}

impl Default for Live {
    fn default() -> Self {
        Self {
            kept: Mutex::default(),
            told: watch::Sender::new(()),
            is_running: AtomicBool::new(false),
            #[cfg(test)]
            is_to_fail: AtomicBool::new(false),
        }
    }
}

impl Live {
    /// Told when there is more to [`Live::next`]. The first listener starts the rendering, on the runtime that it is on.
    pub fn listen(self: &Arc<Self>, services: &Arc<Services>) -> watch::Receiver<()> {
        let listening = self.told.subscribe();
        if !self.is_running.swap(true, Ordering::AcqRel) {
            tokio::spawn(Arc::clone(self).keep_rendering(Arc::clone(services)));
        }
        listening
    }

    /// Renders for as long as somebody listens. A defect ends what was being rendered, and not all that comes after.
    async fn keep_rendering(self: Arc<Self>, services: Arc<Services>) {
        let mut place = services.tracker.news_place();
        loop {
            // Nothing of ours is half changed by it: what is kept is thrown away.
            let is_defect = AssertUnwindSafe(self.render(&services, place)).catch_unwind().await.is_err();
            self.kept.lock().clear();
            if is_defect {
                metrics::console_news_failure();
                tracing::error!("a defect has stopped the console's news; they go on in a second");
                let _ = services.draining.run_until_cancelled(sleep(AFTER_DEFECT)).await;
            }
            // What was not told meanwhile each listener asks for by itself, from where it stands.
            place = services.tracker.news_place();
            self.told.send_replace(());
            self.is_running.store(false, Ordering::Release);
            // Somebody may have come in between, and have found it running.
            let goes_on = self.told.receiver_count() > 0 && !services.draining.is_cancelled();
            if !goes_on || self.is_running.swap(true, Ordering::AcqRel) {
                return;
            }
        }
    }

    async fn render(&self, services: &Services, mut place: NewsPlace) {
        let mut news = services.tracker.news();
        let mut heard = Instant::now();
        while heard.elapsed() < IDLE {
            tokio::select! {
                _ = news.changed() => {}
                () = sleep(EVERY) => {}
                () = services.draining.cancelled() => break,
            }
            if self.told.receiver_count() > 0 {
                heard = Instant::now();
            }
            // What happens meanwhile is told together.
            sleep(EVERY).await;
            #[cfg(test)]
            assert!(!self.is_to_fail.swap(false, Ordering::AcqRel), "a defect, as a test wants it");
            match NewsBatch::since(services, place).await {
                Ok(Some(batch)) if batch.rows.is_empty() => place = batch.to,
                Ok(Some(batch)) => {
                    place = batch.to;
                    let mut kept = self.kept.lock();
                    if kept.len() == BATCHES_KEPT {
                        kept.pop_front();
                    }
                    kept.push_back(Arc::new(batch));
                    drop(kept);
                    self.told.send_replace(());
                }
                // Too much at once: whoever listens asks for the page anew.
                Ok(None) => {
                    place = services.tracker.news_place();
                    self.kept.lock().clear();
                    self.told.send_replace(());
                }
                Err(error) => {
                    tracing::warn!(%error, "the console's news are delayed: the store cannot be read")
                }
            }
        }
    }

    /// The rendering meets a defect.
    #[cfg(test)]
    pub fn fail(&self) {
        self.is_to_fail.store(true, Ordering::Release);
    }

    /// What a listener that stands at `place` is to be told; `None` for nothing yet. `sees` says of which sites.
    pub async fn next(
        &self,
        services: &Services,
        place: NewsPlace,
        language: Language,
        sees: &Sight,
    ) -> Result<Option<NewsPiece>, StoreError> {
        let kept: Option<Vec<Arc<NewsBatch>>> = {
            let kept = self.kept.lock();
            let reaches = kept.front().is_some_and(|first| !place.is_before(first.from));
            reaches.then(|| kept.iter().filter(|batch| place.is_before(batch.to)).cloned().collect())
        };
        let batches = match kept {
            Some(batches) => batches,
            None => match NewsBatch::since(services, place).await? {
                Some(batch) => vec![Arc::new(batch)],
                None => {
                    let here = services.tracker.news_place();
                    return Ok(Some(NewsPiece::Lost(event("refresh", here, ""), here)));
                }
            },
        };
        let Some(last) = batches.last().filter(|last| place.is_before(last.to)) else { return Ok(None) };
        let told = batches.iter().filter_map(|batch| batch.of(language, sees)).collect();
        Ok(Some(NewsPiece::Told(told, last.to)))
    }
}

/// Which sites a listener sees.
pub enum Sight {
    /// All of them.
    All,
    /// These.
    Some(Vec<SiteId>),
}

impl NewsBatch {
    async fn since(services: &Services, place: NewsPlace) -> Result<Option<Self>, StoreError> {
        let Some((tasks, to)) = services.tracker.news_since(place) else { return Ok(None) };
        let mut rows = Vec::new();
        for task in newest(tasks) {
            let asker = requesters::of(services, task.task).await?;
            // A row that meets a defect is left out, or it would keep all that come with it from everybody.
            let rendering = catch_unwind(AssertUnwindSafe(|| {
                let row = PurgeRow::new(&task, asker);
                LANGUAGES.map(|language| in_one_line(&RowPart { row: &row, language }))
            }));
            match rendering {
                Ok(html) => rows.push((task.site.clone(), html)),
                Err(_) => metrics::console_news_failure(),
            }
        }
        let whole = LANGUAGES
            .map(|language| rows_event(to, rows.iter().map(|(_, html)| html[place_of(language)].as_str())));
        Ok(Some(Self { from: place, to, rows, whole }))
    }

    /// The event with the rows that this listener sees; `None` without any.
    fn of(&self, language: Language, sees: &Sight) -> Option<Bytes> {
        let language = place_of(language);
        match sees {
            _ if self.rows.is_empty() => None,
            Sight::All => Some(self.whole[language].clone()),
            Sight::Some(sites) => {
                let mut seen = self.rows.iter().filter(|(site, _)| sites.contains(site)).peekable();
                seen.peek()?;
                Some(rows_event(self.to, seen.map(|(_, html)| html[language].as_str())))
            }
        }
    }
}

/// Of each task what is newest, oldest task first, and of each site no more than a table shows.
fn newest(tasks: Vec<Arc<TaskView>>) -> Vec<Arc<TaskView>> {
    let mut of_task: HashMap<TaskId, Arc<TaskView>> = HashMap::new();
    for task in tasks {
        of_task.insert(task.task, task);
    }
    let mut tasks: Vec<_> = of_task.into_values().collect();
    tasks.sort_unstable_by_key(|task| std::cmp::Reverse(task.seq));
    let mut of_site: HashMap<SiteId, usize> = HashMap::new();
    tasks.retain(|task| {
        let count = of_site.entry(task.site.clone()).or_default();
        *count += 1;
        *count <= ROWS_PER_SITE_MAX
    });
    tasks.reverse();
    tasks
}

const fn place_of(language: Language) -> usize {
    match language {
        Language::English => 0,
        Language::Russian => 1,
    }
}

/// An event's data ends with its line.
fn in_one_line(part: &impl Template) -> String {
    match part.render() {
        Ok(html) => html.replace(['\n', '\r'], " "),
        Err(error) => {
            tracing::error!(%error, "a row cannot be rendered");
            String::new()
        }
    }
}

fn rows_event<'a>(to: NewsPlace, rows: impl Iterator<Item = &'a str>) -> Bytes {
    event("rows", to, &rows.collect::<String>())
}

fn event(name: &str, to: NewsPlace, data: &str) -> Bytes {
    format!("id: {to}\nevent: {name}\ndata: {data}\n\n").into()
}
