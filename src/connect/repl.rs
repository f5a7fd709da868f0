//! The line editor, on a thread of its own.
//!
//! What is shown above the line waits in [`Above`] and is part of the prompt that the editor paints
//! next, so that nothing is lost or overtaken when the editor takes a line just then. The editor's
//! own printer only wakes it.

use std::borrow::Cow;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use rustyline::completion::{Completer, FilenameCompleter, Pair};
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::FileHistory;
use rustyline::validate::Validator;
use rustyline::{
    Cmd, ColorMode, ConditionalEventHandler, Config, Context, Editor, Event, EventContext,
    EventHandler, ExternalPrinter, Helper, KeyEvent, Movement, RepeatCount,
};
use tokio::sync::mpsc;

use crate::connect::command::COMMANDS;
use crate::connect::options::is_dumb;
use crate::connect::output::Printer;
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

/// Wakes the editor to paint its prompt again. It ends this with a newline of its own if there is
/// none; up and down again is no movement.
const WAKE: &str = "\x1b[A\n";

/// What waits to be shown above the line that is being typed.
struct Above {
    waiting: Mutex<Waiting>,
    /// Told when the editor paints, and when it ends.
    paints: Condvar,
}

struct Waiting {
    /// Whole lines.
    text: String,
    /// Paintings that were begun.
    paints: u64,
    /// Whether the editor paints; when it has ended, lines go straight to the terminal.
    edits: bool,
}

impl Above {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // Nothing in here panics half-way.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands lines to the editor and returns when it has taken them. With none it returns when all
    /// earlier ones are on the terminal.
    fn show(&self, text: &str, wake: &mut impl ExternalPrinter) {
        let mut waiting = self.lock();
        if !waiting.edits {
            return write(text);
        }
        waiting.text.push_str(text);
        let before = waiting.paints;
        drop(waiting);
        // When the terminal is gone, the editor's thread finds out and ends the session.
        let _ = wake.print(WAKE.to_owned());
        // A painting that begins has the lines, and proves that the one before is written.
        let lasts = |waiting: &mut Waiting| waiting.edits && waiting.paints == before;
        drop(self.paints.wait_while(self.lock(), lasts));
    }

    /// The prompt with what waits above it. The editor has cleared the line, and writes this next.
    fn painted<'p>(&self, prompt: &'p str) -> Cow<'p, str> {
        let mut waiting = self.lock();
        waiting.paints += 1;
        self.paints.notify_all();
        match std::mem::take(&mut waiting.text) {
            text if text.is_empty() => Cow::Borrowed(prompt),
            text => Cow::Owned(text + prompt),
        }
    }

    /// The editor paints no more.
    fn end(&self) {
        let mut waiting = self.lock();
        waiting.edits = false;
        write(&std::mem::take(&mut waiting.text));
        self.paints.notify_all();
    }
}

/// Writes to the terminal; one that is gone ends the session by the editor's thread.
fn write(text: &str) {
    let mut stdout = io::stdout().lock();
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
}

struct Commands {
    files: FilenameCompleter,
    above: Arc<Above>,
}

impl Helper for Commands {}
impl Validator for Commands {}
impl Highlighter for Commands {
    fn highlight_prompt<'b, 's: 'b, 'p: 'b>(&'s self, prompt: &'p str, _: bool) -> Cow<'b, str> {
        self.above.painted(prompt)
    }

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
        // Or `Commands` is not asked for the prompt. It colours nothing.
        .color_mode(ColorMode::Forced)
        .build();
    let mut editor: Editor<Commands, FileHistory> = Editor::with_config(config).map_err(fail)?;
    let waiting = Mutex::new(Waiting { text: String::new(), paints: 0, edits: true });
    let above = Arc::new(Above { waiting, paints: Condvar::new() });
    let files = FilenameCompleter::new();
    editor.set_helper(Some(Commands { files, above: Arc::clone(&above) }));
    editor.bind_sequence(KeyEvent::ctrl('C'), EventHandler::Conditional(Box::new(ClearOrLeave)));
    let history = if keep_history { history_file() } else { None };
    if let Some(path) = &history {
        // A history that cannot be read is an empty one.
        let _ = editor.load_history(path);
    }
    let print: Printer = match editor.create_external_printer() {
        Ok(mut wake) => {
            let above = Arc::clone(&above);
            Box::new(move |text| above.show(text, &mut wake))
        }
        // One that cannot move its cursor (TERM=dumb) gets lines, and edits its own.
        Err(_) => Box::new(write),
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
            if last {
                above.end();
            }
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
