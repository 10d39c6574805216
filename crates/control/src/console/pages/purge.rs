//! `/sites/{site}/purges/{task}`: how far is it, how did it spread, and whom does it wait for?

use std::sync::Arc;

use askama::Template;
use axum::extract::{Path, State};
use axum::response::Response;
use batoff_types::{Selector, SiteId, TaskId};

use super::purge_row::{PurgeRow, RowText, kind_words, took};
use super::requesters;
use super::strip::Strip;
use super::submission_lines::{cli_line, curl_lines};
use crate::accounts::Need;
use crate::api::problem::{Code, Problem, store_error};
use crate::clock::rfc3339;
use crate::console::frame::PageFrame;
use crate::console::state::Console;
use crate::console::words::{Text, counted, grouped, words};
use crate::language::Language;
use crate::tracker::{LateCause, NodeLine, TaskState, TaskView};

/// Items that the page shows; the API has the others.
const ITEMS_SHOWN: usize = 200;

words! {
    /// What the page says.
    pub enum PurgeText {
        Purge: "Purge", "Очистка";
        Site: "Site", "Сайт";
        Accepted: "Accepted", "Принята";
        Took: "From durable to completed", "От записи до завершения";
        Objects: "Objects evicted", "Удалено объектов";
        ObjectsSoft: "Objects marked stale", "Помечено устаревшими";
        AtLeast: "at least", "не менее";
        Who: "Asked by", "Кто отправил";
        Request: "Request ID", "Запрос";
        Confirmed: "confirmed", "подтвердили";
        Fenced: "fenced", "отключены";
        Unreachable: "unreachable", "недоступны";
        Nodes: "Nodes", "Узлы";
        Spread: "Propagation", "Распространение";
        SpreadNote: "Milliseconds since the purge was durable; near zero the axis is stretched.",
            "Миллисекунды с момента записи; у нуля ось растянута.";
        Pop: "PoP", "PoP";
        Sent: "Sent", "Отправлена";
        InForce: "In force", "Действует";
        Acked: "Acknowledged", "Подтверждена";
        FencedAt: "Fenced", "Отключён";
        Target: "2 s", "2 с";
        NoNodes: "No node is registered, so none can serve it.", "Ни один узел не зарегистрирован, отдавать некому.";
        Slowest: "Slowest nodes, and why", "Самые медленные узлы и почему";
        Node: "Node", "Узел";
        Why: "Why", "Почему";
        Waiting: "still waiting", "ещё ждём";
        Items: "Items in normal form", "Элементы в нормальной форме";
        Everything: "everything of the site", "всё содержимое сайта";
        Unknown: "The record is no longer kept, so the items are not known.", "Запись уже не хранится, элементы неизвестны.";
        Soft: "Soft: objects are marked stale, and may be served while they are revalidated.",
            "Мягкая: объекты помечены устаревшими и могут отдаваться, пока обновляются.";
        Again: "Purge again", "Очистить снова";
        AsCli: "As a command", "Командой";
        AsCurl: "As curl", "Через curl";
        CurlNote: "TOKEN and SECRET are those of an API token of this site.", "TOKEN и SECRET — от токена API этого сайта.";
        CauseNoConnection: "no connection", "нет соединения";
        CauseNoLease: "connected, without a lease", "на связи, но без аренды";
        CauseSentLate: "sent late: it was catching up", "отправлена поздно: узел догонял";
        CauseNetwork: "network, or no time on the node", "сеть или занятый узел";
        CauseCacheBusy: "cache busy", "кеш занят";
        CauseCacheTrouble: "cache in trouble", "сбой кеша";
        CauseEarlierLease: "an earlier run may hold a lease", "аренда прежнего запуска может действовать";
        CauseWorking: "working on it", "выполняется";
        Copy: "Copy", "Копировать";
        Copied: "Copied", "Скопировано";
    }
}

/// The page.
#[derive(Template)]
#[template(path = "console/purge.html", blocks = ["progress"])]
struct PurgePage<'a> {
    frame: &'a PageFrame,
    language: Language,
    task: &'a TaskView,
    row: PurgeRow,
    strip: Option<Strip>,
    late: Vec<LateLine>,
    items: Vec<(RowText, &'a str)>,
    more_items: usize,
    cli: String,
    curl: String,
    may_purge: bool,
}

/// A node and what took its time.
struct LateLine {
    node: String,
    is_open: bool,
    figures: [Option<String>; 3],
    cause: PurgeText,
    detail: String,
}

/// `GET /sites/{site}/purges/{task}`
pub async fn show(
    State(console): State<Arc<Console>>,
    frame: PageFrame,
    Path((site, task)): Path<(String, String)>,
) -> Result<Response, Problem> {
    let named = site.parse::<SiteId>().ok().zip(task.parse::<TaskId>().ok());
    let (site, id) = named.ok_or_else(no_such_purge)?;
    let services = &console.services;
    let task = services.tracker.task(&site, id).await.map_err(store_error)?.ok_or_else(no_such_purge)?;
    let spread = services.tracker.propagation(Some(&site), id).await.map_err(store_error)?;
    let asker = requesters::of(services, id).await.map_err(store_error)?;
    let items = task.selectors.iter().take(ITEMS_SHOWN);
    let body = PurgePage {
        frame: &frame,
        language: frame.language,
        row: PurgeRow::new(&task, asker),
        strip: spread.as_ref().map(|spread| Strip::new(spread, frame.language)),
        late: spread
            .iter()
            .flat_map(|spread| &spread.late)
            .map(|line| LateLine::new(line, frame.language))
            .collect(),
        items: items.map(|selector| (kind_words(selector.kind()), value_of(selector))).collect(),
        more_items: task.selectors.len().saturating_sub(ITEMS_SHOWN),
        cli: cli_line(&site, &task.selectors, task.soft),
        curl: curl_lines(&site, &task.selectors, task.soft),
        may_purge: frame.viewer.as_ref().is_some_and(|viewer| viewer.may(Need::Purge, Some(&site))),
        task: &task,
    };
    Ok(match frame.is_fragment {
        true => frame.fragment(&body.as_progress()),
        false => frame.page(&format!("{} {id}", frame.say(PurgeText::Purge)), Some(Text::Purges), &body),
    })
}

/// The answer for a purge that the site does not have.
pub fn no_such_purge() -> Problem {
    Problem::detailed(Code::NotFound, "this site has no such purge; they are kept 30 days")
}

/// What keeps a node, in words.
pub(super) const fn cause_words(cause: LateCause) -> PurgeText {
    match cause {
        LateCause::NoConnection => PurgeText::CauseNoConnection,
        LateCause::NoLease => PurgeText::CauseNoLease,
        LateCause::SentLate => PurgeText::CauseSentLate,
        LateCause::Network => PurgeText::CauseNetwork,
        LateCause::CacheBusy => PurgeText::CauseCacheBusy,
        LateCause::CacheTrouble => PurgeText::CauseCacheTrouble,
        LateCause::EarlierLease => PurgeText::CauseEarlierLease,
        LateCause::Working => PurgeText::CauseWorking,
    }
}

fn value_of(selector: &Selector) -> &str {
    selector.value()
}

impl PurgePage<'_> {
    /// Nothing more will happen to it that the page shows.
    fn is_over(&self) -> bool {
        self.task.state == TaskState::Completed && self.task.objects_final
    }

    fn objects(&self) -> String {
        grouped(self.task.objects_evicted)
    }

    fn accepted(&self) -> String {
        rfc3339(self.task.started_at)
    }

    /// `41 of 42 nodes cannot serve it any more: 40 confirmed, 1 fenced`, as words allow.
    fn nodes(&self) -> Vec<(String, PurgeText)> {
        let nodes = &self.task.nodes;
        let all = [
            (nodes.confirmed, PurgeText::Confirmed),
            (nodes.fenced, PurgeText::Fenced),
            (nodes.unreachable, PurgeText::Unreachable),
        ];
        let told = all.into_iter().filter(|(count, words)| *count > 0 || *words == PurgeText::Confirmed);
        told.map(|(count, words)| (grouped(count.into()), words)).collect()
    }

    fn nodes_total(&self) -> String {
        counted(self.language, self.task.nodes.total.into(), ["node", "nodes"], ["узла", "узлов", "узлов"])
    }

    /// The page of a new purge, filled in with this one.
    fn again(&self) -> String {
        format!("/purges/new?again={}", self.task.task)
    }
}

impl LateLine {
    fn new(line: &NodeLine, language: Language) -> Self {
        let figure = |ms: Option<u64>| ms.map(|ms| took(ms, language));
        Self {
            node: line.node.to_string(),
            is_open: line.until_ms().is_none(),
            figures: [figure(line.sent_ms), figure(line.in_force_ms), figure(line.acked_ms)],
            cause: cause_words(line.cause),
            detail: line.detail.to_string(),
        }
    }
}
