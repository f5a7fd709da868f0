//! `wsgw serve`: set-up, signals, exit code.

use std::io::{IsTerminal, Write};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::check::config::check_config;
use crate::cli::ServeCommandArgs;
use crate::commands::output;
use crate::config::ServeArgs;
use crate::config::settings::ServeSettings;
use crate::error::{Failure, complain, exit};
use crate::gateway::engine::Engine;
use crate::listener::process;
use crate::logging::{Controls, Recent};
use crate::server::{Environment, Server};
use crate::systemd;
use crate::systemd::Inherited;
use crate::text::escape::escape;
use crate::{config, control, logging};

/// Runs gateways until a signal ends them.
pub(crate) fn run(args: ServeCommandArgs) -> Result<u8, Failure> {
    let ServeCommandArgs { check_config: only_check, serve: args } = args;
    if only_check {
        return report_config(&args);
    }
    let settings = config::load(&args)?;
    // While this is the only thread.
    let inherited = Inherited::take();
    // The guard outlives everything that logs.
    let log = logging::init(&settings.log)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::other(format!("the runtime cannot be started: {e}")))?;
    // Listeners are started from this thread, which lives as long as we do: when it ends, the
    // kernel ends them.
    let done = runtime.block_on(serve(args, settings, inherited, (log.controls(), log.recent())));
    // A name that is still being looked up holds nothing up.
    runtime.shutdown_background();
    done
}

/// Says whether the settings are good.
fn report_config(args: &ServeArgs) -> Result<u8, Failure> {
    let good = check_config(args)?;
    good.notices.iter().for_each(|notice| complain(&format!("warning: {}", escape(notice))));
    output::print(&format!("{}\n", escape(&good.summary)))?;
    Ok(exit::OK)
}

async fn serve(
    args: ServeArgs,
    settings: ServeSettings,
    inherited: Inherited,
    (log, recent): (Controls, Arc<Recent>),
) -> Result<u8, Failure> {
    let mut signals = Signals::new()?;
    let unused = inherited.unused(settings.gateways.iter());
    for notice in settings.notices.iter().chain(&inherited.notices).chain(&unused) {
        tracing::warn!("{notice}");
    }
    tokio::spawn(process::orphans::reap());
    let engine = Engine::start()
        .map_err(|e| Failure::other(format!("the gateways' threads cannot be started: {e}")))?;
    let mut bound = control::bind(&settings.control)?;
    let renewal = bound.as_mut().and_then(control::Bound::take_renewal);
    let levels = log.clone();
    let address = Arc::new(Mutex::new(None));
    let heard = Arc::clone(&address);
    let environment = Environment {
        announce: Box::new(move |line| say_and_note(line, &heard)),
        load: Box::new(move || {
            let settings = config::load(&args)?;
            settings.notices.iter().for_each(|notice| tracing::warn!("{notice}"));
            Ok(settings)
        }),
        apply: Box::new(move |new| {
            levels.set_level(&new.log).map_err(|e| e.message)?;
            renewal.as_ref().map_or(Ok(()), |renewal| renewal.renew())
        }),
        inherited,
        log: recent,
    };
    let quiet = settings.log.quiet;
    let server = Server::new(settings, engine, environment);
    let control_stop = CancellationToken::new();
    let mut announcement = None;
    let mut control_task = None;
    if let Some(bound) = bound {
        server.set_control_url(bound.url().to_owned());
        announcement = Some(format!("control listening on {}", bound.url()));
        let task = bound.run(Arc::clone(&server), control_stop.clone());
        control_task = Some(tokio::spawn(task));
    }

    let announce = || announce(announcement.as_deref(), address.lock().as_deref());
    let outcome = until_stopped(&server, &mut signals, &log, announce).await;
    systemd::stopping();
    if outcome == Outcome::Stopped {
        tracing::info!("stopping; a second signal cuts it short");
    }
    if outcome == Outcome::NothingStarted && quiet {
        // Otherwise the log has told it on stderr.
        server.failures().iter().for_each(|failure| complain(&format!("wsgw: {failure}")));
    }
    shut_down(&server, &mut signals, &log).await;
    control_stop.cancel();
    if let Some(task) = control_task {
        // Open requests have a moment; the token file is gone when this returns.
        let _ = task.await;
    }
    Ok(if outcome == Outcome::Stopped { exit::OK } else { exit::FAILURE })
}

/// Why a server stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// A signal asked for it.
    Stopped,
    /// There are automatic gateways, and none of them could be started.
    NothingStarted,
}

/// Starts the automatic gateways, and heeds signals until one stops the server.
async fn until_stopped(
    server: &Arc<Server>,
    signals: &mut Signals,
    log: &Controls,
    announce: impl FnOnce(),
) -> Outcome {
    let starting = Arc::clone(server);
    let mut start = tokio::spawn(async move { starting.start_automatic().await });
    let mut started = false;
    let mut announce = Some(announce);
    loop {
        tokio::select! {
            any = &mut start, if !started => {
                started = true;
                if !any.unwrap_or(false) {
                    return Outcome::NothingStarted;
                }
                if let Some(announce) = announce.take() {
                    announce();
                }
                systemd::ready();
            }
            what = signals.next() => match what {
                Request::Stop => return Outcome::Stopped,
                Request::ReopenLog => log.reopen(),
                Request::Reload => {
                    log.reopen();
                    let server = Arc::clone(server);
                    // What went wrong is in the log.
                    tokio::spawn(async move { server.reload().await.is_ok() });
                }
            },
        }
    }
}

/// Stops the server in order; another signal cuts it short.
async fn shut_down(server: &Arc<Server>, signals: &mut Signals, log: &Controls) {
    let stop = server.shut_down();
    tokio::pin!(stop);
    loop {
        tokio::select! {
            () = &mut stop => return,
            what = signals.next() => match what {
                Request::Stop => server.cut_short(),
                Request::Reload | Request::ReopenLog => log.reopen(),
            },
        }
    }
}

/// Says where a gateway listens, and keeps the address of the first.
fn say_and_note(line: &str, first: &Mutex<Option<String>>) {
    say(line);
    if let Some((_, url)) = line.rsplit_once(" listening on ") {
        first.lock().get_or_insert_with(|| url.to_owned());
    }
}

/// Says where the control port is, and at a terminal what can be done next. Programs that read our stdout
/// get the addresses alone.
fn announce(control: Option<&str>, address: Option<&str>) {
    if let Some(line) = control {
        say(line);
    }
    if !std::io::stdout().is_terminal() {
        return;
    }
    if let Some(address) = address {
        say(&format!("try in another terminal: wsgw connect {address}"));
    }
    if control.is_some() {
        say("                         wsgw send 'hello, all', wsgw top, wsgw open (a page)");
    }
}

/// Writes a line to stdout. A closed stdout is not a reason to end.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// What a signal asks for.
enum Request {
    Stop,
    Reload,
    ReopenLog,
}

struct Signals {
    int: Signal,
    term: Signal,
    hup: Option<Signal>,
    /// What scripts that rotate logs send.
    usr1: Signal,
    /// On a terminal SIGHUP means that it was closed.
    hup_stops: bool,
}

impl Signals {
    fn new() -> Result<Signals, Failure> {
        let listen = |kind| {
            signal(kind).map_err(|e| Failure::other(format!("signals cannot be watched: {e}")))
        };
        // Under `nohup` it is ignored and stays so.
        let hup = if hangup_ignored() { None } else { Some(listen(SignalKind::hangup())?) };
        Ok(Signals {
            int: listen(SignalKind::interrupt())?,
            term: listen(SignalKind::terminate())?,
            usr1: listen(SignalKind::user_defined1())?,
            hup,
            hup_stops: std::io::stdin().is_terminal(),
        })
    }

    async fn next(&mut self) -> Request {
        let hup = async {
            match &mut self.hup {
                Some(hup) => hup.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.int.recv() => Request::Stop,
            _ = self.term.recv() => Request::Stop,
            _ = self.usr1.recv() => Request::ReopenLog,
            _ = hup => if self.hup_stops { Request::Stop } else { Request::Reload },
        }
    }
}

/// Whether SIGHUP was ignored when we were started.
fn hangup_ignored() -> bool {
    // Where there is no /proc, it is taken as not ignored.
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    mask & 1 != 0
}
