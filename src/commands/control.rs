//! What the commands that talk to the control port share: reaching it, and reading its answers.

use std::time::Duration;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::api::{GatewayState, GatewayStatus};
use crate::cli::ControlArgs;
use crate::control_client::Client;
use crate::control_client::discovery::Wanted;
use crate::error::{Failure, exit};
use crate::listener::protocol::channel::Channel;
use crate::text::escape::lines;
use crate::text::units;

/// Connects to the control port that the flags, the environment or the files name.
pub(super) fn open(args: &ControlArgs, retry: Duration) -> Result<Client, Failure> {
    let timeout = timeout(args)?;
    let wanted = Wanted::from_env(args.control.clone(), args.token_file.clone())?;
    Client::open(&wanted, timeout, retry)
}

/// A failure to reach a gateway, with the addresses of those that run here, as far as the control port
/// names them.
pub(super) fn with_running(mut failure: Failure, command: &str) -> Failure {
    if failure.exit != exit::UNREACHABLE {
        return failure;
    }
    for address in running().unwrap_or_default() {
        failure.message.push_str(&format!(
            "\na gateway runs at {address}: wsgw {command} {address}",
            address = lines(&address)
        ));
    }
    failure
}

/// The addresses of the gateways that run.
fn running() -> Result<Vec<String>, Failure> {
    let wanted = Wanted::from_env(None, None)?;
    let mut client = Client::open(&wanted, Duration::from_secs(1), Duration::ZERO)?;
    let list: Vec<GatewayStatus> = read(&client.call("GET", "/v1/gateways", None)?)?;
    let running = list.into_iter().filter(|gateway| gateway.state == GatewayState::Running);
    Ok(running.filter_map(|gateway| gateway.address).collect())
}

/// How long an answer may take.
pub(super) fn timeout(args: &ControlArgs) -> Result<Duration, Failure> {
    let timeout = seconds("--timeout", &args.timeout)?;
    if timeout.is_zero() {
        return Err(Failure::usage("--timeout 0 leaves no time at all"));
    }
    Ok(timeout)
}

/// The time that a flag gives, as in the config file: `5`, `0.5`, `250ms`, `1m30s`.
pub(super) fn seconds(flag: &str, text: &str) -> Result<Duration, Failure> {
    units::duration(text).map_err(|why| Failure::usage(format!("{flag}: {why}")))
}

/// The name of a channel that an argument gives.
pub(super) fn channel(name: &str) -> Result<&str, Failure> {
    match Channel::parse(name) {
        Some(_) => Ok(name),
        None => Err(Failure::usage(format!(
            "{name:?} cannot be a channel's name, which has 1 to 200 characters of \
             A-Za-z0-9._:/@+-"
        ))),
    }
}

/// The parameters as the query of a path; empty where there are none.
pub(super) fn with_question_mark(parameters: &[String]) -> String {
    let mark = if parameters.is_empty() { "" } else { "?" };
    format!("{mark}{}", parameters.join("&"))
}

/// The only gateway that runs. `choose` says how to name one of several.
pub(super) fn only_gateway(client: &mut Client, choose: &str) -> Result<String, Failure> {
    let list: Vec<GatewayStatus> = read(&client.call("GET", "/v1/gateways", None)?)?;
    let running: Vec<&GatewayStatus> =
        list.iter().filter(|g| g.state == GatewayState::Running).collect();
    let ids =
        |list: &[&GatewayStatus]| list.iter().map(|g| g.id.as_str()).collect::<Vec<_>>().join(", ");
    match (running.as_slice(), list.as_slice()) {
        ([one], _) => Ok(one.id.clone()),
        // It does not run; the control port's error says why.
        ([], [one]) => Ok(one.id.clone()),
        ([], []) => Err(Failure::new(exit::NO_GATEWAY, "this `wsgw serve` has no gateway")),
        ([], _) => Err(Failure::new(
            exit::NO_GATEWAY,
            format!("no gateway runs; known: {}", ids(&list.iter().collect::<Vec<_>>())),
        )),
        (several, _) => {
            Err(Failure::usage(format!("several gateways run; {choose}: {}", ids(several))))
        }
    }
}

/// Reads JSON that the control port sent.
pub(super) fn read<'a, T: serde::Deserialize<'a>>(body: &'a [u8]) -> Result<T, Failure> {
    serde_json::from_slice(body).map_err(|e| not_understood(&e))
}

/// The failure of an answer that is not what the API says.
pub(super) fn not_understood(error: &serde_json::Error) -> Failure {
    Failure::other(format!("the control port's answer is not understood: {error}"))
}

/// What stands unencoded in a segment of a path or a value of a query (RFC 3986, section 2.3).
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Percent-encodes one segment of a path, or one value of a query.
pub(super) fn segment(text: &str) -> String {
    utf8_percent_encode(text, ENCODED).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        for (text, want) in
            [("30", 30_000), ("0.5", 500), ("250ms", 250), ("2m", 120_000), ("1m30s", 90_000)]
        {
            assert_eq!(seconds("--x", text).unwrap(), Duration::from_millis(want));
        }
        assert!(seconds("--x", "1e300").is_err());
        for bad in ["", "-1", "x", "nan", "inf"] {
            assert_eq!(seconds("--x", bad).unwrap_err().exit, 2, "{bad}");
        }
    }

    #[test]
    fn a_segment_is_percent_encoded() {
        assert_eq!(segment("a/b ä"), "a%2Fb%20%C3%A4");
    }
}
