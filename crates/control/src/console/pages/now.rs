//! `/now`: is all well, and if not, what needs attention?

use std::sync::Arc;

use askama::Template;
use axum::extract::State;
use axum::response::Response;

use super::purge::cause_words;
use super::purge_row::{TARGET_MS, took};
use super::strip::{Axis, AxisPlace};
use crate::api::problem::{Problem, store_error};
use crate::clock::rfc3339;
use crate::console::frame::PageFrame;
use crate::console::state::Console;
use crate::console::words::{Text, Words, counted, grouped, words};
use crate::language::Language;
use crate::overview::Overview;
use crate::tracker::{Concern, ConcernKind, FleetCounts, PULSE_SECONDS};

/// Units of the little chart that a second's bar takes, with the gap after it.
const BAR_STEP: u64 = 4;

/// Its height in the same units.
const CHART_HEIGHT: u64 = 44;

/// The bar of the fullest second is as high as this at least, in purges, so that a single one is no mountain.
const CHART_PURGES_MIN: u64 = 4;

words! {
    /// What the page says.
    pub enum NowText {
        NoNodes: "No node is registered yet.", "Пока не зарегистрирован ни один узел.";
        OnlyNode: "The only node is current.", "Единственный узел не отстаёт.";
        OnlyNodeNot: "The only node is not current.", "Единственный узел отстаёт.";
        Slowest: "Slowest completion in the last hour:", "Самое долгое завершение за последний час:";
        NoPurges: "No purge in the last hour.", "За последний час очисток не было.";
        NoneCompleted: "No purge of the last hour is completed.", "Из очисток последнего часа не завершена ни одна.";
        LookedAt: "As of", "На";
        Purges: "Purges in the last minute", "Очисток за последнюю минуту";
        AtMost: "at most in a second:", "максимум в секунду:";
        PulseNote: "60 s ago", "60 с назад";
        PulseNow: "now", "сейчас";
        Hour: "Propagation in the last hour", "Распространение за последний час";
        Median: "p50", "p50";
        P99: "p99", "p99";
        Max: "max", "макс.";
        Target: "2 s", "2 с";
        Within: "within 2 s", "в пределах 2 с";
        Of: "of", "из";
        Attention: "Needs attention", "Требует внимания";
        Nothing: "Nothing needs attention.", "Ничто не требует внимания.";
        More: "more are not listed", "ещё не показано";
        What: "What", "Что";
        Where: "Where", "Где";
        Why: "Why", "Почему";
        Since: "Since, UTC", "С какого времени, UTC";
        Until: "ends", "истекает";
        Store: "Store", "Хранилище";
        LateNode: "Late node", "Узел отстаёт";
        CacheTrouble: "Cache in trouble", "Сбой кеша";
        NoLease: "Node without a lease", "Узел без аренды";
        Certificate: "Certificate ends", "Истекает сертификат";
        OverQuota: "Site over its quota", "Сайт исчерпал квоту";
    }
}

/// The page.
#[derive(Template)]
#[template(path = "console/now.html")]
struct NowPage<'a> {
    frame: &'a PageFrame,
    is_well: bool,
    current: String,
    slowest: Option<SlowestLine>,
    no_slowest: Option<NowText>,
    at: String,
    pulse: PulseChart,
    within: Option<String>,
    purges: String,
    percentiles: Vec<PercentileLine>,
    target: AxisPlace,
    concerns: Vec<ConcernLine>,
    more: String,
}

/// The slowest purge of the last hour, in words.
struct SlowestLine {
    path: Option<String>,
    figure: String,
    node: Option<(String, &'static str)>,
    detail: String,
}

/// Purges a second, as bars: where, how far from the top, how high.
struct PulseChart {
    width: u64,
    bars: Vec<(u64, u64, u64)>,
    sum: String,
    most: String,
}

struct PercentileLine {
    words: NowText,
    figure: String,
    place: AxisPlace,
    is_late: bool,
}

struct ConcernLine {
    words: NowText,
    subject: String,
    /// Where more stands about it.
    path: Option<String>,
    cause: Option<&'static str>,
    detail: String,
    since: Option<String>,
    until: Option<String>,
}

/// `GET /now`
pub async fn show(State(console): State<Arc<Console>>, frame: PageFrame) -> Result<Response, Problem> {
    let overview = console.services.overview.now().await.map_err(store_error)?;
    let body = NowPage::new(&frame, &overview);
    Ok(match frame.is_fragment {
        true => frame.fragment(&body),
        false => frame.page(frame.say(Text::Now), Some(Text::Now), &body),
    })
}

impl<'a> NowPage<'a> {
    fn new(frame: &'a PageFrame, overview: &Overview) -> Self {
        let (language, hour) = (frame.language, &overview.hour);
        let slowest = SlowestLine::new(overview, language);
        let no_slowest = match (&slowest, hour.purges) {
            (Some(_), _) => None,
            (None, 0) => Some(NowText::NoPurges),
            (None, _) => Some(NowText::NoneCompleted),
        };
        let axis = Axis::beyond(hour.max);
        let percentile = |(words, ms)| PercentileLine {
            words,
            figure: took(ms, language),
            place: axis.place(ms),
            is_late: ms > TARGET_MS,
        };
        let figures = [(NowText::Median, hour.p50), (NowText::P99, hour.p99), (NowText::Max, hour.max)];
        let FleetCounts { total, current, .. } = overview.fleet.fleet;
        let more = overview.fleet.concerns_more;
        Self {
            frame,
            is_well: current == total && overview.fleet.concerns.is_empty(),
            current: fleet_said(current as u64, total as u64, language),
            no_slowest,
            at: rfc3339(overview.at),
            pulse: PulseChart::new(&overview.fleet.per_second),
            within: (hour.judged > 0).then(|| share(hour.within, hour.judged, language)),
            purges: counted(language, hour.judged, ["purge", "purges"], ["очистки", "очисток", "очисток"]),
            percentiles: slowest.iter().flat_map(|_| figures).map(percentile).collect(),
            target: axis.place(TARGET_MS),
            concerns: overview
                .fleet
                .concerns
                .iter()
                .map(|concern| ConcernLine::new(concern, language))
                .collect(),
            more: if more > 0 { grouped(more as u64) } else { String::new() },
            slowest,
        }
    }
}

/// `All 42 nodes are current.`
fn fleet_said(current: u64, total: u64, language: Language) -> String {
    let nodes = || counted(language, total, ["node", "nodes"], ["узла", "узлов", "узлов"]);
    match (language, current, total) {
        (_, _, 0) => NowText::NoNodes.of(language).to_owned(),
        (_, 1, 1) => NowText::OnlyNode.of(language).to_owned(),
        (_, 0, 1) => NowText::OnlyNodeNot.of(language).to_owned(),
        (Language::English, ..) if current == total => format!("All {} are current.", nodes()),
        (Language::English, 1, _) => format!("1 of {} is current.", nodes()),
        (Language::English, ..) => format!("{} of {} are current.", grouped(current), nodes()),
        (Language::Russian, ..) => format!("Не отстают {} из {}.", grouped(current), nodes()),
    }
}

/// `99.98 %`; all of it only if it is all of it.
fn share(part: u64, whole: u64, language: Language) -> String {
    let hundredths = part.saturating_mul(10_000).checked_div(whole).unwrap_or(10_000);
    let decimal = if language == Language::Russian { ',' } else { '.' };
    match hundredths {
        10_000.. => "100\u{a0}%".to_owned(),
        _ => format!("{}{decimal}{:02}\u{a0}%", hundredths / 100, hundredths % 100),
    }
}

impl SlowestLine {
    fn new(overview: &Overview, language: Language) -> Option<Self> {
        let hour = &overview.hour;
        let Some(slow) = &hour.slowest else {
            // Counted by a version that did not keep which one it was.
            let figure = took(hour.max, language);
            return (hour.max > 0).then_some(Self { path: None, figure, node: None, detail: String::new() });
        };
        let cause = |cause| cause_words(cause).of(language);
        Some(Self {
            path: Some(format!("/sites/{}/purges/{}", slow.site, slow.task)),
            figure: took(slow.propagation_ms, language),
            node: slow.node.as_ref().map(|(node, why)| (node.to_string(), cause(*why))),
            detail: slow.detail.to_string(),
        })
    }
}

impl PulseChart {
    fn new(per_second: &[u32]) -> Self {
        let most = per_second.iter().copied().max().map_or(0, u64::from);
        let full = most.max(CHART_PURGES_MIN);
        let bar = |(place, purges): (u64, &u32)| {
            let high = (u64::from(*purges) * CHART_HEIGHT).div_ceil(full);
            (place * BAR_STEP, CHART_HEIGHT - high, high)
        };
        let bars = (0u64..).zip(per_second).filter(|(_, purges)| **purges > 0).map(bar);
        Self {
            width: PULSE_SECONDS as u64 * BAR_STEP,
            bars: bars.collect(),
            sum: grouped(per_second.iter().copied().map(u64::from).sum()),
            most: grouped(most),
        }
    }
}

impl ConcernLine {
    fn new(concern: &Concern, language: Language) -> Self {
        let node = || concern.subject.split_once('/').map(|(pop, node)| format!("/nodes/{pop}/{node}"));
        let (words, path) = match concern.kind {
            ConcernKind::Store => (NowText::Store, None),
            ConcernKind::LateNode => (NowText::LateNode, node()),
            ConcernKind::CacheTrouble => (NowText::CacheTrouble, node()),
            ConcernKind::NoLease => (NowText::NoLease, node()),
            ConcernKind::Certificate => (NowText::Certificate, None),
            ConcernKind::OverQuota => (NowText::OverQuota, Some(format!("/sites/{}", concern.subject))),
        };
        Self {
            words,
            subject: concern.subject.to_string(),
            path,
            cause: concern.cause.map(|cause| cause_words(cause).of(language)),
            detail: concern.detail.clone(),
            since: concern.since.map(rfc3339),
            until: concern.until.map(rfc3339),
        }
    }
}

/// `04-20 08:12:31`; the whole time is beside it.
fn short(time: &str) -> String {
    time.get(5..19).unwrap_or(time).replace('T', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sentence_follows_its_numbers() {
        let said = |current, total| fleet_said(current, total, Language::English);
        assert_eq!(said(42, 42), "All 42 nodes are current.");
        assert_eq!(said(1, 42), "1 of 42 nodes is current.");
        assert_eq!(said(0, 1), "The only node is not current.");
        assert_eq!(said(1, 1), "The only node is current.");
        assert_eq!(said(0, 0), "No node is registered yet.");
        assert_eq!(fleet_said(40, 42, Language::Russian), "Не отстают 40 из 42 узлов.");
    }

    #[test]
    fn all_of_it_is_said_of_nothing_less() {
        assert_eq!(share(99_999, 100_000, Language::English), "99.99\u{a0}%");
        assert_eq!(share(7, 7, Language::English), "100\u{a0}%");
        assert_eq!(share(1, 3, Language::Russian), "33,33\u{a0}%");
    }

    #[test]
    fn the_fullest_second_is_as_high_as_the_chart() {
        let chart = PulseChart::new(&[0, 10, 0, 1]);
        assert_eq!(chart.bars, [(BAR_STEP, 0, CHART_HEIGHT), (3 * BAR_STEP, CHART_HEIGHT - 5, 5)]);
        assert_eq!((chart.sum.as_str(), chart.most.as_str()), ("11", "10"));
        assert!(PulseChart::new(&[1]).bars[0].2 < CHART_HEIGHT, "a single purge is no mountain");
    }
}
