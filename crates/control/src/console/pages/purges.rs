//! `/purges`: what was purged lately, by whom, and how fast did it spread?

use std::sync::Arc;

use askama::Template;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Redirect, Response};
use batoff_types::{SelectorKind, SiteId, TaskId, UnixMillis};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;

use super::purge_row::{PurgeRow, RowText, kind_words, state_words};
use super::{requesters, sites_list};
use crate::accounts::Need;
use crate::api::problem::{Code, Problem, store_error};
use crate::console::frame::PageFrame;
use crate::console::guard::not_allowed;
use crate::console::state::Console;
use crate::console::words::{Text, Words, words};
use crate::language::Language;
use crate::tracker::{TaskFilter, TaskState};

/// Rows on a page.
const ROWS: usize = 50;

words! {
    /// What the page says.
    pub enum PurgesText {
        Filter: "Filter", "Отбор";
        Site: "Site", "Сайт";
        AllSites: "All sites", "Все сайты";
        State: "State", "Состояние";
        AnyState: "Any state", "Любое";
        Kind: "Items", "Элементы";
        AnyKind: "Any kind", "Любого вида";
        Since: "Accepted", "Принята";
        AnyTime: "At any time", "Когда угодно";
        LastHour: "In the last hour", "За последний час";
        LastDay: "In the last 24 hours", "За последние сутки";
        LastWeek: "In the last 7 days", "За последние 7 дней";
        Task: "Task ID", "Номер задачи";
        Show: "Show", "Показать";
        Reset: "Reset", "Сбросить";
        Time: "Time, UTC", "Время, UTC";
        Who: "Who", "Кто";
        Objects: "Objects", "Объекты";
        Propagation: "Propagation", "Распространение";
        Nodes: "Nodes", "Узлы";
        Older: "Older", "Раньше";
        Newest: "Newest", "К новым";
        LiveOn: "Live", "В эфире";
        LiveLost: "No live updates, trying again", "Нет обновлений, пробуем снова";
        Held: "# new, held back", "новых: #, придержаны";
        Pause: "Pause", "Пауза";
        None: "No purges match this filter.", "Под этот отбор не подходит ни одна очистка.";
        NoneYet: "Nothing has been purged yet.", "Очисток ещё не было.";
        GoOn: "None here; older ones have not been looked at yet.", "Здесь таких нет; более ранние ещё не просмотрены.";
    }
}

/// The filter, as the page's URL has it. What is empty filters nothing.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PurgesQuery {
    site: String,
    state: String,
    kind: String,
    since: String,
    task: String,
    before: String,
}

/// The page.
#[derive(Template)]
#[template(path = "console/purges.html", blocks = ["table"])]
struct PurgesPage<'a> {
    frame: &'a PageFrame,
    language: Language,
    query: &'a PurgesQuery,
    sites: Vec<String>,
    rows: Vec<PurgeRow>,
    next: Option<String>,
    may_purge: bool,
}

/// `GET /purges`
pub async fn list(
    State(console): State<Arc<Console>>,
    frame: PageFrame,
    query: Result<Query<PurgesQuery>, QueryRejection>,
) -> Result<Response, Problem> {
    let Query(query) =
        query.map_err(|rejected| Problem::detailed(Code::InvalidRequest, rejected.body_text()))?;
    let sites = console.sites_of(frame.viewer.as_ref(), Need::ReadSite);
    if !query.task.trim().is_empty() {
        return of_task(&console, &frame, query.task.trim()).await;
    }
    let asked = if query.site.is_empty() { sites.clone() } else { vec![of_viewer(&frame, &query.site)?] };
    let filter = query.filter(console.services.clock.wall())?;
    let page = sites_list::page(&console.services, &asked, &filter).await.map_err(store_error)?;
    let mut rows = Vec::with_capacity(page.tasks.len());
    for task in &page.tasks {
        let asker = requesters::of(&console.services, task.task).await.map_err(store_error)?;
        rows.push(PurgeRow::new(task, asker));
    }
    let next = page.next.map(|task| query.with_before(&task.to_string()));
    let may_purge = frame.viewer.as_ref().is_some_and(|viewer| viewer.may(Need::Purge, None));
    let sites = sites.iter().map(ToString::to_string).collect();
    let body =
        PurgesPage { frame: &frame, language: frame.language, query: &query, sites, rows, next, may_purge };
    Ok(match frame.is_fragment {
        true => frame.fragment(&body.as_table()),
        false => frame.page(frame.say(Text::Purges), Some(Text::Purges), &body),
    })
}

/// To the page of that purge.
async fn of_task(console: &Console, frame: &PageFrame, text: &str) -> Result<Response, Problem> {
    let task: Option<TaskId> = text.parse().ok();
    let row = match task {
        Some(task) => console.services.store.log().find_task(task).await.map_err(store_error)?,
        None => None,
    };
    let may =
        |site: &SiteId| frame.viewer.as_ref().is_some_and(|viewer| viewer.may(Need::ReadSite, Some(site)));
    match row.filter(|row| may(&row.site)) {
        Some(row) => Ok(Redirect::to(&format!("/sites/{}/purges/{}", row.site, row.task)).into_response()),
        None => Err(Problem::detailed(Code::NotFound, format!("there is no purge {text} among your sites'"))),
    }
}

fn of_viewer(frame: &PageFrame, site: &str) -> Result<SiteId, Problem> {
    let site = site.parse::<SiteId>().ok();
    let may =
        |site: &SiteId| frame.viewer.as_ref().is_some_and(|viewer| viewer.may(Need::ReadSite, Some(site)));
    site.filter(may).ok_or_else(not_allowed)
}

impl PurgesPage<'_> {
    /// The choices of each select: value, words, whether it is chosen.
    fn states(&self) -> impl Iterator<Item = (&'static str, RowText, bool)> {
        TaskState::ALL
            .into_iter()
            .map(|state| (state.as_str(), state_words(state), state.as_str() == self.query.state))
    }

    /// The page of a new purge, of this site if the list is.
    fn new_purge(&self) -> String {
        if self.query.site.is_empty() {
            "/purges/new".to_owned()
        } else {
            format!("/purges/new?site={}", self.query.site)
        }
    }

    fn kinds(&self) -> impl Iterator<Item = (&'static str, RowText, bool)> {
        SelectorKind::ALL
            .into_iter()
            .map(|kind| (kind.as_str(), kind_words(kind), kind.as_str() == self.query.kind))
    }

    fn times(&self) -> impl Iterator<Item = (&'static str, PurgesText, bool)> {
        let times =
            [("1h", PurgesText::LastHour), ("24h", PurgesText::LastDay), ("7d", PurgesText::LastWeek)];
        times.into_iter().map(|(value, words)| (value, words, value == self.query.since))
    }
}

impl PurgesQuery {
    fn filter(&self, now: UnixMillis) -> Result<TaskFilter, Problem> {
        let hours = match self.since.as_str() {
            "" => None,
            "1h" => Some(1),
            "24h" => Some(24),
            "7d" => Some(7 * 24),
            other => return Err(unknown("since", other)),
        };
        Ok(TaskFilter {
            state: named("state", &self.state, TaskState::from_name)?,
            kind: named("kind", &self.kind, SelectorKind::from_name)?,
            since: hours.map(|hours| UnixMillis(now.0.saturating_sub(hours * 3_600_000))),
            before: named("before", &self.before, |text| text.parse().ok())?,
            limit: ROWS,
        })
    }

    fn is_filtered(&self) -> bool {
        [&self.site, &self.state, &self.kind, &self.since].into_iter().any(|value| !value.is_empty())
    }

    /// The same filter, from the page after `before` on.
    fn with_before(&self, before: &str) -> String {
        let fields = [
            ("site", self.site.as_str()),
            ("state", &self.state),
            ("kind", &self.kind),
            ("since", &self.since),
            ("before", before),
        ];
        let pairs = fields.into_iter().filter(|(_, value)| !value.is_empty());
        let pairs =
            pairs.map(|(name, value)| format!("{name}={}", utf8_percent_encode(value, NON_ALPHANUMERIC)));
        let query = pairs.collect::<Vec<_>>().join("&");
        if query.is_empty() { "/purges".to_owned() } else { format!("/purges?{query}") }
    }

    /// The newest page with the same filter.
    fn newest(&self) -> String {
        self.with_before("")
    }
}

fn named<T>(name: &str, text: &str, read: impl FnOnce(&str) -> Option<T>) -> Result<Option<T>, Problem> {
    if text.is_empty() { Ok(None) } else { read(text).map(Some).ok_or_else(|| unknown(name, text)) }
}

fn unknown(name: &str, value: &str) -> Problem {
    Problem::detailed(Code::InvalidRequest, format!("there is no {name} called {value}"))
}
