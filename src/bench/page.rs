//! The report as one HTML file: its figures and its plots, without scripts and without anything from
//! elsewhere.

use std::fmt::Write as _;

use crate::bench::plot::{Axis, Line, Plot};
use crate::bench::report::{Report, decimal, grouped, time};

const STYLE: &str = include_str!("page.css");

/// The page.
pub(crate) fn page(report: &Report, version: &str) -> String {
    let url = html(&report.url);
    let mut out = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src \
         'unsafe-inline'\">\n<title>Load test of {url}</title>\n<style>\n{STYLE}</style>\n</head>\n\
         <body>\n<main>\n<h1>Load test</h1>\n<p class=\"url\">{url}</p>\n<p>{}</p>\n",
        html(&report.asked())
    );
    for note in &report.notes {
        // Writing to a String cannot fail.
        let _ = writeln!(out, "<p class=\"note\">{}</p>", html(note));
    }
    out.push_str("<div class=\"tables\">\n<table>\n<caption>Counts</caption>\n");
    out.push_str("<tr><td></td><th>in all</th><th>a second</th></tr>\n");
    for (name, count, rate) in report.counts() {
        let class = if name == "lost" && count > 0 { " class=\"bad\"" } else { "" };
        let rate = rate.map_or(String::new(), decimal);
        let _ = writeln!(
            out,
            "<tr{class}><th scope=\"row\">{name}</th><td>{}</td><td>{rate}</td></tr>",
            grouped(count)
        );
    }
    out.push_str("</table>\n");
    if let Some(latency) = &report.latency {
        let _ = writeln!(out, "<table>\n<caption>{}</caption>", sentence(report.words().2));
        for (name, value) in latency.named() {
            let _ = writeln!(out, "<tr><th scope=\"row\">{name}</th><td>{}</td></tr>", time(value));
        }
        out.push_str("</table>\n");
    }
    out.push_str("</div>\n");
    for (title, plot) in plots(report) {
        let _ = write!(out, "<figure>\n<figcaption>{title}{}</figcaption>\n", key(&plot));
        let _ = writeln!(out, "<div tabindex=\"0\">{}</div>\n</figure>", plot.svg());
    }
    let _ = write!(
        out,
        "</main>\n<footer>wsgw bench {}. The client was at work {:.0} % of the time.</footer>\n\
         </body>\n</html>\n",
        html(version),
        report.busy * 100.0
    );
    out
}

/// What each line is, where there are several.
fn key(plot: &Plot) -> String {
    let named = plot.lines.iter().filter(|line| !line.name.is_empty());
    named.map(|line| format!(" <span class=\"key {}\">{}</span>", line.class, line.name)).collect()
}

fn plots(report: &Report) -> Vec<(String, Plot)> {
    let mut plots = Vec::new();
    let (_, came, latency) = report.words();
    if report.curve.len() > 1 {
        plots.push((format!("{} by share", sentence(latency)), percentiles(report)));
    }
    if report.parts.len() > 1 {
        let times = |rate: &dyn Fn(&crate::bench::times::Part) -> Option<f64>| {
            report.parts.iter().map(|part| rate(part).map(|value| (part.at, value))).collect()
        };
        let highest = |values: &[Option<(f64, f64)>]| {
            values.iter().flatten().map(|(_, value)| *value).fold(0.0, f64::max)
        };
        let end = report.seconds;
        let rates: Vec<Option<(f64, f64)>> = times(&|part| Some(part.rate));
        plots.push((
            format!("{} a second, over time", sentence(came)),
            Plot {
                label: format!("{came} a second over {end:.1} seconds"),
                x: Axis::exact("seconds", end, 8.0),
                y: Axis::round("a second", highest(&rates), 4.0),
                lines: vec![Line { name: "", class: "one", points: rates }],
            },
        ));
        let medians: Vec<Option<(f64, f64)>> = times(&|part| part.latency.map(|(p50, _)| p50));
        let high: Vec<Option<(f64, f64)>> = times(&|part| part.latency.map(|(_, p99)| p99));
        plots.push((
            format!("{} over time", sentence(latency)),
            Plot {
                label: format!(
                    "{latency} over {end:.1} seconds: the median and the 99th percentile"
                ),
                x: Axis::exact("seconds", end, 8.0),
                y: Axis::round("milliseconds", highest(&high), 4.0),
                lines: vec![
                    Line { name: "p99", class: "two", points: high },
                    Line { name: "p50", class: "one", points: medians },
                ],
            },
        ));
    }
    plots
}

/// Latencies by the share of those that are not longer, with room for the rare ones.
fn percentiles(report: &Report) -> Plot {
    let nines = |share: f64| -(1.0 - share).max(1e-15).log10();
    let points: Vec<(f64, f64)> =
        report.curve.iter().map(|(share, value)| (nines(*share), *value)).collect();
    let end = points.last().map_or(1.0, |(at, _)| *at).max(1.0);
    let shares = ["0", "90 %", "99 %", "99.9 %", "99.99 %", "99.999 %", "99.9999 %", "99.99999 %"];
    let mut ticks = vec![(nines(0.5), "50 %".to_owned())];
    let marks = shares.iter().enumerate().map(|(at, text)| (at as f64, (*text).to_owned()));
    ticks.extend(marks.filter(|(at, _)| *at <= end + 1e-9));
    let highest = points.iter().map(|(_, value)| *value).fold(0.0, f64::max);
    Plot {
        label: format!("latencies by share: the longest is {}", time(highest)),
        x: Axis { name: "share that is not longer", end, ticks },
        y: Axis::round("milliseconds", highest, 4.0),
        lines: vec![Line {
            name: "",
            class: "one",
            points: points.into_iter().map(Some).collect(),
        }],
    }
}

fn sentence(text: &str) -> String {
    let (first, rest) = text.split_at(1);
    format!("{}{rest}", first.to_ascii_uppercase())
}

fn html(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::bench::times::Times;

    #[test]
    fn a_page_holds_all_of_it_and_nothing_from_elsewhere() {
        let mut times = Times::new(0, Duration::from_secs(1));
        (0..100).for_each(|n| times.record(n * 10_000_000, n * 1000 + 500));
        let (all, parts) = times.finish(1_000_000_000);
        let report = Report {
            url: "ws://h/?a=<script>&b=\"'".to_owned(),
            mode: "echo",
            payload: 128,
            lost: 1234,
            seconds: 1.0,
            notes: vec!["<b>".to_owned()],
            ..Report::default()
        };
        let page = page(&report.with_latencies(&all, parts), "1.2");
        assert_eq!(page.matches("<svg ").count(), 3, "{page}");
        assert!(!page.contains("<script") && !page.contains("<b>"), "{page}");
        assert!(page.contains("1,234") && page.contains("&lt;script&gt;&amp;b=&quot;&#39;"));
        assert!(!page.contains("http://") && !page.contains("https://") && !page.contains("NaN"));
    }

    #[test]
    fn nothing_measured_makes_a_page_too() {
        let page = page(&Report { mode: "idle", ..Report::default() }, "1");
        assert!(page.contains("</html>") && !page.contains("<svg") && !page.contains("NaN"));
    }
}
