//! `/audit`: who did what, from where, with which result; and is the log of it whole?

use std::sync::Arc;

use askama::Template;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::Response;
use batoff_types::UnixMillis;
use http::HeaderValue;
use http::header::CONTENT_DISPOSITION;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;

use crate::admin::audit as admin_audit;
use crate::api::problem::{Code, ItemError, Problem, store_error};
use crate::audit::{AuditAction, AuditEntry, AuditFilter, ChainHead, ChainReport, HeadVerdict};
use crate::console::frame::PageFrame;
use crate::console::state::Console;
use crate::console::words::{Text, grouped, words};

/// Rows on a page.
const ROWS: usize = 50;

words! {
    /// What the page says.
    pub enum AuditText {
        Filter: "Filter", "Отбор";
        Action: "Action", "Действие";
        AnyAction: "Any action", "Любое";
        Actor: "Who", "Кто";
        Site: "Site", "Сайт";
        AnySite: "Any site", "Любой";
        Since: "From, UTC", "С, UTC";
        Until: "Until, UTC", "По, UTC";
        Show: "Show", "Показать";
        Reset: "Reset", "Сбросить";
        Number: "No.", "№";
        Time: "Time, UTC", "Время, UTC";
        About: "About", "О чём";
        Result: "Result", "Итог";
        From: "From", "Откуда";
        Done: "done", "сделано";
        Refused: "refused", "отказано";
        Repeated: "repeated", "повтор";
        Unknown: "unknown", "неизвестно";
        Details: "Details", "Подробности";
        Older: "Older", "Раньше";
        Newest: "Newest", "К новым";
        None: "No entries match this filter.", "Под этот отбор не подходит ни одна запись.";
        GoOn: "None here; older entries have not been looked at yet.", "Здесь таких нет; более ранние записи ещё не просмотрены.";
        Export: "Export the chain", "Выгрузить цепочку";
        Verify: "Verify the chain", "Проверить цепочку";
        VerifyTitle: "Is the audit log whole?", "Цел ли журнал аудита?";
        VerifyAbout: "Each entry carries a hash over all that stand before it, so one that was changed, taken out or moved shows. An older copy that was put back shows only against a head that was kept elsewhere.", "В каждой записи — хеш всех предыдущих, поэтому изменённая, изъятая или переставленная видна. Подложенную старую копию выдаёт только хеш конца, сохранённый в другом месте.";
        Head: "A head that was kept, if there is one", "Сохранённый хеш конца, если есть";
        Whole: "The chain is whole.", "Цепочка цела.";
        Broken: "The chain is not whole.", "Цепочка повреждена.";
        Entries: "Entries", "Записей";
        First: "First entry", "Первая запись";
        HeadNow: "Head now: keep it elsewhere", "Хеш конца: сохраните его в другом месте";
        KnownHead: "The head that was kept", "Сохранённый хеш";
        Confirmed: "Everything up to it is as it was.", "Всё до него осталось прежним.";
        Differs: "At its place stands another entry, or another past before it.", "На его месте другая запись или другое прошлое.";
        Missing: "The chain ends before it: entries were cut off, or an older state was put back.", "Цепочка кончается раньше: записи отрезаны или подложено старое состояние.";
        Forgotten: "Its entry was forgotten since, as retention says; nothing can be said about it.", "Его запись с тех пор забыта по сроку хранения; сказать нечего.";
        Foreign: "It is of another control plane's chain.", "Он от цепочки другого сервера.";
        Flaws: "What does not fit", "Что не сходится";
        StoreChanges: "Where the store became another one", "Где хранилище стало другим";
        Entry: "Entry", "Запись";
        Back: "To the log", "К журналу";
        Copy: "Copy", "Копировать";
        Copied: "Copied", "Скопировано";
    }
}

/// The filter, as the page's URL has it. What is empty filters nothing.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AuditPageQuery {
    site: String,
    actor: String,
    action: String,
    since: String,
    until: String,
    before: String,
}

/// What is asked of the chain.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ChainQuery {
    head: String,
}

/// An entry in the list.
struct AuditRow {
    entry: AuditEntry,
    at: String,
    hash: String,
    result: AuditText,
}

#[derive(Template)]
#[template(path = "console/audit.html")]
struct AuditListPage<'a> {
    frame: &'a PageFrame,
    query: &'a AuditPageQuery,
    sites: Vec<String>,
    rows: Vec<AuditRow>,
    next: Option<String>,
}

#[derive(Template)]
#[template(path = "console/audit_chain.html")]
struct ChainPage<'a> {
    frame: &'a PageFrame,
    query: &'a ChainQuery,
    report: ChainReport,
}

/// `GET /audit`
pub async fn list(
    State(console): State<Arc<Console>>,
    frame: PageFrame,
    query: Result<Query<AuditPageQuery>, QueryRejection>,
) -> Result<Response, Problem> {
    let Query(query) =
        query.map_err(|rejected| Problem::detailed(Code::InvalidRequest, rejected.body_text()))?;
    let filter = query.filter()?;
    let before = parsed("before", &query.before, |text| text.parse().ok())?;
    let page = console.services.audit.list(&filter, before, ROWS).await.map_err(store_error)?;
    let rows = page.entries.iter().filter_map(|entry| AuditRow::read(entry.as_str())).collect();
    let next = page.next.map(|next| query.with_before(&next.to_string()));
    let sites = console.services.catalog.table().iter().map(|(site, _)| site.to_string()).collect();
    let body = AuditListPage { frame: &frame, query: &query, sites, rows, next };
    Ok(frame.page(frame.say(Text::Audit), Some(Text::Audit), &body))
}

/// `GET /audit/export`: the same bytes as the operators' API gives.
pub async fn export(State(console): State<Arc<Console>>) -> Result<Response, Problem> {
    let mut response = admin_audit::exported(Arc::clone(&console.services), 1).await?;
    let name = HeaderValue::from_static("attachment; filename=\"audit.jsonl\"");
    response.headers_mut().insert(CONTENT_DISPOSITION, name);
    Ok(response)
}

/// `GET /audit/chain`
pub async fn chain(
    State(console): State<Arc<Console>>,
    frame: PageFrame,
    query: Result<Query<ChainQuery>, QueryRejection>,
) -> Result<Response, Problem> {
    let Query(query) =
        query.map_err(|rejected| Problem::detailed(Code::InvalidRequest, rejected.body_text()))?;
    let head: Option<ChainHead> = parsed("head", query.head.trim(), |text| text.parse().ok())?;
    let report = admin_audit::verified(&console.services, head).await?;
    let body = ChainPage { frame: &frame, query: &query, report };
    Ok(frame.page(frame.say(AuditText::VerifyTitle), Some(Text::Audit), &body))
}

impl AuditRow {
    fn read(line: &str) -> Option<Self> {
        #[derive(Deserialize)]
        struct Listed {
            #[serde(flatten)]
            entry: AuditEntry,
            hash: String,
        }
        let Listed { entry, hash } = serde_json::from_str(line).ok()?;
        let millis = i64::try_from(entry.at.0).unwrap_or(i64::MAX);
        let at = jiff::Timestamp::from_millisecond(millis).unwrap_or(jiff::Timestamp::MAX);
        let at = at.strftime("%Y-%m-%d %H:%M:%S.%3f").to_string();
        let result = match entry.result.as_ref() {
            "done" => AuditText::Done,
            "refused" => AuditText::Refused,
            "repeated" => AuditText::Repeated,
            _ => AuditText::Unknown,
        };
        Some(Self { entry, at, hash, result })
    }

    /// What else the same actor did.
    fn of_actor(&self) -> String {
        AuditPageQuery { actor: self.entry.actor.clone(), ..AuditPageQuery::default() }.with_before("")
    }

    /// What was asked to be changed, for people.
    fn change(&self) -> Option<String> {
        self.entry.change.as_ref().and_then(|change| serde_json::to_string_pretty(change).ok())
    }
}

impl AuditListPage<'_> {
    /// The choices of the select: the action, and whether it is chosen.
    fn actions(&self) -> impl Iterator<Item = (&'static str, bool)> {
        AuditAction::ALL.into_iter().map(|action| (action.as_str(), action.as_str() == self.query.action))
    }
}

impl ChainPage<'_> {
    fn verdict(&self) -> Option<AuditText> {
        Some(match self.report.known_head? {
            HeadVerdict::Confirmed => AuditText::Confirmed,
            HeadVerdict::Differs => AuditText::Differs,
            HeadVerdict::Missing => AuditText::Missing,
            HeadVerdict::Forgotten => AuditText::Forgotten,
            HeadVerdict::Foreign => AuditText::Foreign,
        })
    }
}

impl AuditPageQuery {
    fn filter(&self) -> Result<AuditFilter, Problem> {
        let some = |text: &str| Some(text.trim().to_owned()).filter(|text| !text.is_empty());
        Ok(AuditFilter {
            site: some(&self.site),
            actor: some(&self.actor),
            action: parsed("action", &self.action, AuditAction::from_name)?,
            since: parsed("since", &self.since, local_time)?,
            until: parsed("until", &self.until, local_time)?,
        })
    }

    fn is_filtered(&self) -> bool {
        [&self.site, &self.actor, &self.action, &self.since, &self.until]
            .into_iter()
            .any(|value| !value.is_empty())
    }

    /// The same filter, from the page after `before` on.
    fn with_before(&self, before: &str) -> String {
        let fields = [
            ("site", self.site.as_str()),
            ("actor", &self.actor),
            ("action", &self.action),
            ("since", &self.since),
            ("until", &self.until),
            ("before", before),
        ];
        let pairs = fields.into_iter().filter(|(_, value)| !value.is_empty());
        let pairs =
            pairs.map(|(name, value)| format!("{name}={}", utf8_percent_encode(value, NON_ALPHANUMERIC)));
        let query = pairs.collect::<Vec<_>>().join("&");
        if query.is_empty() { "/audit".to_owned() } else { format!("/audit?{query}") }
    }
}

/// `2026-04-20T08:12`, as browsers send it, and the same with seconds; UTC.
fn local_time(text: &str) -> Option<UnixMillis> {
    let time: jiff::civil::DateTime = text.trim_end_matches('Z').parse().ok()?;
    let time = jiff::tz::TimeZone::UTC.to_timestamp(time).ok()?;
    u64::try_from(time.as_millisecond()).ok().map(UnixMillis)
}

fn parsed<T>(name: &str, text: &str, read: impl FnOnce(&str) -> Option<T>) -> Result<Option<T>, Problem> {
    let refused = || {
        Problem::of_item(
            Code::InvalidRequest,
            ItemError::parameter(name, "is not understood").with_value(text),
        )
    };
    if text.is_empty() { Ok(None) } else { read(text).map(Some).ok_or_else(refused) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_browsers_send_them() {
        let expected = Some(UnixMillis(1_776_672_720_000));
        assert_eq!(local_time("2026-04-20T08:12"), expected);
        assert_eq!(local_time("2026-04-20T08:12:00Z"), expected);
        assert_eq!(local_time("yesterday"), None);
    }

    #[test]
    fn the_next_page_has_the_same_filter() {
        let query =
            AuditPageQuery { actor: "user:anna".into(), action: "purge".into(), ..AuditPageQuery::default() };
        assert_eq!(query.with_before("17"), "/audit?actor=user%3Aanna&action=purge&before=17");
        assert_eq!(AuditPageQuery::default().with_before(""), "/audit");
    }
}
