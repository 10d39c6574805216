//! One feed against several: what lost messages cost, as a table and a picture.

use std::fmt::Write;

use anyhow::Context;
use batoff_delivery::PromptFeeds;

use super::plot::{FAINT, GRID, INK, LIGHT, line, text};
use super::{Globe, Propagation};

/// How many control planes, and how many of a node's streams bring records at once.
#[derive(Clone, Copy, Debug)]
pub struct FeedsCase {
    /// Control planes.
    pub replicas: u8,
    /// Streams of a node that bring records at once.
    pub feeds: u8,
}

/// The same purges in each case, under each loss.
#[derive(Clone, Debug)]
pub struct ComparedFeeds {
    /// Losses, and for each of them what came of each case.
    by_loss: Vec<(f64, Vec<(FeedsCase, Propagation)>)>,
}

const CASES: [FeedsCase; 4] = [
    FeedsCase { replicas: 1, feeds: 1 },
    FeedsCase { replicas: 3, feeds: 1 },
    FeedsCase { replicas: 3, feeds: 2 },
    FeedsCase { replicas: 3, feeds: 3 },
];

const LOSSES: [f64; 2] = [0.001, 0.01];

const COLOURS: [&str; 4] = ["#c0392b", "#d98a1f", "#0b7a75", "#2f6fde"];

const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 430.0;
/// Both panels: from left to right, and from top to bottom.
const PANELS: [(f64, f64); 2] = [(80.0, 470.0), (540.0, 930.0)];
const TOP: f64 = 96.0;
const BOTTOM: f64 = 340.0;

/// The picture ends there.
const MS_MAX: f64 = 1_400.0;
/// One purge of so many is the last that is drawn, as a power of ten.
const DECADES: f64 = 3.0;

impl ComparedFeeds {
    /// Runs each case under each loss. `globe` says the rest.
    pub fn run(globe: &Globe) -> anyhow::Result<Self> {
        let one = |loss: f64, case: FeedsCase| {
            let feeds = PromptFeeds::count(case.feeds).context("no feed")?;
            let run = Globe { loss, replicas: case.replicas, feeds, ..globe.clone() };
            anyhow::Ok((case, run.run()?))
        };
        let each = |loss: f64| {
            anyhow::Ok((loss, CASES.into_iter().map(|case| one(loss, case)).collect::<Result<_, _>>()?))
        };
        Ok(Self { by_loss: LOSSES.into_iter().map(each).collect::<Result<_, _>>()? })
    }

    /// The figures as a Markdown table, in milliseconds.
    pub fn to_markdown(&self) -> String {
        let mut table = String::from(
            "| lost | control planes | feeds | in force at a node p50 | p99 | p99.9 | at the last node p50 | p99 | p99.9 | \
             completed p50 | p99 | p99.9 | records sent a node |\n\
             | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: |\n",
        );
        for (loss, case, world) in self.rows() {
            let _ = write!(table, "| {} % | {} | {} |", loss * 100.0, case.replicas, case.feeds);
            for millis in [&world.at_each, &world.in_force, &world.completed] {
                for share in [0.5, 0.99, 0.999] {
                    let _ = write!(table, " {:.0} |", millis.quantile(share));
                }
            }
            let all = world.nodes * world.completed.0.len();
            let _ = writeln!(table, " {:.2} |", world.records_sent as f64 / all as f64);
        }
        table
    }

    fn rows(&self) -> impl Iterator<Item = (f64, FeedsCase, &Propagation)> {
        let rows = |(loss, cases): &'_ (f64, Vec<_>)| (*loss, cases.len());
        debug_assert!(self.by_loss.iter().all(|it| rows(it).1 == CASES.len()));
        self.by_loss.iter().flat_map(|(loss, cases)| cases.iter().map(|(case, world)| (*loss, *case, world)))
    }

    /// An SVG without scripts, fonts or styles from elsewhere: which share of the purges is not in force at the last node
    /// after so long.
    pub fn to_svg(&self) -> String {
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
             font-family=\"Helvetica, Arial, sans-serif\" font-size=\"13\" fill=\"{INK}\">\n\
             <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#ffffff\"/>\n"
        );
        let title = "Purges that are not yet in force at the last node";
        text(&mut svg, 20.0, 34.0, "start", INK, "font-size=\"18\" font-weight=\"bold\"", title);
        let Some((_, _, world)) = self.rows().next() else { return svg + "</svg>\n" };
        let about = format!(
            "Model: {} PoPs, control planes in {}, {} purges; what two feeds have not brought is filled in 150 ms and a round \
             trip later",
            world.nodes,
            world.control,
            world.completed.0.len()
        );
        text(&mut svg, 20.0, 56.0, "start", FAINT, "", &about);
        for ((left, right), (loss, cases)) in PANELS.into_iter().zip(&self.by_loss) {
            frame(&mut svg, left, right, *loss, world.in_force_by_light);
            for ((_, world), colour) in cases.iter().zip(COLOURS) {
                curve(&mut svg, left, right, world, colour);
            }
        }
        for (number, (case, colour)) in CASES.into_iter().zip(COLOURS).enumerate() {
            let (x, y) = (PANELS[0].0 + 215.0 * number as f64, HEIGHT - 18.0);
            line(&mut svg, (x, y - 4.0), (x + 26.0, y - 4.0), colour, "stroke-width=\"3\"");
            let planes = if case.replicas == 1 { "control plane" } else { "control planes" };
            let label = format!("{} of {} {planes}", case.feeds, case.replicas);
            text(&mut svg, x + 34.0, y, "start", INK, "", &label);
        }
        svg + "</svg>\n"
    }
}

fn across(left: f64, right: f64, ms: f64) -> f64 {
    left + (right - left) * (ms / MS_MAX).min(1.0)
}

/// Down by one step for each power of ten.
fn down(share: f64) -> f64 {
    TOP + (BOTTOM - TOP) * (-share.log10() / DECADES).clamp(0.0, 1.0)
}

fn frame(svg: &mut String, left: f64, right: f64, loss: f64, by_light: f64) {
    let what = format!("{} % of messages lost", loss * 100.0);
    text(svg, left, TOP - 12.0, "start", INK, "font-weight=\"bold\"", &what);
    for (share, label) in [(1.0, "100 %"), (0.1, "10 %"), (0.01, "1 %"), (0.001, "0.1 %")] {
        line(svg, (left, down(share)), (right, down(share)), GRID, "");
        text(svg, left - 8.0, down(share) + 4.0, "end", FAINT, "", label);
    }
    for ms in (0..=MS_MAX as u32).step_by(200) {
        let x = across(left, right, f64::from(ms));
        line(svg, (x, TOP), (x, BOTTOM), GRID, "");
        text(svg, x, BOTTOM + 18.0, "middle", FAINT, "", &ms.to_string());
    }
    let x = across(left, right, by_light);
    line(svg, (x, TOP), (x, BOTTOM), LIGHT, "stroke-dasharray=\"4 4\"");
    text(svg, x + 5.0, BOTTOM - 6.0, "start", LIGHT, "font-size=\"11\"", "light");
    let middle = f64::midpoint(left, right);
    text(svg, middle, BOTTOM + 38.0, "middle", FAINT, "", "milliseconds since acceptance");
}

/// Steps at each of the slowest purges, so that single ones are seen.
fn curve(svg: &mut String, left: f64, right: f64, world: &Propagation, colour: &str) {
    let all = &world.in_force.0;
    let mut points = format!("{left:.1},{:.1} ", down(1.0));
    let mut last = f64::NAN;
    for (before, ms) in all.iter().enumerate() {
        let y = down((all.len() - before) as f64 / all.len() as f64);
        if *ms > MS_MAX {
            break;
        }
        if (y - last).abs() < 0.7 && before + 1 < all.len() {
            continue;
        }
        last = y;
        // Writing to a String cannot fail.
        let _ = write!(points, "{:.1},{y:.1} ", across(left, right, *ms));
    }
    let points = points.trim();
    let _ = writeln!(
        svg,
        "<polyline points=\"{points}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2.2\"/>"
    );
}
