//! The figures as a picture: how purges spread, and what each region sees.

use std::fmt::Write;

use super::{Millis, Propagation};

const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 620.0;
/// Both panels, from left to right.
const LEFT: f64 = 150.0;
const RIGHT: f64 = 930.0;
/// The upper panel, and the lower one.
const UPPER: (f64, f64) = (96.0, 330.0);
const LOWER: (f64, f64) = (410.0, 560.0);

pub(super) const INK: &str = "#1f2933";
pub(super) const FAINT: &str = "#6b7785";
pub(super) const GRID: &str = "#e4e7eb";
pub(super) const LIGHT: &str = "#b7791f";

/// Points of one curve, at most.
const POINTS: usize = 400;

/// From milliseconds to a place across.
#[derive(Clone, Copy)]
struct Scale {
    most: f64,
}

impl Scale {
    fn x(self, ms: f64) -> f64 {
        LEFT + (RIGHT - LEFT) * (ms / self.most).min(1.0)
    }
}

impl Propagation {
    /// An SVG without scripts, fonts or styles from elsewhere.
    pub fn to_svg(&self) -> String {
        let longest = self.regions.iter().map(|from| from.submitted.quantile(0.99)).fold(0.0, f64::max);
        let longest = longest.max(self.completed.quantile(0.995));
        let scale = Scale { most: (longest / 100.0 + 0.5).ceil() * 100.0 };
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
             font-family=\"Helvetica, Arial, sans-serif\" font-size=\"13\" fill=\"{INK}\">\n\
             <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#ffffff\"/>\n"
        );
        text(&mut svg, 20.0, 34.0, "start", INK, "font-size=\"18\" font-weight=\"bold\"", &self.title());
        text(&mut svg, 20.0, 56.0, "start", FAINT, "", &self.subtitle());
        self.curves(&mut svg, scale);
        self.bars(&mut svg, scale);
        svg += "</svg>\n";
        svg
    }

    fn title(&self) -> String {
        format!("A purge on {} PoPs, control plane in {}", self.nodes, self.control)
    }

    fn subtitle(&self) -> String {
        format!(
            "Model: great circles at 200,000 km/s × 1.5 + 2 ms, jitter, {} % of messages lost; {} purges",
            self.loss * 100.0,
            self.completed.0.len()
        )
    }

    fn curves(&self, svg: &mut String, scale: Scale) {
        let (top, bottom) = UPPER;
        let y = |share: f64| bottom - (bottom - top) * share;
        for percent in [0, 25, 50, 75, 100] {
            let at = y(f64::from(percent) / 100.0);
            line(svg, (LEFT, at), (RIGHT, at), GRID, "");
            text(svg, LEFT - 10.0, at + 4.0, "end", FAINT, "", &format!("{percent} %"));
        }
        axis(svg, scale, UPPER, "milliseconds since acceptance");
        let label = format!("transform=\"rotate(-90 {} {})\"", 40.0, f64::midpoint(top, bottom));
        text(svg, 40.0, f64::midpoint(top, bottom), "middle", FAINT, &label, "share");
        for (by_light, label, at) in [
            (self.in_force_by_light, "light: there", top - 7.0),
            (self.completed_by_light, "light: there and back", top - 7.0),
        ] {
            let x = scale.x(by_light);
            line(svg, (x, top), (x, bottom), LIGHT, "stroke-dasharray=\"4 4\"");
            text(svg, x + 5.0, at, "start", LIGHT, "font-size=\"11\"", label);
        }
        let curves = [
            (&self.at_each, "#0b7a75", "in force at a node"),
            (&self.in_force, "#2f6fde", "in force at every node"),
            (&self.completed, "#8b2fc9", "completed: every node has said so"),
        ];
        for (row, (millis, colour, label)) in curves.into_iter().enumerate() {
            curve(svg, millis, colour, scale, y);
            let at = bottom - 62.0 + 20.0 * row as f64;
            line(svg, (RIGHT - 262.0, at), (RIGHT - 236.0, at), colour, "stroke-width=\"3\"");
            text(svg, RIGHT - 228.0, at + 4.0, "start", INK, "", label);
        }
    }

    fn bars(&self, svg: &mut String, scale: Scale) {
        let (top, bottom) = LOWER;
        let caption = "From the client’s request to completed, by where the client is: p50 to p99; dashed: light in glass";
        text(svg, 20.0, top - 16.0, "start", INK, "font-weight=\"bold\"", caption);
        axis(svg, scale, LOWER, "milliseconds since the request was sent");
        let step = (bottom - top) / self.regions.len() as f64;
        for (row, from) in self.regions.iter().enumerate() {
            let y = top + step * (row as f64 + 0.5);
            let [p50, p99] = [0.5, 0.99].map(|share| from.submitted.quantile(share));
            text(svg, LEFT - 10.0, y + 4.0, "end", INK, "", &from.region.to_string());
            line(
                svg,
                (scale.x(p50), y),
                (scale.x(p99), y),
                "#8b2fc9",
                "stroke-width=\"9\" stroke-opacity=\"0.35\"",
            );
            let (x, tick) = (scale.x(p50), 6.0);
            line(svg, (x, y - tick), (x, y + tick), "#8b2fc9", "stroke-width=\"4\"");
            text(svg, x - 8.0, y + 4.0, "end", FAINT, "font-size=\"11\"", &format!("{p50:.0}"));
            text(svg, scale.x(p99) + 6.0, y + 4.0, "start", FAINT, "font-size=\"11\"", &format!("{p99:.0}"));
            let x = scale.x(from.submitted_by_light);
            line(svg, (x, y - 8.0), (x, y + 8.0), LIGHT, "stroke-dasharray=\"3 2\" stroke-width=\"2\"");
        }
    }
}

fn axis(svg: &mut String, scale: Scale, (top, bottom): (f64, f64), label: &str) {
    let step = if scale.most > 1_000.0 { 200 } else { 100 };
    for ms in (0..=scale.most as u32).step_by(step) {
        let x = scale.x(f64::from(ms));
        line(svg, (x, top), (x, bottom), GRID, "");
        text(svg, x, bottom + 18.0, "middle", FAINT, "", &ms.to_string());
    }
    line(svg, (LEFT, bottom), (RIGHT, bottom), FAINT, "");
    text(svg, f64::midpoint(LEFT, RIGHT), bottom + 38.0, "middle", FAINT, "", label);
}

fn curve(svg: &mut String, millis: &Millis, colour: &str, scale: Scale, y: impl Fn(f64) -> f64) {
    let mut points = format!("{:.1},{:.1} ", LEFT, y(0.0));
    for point in 0..=POINTS {
        let share = point as f64 / POINTS as f64;
        let ms = millis.quantile(share);
        if ms > scale.most {
            break;
        }
        // Writing to a String cannot fail.
        let _ = write!(points, "{:.1},{:.1} ", scale.x(ms), y(share));
    }
    let _ = writeln!(
        svg,
        "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2.2\"/>",
        points.trim()
    );
}

pub(super) fn line(svg: &mut String, from: (f64, f64), to: (f64, f64), colour: &str, more: &str) {
    let ((x1, y1), (x2, y2)) = (from, to);
    let _ = writeln!(
        svg,
        "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" stroke=\"{colour}\" {more}/>"
    );
}

pub(super) fn text(svg: &mut String, x: f64, y: f64, anchor: &str, colour: &str, more: &str, what: &str) {
    let _ = writeln!(
        svg,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" fill=\"{colour}\" {more}>{what}</text>"
    );
}
