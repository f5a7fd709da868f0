//! What the command line asks for, checked.

use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::bench::assertion::Assertion;
use crate::bench::mark;
use crate::bench::target::Target;
use crate::cli::{BenchArgs, BenchMode};
use crate::error::Failure;
use crate::text::units;

/// The largest message, in bytes.
const LARGEST: usize = 16 << 20;

/// The highest rate.
const FASTEST: f64 = 10_000_000.0;

/// The longest time in which the connections of the mode idle are opened, in seconds.
const LONGEST_OPENING: f64 = 86_400.0;

/// Open files besides the connections.
const OTHER_FILES: u64 = 32;

/// A load test.
#[derive(Debug)]
pub(crate) struct Options {
    pub(super) target: Target,
    pub(super) mode: BenchMode,
    pub(super) connections: usize,
    pub(super) duration: Duration,
    /// Messages, or openings, a second; `None`: the next follows the answer to the last.
    pub(super) rate: Option<f64>,
    /// Bytes in a message.
    pub(super) payload: usize,
    /// What the report must show.
    pub(crate) assertions: Vec<Assertion>,
}

impl Options {
    /// Reads the flags.
    ///
    /// # Errors
    /// 2 for what was given, 3 for a name without address.
    pub(crate) fn parse(args: &BenchArgs) -> Result<Options, Failure> {
        let usage = |text: String| Err(Failure::usage(text));
        let duration = units::duration(&args.duration)
            .map_err(|why| Failure::usage(format!("--duration: {why}")))?;
        if duration < Duration::from_millis(10) {
            return usage("--duration must be at least 10ms".to_owned());
        }
        let most = mark::MOST;
        if args.connections == 0 || args.connections > most {
            return usage(format!("--connections is a number from 1 to {most}"));
        }
        if let Some(rate) = args.rate
            && !(rate > 0.0 && rate <= FASTEST)
        {
            return usage(format!("--rate is a number above 0, and at most {FASTEST}"));
        }
        if let (BenchMode::Idle, Some(rate)) = (args.mode, args.rate)
            && f64::from(args.connections) / rate > LONGEST_OPENING
        {
            return usage(format!(
                "--rate {rate} would open {} connections in more than a day",
                args.connections
            ));
        }
        if !(mark::SIZE..=LARGEST).contains(&args.payload) {
            return usage(format!(
                "--payload is from {} bytes (a message carries its number and its time) to {LARGEST}",
                mark::SIZE
            ));
        }
        let assertions = args.assert.as_deref().map(Assertion::parse_list).transpose();
        let assertions = assertions.map_err(Failure::usage)?.unwrap_or_default();
        raise_descriptor_limit(args.connections)?;
        Ok(Options {
            target: Target::parse(args)?,
            mode: args.mode,
            connections: args.connections as usize,
            duration,
            rate: args.rate,
            payload: args.payload,
            assertions,
        })
    }
}

/// Every connection needs an open file.
fn raise_descriptor_limit(connections: u32) -> Result<(), Failure> {
    let limit = getrlimit(Resource::Nofile);
    let wanted = u64::from(connections) + OTHER_FILES;
    let is_within = |limit: Option<u64>| limit.is_none_or(|limit| wanted <= limit);
    if !is_within(limit.maximum) {
        return Err(Failure::usage(format!(
            "{connections} connections need {wanted} open files, and the limit for this program is {} \
             (ulimit -Hn)",
            limit.maximum.unwrap_or_default()
        )));
    }
    if !is_within(limit.current) {
        let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
        setrlimit(Resource::Nofile, raised).map_err(|e| {
            Failure::other(format!("the limit on open files cannot be raised: {e}"))
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_makes_no_sense_is_a_usage_error() {
        let good = || BenchArgs { url: "127.0.0.1:7".to_owned(), ..BenchArgs::default() };
        assert!(Options::parse(&good()).is_ok());
        for bad in [
            BenchArgs { connections: 0, ..good() },
            BenchArgs { connections: u32::MAX, ..good() },
            BenchArgs { duration: "0".to_owned(), ..good() },
            BenchArgs { duration: "soon".to_owned(), ..good() },
            BenchArgs { rate: Some(0.0), ..good() },
            BenchArgs { rate: Some(f64::NAN), ..good() },
            BenchArgs { rate: Some(f64::INFINITY), ..good() },
            BenchArgs { mode: BenchMode::Idle, rate: Some(1e-12), ..good() },
            BenchArgs { payload: 31, ..good() },
            BenchArgs { payload: 1 << 30, ..good() },
            BenchArgs { assert: Some("p99".to_owned()), ..good() },
            BenchArgs { url: "ftp://x".to_owned(), ..good() },
        ] {
            assert_eq!(Options::parse(&bad).map(|_| ()).unwrap_err().exit, 2, "{bad:?}");
        }
    }
}
