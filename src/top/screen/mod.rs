//! The picture: what of the model is drawn where, for any size of the terminal.
//!
//! All text from outside goes through [`text`], so that nothing in it can act on the terminal.

mod details;
mod table;
#[cfg(test)]
mod tests;

use std::time::{Instant, SystemTime};

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Clear, Paragraph, Wrap};

use crate::api::Watch;
use crate::text::age::{age, span};
use crate::text::escape::escape;
use crate::top::format::{counted, rate};
use crate::top::keys::SORTS;
use crate::top::model::{Model, Page};

/// Seconds without an event after which the screen says so.
const SILENT: u64 = 3;
/// Rows that the table keeps where the details are below it.
const TABLE_ROWS: u16 = 5;
/// Rows below the head from which on the log has a quarter of them, however many gateways there are.
const LOG_FROM: u16 = 32;
/// Rows below which the log has no place of its own.
const LOG_LEAST: u16 = 4;

/// Text from outside.
fn text(from: &str) -> String {
    escape(from).into_owned()
}

/// The styles, with or without colours.
#[derive(Clone, Copy)]
struct Styles {
    plain: bool,
}

impl Styles {
    fn color(self, color: Color) -> Style {
        if self.plain { Style::new() } else { Style::new().fg(color) }
    }

    fn good(self) -> Style {
        self.color(Color::Green)
    }

    fn warning(self) -> Style {
        self.color(Color::Yellow).add_modifier(Modifier::BOLD)
    }

    fn bad(self) -> Style {
        self.color(Color::Red).add_modifier(Modifier::BOLD)
    }

    fn title(self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    fn faint(self) -> Style {
        Style::new().add_modifier(Modifier::DIM)
    }

    fn bar(self) -> Style {
        Style::new().add_modifier(Modifier::REVERSED)
    }

    /// Of the state of a gateway, or of health.
    fn state(self, name: &str) -> Style {
        match name {
            "running" | "ok" | "up" => self.good(),
            "failed" => self.bad(),
            "starting" | "stopping" | "degraded" | "restarting" => self.warning(),
            _ => self.faint(),
        }
    }
}

/// Draws everything.
pub(super) fn draw(frame: &mut Frame, model: &Model, now: Instant) {
    let area = frame.area();
    let styles = Styles { plain: model.plain };
    let banner = banner(model, now);
    let [head, banner_area, body, foot] = Layout::vertical([
        Constraint::Length(2.min(area.height)),
        Constraint::Length(u16::from(banner.is_some())),
        Constraint::Min(0),
        Constraint::Length(u16::from(area.height > 4)),
    ])
    .areas(area);
    draw_head(frame, head, model, styles);
    if let Some(banner) = banner {
        let style = styles.bad().add_modifier(Modifier::REVERSED);
        frame.render_widget(Paragraph::new(banner).style(style), banner_area);
    }
    match model.page {
        Page::Table => draw_table(frame, body, model, styles),
        Page::Gateway => details::draw(frame, body, model, styles),
        Page::Log => draw_log(frame, body, model, styles),
        Page::Help => draw_help(frame, body, styles),
    }
    draw_foot(frame, foot, model, styles);
}

/// The table, below it the details of the selected gateway and the log, where there is room.
fn draw_table(frame: &mut Frame, area: Rect, model: &Model, styles: Styles) {
    let rows = u16::try_from(model.rows().len()).unwrap_or(u16::MAX).saturating_add(1);
    let reserved = if area.height >= LOG_FROM { area.height / 4 } else { 0 };
    let left = area.height - reserved;
    let wanted = details::height(model, area.width);
    let below = wanted.min(left.saturating_sub(rows.min(TABLE_ROWS)));
    let below = if below >= details::LEAST { below } else { 0 };
    let table = rows.min(left - below);
    // The log gets what nobody else needs.
    let log = area.height.saturating_sub(table + below + u16::from(below > 0));
    let log = if below > 0 && log >= LOG_LEAST { log } else { 0 };
    let [top, _, middle, bottom] = Layout::vertical([
        Constraint::Length(table),
        // Blank where there is room.
        Constraint::Max(u16::from(below > 0)),
        Constraint::Length(below),
        Constraint::Length(log),
    ])
    .areas(area);
    table::draw(frame, top, model, styles);
    if below > 0 {
        details::draw(frame, middle, model, styles);
    }
    if log > 0 {
        draw_log(frame, bottom, model, styles);
    }
}

/// Whose gateways these are, how they are, and all of them together.
fn draw_head(frame: &mut Frame, area: Rect, model: &Model, styles: Styles) {
    let Some(watch) = &model.watch else { return };
    let health = text(&watch.health);
    let mut first = vec![
        Span::styled("wsgw", styles.title()),
        Span::raw(" "),
        Span::styled(health, styles.state(&watch.health)),
    ];
    if let Some(reason) = watch.reasons.first() {
        let more = watch.reasons.len() - 1;
        let more = if more > 0 { format!(" (and {more} more)") } else { String::new() };
        first.push(Span::raw(format!(": {}{more}", text(reason))));
    } else {
        let since = age(&watch.since, SystemTime::now());
        first.push(Span::styled(
            format!(
                "  {}  up {since}  pid {}  {}",
                model.endpoint,
                watch.pid,
                text(&watch.version)
            ),
            styles.faint(),
        ));
    }
    let lines = vec![Line::from(first), Line::from(totals(watch))];
    frame.render_widget(Paragraph::new(lines), area);
}

fn totals(watch: &Watch) -> String {
    let sum = |of: fn(&crate::api::WatchedGateway) -> f64| watch.gateways.iter().map(of).sum();
    let running = watch.gateways.iter().filter(|g| g.status.state.name() == "running").count();
    let connections = watch.gateways.iter().map(|g| g.status.connections).sum();
    let nodes = match watch.nodes.len() {
        0 => String::new(),
        n => format!("  nodes {n}"),
    };
    format!(
        "{running}/{} running  {}  in {}/s  out {}/s{nodes}",
        watch.gateways.len(),
        counted(connections, "conn"),
        rate(sum(|g| g.rates.messages_in)),
        rate(sum(|g| g.rates.messages_out)),
    )
}

/// What has to be said before all else: that these figures are old.
fn banner(model: &Model, now: Instant) -> Option<String> {
    let silent = now.saturating_duration_since(model.came).as_secs();
    match &model.lost {
        Some(why) => {
            Some(format!(" serve is gone for {}; trying again: {} ", span(silent), text(why)))
        }
        None if silent >= SILENT => Some(format!(" no news for {} ", span(silent))),
        None => None,
    }
}

/// The newest lines of the log.
fn draw_log(frame: &mut Frame, area: Rect, model: &Model, styles: Styles) {
    let block = Block::new().borders(Borders::TOP).title(Span::styled(" log ", styles.title()));
    let inner = block.inner(area);
    frame.render_widget(block, area);
    let skip = model.log.len().saturating_sub(usize::from(inner.height));
    let line = |line: &String| {
        let style = match () {
            () if line.contains(" ERROR ") => styles.bad(),
            () if line.contains(" WARN ") => styles.warning(),
            () => Style::new(),
        };
        Line::styled(text(line), style)
    };
    let lines: Vec<Line> = model.log.iter().skip(skip).map(line).collect();
    frame.render_widget(Paragraph::new(lines), inner);
}

fn draw_help(frame: &mut Frame, area: Rect, styles: Styles) {
    let mut lines = Vec::new();
    let mut row = |keys: String, what: &str| {
        lines.push(Line::from(vec![
            Span::styled(format!("{keys:>9}  "), styles.title()),
            Span::raw(what.to_owned()),
        ]));
    };
    row("q, Ctrl-C".to_owned(), "leave");
    row("↑ ↓, k j".to_owned(), "select a gateway");
    row("Enter".to_owned(), "show it alone; Esc goes back");
    row("l".to_owned(), "show the log");
    for (key, _, what) in SORTS {
        row(key.to_string(), &format!("sort by {what}; again: turn round"));
    }
    row("Ctrl-L".to_owned(), "draw everything anew");
    row("?, h".to_owned(), "show or hide this help");
    let block = Block::new().borders(Borders::TOP).title(Span::styled(" keys ", styles.title()));
    frame.render_widget(Clear, area);
    frame.render_widget(Paragraph::new(lines).block(block).wrap(Wrap { trim: false }), area);
}

/// The keys of this page.
fn draw_foot(frame: &mut Frame, area: Rect, model: &Model, styles: Styles) {
    let keys = match model.page {
        Page::Table => {
            " q quit  ? help  ↑↓ select  Enter details  l log  sort: n s c i o p w r ".to_owned()
        }
        Page::Gateway if model.is_of_one() => " q quit  ? help  l log ".to_owned(),
        Page::Gateway => " q quit  Esc back  ↑↓ next gateway  ? help ".to_owned(),
        Page::Log | Page::Help => " q quit  Esc back ".to_owned(),
    };
    frame.render_widget(Paragraph::new(keys).style(styles.bar()), area);
}
