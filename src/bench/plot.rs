//! Plots as SVG: lines over two axes. Colours come from the page's style sheet.

use std::fmt::Write as _;

/// The size of a plot, and the room around its lines: left, right, top, bottom.
const SIZE: (f64, f64) = (720.0, 280.0);
const LEFT: f64 = 64.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 14.0;
const BOTTOM: f64 = 44.0;

/// A line.
pub(super) struct Line {
    /// What it is, for the key; empty for the only one.
    pub(super) name: &'static str,
    /// Its class in the style sheet.
    pub(super) class: &'static str,
    /// From left to right; `None` is a gap.
    pub(super) points: Vec<Option<(f64, f64)>>,
}

/// A plot.
pub(super) struct Plot {
    /// What it shows, for those who do not see it.
    pub(super) label: String,
    pub(super) x: Axis,
    pub(super) y: Axis,
    pub(super) lines: Vec<Line>,
}

/// An axis from 0 on.
pub(super) struct Axis {
    pub(super) name: &'static str,
    pub(super) end: f64,
    /// Where it has marks, and what stands there.
    pub(super) ticks: Vec<(f64, String)>,
}

impl Axis {
    /// An axis with about so many marks at round numbers, as far as `most`.
    pub(super) fn round(name: &'static str, most: f64, marks: f64) -> Axis {
        let most = if most > 0.0 { most } else { 1.0 };
        let rough = most / marks;
        let power = 10_f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].map(|n| n * power).into_iter().find(|s| *s >= rough);
        let step = step.unwrap_or(rough);
        let count = (most / step).ceil();
        let digits = (-step.log10().floor()).max(0.0) as usize;
        let shown = |value: f64| match value {
            v if v >= 10_000.0 => format!("{}k", v / 1000.0),
            v => format!("{v:.digits$}"),
        };
        let ticks = (0..=count as u32).map(|n| f64::from(n) * step);
        Axis { name, end: count * step, ticks: ticks.map(|v| (v, shown(v))).collect() }
    }

    /// The same, but the axis ends at `most`, whatever mark would come next.
    pub(super) fn exact(name: &'static str, most: f64, marks: f64) -> Axis {
        let mut axis = Axis::round(name, most, marks);
        axis.end = if most > 0.0 { most } else { axis.end };
        axis.ticks.retain(|(at, _)| *at <= axis.end);
        axis
    }
}

impl Plot {
    /// The plot as an element of a page.
    pub(super) fn svg(&self) -> String {
        let (width, height) = SIZE;
        let (right, bottom) = (width - RIGHT, height - BOTTOM);
        let x = |value: f64| LEFT + value / self.x.end * (right - LEFT);
        let y = |value: f64| bottom - value / self.y.end * (bottom - TOP);
        let mut out = format!(
            "<svg viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"{}\">\n",
            self.label
        );
        // Writing to a String cannot fail.
        for (value, text) in &self.y.ticks {
            let at = y(*value);
            let _ = writeln!(
                out,
                "<path class=\"grid\" d=\"M{LEFT} {at:.1}H{right}\"/>\
                 <text class=\"end\" x=\"{:.1}\" y=\"{:.1}\">{text}</text>",
                LEFT - 8.0,
                at + 4.0
            );
        }
        for (value, text) in &self.x.ticks {
            let at = x(*value);
            let _ = writeln!(
                out,
                "<path class=\"grid\" d=\"M{at:.1} {bottom}v5\"/>\
                 <text class=\"middle\" x=\"{at:.1}\" y=\"{:.1}\">{text}</text>",
                bottom + 18.0
            );
        }
        let _ = writeln!(
            out,
            "<text class=\"middle\" x=\"{:.1}\" y=\"{:.1}\">{}</text>\
             <text class=\"middle\" transform=\"translate(14 {:.1}) rotate(-90)\">{}</text>",
            (LEFT + right) / 2.0,
            height - 6.0,
            self.x.name,
            (TOP + bottom) / 2.0,
            self.y.name
        );
        for line in &self.lines {
            out.push_str(&path(line, x, y));
        }
        out.push_str("</svg>");
        out
    }
}

fn path(line: &Line, x: impl Fn(f64) -> f64, y: impl Fn(f64) -> f64) -> String {
    let mut d = String::new();
    let mut is_under_way = false;
    for point in &line.points {
        if let Some((at, value)) = point {
            let command = if is_under_way { 'L' } else { 'M' };
            let _ = write!(d, "{command}{:.1} {:.1}", x(*at), y(*value));
            if !is_under_way {
                // One point alone is seen, too.
                d.push_str("h0");
            }
        }
        is_under_way = point.is_some();
    }
    format!("<path class=\"line {}\" d=\"{d}\"/>\n", line.class)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_have_round_marks() {
        let marks = |most| {
            let axis = Axis::round("", most, 5.0);
            let texts: Vec<String> = axis.ticks.into_iter().map(|(_, text)| text).collect();
            texts.join(" ")
        };
        assert_eq!(marks(10.0), "0 2 4 6 8 10");
        assert_eq!(marks(9.1), "0 2 4 6 8 10");
        assert_eq!(marks(0.0123), "0.000 0.005 0.010 0.015");
        assert_eq!(marks(123_456.0), "0 50k 100k 150k");
        assert_eq!(marks(0.0), "0.0 0.2 0.4 0.6 0.8 1.0");
    }

    #[test]
    fn gaps_stay_open() {
        let points = vec![Some((0.0, 0.0)), Some((1.0, 1.0)), None, Some((2.0, 1.0))];
        let line = Line { name: "", class: "a", points };
        assert!(path(&line, |x| x, |y| y).contains("d=\"M0.0 0.0h0L1.0 1.0M2.0 1.0h0\""));
    }
}
