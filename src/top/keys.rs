//! What keys do.

use ratatui::crossterm::event::{Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use crate::top::model::{Model, Page, Sort};

/// Rows of a page up or down.
const PAGE_ROWS: isize = 10;

/// What a key asks of the program beyond the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    Stay,
    Leave,
    /// Ctrl-C.
    Interrupt,
    /// Ctrl-Z.
    Suspend,
    /// Ctrl-L.
    Redraw,
}

/// The keys that sort, by what, and their help.
pub(super) const SORTS: [(char, Sort, &str); 8] = [
    ('n', Sort::Name, "name"),
    ('s', Sort::State, "state"),
    ('c', Sort::Connections, "connections"),
    ('i', Sort::In, "messages in"),
    ('o', Sort::Out, "messages out"),
    ('p', Sort::P99, "p99 of the listener's answers"),
    ('w', Sort::Window, "events that wait or are unanswered"),
    ('r', Sort::Refused, "refused connections"),
];

/// Carries out a key; the next picture shows it.
pub(super) fn wish(event: &Event, model: &mut Model) -> Wish {
    let Event::Key(KeyEvent { code, modifiers, kind, .. }) = event else { return Wish::Stay };
    if *kind == KeyEventKind::Release {
        return Wish::Stay;
    }
    if modifiers.contains(KeyModifiers::CONTROL) {
        return match code {
            KeyCode::Char('c') => Wish::Interrupt,
            KeyCode::Char('z') => Wish::Suspend,
            KeyCode::Char('l') => Wish::Redraw,
            _ => Wish::Stay,
        };
    }
    match code {
        KeyCode::Char('q') => return Wish::Leave,
        KeyCode::Char('?' | 'h') | KeyCode::F(1) => model.turn_to(Page::Help),
        KeyCode::Char('l') => model.turn_to(Page::Log),
        KeyCode::Enter if !model.is_of_one() => model.turn_to(Page::Gateway),
        KeyCode::Esc | KeyCode::Backspace => model.page = model.first_page(),
        KeyCode::Up | KeyCode::Char('k') => model.step(-1),
        KeyCode::Down | KeyCode::Char('j') => model.step(1),
        KeyCode::PageUp => model.step(-PAGE_ROWS),
        KeyCode::PageDown | KeyCode::Char(' ') => model.step(PAGE_ROWS),
        KeyCode::Home | KeyCode::Char('g') => model.step(isize::MIN),
        KeyCode::End | KeyCode::Char('G') => model.step(isize::MAX),
        KeyCode::Char(key) => {
            if let Some((_, sort, _)) = SORTS.iter().find(|(own, ..)| own == key) {
                model.sort_by(*sort);
            }
        }
        _ => {}
    }
    Wish::Stay
}
