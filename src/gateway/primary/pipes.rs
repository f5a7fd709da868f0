//! The listener's pipes: events go into its stdin, its lines come out of its stdout.
//!
//! Owned by the primary's shard from an incarnation's attachment to its end; neither pipe ever
//! blocks, and reading never waits for writing.

use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use mio::Interest;
use mio::unix::pipe;

use crate::gateway::context::{Context, Kind, token};
use crate::gateway::shared::Shared;
use crate::gateway::time::Millis;
use crate::listener::exchange::Exchange;
use crate::listener::supervisor::Report;
use crate::text::lines::Lines;

/// How long what is left in the stdout of a listener that exited is read, in milliseconds. Time in
/// which it is not read because of slow recipients does not count.
const LEFTOVER: u64 = 1_000;

/// Reads of the listener's stdout in one turn.
const READS: usize = 4;

/// Frames that may wait to be sent, for each shard, before the listener is not read on: this waits
/// for our own CPU, never for a client.
const FRAMES_PER_SHARD: usize = 1024;

/// Milliseconds between two looks at whether a producer may go on.
const PAUSE: u64 = 2;

/// The pipes of one gateway's listener.
#[derive(Default)]
pub(super) struct Pipes {
    stdin: Option<pipe::Sender>,
    stdin_ready: bool,
    stdout: Option<pipe::Receiver>,
    stdout_ready: bool,
    /// Whether epoll has said that its other side is closed: a short read is not the end then.
    stdout_closed: bool,
    /// Whether an incarnation is attached.
    attached: bool,
    wrote: bool,
    /// Until when the stdout of an incarnation that exited is read.
    exited: Option<Millis>,
    /// The same at most, however long recipients are slow.
    exited_most: Option<Millis>,
    /// Whether we ended it.
    wanted: bool,
    /// When a pause of reading the stdout is over.
    paused: Option<Millis>,
    /// Bytes read since nothing waited to be sent.
    ahead: usize,
    lines: Lines,
}

impl Pipes {
    /// Takes the pipes of a new incarnation over.
    pub(super) fn attach(
        &mut self,
        stdin: Option<OwnedFd>,
        stdout: OwnedFd,
        shared: &Shared,
        ctx: &Context,
    ) {
        let place = shared.slot.index;
        let mut stdout = pipe::Receiver::from(stdout);
        let mut stdin = stdin.map(pipe::Sender::from);
        let registered = ctx
            .registry
            .register(&mut stdout, token(place, Kind::Stdout, 0), Interest::READABLE)
            .and_then(|()| match &mut stdin {
                Some(stdin) => {
                    ctx.registry.register(stdin, token(place, Kind::Stdin, 0), Interest::WRITABLE)
                }
                None => Ok(()),
            });
        if let Err(error) = registered {
            tracing::error!(gateway = %shared.id, %error, "the listener's pipes cannot be watched");
        }
        *self = Pipes {
            stdin,
            stdin_ready: true,
            stdout: Some(stdout),
            stdout_ready: true,
            attached: true,
            ahead: self.ahead,
            ..Pipes::default()
        };
    }

    /// Whether an incarnation is attached.
    pub(super) fn is_attached(&self) -> bool {
        self.attached
    }

    /// Whether there is a stdin to write to.
    pub(super) fn has_stdin(&self) -> bool {
        self.stdin.is_some()
    }

    /// The listener takes bytes again.
    pub(super) fn stdin_ready(&mut self) {
        self.stdin_ready = true;
    }

    /// The listener wrote something, or closed its stdout.
    pub(super) fn stdout_ready(&mut self, closed: bool) {
        self.stdout_ready = true;
        self.stdout_closed |= closed;
    }

    /// Whether there is something to do now.
    pub(super) fn wants_turn(&self) -> bool {
        self.stdout_ready && self.stdout.is_some() && self.paused.is_none()
    }

    /// When there is something to do without an event.
    pub(super) fn deadline(&self) -> Option<Millis> {
        [self.paused, self.exited].into_iter().flatten().min()
    }

    /// The incarnation's process has exited; `wanted` says whether we ended it.
    pub(super) fn exited(&mut self, wanted: bool, shared: &Shared, ctx: &Context) {
        if self.attached {
            let leftover = ctx.now.after(LEFTOVER);
            self.exited = Some(leftover);
            // Whoever replaces a listener does not wait for slow clients.
            let wait = if wanted { 0 } else { shared.settings().producer_wait.as_millis() as u64 };
            self.exited_most = Some(leftover.after(wait));
            self.wanted = wanted;
            self.stdout_ready = self.stdout.is_some();
        }
    }

    /// Closes the listener's stdin.
    pub(super) fn close_stdin(&mut self) {
        self.stdin = None;
    }

    /// Whether the incarnation is gone and its output handled, or the time for that is up.
    pub(super) fn is_finished(&self, ctx: &Context) -> bool {
        self.attached && self.exited.is_some_and(|until| self.stdout.is_none() || until <= ctx.now)
    }

    /// Lets go of an incarnation; whether we ended it.
    pub(super) fn detach(&mut self) -> bool {
        let wanted = self.wanted;
        *self = Pipes { ahead: self.ahead, ..Pipes::default() };
        wanted
    }

    /// Reads what the listener wrote.
    pub(super) fn read_stdout(
        &mut self,
        exchange: &mut Exchange,
        results: &Arc<dyn Fn(String) + Send + Sync>,
        shared: &Shared,
        ctx: &mut Context,
    ) {
        let Some(stdout) = self.stdout.as_mut().filter(|_| self.stdout_ready) else { return };
        let settings = shared.settings();
        let pending = shared.pressure.frames_pending();
        if pending == 0 {
            self.ahead = 0;
        }
        // What a producer adds before a slow recipient is looked at again leaves that one below its
        // `max-queue`.
        let producer = settings.is_producer();
        let step = (settings.max_queue / 4).max(1024);
        if pending > FRAMES_PER_SHARD * ctx.core.shards()
            || producer && (self.ahead >= step || shared.pressure.any_slow_reader())
        {
            self.paused = Some(ctx.now.after(PAUSE));
            if let (Some(until), Some(most)) = (&mut self.exited, self.exited_most) {
                // Its last output is not lost because recipients are slow. There may always be one
                // that has just become so: the next incarnation waits for `producer-wait` at most.
                *until = (*until).max(ctx.now.after(LEFTOVER)).min(most);
            }
            return;
        }
        self.paused = None;
        let now = ctx.instant;
        let max = settings.max_line;
        let (reads, room) = match producer {
            // Nothing above the step: with what is left of a line it would be one message more.
            true => (1, ctx.buffer.len().min(step - self.ahead)),
            false => (READS, ctx.buffer.len()),
        };
        for _ in 0..reads {
            match stdout.read(&mut ctx.buffer[..room]) {
                Ok(0) => {
                    self.lines.end(|line| exchange.line(line, results, now));
                    return self.stdout_ended(shared);
                }
                Ok(n) => {
                    if !self.wrote {
                        self.wrote = true;
                        shared.report(Report::FirstOutput);
                    }
                    self.ahead += n;
                    exchange.output(now);
                    self.lines.feed(&ctx.buffer[..n], max, |line| match line {
                        Some(line) => exchange.line(line, results, now),
                        None => exchange.over_long(max, now),
                    });
                    if n < room && !self.stdout_closed {
                        self.stdout_ready = false;
                        return;
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    self.stdout_ready = false;
                    return;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    tracing::error!(gateway = %shared.id, %error, "the listener's stdout failed");
                    return self.stdout_ended(shared);
                }
            }
        }
    }

    fn stdout_ended(&mut self, shared: &Shared) {
        self.stdout = None;
        self.stdout_ready = false;
        if self.exited.is_none() {
            shared.report(Report::StdoutClosed);
        }
    }

    /// Writes events as long as the listener takes them.
    pub(super) fn write_stdin(&mut self, exchange: &mut Exchange, ctx: &Context) {
        let now = ctx.instant;
        loop {
            exchange.pump(now);
            let bytes = exchange.unwritten();
            if bytes.is_empty() {
                return;
            }
            let Some(stdin) = self.stdin.as_mut().filter(|_| self.stdin_ready) else {
                if exchange.is_plain() {
                    exchange.stuck_lines(self.stdin.as_ref().and_then(unread), now);
                } else {
                    exchange.stuck(now);
                }
                return;
            };
            match stdin.write(bytes) {
                Ok(n) => exchange.written(n, now),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                // Full; or closed by a listener that lives on, which then counts as hanging.
                Err(_) => self.stdin_ready = false,
            }
        }
    }
}

/// Bytes in a pipe that its other side has not read, if the system tells.
fn unread(stdin: &pipe::Sender) -> Option<usize> {
    rustix::io::ioctl_fionread(stdin).ok().and_then(|bytes| usize::try_from(bytes).ok())
}
