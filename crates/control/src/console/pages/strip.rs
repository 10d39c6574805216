//! The propagation strip: one line a PoP, from durable to the last of its nodes, as figures for a template to draw.
//!
//! The axis is a square root: most PoPs need some ten milliseconds, the target is two seconds, and both are to be seen.

use super::purge_row::{TARGET_MS, took};
use crate::language::Language;
use crate::tracker::{PopLine, Propagation};

/// Places at which the axis may have a tick, in milliseconds.
const TICKS: [u64; 14] =
    [0, 20, 100, 250, 500, 1_000, 2_000, 5_000, 10_000, 30_000, 60_000, 300_000, 900_000, 3_600_000];

/// The axis goes a little beyond the target, or beyond what took longest.
const BEYOND_PERCENT: u64 = 12;

/// Ticks of a longer axis are no nearer to each other than this, in per cent of its length.
const TICK_GAP: f64 = 7.0;

/// What is drawn.
#[derive(Clone, Debug, PartialEq)]
pub struct Strip {
    /// Where the axis has ticks, and what they say; the target's own is apart.
    pub ticks: Vec<(AxisPlace, String)>,
    /// Where the target is.
    pub target: AxisPlace,
    /// The PoPs, the slowest first.
    pub lines: Vec<StripLine>,
}

/// A place along the axis, in per cent with one decimal, as SVG takes it.
pub type AxisPlace = String;

/// One PoP.
#[derive(Clone, Debug, PartialEq)]
pub struct StripLine {
    /// Its name.
    pub pop: String,
    /// Its nodes that cannot serve the purged any more, and all.
    pub nodes: (u32, u32),
    /// Whether it was not done with it within the target.
    pub is_late: bool,
    /// Whether it is not done with it.
    pub is_open: bool,
    /// From where to where the line goes.
    pub from: AxisPlace,
    /// Where it ends: where the PoP was done, or now.
    pub to: AxisPlace,
    /// The marks.
    pub sent: Option<AxisPlace>,
    /// The same.
    pub in_force: Option<AxisPlace>,
    /// The same.
    pub acked: Option<AxisPlace>,
    /// The same.
    pub fenced: Option<AxisPlace>,
    /// Sent, in force, acknowledged, fenced, as figures.
    pub figures: [Option<String>; 4],
    /// Objects there, as far as reported.
    pub objects: u64,
}

impl Strip {
    /// Of a purge, in that language.
    pub fn new(spread: &Propagation, language: Language) -> Self {
        let ends = spread.pops.iter().filter_map(PopLine::until_ms);
        let longest = ends.chain(spread.completed_ms).chain(spread.elapsed_ms).fold(TARGET_MS, u64::max);
        let axis = Axis::beyond(longest);
        Self {
            ticks: axis.ticks(language),
            target: axis.place(TARGET_MS),
            lines: spread.pops.iter().map(|pop| axis.line(pop, spread.elapsed_ms, language)).collect(),
        }
    }
}

/// From 0 to where the slowest is to be seen, and the target.
pub(super) struct Axis {
    end: u64,
}

impl Axis {
    /// A little longer than that, and than the target.
    pub(super) fn beyond(longest: u64) -> Self {
        let longest = longest.max(TARGET_MS);
        Self { end: longest + longest * BEYOND_PERCENT / 100 }
    }

    fn per_cent(&self, ms: u64) -> f64 {
        (ms as f64 / self.end as f64).sqrt().min(1.0) * 100.0
    }

    /// Where that is.
    pub(super) fn place(&self, ms: u64) -> AxisPlace {
        format!("{:.1}%", self.per_cent(ms))
    }

    fn ticks(&self, language: Language) -> Vec<(AxisPlace, String)> {
        let mut ticks: Vec<u64> = Vec::new();
        for tick in TICKS.into_iter().filter(|tick| *tick <= self.end && *tick != TARGET_MS) {
            let far_from = |other: u64| (self.per_cent(tick) - self.per_cent(other)).abs() >= TICK_GAP;
            if tick == 0 || ticks.last().is_none_or(|last| far_from(*last)) && far_from(TARGET_MS) {
                ticks.push(tick);
            }
        }
        let said = |ms: u64| if ms == 0 { "0".to_owned() } else { round(ms, language) };
        ticks.into_iter().map(|ms| (self.place(ms), said(ms))).collect()
    }

    fn line(&self, pop: &PopLine, elapsed: Option<u64>, language: Language) -> StripLine {
        let until = pop.until_ms();
        let from = pop.sent_ms.unwrap_or(0);
        let to = until.or(elapsed).or(pop.acked_ms).unwrap_or(from).max(from);
        let place = |ms: Option<u64>| ms.map(|ms| self.place(ms));
        let figures = [pop.sent_last_ms.or(pop.sent_ms), pop.in_force_ms, pop.acked_ms, pop.fenced_ms];
        StripLine {
            pop: pop.pop.to_string(),
            nodes: (pop.nodes.confirmed + pop.nodes.fenced, pop.nodes.total),
            is_late: until.or(elapsed).is_some_and(|ms| ms > TARGET_MS),
            is_open: until.is_none(),
            from: self.place(from),
            to: self.place(to),
            sent: place(pop.sent_ms),
            in_force: place(pop.in_force_ms),
            acked: place(pop.acked_ms),
            fenced: place(pop.fenced_ms),
            figures: figures.map(|ms| ms.map(|ms| took(ms, language))),
            objects: pop.objects_evicted,
        }
    }
}

/// `500 ms`, `5 s`, `15 min`
fn round(ms: u64, language: Language) -> String {
    if ms < 1_000 {
        return took(ms, language);
    }
    let (count, unit) = match (ms / 1_000, language) {
        (secs @ 0..60, Language::English) => (secs, "s"),
        (secs @ 0..60, Language::Russian) => (secs, "с"),
        (secs, Language::English) => (secs / 60, "min"),
        (secs, Language::Russian) => (secs / 60, "мин"),
    };
    format!("{count}\u{a0}{unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_axis_shows_ten_milliseconds_and_the_target_and_no_ticks_upon_each_other() {
        for end in [2_240, 3_000, 60_000, 7_200_000] {
            let axis = Axis { end };
            let ticks = axis.ticks(Language::English);
            assert_eq!(ticks[0], ("0.0%".to_owned(), "0".to_owned()));
            let places: Vec<f64> =
                ticks.iter().map(|(place, _)| place.trim_end_matches('%').parse().unwrap()).collect();
            assert!(places.windows(2).all(|pair| pair[1] - pair[0] >= TICK_GAP - 0.1), "{ticks:?}");
        }
        let axis = Axis { end: 2_240 };
        assert!(axis.per_cent(10) > 5.0 && axis.per_cent(TARGET_MS) > 90.0);
    }
}
