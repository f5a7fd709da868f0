//! One gateway: its rates over the last minutes, its listener, what it refused, and what went wrong.

use std::collections::VecDeque;
use std::time::SystemTime;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Paragraph, RenderDirection, Sparkline};

use crate::api::{WatchedGateway, WatchedListener};
use crate::text::age::age;
use crate::top::format::{bytes, count, counted, rate, time};
use crate::top::model::Model;
use crate::top::screen::{Styles, text};

/// Rows below which there is no room for details.
pub(super) const LEAST: u16 = 8;
/// Width of the words beside a value.
const LABEL: usize = 11;
/// Lines of refusals, and lines of stderr, at most.
const LISTED: usize = 8;

/// A line with a word in front.
fn labelled(label: &str, spans: Vec<Span<'static>>, styles: Styles) -> Line<'static> {
    let mut all = vec![Span::styled(format!("{label:<LABEL$}"), styles.faint())];
    all.extend(spans);
    Line::from(all)
}

fn raw(content: String) -> Span<'static> {
    Span::raw(content)
}

/// Rows that all of it would take.
pub(super) fn height(model: &Model, width: u16) -> u16 {
    let Some(gateway) = model.current() else { return 0 };
    let lines = lines(gateway, Styles { plain: true }, width);
    // The sparklines are two rows each.
    u16::try_from(lines.len() + 5).unwrap_or(u16::MAX)
}

/// Draws as much as there is room for.
pub(super) fn draw(frame: &mut Frame, area: Rect, model: &Model, styles: Styles) {
    let Some(gateway) = model.current() else {
        let none = "this gateway is not in the config any more";
        frame.render_widget(Paragraph::new(none).style(styles.bad()), area);
        return;
    };
    let title = Span::styled(format!(" {} ", text(&gateway.status.id)), styles.title());
    let block = Block::new().borders(Borders::TOP).title(title);
    let inner = block.inner(area);
    frame.render_widget(block, area);
    let each = if inner.height >= 10 { 2 } else { u16::from(inner.height >= 5) };
    let [incoming, outgoing, rest] =
        Layout::vertical([Constraint::Length(each), Constraint::Length(each), Constraint::Min(0)])
            .areas(inner);
    if let Some(trail) = model.trail(&gateway.status.id) {
        let rates = gateway.rates;
        let (now_in, now_out) = (rate(rates.messages_in), rate(rates.messages_out));
        draw_trail(frame, incoming, ("in", now_in, &trail.messages_in, Color::Cyan), styles);
        draw_trail(frame, outgoing, ("out", now_out, &trail.messages_out, Color::Blue), styles);
    }
    frame.render_widget(Paragraph::new(lines(gateway, styles, area.width)), rest);
}

/// The rates of the last seconds, the newest at the right.
fn draw_trail(
    frame: &mut Frame,
    area: Rect,
    (label, now, trail, color): (&str, String, &VecDeque<u64>, Color),
    styles: Styles,
) {
    let [words, picture] =
        Layout::horizontal([Constraint::Length(LABEL as u16 + 14), Constraint::Min(0)]).areas(area);
    let highest = trail.iter().rev().take(usize::from(picture.width)).max().copied().unwrap_or(0);
    let mut lines = vec![labelled(label, vec![raw(format!("{now}/s"))], styles)];
    lines.push(labelled("", vec![raw(format!("max {}/s", count(highest)))], styles));
    frame.render_widget(Paragraph::new(lines), words);
    let newest: Vec<u64> = trail.iter().rev().copied().collect();
    let sparkline = Sparkline::default()
        .data(newest)
        .direction(RenderDirection::RightToLeft)
        .style(styles.color(color));
    frame.render_widget(sparkline, picture);
}

/// All that is text, the most important first.
fn lines(gateway: &WatchedGateway, styles: Styles, width: u16) -> Vec<Line<'static>> {
    let status = &gateway.status;
    let state = status.state.name();
    let address = status.address.as_deref().map_or_else(|| "no address".to_owned(), text);
    let mut lines = vec![labelled(
        "state",
        vec![
            Span::styled(state, styles.state(state)),
            raw(format!("  {address}  ({})", text(&status.startup))),
        ],
        styles,
    )];
    if let Some(error) = &status.error {
        for (at, line) in error.lines().take(LISTED).enumerate() {
            let label = if at == 0 { "error" } else { "" };
            lines.push(labelled(label, vec![Span::styled(text(line), styles.bad())], styles));
        }
    }
    lines.push(labelled("clients", vec![raw(clients(gateway))], styles));
    let rates = &gateway.rates;
    let traffic = format!("in {}/s  out {}/s", bytes(rates.bytes_in), bytes(rates.bytes_out));
    lines.push(labelled("traffic", vec![raw(traffic)], styles));
    match &gateway.listener_detail {
        None => lines.push(labelled(
            "listener",
            vec![Span::styled("none: each message goes out as it came", styles.faint())],
            styles,
        )),
        Some(listener) => listener_lines(&mut lines, gateway, listener, styles),
    }
    refusal_lines(&mut lines, gateway, styles, usize::from(width));
    error_lines(&mut lines, gateway, styles);
    lines
}

fn clients(gateway: &WatchedGateway) -> String {
    let mut parts = vec![
        counted(gateway.status.connections, "connection"),
        format!("{}/s opened", rate(gateway.rates.opened)),
    ];
    for (number, what) in [
        (gateway.channels, "channel"),
        (gateway.history_messages.unwrap_or(0), "kept message"),
        (gateway.dropped, "dropped message"),
        (gateway.slow_consumers, "closed slow consumer"),
    ] {
        if number > 0 {
            parts.push(counted(number, what));
        }
    }
    parts.join("  ")
}

fn listener_lines(
    lines: &mut Vec<Line<'static>>,
    gateway: &WatchedGateway,
    listener: &WatchedListener,
    styles: Styles,
) {
    let status = &gateway.status;
    let name = status.listener.name();
    let mut about = String::new();
    if let Some(pid) = status.listener_pid {
        about.push_str(&format!("  pid {pid}"));
    }
    if let Some(since) = &listener.since {
        about.push_str(&format!("  for {}", age(since, SystemTime::now())));
    }
    let restarts = counted(status.restarts, "restart");
    about.push_str(&format!("  {restarts}  {}", text(&listener.command)));
    lines.push(labelled(
        "listener",
        vec![Span::styled(name, styles.state(name)), raw(about)],
        styles,
    ));
    lines.push(labelled(
        "answers",
        vec![raw(format!(
            "p50 {}  p99 {}  of {}",
            time(listener.p50_ms),
            time(listener.p99_ms),
            counted(listener.answers, "answer")
        ))],
        styles,
    ));
    let full = listener.unanswered >= listener.window && listener.window > 0;
    let mut window = vec![Span::styled(
        format!("{} of {} unanswered", count(listener.unanswered), count(listener.window)),
        if full { styles.warning() } else { Style::new() },
    )];
    window.push(raw(format!("  {} waiting", count(gateway.queued))));
    for (number, what) in [(listener.timeouts, "time-out"), (listener.faults, "fault")] {
        if number > 0 {
            window.push(Span::styled(format!("  {}", counted(number, what)), styles.warning()));
        }
    }
    lines.push(labelled("window", window, styles));
}

/// What was refused, and the key that would change it.
fn refusal_lines(
    lines: &mut Vec<Line<'static>>,
    gateway: &WatchedGateway,
    styles: Styles,
    width: usize,
) {
    for (at, refusal) in gateway.refused.iter().take(LISTED).enumerate() {
        let label = if at == 0 { "refused" } else { "" };
        let head = format!("{:>6}  {}", count(refusal.count), text(&refusal.reason));
        let key = refusal.key.as_ref().map(|key| format!("  key: {}", text(key)));
        let mut spans = vec![raw(head)];
        spans.extend(key.map(|key| Span::styled(key, styles.title())));
        let words = text(&refusal.text);
        let used: usize = LABEL + spans.iter().map(Span::width).sum::<usize>();
        if !words.is_empty() && used + 4 < width {
            spans.push(Span::styled(format!("  {words}"), styles.faint()));
        }
        lines.push(labelled(label, spans, styles));
    }
}

/// The last error and the last lines on stderr.
fn error_lines(lines: &mut Vec<Line<'static>>, gateway: &WatchedGateway, styles: Styles) {
    let stderr = |lines: &mut Vec<Line<'static>>, from: &[String]| {
        let skip = from.len().saturating_sub(LISTED);
        for (at, line) in from.iter().skip(skip).enumerate() {
            let label = if at == 0 { "stderr" } else { "" };
            lines.push(labelled(label, vec![raw(text(line))], styles));
        }
    };
    if let Some(error) = &gateway.last_error {
        let ago = age(&error.at, SystemTime::now());
        for (at, line) in error.message.lines().take(LISTED).enumerate() {
            let (label, ago) =
                if at == 0 { ("last error", format!("{ago} ago: ")) } else { ("", String::new()) };
            let spans = vec![raw(ago), Span::styled(text(line), styles.bad())];
            lines.push(labelled(label, spans, styles));
        }
    }
    let detail = gateway.listener_detail.as_ref().map(|l| l.stderr.as_slice()).unwrap_or_default();
    match &gateway.last_error {
        Some(error) if detail.is_empty() => stderr(lines, &error.stderr),
        _ => stderr(lines, detail),
    }
}
