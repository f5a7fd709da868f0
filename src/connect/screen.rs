//! The terminal of an interactive session: its modes, the line that is being typed, and what is
//! shown above it.
//!
//! Two threads write to the terminal: the editor's, which draws the line at each key, and the
//! output's. As a rule the output leaves its text here and wakes the editor, which paints the text
//! together with its prompt: so neither tears what the other writes, and nothing overtakes. But an
//! editor in the midst of something (an escape sequence, an open paste, a search in the history)
//! hears only keys. After [`PATIENCE`] the output therefore moves the line down by itself. From the
//! editor's hooks it knows what is drawn and where the cursor stands, and it leaves both as they
//! were, so that the editor can go on from there.
//!
//! The terminal is in raw mode from the first prompt to the end, also between two lines; it is
//! ours alone to change that when the job is stopped and continued.

use std::borrow::Cow;
use std::io::{self, Write};
use std::time::Duration;

use parking_lot::{Condvar, Mutex, MutexGuard};
use rustix::process::{Signal, getpgrp, kill_current_process_group};
use rustix::termios::{
    ControlModes, InputModes, LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr,
    tcgetpgrp, tcgetwinsize, tcsetattr,
};
use tokio::signal::unix::{SignalKind, signal};
use unicode_width::UnicodeWidthChar;

use crate::error::Failure;

/// The prompt of a line.
pub(super) const PROMPT: &str = "> ";

/// How long the editor may take to paint what waits.
const PATIENCE: Duration = Duration::from_millis(50);

/// How often a job in the background looks whether it is in the foreground again.
const LOOK: Duration = Duration::from_millis(100);

/// Tells the terminal to mark pasted text, and to leave that.
const PASTE: (&str, &str) = ("\x1b[?2004h", "\x1b[?2004l");

/// The columns from one tab stop to the next, as the editor has them.
const TAB: usize = 8;

/// Whether the terminal does not understand escape sequences. The editor has the same list.
pub(super) fn is_dumb() -> bool {
    let name = std::env::var("TERM").unwrap_or_default();
    ["dumb", "cons25", "emacs"].iter().any(|dumb| name.eq_ignore_ascii_case(dumb))
}

/// The terminal of the session.
pub(super) struct Screen {
    state: Mutex<State>,
    /// Told when the editor paints, when a line is over, and when the job is in the foreground.
    changes: Condvar,
    /// The modes before the first prompt, and those for editing; none at a dumb terminal, which is
    /// left as it is.
    modes: Option<(Termios, Termios)>,
}

#[derive(Default)]
struct State {
    /// Whole lines that wait for the editor to paint them.
    waiting: String,
    /// How often the editor has painted.
    paints: u64,
    /// Whether the line is on the terminal, with the cursor in it.
    drawn: bool,
    /// Whether the editor did not paint when it was last asked, and has not since.
    busy: bool,
    /// Whether the job is stopped or in the background: the terminal is somebody else's.
    background: bool,
    /// Whether the job was continued since it gave the terminal away.
    continued: bool,
    prompt: String,
    line: String,
    /// Where the cursor is in the line, in bytes.
    cursor: usize,
}

/// A place on the terminal, in rows below the prompt's and in columns.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Position {
    row: usize,
    column: usize,
}

impl Screen {
    /// Takes the terminal over, until [`Screen::leave`].
    ///
    /// # Errors
    /// The terminal's modes cannot be read or set.
    pub(super) fn take() -> Result<Screen, Failure> {
        let fail = |e| Failure::other(format!("the terminal cannot be used: {e}"));
        let modes = if is_dumb() {
            None
        } else {
            let before = tcgetattr(rustix::stdio::stdin()).map_err(fail)?;
            let raw = raw(&before);
            tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, &raw).map_err(fail)?;
            Some((before, raw))
        };
        Ok(Screen { state: Mutex::default(), changes: Condvar::new(), modes })
    }

    /// The key that stops the job, if there is one.
    pub(super) fn suspend_key(&self) -> Option<char> {
        let code = self.modes.as_ref()?.0.special_codes[SpecialCodeIndex::VSUSP];
        (code != 0).then(|| char::from(code))
    }

    /// Gives the terminal back as it was found.
    pub(super) fn leave(&self) {
        let mut state = self.state.lock();
        let drawn = std::mem::take(&mut state.drawn);
        if state.background || !in_foreground() {
            return;
        }
        match &self.modes {
            None if drawn => write("\n"),
            None => {}
            Some((before, _)) => {
                write(&format!("{}\r\x1b[K", PASTE.1));
                let _ = tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, before);
            }
        }
    }

    /// Shows whole lines above the one that is being typed. With an empty text it returns when all
    /// earlier ones are on the terminal. `wake` asks the editor to paint, and does not wait.
    pub(super) fn show(&self, text: &str, wake: impl FnOnce()) {
        let mut state = self.state.lock();
        if !state.drawn || state.background {
            return write(text);
        }
        if self.modes.is_none() {
            // Whether something is half typed is not known: a line of its own, and a new prompt.
            return write(&format!("\n{text}{PROMPT}"));
        }
        state.waiting.push_str(text);
        if !state.busy {
            let before = state.paints;
            wake();
            self.changes.wait_while_for(
                &mut state,
                |state| state.drawn && !state.background && state.paints == before,
                PATIENCE,
            );
        }
        if state.drawn && !state.background && !state.waiting.is_empty() {
            state.busy = true;
            state.push_down();
        }
    }

    /// The editor's line, and where its cursor is, as it is about to be drawn.
    pub(super) fn typed(&self, line: &str, cursor: usize) {
        let mut state = self.state.lock();
        line.clone_into(&mut state.line);
        state.cursor = cursor;
    }

    /// The prompt with what waits above it. The editor has cleared the line, and writes this next.
    pub(super) fn painted<'p>(&self, prompt: &'p str) -> Cow<'p, str> {
        let mut state = self.state.lock();
        state.paints += 1;
        (state.drawn, state.busy) = (true, false);
        prompt.clone_into(&mut state.prompt);
        self.changes.notify_all();
        match std::mem::take(&mut state.waiting) {
            text if text.is_empty() => Cow::Borrowed(prompt),
            text => Cow::Owned(text + prompt),
        }
    }

    /// A prompt at a dumb terminal, which edits its lines itself.
    pub(super) fn prompt(&self) {
        let mut state = self.state.lock();
        state.drawn = true;
        if !state.background {
            write(PROMPT);
        }
    }

    /// The line is over, and the cursor below it. Returns what stood before and behind the cursor.
    pub(super) fn line_over(&self) -> (String, String) {
        let mut state = self.state.lock();
        state.drawn = false;
        write(&std::mem::take(&mut state.waiting));
        self.changes.notify_all();
        let line = std::mem::take(&mut state.line);
        let (left, right) = line.split_at_checked(state.cursor).unwrap_or((&line, ""));
        (left.to_owned(), right.to_owned())
    }

    /// Stops the job, as the terminal does for others at Ctrl-Z. Returns when it goes on in the
    /// foreground.
    pub(super) fn suspend(&self) {
        self.give_away();
        // For the whole job, as the terminal does: a shell around us must stop, too.
        let _ = kill_current_process_group(Signal::TSTP);
        // The stop takes effect a moment later, on whatever thread is handed the signal. A job that
        // nobody could continue is not stopped at all.
        let mut state = self.state.lock();
        let mut looks = 0;
        while state.background {
            self.changes.wait_while_for(&mut state, |state| state.background, PATIENCE);
            looks += 1;
            if state.background && !state.continued && looks >= 10 {
                self.take_back(&mut state);
            }
        }
    }

    /// Leaves the terminal to the shell, with the cursor below the line.
    fn give_away(&self) {
        let mut state = self.state.lock();
        (state.background, state.continued) = (true, false);
        let down = state.end().row.saturating_sub(state.at_cursor().row);
        write(&format!("{}{}\r\n", movement(down, 'B'), PASTE.1));
        if let Some((before, _)) = &self.modes {
            let _ = tcsetattr(rustix::stdio::stdin(), OptionalActions::Drain, before);
        }
    }

    /// Draws the line anew where the cursor is, below what the shell wrote.
    fn take_back(&self, state: &mut State) {
        state.background = false;
        let waiting = std::mem::take(&mut state.waiting);
        match &self.modes {
            Some((_, raw)) => {
                let _ = tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, raw);
                let line = if state.drawn { state.picture() } else { String::new() };
                write(&format!("{}\r\x1b[J{waiting}{line}", PASTE.0));
            }
            None if state.drawn => write(&format!("{waiting}{PROMPT}")),
            None => write(&waiting),
        }
        self.changes.notify_all();
    }

    /// Takes the terminal back whenever the job is continued, once it is in the foreground. In the
    /// background the session goes on, and its messages are plain lines.
    ///
    /// # Errors
    /// The signal cannot be watched.
    pub(super) fn watch_job(self: &std::sync::Arc<Screen>) -> Result<(), Failure> {
        let screen = std::sync::Arc::clone(self);
        let mut continued = signal(SignalKind::from_raw(Signal::CONT.as_raw()))
            .map_err(|e| Failure::other(format!("signals cannot be watched: {e}")))?;
        tokio::spawn(async move {
            while continued.recv().await.is_some() {
                screen.state.lock().continued = true;
                while !in_foreground() {
                    screen.state.lock().background = true;
                    tokio::time::sleep(LOOK).await;
                }
                let mut state: MutexGuard<'_, State> = screen.state.lock();
                screen.take_back(&mut state);
            }
        });
        Ok(())
    }
}

impl State {
    /// Where the cursor is.
    fn at_cursor(&self) -> Position {
        let before = self.line.get(..self.cursor).unwrap_or(&self.line);
        advance(advance(Position::default(), &self.prompt), before)
    }

    /// Where the line ends.
    fn end(&self) -> Position {
        advance(advance(Position::default(), &self.prompt), &self.line)
    }

    /// Writes what waits where the line is, and the line below it.
    fn push_down(&mut self) {
        let text = std::mem::take(&mut self.waiting);
        let up = movement(self.at_cursor().row, 'A');
        write(&format!("{up}\r\x1b[J{text}{}", self.picture()));
    }

    /// The prompt and the line, with the cursor in its place, as the editor draws them.
    fn picture(&self) -> String {
        let (cursor, end) = (self.at_cursor(), self.end());
        // A terminal goes to the next row only with the character behind a full one.
        let wraps = end.column == 0 && end.row > 0 && !self.line.ends_with('\n');
        format!(
            "{}{}{}{}\r{}",
            self.prompt,
            self.line,
            if wraps { "\n" } else { "" },
            movement(end.row.saturating_sub(cursor.row), 'A'),
            movement(cursor.column, 'C'),
        )
    }
}

/// The modes in which each key is read at once, and nothing is echoed or acted upon.
fn raw(before: &Termios) -> Termios {
    let mut raw = before.clone();
    raw.input_modes -= InputModes::BRKINT
        | InputModes::ICRNL
        | InputModes::INPCK
        | InputModes::ISTRIP
        | InputModes::IXON;
    raw.control_modes |= ControlModes::CS8;
    raw.local_modes -=
        LocalModes::ECHO | LocalModes::ICANON | LocalModes::IEXTEN | LocalModes::ISIG;
    raw.special_codes[SpecialCodeIndex::VMIN] = 1;
    raw.special_codes[SpecialCodeIndex::VTIME] = 0;
    raw
}

/// Whether this job may use the terminal as it likes.
fn in_foreground() -> bool {
    tcgetpgrp(rustix::stdio::stdin()).is_ok_and(|group| group == getpgrp())
}

/// The cursor moved so many times; nothing for zero, which terminals take for one.
fn movement(times: usize, direction: char) -> String {
    if times == 0 { String::new() } else { format!("\x1b[{times}{direction}") }
}

/// Where the cursor is behind this text.
fn advance(from: Position, text: &str) -> Position {
    let columns = tcgetwinsize(rustix::stdio::stdout()).map_or(80, |size| size.ws_col);
    advance_within(from, text, if columns == 0 { 80 } else { columns.into() })
}

fn advance_within(from: Position, text: &str, columns: usize) -> Position {
    let Position { mut row, mut column } = from;
    for c in text.chars() {
        let width = match c {
            '\n' => {
                (row, column) = (row + 1, 0);
                continue;
            }
            '\t' => TAB - column % TAB,
            c => c.width().unwrap_or(0),
        };
        column += width;
        if column > columns {
            (row, column) = (row + 1, width);
        }
    }
    if column == columns {
        (row, column) = (row + 1, 0);
    }
    Position { row, column }
}

/// Writes to the terminal; one that is gone ends the session by the editor's thread.
fn write(text: &str) {
    let mut stdout = io::stdout().lock();
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_those_of_the_editor() {
        for (text, row, column) in [
            ("> ", 0, 2),
            ("> abc", 0, 5),
            ("> 12345678", 1, 0),
            ("> 123456789", 1, 1),
            ("> a\nbc", 1, 2),
            ("> 1234567日", 1, 2),
            ("> e\u{301}", 0, 3),
            ("> \tx", 0, 9),
        ] {
            let at = advance_within(Position::default(), text, 10);
            assert_eq!((at.row, at.column), (row, column), "{text:?}");
        }
    }
}
