//! `/sla`: was the promise kept, day by day; and if not, when, and because of whom?

use std::sync::Arc;

use askama::Template;
use axum::extract::{RawQuery, State};
use axum::response::Response;
use batoff_types::{SiteId, TaskId, UnixMillis};
use http::HeaderValue;
use http::header::CONTENT_DISPOSITION;

use super::purge::{PurgeText, cause_words};
use super::purge_row::{TARGET_MS, took};
use crate::accounts::Need;
use crate::admin::sla_export::{ReportFormat, checked_range, instant};
use crate::api::problem::{Code, ItemError, Problem, store_error};
use crate::api::query::Query;
use crate::clock::{millis, rfc3339};
use crate::console::frame::PageFrame;
use crate::console::guard::not_allowed;
use crate::console::state::Console;
use crate::console::words::{Text, grouped, words};
use crate::language::Language;
use crate::tracker::{Breach, DAY, SlaDay, SlaReport, SlaView, SlowPurge, accepted_at};

/// Breaches on the page, the newest; the files have all that are kept.
const BREACHES_SHOWN: usize = 100;

/// Days that can be looked at.
const SPANS: [(u64, SlaText); 5] = [
    (7, SlaText::Week),
    (14, SlaText::TwoWeeks),
    (31, SlaText::Month),
    (90, SlaText::Quarter),
    (365, SlaText::Year),
];

/// The choice of days that are named one by one.
const CHOSEN: &str = "chosen";

/// Days that are shown when none are named.
const DAYS_DEFAULT: u64 = 14;

/// The same when they are named one by one, and the first is not.
const CHOSEN_DEFAULT: u64 = 31;

/// How all sites together are called, as in the CSV: no site can have this name.
const FLEET: &str = "*";

/// Width of the bar that stands for all purges of a day.
const BAR_WIDTH: u64 = 96;

words! {
    /// What the page says.
    pub enum SlaText {
        Filter: "Filter", "Отбор";
        Site: "Site", "Сайт";
        AllSites: "All sites", "Все сайты";
        Days: "Days", "Дни";
        Week: "Last 7 days", "Последние 7 дней";
        TwoWeeks: "Last 14 days", "Последние 14 дней";
        Month: "Last 31 days", "Последние 31 день";
        Quarter: "Last 90 days", "Последние 90 дней";
        Year: "Last 365 days", "Последние 365 дней";
        Chosen: "Chosen days", "Выбранные дни";
        From: "From, UTC", "С, UTC";
        Until: "Through, UTC", "По, UTC";
        Show: "Show", "Показать";
        Export: "Export", "Выгрузить";
        FileDays: "CSV: days", "CSV: дни";
        FileBreaches: "CSV: breaches", "CSV: нарушения";
        About: "The promise: 2 s after a purge is durable, no node can serve what it purged. Days are of UTC.", "Обещание: через 2 с после записи очистки ни один узел не отдаст очищенное. Дни — по UTC.";
        Within: "Within 2 s", "За 2 с";
        Purges: "Purges", "Очистки";
        Over: "Over 2 s", "Дольше 2 с";
        Open: "Under way, not late", "Идут, не опоздали";
        P50: "p50", "p50";
        P99: "p99", "p99";
        Max: "Max", "Макс.";
        ByDay: "By day", "По дням";
        Day: "Day, UTC", "День, UTC";
        Slowest: "Slowest node", "Самый медленный узел";
        Breaches: "Breaches", "Нарушения";
        Accepted: "Accepted, UTC", "Принята, UTC";
        Task: "Task", "Задача";
        Took: "Propagation", "Распространение";
        NotYet: "not completed", "не завершена";
        Waited: "Waited for", "Ждала узел";
        NobodyKnown: "not known", "неизвестно";
        NoBreaches: "No breach is kept for these days.", "За эти дни нарушений не сохранено.";
        Nothing: "Nothing was purged in these days.", "За эти дни очисток не было.";
        OnlyNewest: "Only the newest 100 are shown; the file has all that are kept.", "Показаны 100 новейших; в файле — все сохранённые.";
        Kept: "At most 20 breaches of each five minutes are kept, and 50 of a day after a month; the figures count all of them. Days are kept for 400 days.", "Хранится не больше 20 нарушений из каждых пяти минут, а через месяц — не больше 50 за день; в числах учтены все. Дни хранятся 400 дней.";
    }
}

/// Whose figures, of how many days.
struct AskedReport {
    /// `None`: of all sites together.
    site: Option<SiteId>,
    span: AskedDays,
}

/// Of which days.
#[derive(Clone, Copy)]
enum AskedDays {
    /// So many, with today.
    Last(u64),
    /// Named ones; always kept, and in order.
    Chosen { from: UnixMillis, until: UnixMillis },
}

/// How figures are told.
#[derive(Clone, Copy)]
struct SlaTelling {
    language: Language,
    /// Purges that were accepted before that are not kept any more, and have no page.
    tasks_since: UnixMillis,
}

/// What is said of a day, or of all.
struct Figures {
    /// The part that was completed in time; `None` when nothing can be said yet.
    share: Option<String>,
    /// How long its bar is.
    bar: u64,
    purges: String,
    late: u64,
    /// Neither completed nor late.
    open: u64,
    p50: Option<FigureCell>,
    p99: Option<FigureCell>,
    max: Option<FigureCell>,
    slowest: Option<Slowest>,
}

/// A time, and whether it is over the target.
struct FigureCell {
    said: String,
    is_late: bool,
}

/// The slowest purge.
struct Slowest {
    /// Where its page is, as long as there is one.
    path: Option<String>,
    node: Option<(String, PurgeText)>,
    detail: Arc<str>,
}

struct DayRow {
    day: String,
    figures: Figures,
}

struct BreachLine {
    breach: Breach,
    /// Where its page is, as long as there is one.
    path: Option<String>,
    at: String,
    took: Option<String>,
}

#[derive(Template)]
#[template(path = "console/sla.html")]
struct SlaPage<'a> {
    frame: &'a PageFrame,
    asked: &'a AskedReport,
    /// The choices of the select: value, what it says in place of that, whether it is chosen.
    sites: Vec<(String, Option<SlaText>, bool)>,
    total: Figures,
    days: Vec<DayRow>,
    breaches: Vec<BreachLine>,
    are_more: bool,
}

/// `GET /sla`
pub async fn show(
    State(console): State<Arc<Console>>,
    frame: PageFrame,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let query = Query::parse(query.as_deref(), &["site", "days", "from", "until"])?;
    let asked = AskedReport::new(&console, &frame, &query)?;
    let report = asked.report(&console).await?;
    let telling = SlaTelling { language: frame.language, tasks_since: tasks_since(&console) };
    let are_more = report.breaches.len() > BREACHES_SHOWN;
    // The newest day is what one comes for.
    let days = report.days.iter().rev().map(|day| DayRow::new(day, telling)).collect();
    let shown = report.breaches.into_iter().take(BREACHES_SHOWN);
    let body = SlaPage {
        frame: &frame,
        asked: &asked,
        sites: choices(&console, &frame, &asked),
        total: Figures::new(&report.total, telling),
        days,
        breaches: shown.map(|breach| BreachLine::new(breach, telling)).collect(),
        are_more,
    };
    Ok(frame.page(frame.say(Text::Sla), Some(Text::Sla), &body))
}

/// `GET /sla/export`: the same bytes as the operators' API gives, of what this viewer may read.
pub async fn export(
    State(console): State<Arc<Console>>,
    frame: PageFrame,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let query = Query::parse(query.as_deref(), &["site", "days", "from", "until", "format", "table"])?;
    let asked = AskedReport::new(&console, &frame, &query)?;
    let format = ReportFormat::from_query(&query)?;
    let report = asked.report(&console).await?;
    let disposition = format!("attachment; filename=\"{}\"", file_name(format, &report));
    let mut response = format.response(report);
    if let Ok(disposition) = HeaderValue::from_str(&disposition) {
        response.headers_mut().insert(CONTENT_DISPOSITION, disposition);
    }
    Ok(response)
}

/// `sla-days-shop-2026-04-07-2026-04-20.csv`; without a site, of all together.
fn file_name(format: ReportFormat, report: &SlaReport) -> String {
    let (what, kind) = match format {
        ReportFormat::Json => ("sla", "json"),
        ReportFormat::DaysCsv => ("sla-days", "csv"),
        ReportFormat::BreachesCsv => ("sla-breaches", "csv"),
    };
    let site = report.site.as_ref().map(|site| format!("-{site}")).unwrap_or_default();
    let last = report.days.last().map_or(report.from, |day| day.begins);
    format!("{what}{site}-{}-{}.{kind}", date(report.from), date(last))
}

fn choices(
    console: &Console,
    frame: &PageFrame,
    asked: &AskedReport,
) -> Vec<(String, Option<SlaText>, bool)> {
    let fleet = (FLEET.to_owned(), Some(SlaText::AllSites), asked.site.is_none());
    let sites = console.sites_of(frame.viewer.as_ref(), Need::ReadSite).into_iter();
    let sites = sites.map(|site| (site.to_string(), None, asked.site.as_ref() == Some(&site)));
    sees_fleet(frame).then_some(fleet).into_iter().chain(sites).collect()
}

fn sees_fleet(frame: &PageFrame) -> bool {
    frame.viewer.as_ref().is_some_and(|viewer| viewer.may(Need::Operate, None))
}

impl AskedReport {
    /// What this viewer may ask for. Without a site that is the fleet for whom it is, and for others their first site. A site
    /// that does not exist is refused like one of somebody else's.
    fn new(console: &Console, frame: &PageFrame, query: &Query) -> Result<Self, Problem> {
        let sites = console.sites_of(frame.viewer.as_ref(), Need::ReadSite);
        let site = match query.text("site").filter(|site| !site.is_empty()) {
            None | Some(FLEET) if sees_fleet(frame) => None,
            Some(name) => Some(sites.into_iter().find(|site| site.as_str() == name).ok_or_else(not_allowed)?),
            None => Some(sites.into_iter().next().ok_or_else(no_site)?),
        };
        Ok(Self { site, span: AskedDays::new(query, console.services.clock.wall())? })
    }

    async fn report(&self, console: &Console) -> Result<SlaReport, Problem> {
        let (from, until) = self.span.range(console.services.clock.wall());
        console.services.tracker.sla_days(self.site.as_ref(), from, until).await.map_err(store_error)
    }

    /// Where the file of it is.
    fn file(&self, format: &str) -> String {
        let site = self.site.as_ref().map_or(FLEET, SiteId::as_str);
        let days = match self.span {
            AskedDays::Last(days) => format!("days={days}"),
            AskedDays::Chosen { from, until } => format!("from={}&until={}", date(from), date(until)),
        };
        format!("/sla/export?site={site}&{days}&format={format}")
    }
}

impl AskedDays {
    fn new(query: &Query, now: UnixMillis) -> Result<Self, Problem> {
        let named = |parameter| {
            let day = |text: &str| if text.is_empty() { Some(None) } else { instant(text).map(Some) };
            query.parsed(parameter, "a day such as 2026-04-20", day).map(Option::flatten)
        };
        let (from, until) = (named("from")?, named("until")?);
        let is_named = from.or(until).is_some();
        let of_span = |text: &str| match text {
            CHOSEN => Some(None),
            text => SPANS.into_iter().map(|(days, _)| days).find(|days| days.to_string() == text).map(Some),
        };
        let days = query.parsed("days", "7, 14, 31, 90, 365 or chosen", of_span)?;
        match days {
            Some(Some(_)) if is_named => {
                let why = "goes without from and until, or is chosen";
                Err(Problem::of_item(Code::InvalidRequest, ItemError::parameter("days", why)))
            }
            Some(Some(days)) => Ok(Self::Last(days)),
            None if !is_named => Ok(Self::Last(DAYS_DEFAULT)),
            Some(None) | None => {
                let until = until.unwrap_or(now).min(now);
                let from = from.unwrap_or_else(|| first_of(CHOSEN_DEFAULT, until));
                checked_range(from, until, now).map(|(from, until)| Self::Chosen { from, until })
            }
        }
    }

    fn range(self, now: UnixMillis) -> (UnixMillis, UnixMillis) {
        match self {
            Self::Last(days) => (first_of(days, now), now),
            Self::Chosen { from, until } => (from, until),
        }
    }
}

/// A moment of the first of so many days through this one.
fn first_of(days: u64, until: UnixMillis) -> UnixMillis {
    UnixMillis(until.0.saturating_sub(millis(DAY).saturating_mul(days - 1)))
}

/// The account's sites are all gone.
fn no_site() -> Problem {
    Problem::detailed(
        Code::NotFound,
        "none of your account's sites exists any more; an operator can give it others",
    )
}

impl SlaTelling {
    /// Where the purge's page is, if the purge is still known.
    fn path(self, site: &SiteId, task: TaskId) -> Option<String> {
        (accepted_at(task) >= self.tasks_since).then(|| format!("/sites/{site}/purges/{task}"))
    }
}

/// From when on purges are kept. Figures are kept for longer.
fn tasks_since(console: &Console) -> UnixMillis {
    let kept = millis(DAY).saturating_mul(console.services.config.retention.task_days);
    UnixMillis(console.services.clock.wall().0.saturating_sub(kept))
}

impl Figures {
    fn new(view: &SlaView, telling: SlaTelling) -> Self {
        let language = telling.language;
        // Late ones that are not completed have no time: then there is none to tell.
        let some = view.within > 0 || view.max > 0;
        let figure = |ms: u64| some.then(|| FigureCell { said: took(ms, language), is_late: ms > TARGET_MS });
        let late = view.judged.saturating_sub(view.within);
        let bar = match view.judged {
            0 => 0,
            // However few they are, they show.
            judged => (view.within.saturating_mul(BAR_WIDTH) / judged).min(BAR_WIDTH - u64::from(late > 0)),
        };
        Self {
            share: share(view.within, view.judged, language),
            bar,
            purges: grouped(view.purges),
            late,
            open: view.purges.saturating_sub(view.judged),
            p50: figure(view.p50),
            p99: figure(view.p99),
            max: figure(view.max),
            slowest: view.slowest.as_ref().map(|slow| Slowest::new(slow, telling)),
        }
    }

    /// Where the slowest purge has its page.
    fn path(&self) -> Option<&str> {
        self.slowest.as_ref()?.path.as_deref()
    }

    /// How much of the bar is missing.
    fn missing(&self) -> u64 {
        if self.share.is_some() { BAR_WIDTH - self.bar } else { 0 }
    }

    const fn percentiles(&self) -> [(SlaText, Option<&FigureCell>); 2] {
        [(SlaText::P50, self.p50.as_ref()), (SlaText::P99, self.p99.as_ref())]
    }

    fn late_said(&self) -> String {
        grouped(self.late)
    }
}

/// `99.98 %`, rounded down: 100 % is all of them. `None` when there are none.
fn share(within: u64, judged: u64, language: Language) -> Option<String> {
    let hundredths = within.saturating_mul(10_000).checked_div(judged)?;
    let (whole, rest) = (hundredths / 100, hundredths % 100);
    let decimal = match language {
        Language::English => ".",
        Language::Russian => ",",
    };
    Some(if rest == 0 { format!("{whole}\u{a0}%") } else { format!("{whole}{decimal}{rest:02}\u{a0}%") })
}

impl Slowest {
    fn new(slow: &SlowPurge, telling: SlaTelling) -> Self {
        Self {
            path: telling.path(&slow.site, slow.task),
            node: slow.node.as_ref().map(|(node, cause)| (node.to_string(), cause_words(*cause))),
            detail: Arc::clone(&slow.detail),
        }
    }
}

impl DayRow {
    fn new(day: &SlaDay, telling: SlaTelling) -> Self {
        Self { day: date(day.begins), figures: Figures::new(&day.view, telling) }
    }
}

impl BreachLine {
    fn new(breach: Breach, telling: SlaTelling) -> Self {
        let at = rfc3339(breach.accepted_at());
        let took = breach.propagation_ms.map(|ms| took(ms, telling.language));
        let path = telling.path(&breach.site, breach.task);
        Self { breach, path, at, took }
    }

    /// `2026-04-20 08:12:31`
    fn at_said(&self) -> String {
        self.at.trim_end_matches('Z').replace('T', " ")
    }
}

impl SlaPage<'_> {
    /// The choices of the select: value, words, whether it is chosen.
    fn spans(&self) -> impl Iterator<Item = (String, SlaText, bool)> {
        let is_shown = |days| matches!(self.asked.span, AskedDays::Last(shown) if shown == days);
        let spans = SPANS.into_iter().map(move |(days, words)| (days.to_string(), words, is_shown(days)));
        spans.chain([(CHOSEN.to_owned(), SlaText::Chosen, self.chosen().is_some())])
    }

    /// The first day and the last, where they are named.
    fn chosen(&self) -> Option<(String, String)> {
        match self.asked.span {
            AskedDays::Last(_) => None,
            AskedDays::Chosen { from, until } => Some((date(from), date(until))),
        }
    }

    fn has_purges(&self) -> bool {
        self.days.iter().any(|day| day.figures.purges != "0" || day.figures.share.is_some())
    }
}

/// The day of UTC.
fn date(at: UnixMillis) -> String {
    rfc3339(at).chars().take_while(|c| *c != 'T').collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENGLISH: SlaTelling = SlaTelling { language: Language::English, tasks_since: UnixMillis(0) };

    #[track_caller]
    fn check(within: u64, judged: u64, expected: Option<&str>) {
        let said = share(within, judged, Language::English).map(|said| said.replace('\u{a0}', " "));
        assert_eq!(said.as_deref(), expected, "{within} of {judged}");
    }

    #[test]
    fn a_share_is_never_said_to_be_more_than_it_is() {
        check(0, 0, None);
        check(0, 3, Some("0 %"));
        check(1, 2, Some("50 %"));
        check(2, 3, Some("66.66 %"));
        check(999_999, 1_000_000, Some("99.99 %"));
        check(1_000_000, 1_000_000, Some("100 %"));
        assert_eq!(share(2, 3, Language::Russian).as_deref(), Some("66,66\u{a0}%"));
    }

    #[test]
    fn a_purge_that_is_not_kept_any_more_has_no_link() {
        let (site, task) = ("shop".parse().unwrap(), "01JF7M2KZ7YH9Q4K0P2BDH9W3Y".parse().unwrap());
        let at = accepted_at(task).0;
        let path = |since| SlaTelling { tasks_since: UnixMillis(since), ..ENGLISH }.path(&site, task);
        assert_eq!(path(at).as_deref(), Some("/sites/shop/purges/01JF7M2KZ7YH9Q4K0P2BDH9W3Y"));
        assert_eq!(path(at + 1), None);
    }

    #[test]
    fn one_that_was_late_among_a_million_is_seen_in_the_bar() {
        let view = SlaView { purges: 1_000_000, judged: 1_000_000, within: 999_999, ..SlaView::default() };
        assert_eq!(Figures::new(&view, ENGLISH).missing(), 1);
        let view = SlaView { within: 1_000_000, ..view };
        assert_eq!(Figures::new(&view, ENGLISH).missing(), 0);
        assert_eq!(Figures::new(&SlaView::default(), ENGLISH).missing(), 0, "nobody was late");
    }
}
