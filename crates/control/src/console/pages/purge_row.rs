//! A purge as one row of a table: the same in a page and in news.

use askama::Template;
use batoff_types::{SelectorKind, SiteId, TaskId, UnixMillis};

use super::requesters::Asker;
use crate::clock::rfc3339;
use crate::console::words::{Words, grouped, words};
use crate::language::Language;
use crate::tracker::{TaskState, TaskView};

words! {
    /// What a row says.
    pub enum RowText {
        Pending: "Pending", "В очереди";
        InProgress: "In progress", "Выполняется";
        Completed: "Completed", "Завершена";
        Partial: "Partial", "Частично";
        Soft: "soft", "мягкая";
        Unknown: "unknown", "неизвестно";
        NotFinal: "not all nodes have reported yet", "ещё не все узлы сообщили";
        Late: "over 2 s", "дольше 2 с";
        Url: "URL", "URL";
        Prefix: "Prefix", "Префикс";
        Tag: "Tag", "Тег";
        Host: "Host", "Хост";
        AllOfIt: "Everything", "Всё";
    }
}

/// The milliseconds in which a purge is to be completed.
pub const TARGET_MS: u64 = 2_000;

/// Width of the bar that stands for the target.
const BAR_WIDTH: u64 = 40;

/// What a row shows.
#[derive(Clone, Debug)]
pub struct PurgeRow {
    /// The task.
    pub task: TaskId,
    /// Its site.
    pub site: SiteId,
    /// How far it is.
    pub state: TaskState,
    /// Kind and value of its first item.
    pub first: Option<(RowText, String)>,
    /// Further items.
    pub more: usize,
    /// Kinds of its items.
    pub kinds: Vec<SelectorKind>,
    /// Whether objects are only marked stale.
    pub soft: bool,
    /// Who asked.
    pub asker: Asker,
    /// When it was accepted.
    pub started_at: UnixMillis,
    /// Objects made unservable so far.
    pub objects: u64,
    /// Whether all nodes have reported.
    pub objects_final: bool,
    /// From durable to completed.
    pub propagation_ms: Option<u64>,
    /// Nodes that cannot serve it any more, and all.
    pub nodes: (u32, u32),
}

impl PurgeRow {
    /// Of a task and who asked for it.
    pub fn new(task: &TaskView, asker: Asker) -> Self {
        let first =
            task.selectors.first().map(|selector| (kind_words(selector.kind()), selector.value().to_owned()));
        Self {
            task: task.task,
            site: task.site.clone(),
            state: task.state,
            first,
            more: task.selectors.len().saturating_sub(1),
            kinds: SelectorKind::ALL.into_iter().filter(|kind| task.has_kind(*kind)).collect(),
            soft: task.soft,
            asker,
            started_at: task.started_at,
            objects: task.objects_evicted,
            objects_final: task.objects_final,
            propagation_ms: task.propagation_ms,
            nodes: (task.nodes.confirmed + task.nodes.fenced, task.nodes.total),
        }
    }

    /// Its page.
    pub fn path(&self) -> String {
        format!("/sites/{}/purges/{}", self.site, self.task)
    }

    pub(super) fn time(&self) -> String {
        rfc3339(self.started_at)
    }

    /// `04-20` and `08:12:31`; the whole time is beside it.
    pub(super) fn day_and_hour(&self) -> (String, String) {
        let time = self.time();
        let (day, hour) = time.split_once('T').unwrap_or((&time, ""));
        (day.get(5..).unwrap_or(day).to_owned(), hour.trim_end_matches('Z').to_owned())
    }

    pub(super) fn kinds_joined(&self) -> String {
        self.kinds.iter().map(|kind| kind.as_str()).collect::<Vec<_>>().join(" ")
    }

    pub(super) fn objects_grouped(&self) -> String {
        grouped(self.objects)
    }

    pub(super) fn is_late(&self) -> bool {
        self.propagation_ms.is_some_and(|ms| ms > TARGET_MS)
    }

    pub(super) fn state_said(&self, language: &Language) -> &'static str {
        state_words(self.state).of(*language)
    }

    pub(super) fn took_said(&self, language: &Language) -> String {
        self.propagation_ms.map(|ms| took(ms, *language)).unwrap_or_default()
    }

    /// How long the bar is: the whole of it is the target.
    pub(super) fn bar(&self) -> u64 {
        self.propagation_ms.map_or(0, |ms| (ms * BAR_WIDTH).div_ceil(TARGET_MS).clamp(1, BAR_WIDTH))
    }
}

/// One row alone.
#[derive(Template)]
#[template(path = "console/purge_row.html")]
pub struct RowPart<'a> {
    /// What it shows.
    pub row: &'a PurgeRow,
    /// In which language.
    pub language: Language,
}

/// A state in words.
pub const fn state_words(state: TaskState) -> RowText {
    match state {
        TaskState::Pending => RowText::Pending,
        TaskState::InProgress => RowText::InProgress,
        TaskState::Completed => RowText::Completed,
        TaskState::Partial => RowText::Partial,
    }
}

/// A kind of items in words.
pub const fn kind_words(kind: SelectorKind) -> RowText {
    match kind {
        SelectorKind::Url => RowText::Url,
        SelectorKind::Prefix => RowText::Prefix,
        SelectorKind::Tag => RowText::Tag,
        SelectorKind::Host => RowText::Host,
        SelectorKind::Everything => RowText::AllOfIt,
    }
}

/// `412 ms`, `2.2 s`
pub fn took(ms: u64, language: Language) -> String {
    let (millis, seconds) = match language {
        Language::English => ("ms", "s"),
        Language::Russian => ("мс", "с"),
    };
    if ms < 1_000 {
        return format!("{ms}\u{a0}{millis}");
    }
    let decimal = match language {
        Language::English => ".",
        Language::Russian => ",",
    };
    if ms < 60_000 {
        return format!("{}{decimal}{}\u{a0}{seconds}", ms / 1_000, ms % 1_000 / 100);
    }
    format!("{}\u{a0}{seconds}", grouped(ms / 1_000))
}
