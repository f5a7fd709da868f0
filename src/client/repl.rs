//! The line editor, on a thread of its own.

use std::borrow::Cow;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use rustyline::completion::{Completer, FilenameCompleter, Pair};
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::FileHistory;
use rustyline::validate::Validator;
use rustyline::{
    Cmd, ConditionalEventHandler, Config, Context, Editor, Event, EventContext, EventHandler,
    ExternalPrinter, Helper, KeyEvent, Movement, RepeatCount,
};
use tokio::sync::mpsc;

use super::command::COMMANDS;
use super::options::is_dumb;
use super::output::Printer;
use crate::error::Failure;
use crate::paths;

/// Lines that are kept from run to run.
const HISTORY: usize = 1000;

/// What one types.
pub enum Typed {
    /// A line, or a pasted block.
    Line(String),
    /// Ctrl-D.
    End,
    /// Ctrl-C on an empty line.
    Interrupt,
}

/// Whether the editor has ever had the terminal.
static STARTED: AtomicBool = AtomicBool::new(false);

/// Puts the terminal back as it was, whatever the editor's thread is doing.
pub struct Restore(Option<Termios>);

impl Restore {
    /// Remembers the terminal's state.
    pub fn new(interactive: bool) -> Restore {
        Restore(interactive.then(|| tcgetattr(rustix::stdio::stdin()).ok()).flatten())
    }
}

impl Drop for Restore {
    fn drop(&mut self) {
        if let Some(state) = &self.0
            && STARTED.load(Ordering::SeqCst)
        {
            // The end of bracketed paste, and a fresh line.
            let end: &[u8] = if is_dumb() { b"\n" } else { b"\x1b[?2004l\r\x1b[K" };
            let _ = io::stdout().write_all(end);
            let _ = io::stdout().flush();
            let _ = tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, state);
        }
    }
}

struct Commands {
    files: FilenameCompleter,
}

impl Helper for Commands {}
impl Validator for Commands {}
impl Highlighter for Commands {
    fn highlight_hint<'h>(&self, hint: &'h str) -> Cow<'h, str> {
        Cow::Borrowed(hint)
    }
}
impl Hinter for Commands {
    type Hint = String;
}

impl Completer for Commands {
    type Candidate = Pair;

    fn complete(
        &self,
        line: &str,
        at: usize,
        context: &Context<'_>,
    ) -> rustyline::Result<(usize, Vec<Pair>)> {
        let typed = &line[..at];
        if typed.starts_with("/file ") || typed.starts_with("/binary @") {
            // The file's name begins behind the blank, or the @.
            let start = typed.find([' ', '@']).map_or(0, |i| i + 1);
            let start = if typed.starts_with("/binary @") { "/binary @".len() } else { start };
            let (offset, found) = self.files.complete(&line[start..], at - start, context)?;
            return Ok((start + offset, found));
        }
        if !typed.starts_with('/') || typed.contains(char::is_whitespace) {
            return Ok((at, Vec::new()));
        }
        let found = COMMANDS.iter().filter(|(name, ..)| name.starts_with(typed));
        let found = found.map(|(name, more, _)| {
            let blank = if more.is_empty() { "" } else { " " };
            Pair { display: (*name).to_owned(), replacement: format!("{name}{blank}") }
        });
        Ok((0, found.collect()))
    }
}

/// Ctrl-C clears a half-typed line; on an empty one it interrupts.
struct ClearOrLeave;

impl ConditionalEventHandler for ClearOrLeave {
    fn handle(
        &self,
        _: &Event,
        _: RepeatCount,
        _: bool,
        context: &EventContext<'_>,
    ) -> Option<Cmd> {
        Some(if context.line().is_empty() {
            Cmd::Interrupt
        } else {
            Cmd::Kill(Movement::WholeBuffer)
        })
    }
}

/// Starts the editor: what one types, and how to print above it.
pub fn start(keep_history: bool) -> Result<(mpsc::UnboundedReceiver<Typed>, Printer), Failure> {
    let fail = |e: ReadlineError| Failure::other(format!("the terminal cannot be used: {e}"));
    let config = Config::builder()
        .max_history_size(HISTORY)
        .map_err(fail)?
        .history_ignore_space(true)
        .auto_add_history(false)
        .build();
    let mut editor: Editor<Commands, FileHistory> = Editor::with_config(config).map_err(fail)?;
    editor.set_helper(Some(Commands { files: FilenameCompleter::new() }));
    editor.bind_sequence(KeyEvent::ctrl('C'), EventHandler::Conditional(Box::new(ClearOrLeave)));
    let history = if keep_history { history_file() } else { None };
    if let Some(path) = &history {
        // A history that cannot be read is an empty one.
        let _ = editor.load_history(path);
    }
    // When the terminal is gone, the editor's thread finds out and ends the session.
    let print: Printer = match editor.create_external_printer() {
        Ok(mut printer) => Box::new(move |text| drop(printer.print(text))),
        // One that cannot move its cursor (TERM=dumb) gets lines, and edits its own.
        Err(_) => Box::new(|text| drop(io::stdout().lock().write_all(text.as_bytes()))),
    };
    keep_ctrl_d();
    let (typed, lines) = mpsc::unbounded_channel();
    STARTED.store(true, Ordering::SeqCst);
    std::thread::spawn(move || {
        loop {
            let event = match editor.readline("> ") {
                Ok(line) => {
                    let line = line.strip_suffix('\n').unwrap_or(&line).to_owned();
                    if !line.is_empty()
                        && editor.add_history_entry(&line).unwrap_or(false)
                        && let Some(path) = &history
                    {
                        // A history that cannot be written is lost, not the session.
                        let _ = editor.append_history(path);
                    }
                    Typed::Line(line)
                }
                Err(ReadlineError::Interrupted) => Typed::Interrupt,
                Err(_) => Typed::End,
            };
            let last = !matches!(event, Typed::Line(_));
            if typed.send(event).is_err() || last {
                return;
            }
        }
    });
    Ok((lines, print))
}

/// Between two lines the terminal is not the editor's, and would swallow a Ctrl-D that is typed just
/// then. [`Restore`] puts it back.
fn keep_ctrl_d() {
    let stdin = rustix::stdio::stdin();
    if !is_dumb()
        && let Ok(mut state) = tcgetattr(stdin)
    {
        state.local_modes.remove(LocalModes::ICANON);
        let _ = tcsetattr(stdin, OptionalActions::Now, &state);
    }
}

/// The history's file, private.
fn history_file() -> Option<PathBuf> {
    let directory = paths::user_state_dir()?;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&directory).ok()?;
    let path = directory.join("history");
    let file = fs::OpenOptions::new().append(true).create(true).mode(0o600).open(&path).ok()?;
    // One that was there already may be open to others.
    file.set_permissions(fs::Permissions::from_mode(0o600)).ok()?;
    Some(path)
}
