//! `wsgw top`: the gateways at a glance, in a terminal.
//!
//! Three threads wait, for keys, for signals and for `serve`, and send what happens to the main
//! thread, which alone owns the model and draws it.

mod feed;
mod format;
mod keys;
mod model;
mod screen;
mod sse;
mod terminal;

use std::io::IsTerminal;
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use ratatui::crossterm::event::{self, Event};

use crate::api::Watch;
use crate::control_client::discovery::Wanted;
use crate::error::{Failure, exit};
use crate::top::feed::Feed;
use crate::top::keys::Wish;
use crate::top::model::Model;
use crate::top::terminal::Terminal;

/// What the person asked for.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// Which control port.
    pub wanted: Wanted,
    /// How long its first answer may take.
    pub timeout: Duration,
    /// The only gateway to show.
    pub id: Option<String>,
}

/// What the main thread is told.
enum Happening {
    /// A key, or a new size.
    Terminal(Event),
    /// The terminal is gone.
    NoTerminal,
    /// A signal that ends the program, as its exit code.
    Signal(u8),
    /// The next event of the stream.
    Watch(Box<Watch>),
    /// `serve` cannot be reached, and why.
    Lost(String),
    /// It can again: where, and the first event.
    Found(String, Box<Watch>),
}

/// How often the ages on the screen are brought up to date.
const REDRAW: Duration = Duration::from_secs(1);

/// How much may wait for a terminal that takes nothing.
const WAITING: usize = 16;

/// Shows the gateways until `q`; the exit code.
///
/// # Errors
/// There is no terminal (exit code 2), no `serve` (3), or no such gateway (4).
pub(crate) fn watch(options: &Options) -> Result<u8, Failure> {
    if !std::io::stdin().is_terminal() || !std::io::stdout().is_terminal() {
        return Err(Failure::usage(
            "wsgw top needs a terminal as its stdin and stdout; `wsgw status --json` is for scripts",
        ));
    }
    let id = options.id.as_ref().map(|id| id.trim().to_lowercase());
    let options = Options { id, ..options.clone() };
    // Before anything is drawn: what fails now is said as any command says it.
    let (feed, endpoint, first) = Feed::open(&options, options.timeout)?;
    let (to, happenings) = sync_channel(WAITING);
    terminal::watch_signals(to.clone())?;
    let mut terminal = Terminal::enter()?;
    let keys = to.clone();
    std::thread::spawn(move || read_terminal(&keys));
    let mut model = Model::new(options.id.clone());
    model.found(endpoint, first, Instant::now());
    std::thread::spawn(move || feed::follow(feed, &options, &to));
    loop {
        terminal.draw(|frame| screen::draw(frame, &model, Instant::now()))?;
        let happening = match happenings.recv_timeout(REDRAW) {
            Ok(happening) => happening,
            Err(RecvTimeoutError::Timeout) => continue,
            Err(RecvTimeoutError::Disconnected) => return Ok(exit::OK),
        };
        match happening {
            Happening::Terminal(event) => match keys::wish(&event, &mut model) {
                Wish::Stay => {}
                Wish::Leave => return Ok(exit::OK),
                Wish::Interrupt => return Ok(terminal::INTERRUPTED),
                Wish::Suspend => terminal.suspend()?,
                Wish::Redraw => terminal.clear()?,
            },
            Happening::NoTerminal => return Ok(terminal::HUNG_UP),
            Happening::Signal(code) => return Ok(code),
            Happening::Watch(watch) => model.came(*watch, Instant::now()),
            Happening::Lost(why) => model.lost(why),
            Happening::Found(endpoint, watch) => model.found(endpoint, *watch, Instant::now()),
        }
    }
}

fn read_terminal(to: &SyncSender<Happening>) {
    loop {
        let happening = event::read().map_or(Happening::NoTerminal, Happening::Terminal);
        let over = matches!(happening, Happening::NoTerminal);
        if to.send(happening).is_err() || over {
            return;
        }
    }
}
