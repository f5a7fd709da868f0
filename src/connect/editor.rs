//! The line editor, on a thread of its own.
//!
//! The session never waits for it: lines come through a channel, and what is shown above the line
//! that is being typed goes through the [`Screen`].

use std::borrow::Cow;
use std::io::{self, BufRead};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};

use rustyline::completion::{Completer, FilenameCompleter, Pair};
use rustyline::error::ReadlineError;
use rustyline::highlight::{CmdKind, Highlighter};
use rustyline::hint::Hinter;
use rustyline::history::FileHistory;
use rustyline::validate::Validator;
use rustyline::{
    Cmd, ColorMode, ConditionalEventHandler, Config, Context, Editor, Event, EventContext,
    EventHandler, ExternalPrinter, Helper, KeyEvent, Modifiers, Movement, RepeatCount,
};
use tokio::sync::mpsc;

use crate::connect::command::COMMANDS;
use crate::connect::history;
use crate::connect::output::Printer;
use crate::connect::screen::{PROMPT, Screen, is_dumb};
use crate::error::Failure;

/// Lines that are kept from run to run.
const HISTORY: usize = 1000;

/// A longer line, a pasted file say, is not kept.
const LONGEST_KEPT: usize = 64 * 1024;

/// How long the rest of an escape sequence may take, in milliseconds; past it, it was the key ESC.
const ESCAPE: u16 = 100;

/// Wakes the editor to paint its prompt again. It ends this with a newline of its own if there is
/// none; up and down again is no movement.
const WAKE: &str = "\x1b[A\n";

/// What one types.
pub(super) enum Typed {
    /// A line, or a pasted block.
    Line(String),
    /// Ctrl-D.
    End,
    /// Ctrl-C on an empty line.
    Interrupt,
    /// Ctrl-C on an empty line while a file is read.
    Cancel,
    /// Something that the user should know.
    Notice(String),
}

/// The editor, as the session has it.
pub(super) struct Repl {
    /// What one types.
    pub(super) typed: mpsc::UnboundedReceiver<Typed>,
    /// Whether Ctrl-C is to end something else than the session.
    pub(super) cancels: Arc<AtomicBool>,
    screen: Arc<Screen>,
}

impl Drop for Repl {
    fn drop(&mut self) {
        // The editor's thread sits in a read until the process ends.
        self.screen.leave();
    }
}

/// Starts the editor; also returns how to print above its line.
///
/// # Errors
/// The terminal cannot be used.
pub(super) fn start(keep_history: bool) -> Result<(Repl, Printer), Failure> {
    let screen = Arc::new(Screen::take()?);
    screen.watch_job()?;
    let (tell, typed) = mpsc::unbounded_channel();
    let mut editor = editor(&screen)?;
    let file = if keep_history { history::file() } else { Ok(None) };
    let file = file.unwrap_or_else(|why| {
        // The receiver is right here.
        let _ = tell.send(Typed::Notice(why));
        None
    });
    if let Some(path) = &file {
        // One that cannot be read is an empty one.
        let _ = editor.load_history(path);
    }
    let printer = printer(&mut editor, &screen);
    let cancels = Arc::new(AtomicBool::new(false));
    let thread = EditorThread {
        editor,
        history: file,
        screen: Arc::clone(&screen),
        tell,
        cancels: Arc::clone(&cancels),
    };
    std::thread::spawn(move || thread.run());
    Ok((Repl { typed, cancels, screen }, printer))
}

fn editor(screen: &Arc<Screen>) -> Result<Editor<Hooks, FileHistory>, Failure> {
    let fail = |e: ReadlineError| Failure::other(format!("the terminal cannot be used: {e}"));
    let config = Config::builder()
        .max_history_size(HISTORY)
        .map_err(fail)?
        .history_ignore_space(true)
        .auto_add_history(false)
        .keyseq_timeout(Some(ESCAPE))
        // Or `Hooks` is not asked for the prompt. It colours nothing.
        .color_mode(ColorMode::Forced)
        .build();
    let mut editor = Editor::with_config(config).map_err(fail)?;
    editor.set_helper(Some(Hooks { files: FilenameCompleter::new(), screen: Arc::clone(screen) }));
    editor.bind_sequence(KeyEvent::ctrl('C'), EventHandler::Conditional(Box::new(ClearOrLeave)));
    if let Some(key) = screen.suspend_key() {
        let suspend = Box::new(Suspend(Arc::clone(screen)));
        let key = KeyEvent::new(key, Modifiers::NONE);
        editor.bind_sequence(key, EventHandler::Conditional(suspend));
    }
    Ok(editor)
}

/// Shows text through the screen; the editor is woken by a thread of its own, because its printer
/// waits while the editor does not listen.
fn printer(editor: &mut Editor<Hooks, FileHistory>, screen: &Arc<Screen>) -> Printer {
    let (wake, wakes): (SyncSender<()>, _) = sync_channel(1);
    // A dumb terminal has no such printer, and needs none.
    if let Ok(mut external) = editor.create_external_printer() {
        std::thread::spawn(move || {
            while wakes.recv().is_ok() && external.print(WAKE.to_owned()).is_ok() {}
        });
    }
    let screen = Arc::clone(screen);
    Box::new(move |text| {
        screen.show(text, || {
            // One that waits already is enough.
            let _ = wake.try_send(());
        });
    })
}

struct EditorThread {
    editor: Editor<Hooks, FileHistory>,
    history: Option<PathBuf>,
    screen: Arc<Screen>,
    tell: mpsc::UnboundedSender<Typed>,
    cancels: Arc<AtomicBool>,
}

impl EditorThread {
    fn run(mut self) {
        let mut left = (String::new(), String::new());
        loop {
            let initial = (left.0.as_str(), left.1.as_str());
            let read = if is_dumb() {
                self.read_plain()
            } else {
                self.editor.readline_with_initial(PROMPT, initial)
            };
            left = self.screen.line_over();
            let event = match read {
                Ok(line) => {
                    left = Default::default();
                    let line = line.strip_suffix('\n').unwrap_or(&line).to_owned();
                    self.keep(&line);
                    Typed::Line(line)
                }
                Err(ReadlineError::Interrupted) => {
                    left = Default::default();
                    if self.cancels.swap(false, Ordering::SeqCst) {
                        Typed::Cancel
                    } else {
                        Typed::Interrupt
                    }
                }
                // A resize in the midst of a key: the line goes on.
                Err(ReadlineError::Signal(_)) => continue,
                Err(ReadlineError::Io(e)) if e.kind() == io::ErrorKind::InvalidData => {
                    Typed::Notice("a key that is not UTF-8 was ignored".to_owned())
                }
                Err(_) => Typed::End,
            };
            let last = matches!(event, Typed::End | Typed::Interrupt);
            if self.tell.send(event).is_err() || last {
                return;
            }
        }
    }

    /// A line as a dumb terminal edits it.
    fn read_plain(&self) -> rustyline::Result<String> {
        self.screen.prompt();
        let mut line = Vec::new();
        match io::stdin().lock().read_until(b'\n', &mut line) {
            Ok(0) => Err(ReadlineError::Eof),
            Ok(_) => {
                let line = String::from_utf8(line);
                line.map_err(|_| io::Error::from(io::ErrorKind::InvalidData).into())
            }
            Err(e) => Err(e.into()),
        }
    }

    /// Adds a line to the history, and to its file.
    fn keep(&mut self, line: &str) {
        if line.is_empty()
            || line.len() > LONGEST_KEPT
            || !self.editor.add_history_entry(line).unwrap_or(false)
        {
            return;
        }
        let Some(path) = &self.history else { return };
        // Somebody may have put something else in its place.
        let kept = history::check(path).and_then(|()| {
            let append = self.editor.append_history(path);
            append.map_err(|e| format!("no history: {}: {e}", path.display()))
        });
        if let Err(why) = kept {
            self.history = None;
            let _ = self.tell.send(Typed::Notice(why));
        }
    }
}

/// What the editor asks and tells while it draws and completes.
struct Hooks {
    files: FilenameCompleter,
    screen: Arc<Screen>,
}

impl Helper for Hooks {}
impl Validator for Hooks {}
impl Highlighter for Hooks {
    fn highlight_prompt<'b, 's: 'b, 'p: 'b>(&'s self, prompt: &'p str, _: bool) -> Cow<'b, str> {
        self.screen.painted(prompt)
    }

    /// Asked before each drawing.
    fn highlight_char(&self, line: &str, cursor: usize, _: CmdKind) -> bool {
        self.screen.typed(line, cursor);
        false
    }

    fn highlight_hint<'h>(&self, hint: &'h str) -> Cow<'h, str> {
        Cow::Borrowed(hint)
    }
}
impl Hinter for Hooks {
    type Hint = String;
}

impl Completer for Hooks {
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

/// Ctrl-Z stops the job.
struct Suspend(Arc<Screen>);

impl ConditionalEventHandler for Suspend {
    fn handle(&self, _: &Event, _: RepeatCount, _: bool, _: &EventContext<'_>) -> Option<Cmd> {
        self.0.suspend();
        Some(Cmd::Repaint)
    }
}
