//! The flags of `connect`, checked.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::Duration;

use crate::cli::{ColorWhen, ConnectArgs};
use crate::connect::proxy::Setting;
use crate::connect::screen::is_dumb;
use crate::connect::target::Target;
use crate::error::Failure;
use crate::text::units;

/// How long it stays after the end of its input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wait {
    /// Until so long a silence.
    Silence(Duration),
    /// Until the server closes.
    Stay,
}

/// The flags, checked.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where to.
    pub target: Target,
    /// `-L`.
    pub(super) location: bool,
    /// `--proxy`.
    pub(super) proxy: Setting,
    /// `--compress`.
    pub(super) compress: bool,
    /// `-x`.
    pub(super) execute: Vec<String>,
    /// `-n`.
    pub(super) count: Option<u64>,
    /// `-w`.
    pub(super) wait: Wait,
    /// `-w -1`, said in so many words.
    pub(super) stays: bool,
    /// `-b`.
    pub(super) binary: bool,
    /// `--ping`.
    pub ping: Option<Duration>,
    /// `--timeout`.
    pub timeout: Duration,
    /// `--reconnect`, or `--resume`.
    pub(super) reconnect: bool,
    /// `--resume`.
    pub(super) resume: bool,
    /// `--echo`.
    pub(super) echo: bool,
    /// `--pretty`.
    pub(super) pretty: bool,
    /// `--timestamps`.
    pub(super) timestamps: bool,
    /// Whether to colour.
    pub(super) color: bool,
    /// `-v`.
    pub(super) verbose: bool,
    /// `--no-history`.
    pub(super) no_history: bool,
    /// `--insecure`.
    pub(super) insecure: bool,
    /// `--cacert`.
    pub(super) cacert: Option<PathBuf>,
    /// `--cert` and `--key`.
    pub(super) identity: Option<(PathBuf, PathBuf)>,
}

fn usage(text: impl Into<String>) -> Failure {
    Failure::usage(text)
}

fn seconds(flag: &str, text: &str) -> Result<Duration, Failure> {
    let time = units::duration(text).map_err(|why| usage(format!("{flag}: {why}")))?;
    if time.is_zero() { Err(usage(format!("{flag} must be more than zero"))) } else { Ok(time) }
}

impl Options {
    /// Checks the flags.
    ///
    /// # Errors
    /// Exit code 2, with what is wrong.
    pub fn parse(args: &ConnectArgs) -> Result<Options, Failure> {
        let wait = match args.wait.as_deref() {
            Some("-1") => Wait::Stay,
            Some(text) => Wait::Silence(
                units::duration(text).map_err(|why| usage(format!("--wait: {why}; -1 stays")))?,
            ),
            // An echo is driven by the server, not by stdin.
            None if args.count.is_some() || args.echo => Wait::Stay,
            None => Wait::Silence(Duration::from_secs(1)),
        };
        if args.count == Some(0) {
            return Err(usage("-n must be at least 1"));
        }
        let identity = match (&args.cert, &args.key) {
            (Some(cert), Some(key)) => Some((cert.clone(), key.clone())),
            (None, None) => None,
            _ => return Err(usage("--cert and --key go together: one of them is missing")),
        };
        let color = match args.color {
            ColorWhen::Always => true,
            ColorWhen::Never => false,
            ColorWhen::Auto => {
                std::io::stdout().is_terminal()
                    && !is_dumb()
                    && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
            }
        };
        Ok(Options {
            target: Target::parse(args)?,
            location: args.location,
            compress: args.compress,
            proxy: Setting::parse(args.proxy.as_deref())?,
            execute: args.execute.clone(),
            count: args.count,
            wait,
            stays: args.wait.as_deref() == Some("-1"),
            binary: args.binary,
            ping: args.ping.as_deref().map(|text| seconds("--ping", text)).transpose()?,
            timeout: seconds("--timeout", &args.timeout)?,
            reconnect: args.reconnect || args.resume,
            resume: args.resume,
            echo: args.echo,
            pretty: args.pretty,
            timestamps: args.timestamps,
            color,
            verbose: args.verbose,
            no_history: args.no_history,
            insecure: args.insecure,
            cacert: args.cacert.clone(),
            identity,
        })
    }
}
