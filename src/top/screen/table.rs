//! The table of gateways: as many columns as there is room for, the most telling first.

use ratatui::Frame;
use ratatui::layout::{Alignment, Constraint, Rect};
use ratatui::style::{Modifier, Style};
use ratatui::text::{Line, Text};
use ratatui::widgets::{Cell, Paragraph, Row, Table, TableState};

use crate::api::WatchedGateway;
use crate::top::format::{count, rate, time};
use crate::top::model::{Model, Sort, refused};
use crate::top::screen::{Styles, text};

/// A column: its heading, its width, its rank (the lowest are shown first), what sorts by it, and
/// whether it is a number.
struct Column {
    head: &'static str,
    width: u16,
    rank: u8,
    sort: Option<Sort>,
    number: bool,
    show: fn(&WatchedGateway) -> String,
}

/// From left to right. The first takes what is left of the width.
const COLUMNS: [Column; 12] = [
    Column {
        head: "GATEWAY",
        width: 8,
        rank: 0,
        sort: Some(Sort::Name),
        number: false,
        show: |g| g.status.id.clone(),
    },
    Column {
        head: "STATE",
        width: 8,
        rank: 1,
        sort: Some(Sort::State),
        number: false,
        show: |g| g.status.state.name().to_owned(),
    },
    Column {
        head: "CONNS",
        width: 6,
        rank: 2,
        sort: Some(Sort::Connections),
        number: true,
        show: |g| count(g.status.connections),
    },
    Column {
        head: "IN/S",
        width: 6,
        rank: 3,
        sort: Some(Sort::In),
        number: true,
        show: |g| rate(g.rates.messages_in),
    },
    Column {
        head: "OUT/S",
        width: 6,
        rank: 4,
        sort: Some(Sort::Out),
        number: true,
        show: |g| rate(g.rates.messages_out),
    },
    Column {
        head: "LISTENER",
        width: 10,
        rank: 6,
        sort: None,
        number: false,
        show: |g| g.status.listener.name().to_owned(),
    },
    Column {
        head: "P50",
        width: 6,
        rank: 9,
        sort: None,
        number: true,
        show: |g| time(g.listener_detail.as_ref().and_then(|l| l.p50_ms)),
    },
    Column {
        head: "P99",
        width: 6,
        rank: 5,
        sort: Some(Sort::P99),
        number: true,
        show: |g| time(g.listener_detail.as_ref().and_then(|l| l.p99_ms)),
    },
    Column {
        head: "WINDOW",
        width: 9,
        rank: 7,
        sort: Some(Sort::Window),
        number: true,
        show: window,
    },
    Column {
        head: "REFUSED",
        width: 7,
        rank: 8,
        sort: Some(Sort::Refused),
        number: true,
        show: |g| count(refused(g)),
    },
    Column {
        head: "RESTARTS",
        width: 8,
        rank: 11,
        sort: None,
        number: true,
        show: |g| count(g.status.restarts),
    },
    Column {
        head: "ADDRESS",
        width: 24,
        rank: 10,
        sort: None,
        number: false,
        show: |g| g.status.address.clone().unwrap_or_else(|| "-".to_owned()),
    },
];

/// Unanswered events of how many, and those that wait.
fn window(gateway: &WatchedGateway) -> String {
    let Some(listener) = &gateway.listener_detail else { return "-".to_owned() };
    format!("{}/{}", count(listener.unanswered + gateway.queued), count(listener.window))
}

/// Blanks between two columns.
fn spacing(width: u16) -> u16 {
    if width < 60 { 1 } else { 2 }
}

/// The columns that fit, from left to right.
fn fitting(width: u16) -> Vec<&'static Column> {
    let mut ranked: Vec<&Column> = COLUMNS.iter().collect();
    ranked.sort_by_key(|column| column.rank);
    let mut left = width;
    let mut last = 0;
    for column in ranked {
        let needed = column.width + u16::from(column.rank > 0) * spacing(width);
        if needed > left {
            break;
        }
        left -= needed;
        last = column.rank;
    }
    COLUMNS.iter().filter(|column| column.rank <= last).collect()
}

/// Draws it; the selected gateway is always in sight.
pub(super) fn draw(frame: &mut Frame, area: Rect, model: &Model, styles: Styles) {
    let rows = model.rows();
    if rows.is_empty() {
        let none = "no gateways: add one to the config file, then `wsgw reload`";
        frame.render_widget(Paragraph::new(none).style(styles.faint()), area);
        return;
    }
    let columns = fitting(area.width);
    let aligned = |column: &Column, content: String, style: Style| {
        let side = if column.number { Alignment::Right } else { Alignment::Left };
        Cell::new(Text::from(Line::styled(content, style).alignment(side)))
    };
    let heads = columns.iter().map(|column| {
        let mark = match column.sort == Some(model.sort) {
            true if model.reversed => "↑",
            true => "↓",
            false => "",
        };
        aligned(column, format!("{mark}{}", column.head), Style::new())
    });
    let place = model.place();
    let body = rows.iter().enumerate().map(|(at, gateway)| {
        Row::new(columns.iter().map(|column| {
            let content = text(&(column.show)(gateway));
            let style = match column.head {
                // The bar over the selected row has no holes of other colours.
                "STATE" | "LISTENER" if at != place => styles.state(&content),
                _ => Style::new(),
            };
            aligned(column, content, style)
        }))
    });
    let widths = columns.iter().enumerate().map(|(at, column)| match at {
        0 => Constraint::Min(column.width),
        _ => Constraint::Length(column.width),
    });
    let table = Table::new(body, widths)
        .header(Row::new(heads).style(styles.title().add_modifier(Modifier::UNDERLINED)))
        .column_spacing(spacing(area.width))
        .row_highlight_style(styles.bar());
    let mut state = TableState::new().with_selected(place);
    frame.render_stateful_widget(table, area, &mut state);
}
