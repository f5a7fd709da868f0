//! The terminal: entered, left as it was found, and what signals do.

use std::io::{self, Stdout};
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use ratatui::Frame;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::cursor::Show;
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use rustix::process::{Signal, getpid, kill_process};
use tokio::signal::unix::{SignalKind, signal};

use crate::error::Failure;
use crate::top::Happening;

/// The exit code of SIGINT, or of Ctrl-C.
pub(super) const INTERRUPTED: u8 = 130;
/// The exit code of SIGTERM.
const TERMINATED: u8 = 143;
/// The exit code of SIGHUP, or of a terminal that is gone.
pub(super) const HUNG_UP: u8 = 129;

/// How long the main thread may take to leave after a signal.
const GRACE: Duration = Duration::from_secs(2);

/// The terminal, in raw mode and on its alternate screen until it is dropped.
pub(super) struct Terminal(ratatui::Terminal<CrosstermBackend<Stdout>>);

impl Terminal {
    /// Takes the terminal over.
    pub(super) fn enter() -> Result<Terminal, Failure> {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            leave();
            before(info);
        }));
        let terminal = ratatui::Terminal::new(CrosstermBackend::new(io::stdout()));
        let terminal = terminal.and_then(|terminal| begin().map(|()| terminal));
        match terminal {
            Ok(terminal) => Ok(Terminal(terminal)),
            Err(e) => {
                leave();
                Err(broken(&e))
            }
        }
    }

    /// Draws the next picture.
    pub(super) fn draw(&mut self, picture: impl FnOnce(&mut Frame)) -> Result<(), Failure> {
        self.0.draw(picture).map(drop).map_err(|e| broken(&e))
    }

    /// Everything is drawn anew, over what another program left.
    pub(super) fn clear(&mut self) -> Result<(), Failure> {
        // `clear` would ask the terminal where its cursor is, and the thread that reads keys would
        // take the answer.
        let area = self.0.size().map_err(|e| broken(&e))?;
        self.0.resize(area.into()).map_err(|e| broken(&e))
    }

    /// Gives the terminal back to the shell until it says `fg`.
    pub(super) fn suspend(&mut self) -> Result<(), Failure> {
        leave();
        // The shell's job control stops the process group here, and continues it.
        kill_process(getpid(), Signal::TSTP).map_err(|e| broken(&e.into()))?;
        begin().map_err(|e| broken(&e))?;
        self.clear()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        leave();
    }
}

fn begin() -> io::Result<()> {
    enable_raw_mode()?;
    execute!(io::stdout(), EnterAlternateScreen)
}

/// A terminal that is gone needs nothing.
fn leave() {
    let _ = execute!(io::stdout(), LeaveAlternateScreen, Show);
    let _ = disable_raw_mode();
}

fn broken(error: &io::Error) -> Failure {
    Failure::other(format!("the terminal cannot be drawn on: {error}"))
}

/// SIGINT, SIGTERM and SIGHUP end the program, but not without leaving the terminal as it was.
pub(super) fn watch_signals(to: SyncSender<Happening>) -> Result<(), Failure> {
    let failed = |e: io::Error| Failure::other(format!("signals cannot be watched: {e}"));
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_io().build().map_err(failed)?;
    let guard = runtime.enter();
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut hangup = signal(SignalKind::hangup()).map_err(failed)?;
    drop(guard);
    std::thread::spawn(move || {
        let code = runtime.block_on(async {
            tokio::select! {
                _ = interrupt.recv() => INTERRUPTED,
                _ = terminate.recv() => TERMINATED,
                _ = hangup.recv() => HUNG_UP,
            }
        });
        // The main thread may have left already.
        let _ = to.try_send(Happening::Signal(code));
        // It may also be held up by a terminal that takes nothing.
        std::thread::sleep(GRACE);
        let _ = disable_raw_mode();
        std::process::exit(i32::from(code));
    });
    Ok(())
}
