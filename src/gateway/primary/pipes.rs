//! The listener's pipes: events go into its stdin, its lines come out of its stdout.
//!
//! Owned by the home's shard from an incarnation's attachment to its end; neither pipe ever blocks,
//! and reading never waits for writing.

use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;

use mio::Interest;
use mio::unix::pipe;

use crate::gateway::engine::{Msg, Shared};
use crate::gateway::hub::Slice;
use crate::gateway::primary::Home;
use crate::gateway::shard::{Ctx, Kind, token};
use crate::listener::supervisor::Report;
use crate::text::lines::Lines;
use crate::ws::close;

/// Reads of the listener's stdout in one turn.
const READS: usize = 4;

/// Frames a shard that may wait to be sent before the listener is not read on: this waits for our
/// own CPU, never for a client.
const BACKLOG: usize = 1024;

/// Milliseconds between two looks at whether a producer may go on.
const PAUSE: u64 = 2;

impl Home {
    /// Takes the pipes of a new incarnation over.
    pub(super) fn attach(
        &mut self,
        stdin: Option<OwnedFd>,
        stdout: OwnedFd,
        slot: usize,
        ctx: &mut Ctx,
    ) {
        let mut stdout = pipe::Receiver::from(stdout);
        let mut stdin = stdin.map(pipe::Sender::from);
        let registered = ctx
            .registry
            .register(&mut stdout, token(slot, Kind::Stdout, 0), Interest::READABLE)
            .and_then(|()| match &mut stdin {
                Some(stdin) => {
                    ctx.registry.register(stdin, token(slot, Kind::Stdin, 0), Interest::WRITABLE)
                }
                None => Ok(()),
            });
        if let Err(error) = registered {
            tracing::error!(%error, "the listener's pipes cannot be watched");
        }
        self.stdin = stdin;
        self.stdin_ready = true;
        self.stdout = Some(stdout);
        self.stdout_ready = true;
        self.stdout_closed = false;
        self.attached = true;
        self.wrote = false;
        self.exited = None;
        self.paused = 0;
        self.lines = Lines::default();
        if let Some(exchange) = &mut self.exchange {
            exchange.attach(ctx.instant);
        }
    }

    /// Reads what the listener wrote.
    pub(super) fn read_stdout(&mut self, shared: &Shared, ctx: &mut Ctx) {
        let (Some(stdout), Some(exchange)) = (&mut self.stdout, &mut self.exchange) else { return };
        let settings = shared.settings();
        let backlog = shared.pressure.frames_pending();
        if backlog == 0 {
            self.ahead = 0;
        }
        // What a producer adds before a slow recipient is looked at again leaves that one below its
        // `max-queue`.
        let producer = settings.hooks.is_none();
        let step = (settings.max_queue / 4).max(1024);
        if backlog > BACKLOG * ctx.core.shards()
            || producer && (self.ahead >= step || shared.pressure.any_slow_reader())
        {
            self.paused = ctx.now + PAUSE;
            return;
        }
        self.paused = 0;
        let now = ctx.instant;
        let max = settings.max_line;
        let (reads, room) = match producer {
            true => (1, ctx.buffer.len().min(step)),
            false => (READS, ctx.buffer.len()),
        };
        for _ in 0..reads {
            match stdout.read(&mut ctx.buffer[..room]) {
                Ok(0) => {
                    self.lines.end(|line| exchange.line(line, &self.results, now));
                    self.stdout = None;
                    self.stdout_ready = false;
                    if self.exited.is_none() {
                        shared.report(Report::StdoutClosed);
                    }
                    return;
                }
                Ok(n) => {
                    if !self.wrote {
                        self.wrote = true;
                        shared.report(Report::FirstOutput);
                    }
                    self.ahead += n;
                    exchange.output(now);
                    let results = &self.results;
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
                    self.stdout = None;
                    self.stdout_ready = false;
                    shared.report(Report::StdoutClosed);
                    return;
                }
            }
        }
    }

    /// Writes events as long as the listener takes them.
    pub(super) fn write_stdin(&mut self, ctx: &Ctx) {
        let Some(exchange) = &mut self.exchange else { return };
        let now = ctx.instant;
        loop {
            exchange.pump(now);
            let bytes = exchange.unwritten();
            if bytes.is_empty() {
                return;
            }
            let Some(stdin) = self.stdin.as_mut().filter(|_| self.stdin_ready) else {
                exchange.stuck(now);
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

impl Slice {
    /// The incarnation is gone and its output handled.
    pub(super) fn detach(&mut self, ctx: &mut Ctx) {
        let Some(home) = &mut self.home else { return };
        home.attached = false;
        home.exited = None;
        home.stdin = None;
        home.stdout = None;
        home.stdout_ready = false;
        home.paused = 0;
        let Some(exchange) = &mut home.exchange else { return };
        let exit = exchange.detach(home.wanted, ctx.instant);
        if exit.give_up {
            tracing::error!(
                gateway = %self.shared.id,
                "the listener exited again and again without a line while answers were owed: the \
                 clients are closed with 1011, it starts clean"
            );
            exchange.start_clean();
        }
        // Before the next incarnation attaches, the effects of this one's end are out.
        self.effects(ctx);
        if exit.give_up {
            let (code, reason) = close::LISTENER_FAILED;
            ctx.core.post_all(|| Msg::CloseAll(self.shared.slot, Some((code, reason))));
        }
        // A listener that was taken away by a reload leaves no exchange behind.
        if let Some(home) = &mut self.home {
            let mut left = home.ensure_exchange(&self.shared, ctx);
            self.carry_out(&mut left, ctx);
        }
        self.shared.report(Report::Drained(exit));
    }
}
