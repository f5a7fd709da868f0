//! What the listener did in a step, and what the gateway makes of it, in words.

use std::time::Duration;

use crate::api::{ApiError, PushOutcome};
use crate::check::clients::Deed;
use crate::check::findings::seconds;
use crate::check::ledger::Ledger;
use crate::check::steps::Step;
use crate::config::settings::{GatewaySettings, OnTimeout};
use crate::listener::exchange::HandshakeDecision;
use crate::text::escape::escape;
use crate::text::excerpt::excerpt;
use crate::ws::payload::Payload;

/// Bytes of a message that are shown.
const SHOWN: usize = 60;

/// What of [`UNICODE`](super::steps::UNICODE) has to come back if nothing else is changed.
const INTACT: &str = "Grüße, 世界 🎉";

/// Whether text beyond ASCII was damaged on its way through the listener; `unchanged` says that it sends
/// plain text on as it is.
pub(super) fn is_damaged(text: &str, unchanged: bool) -> bool {
    let wrong = ["\u{fffd}", "Ã¼", "ГјГ", "ä¸", "Gr??"];
    !text.contains(INTACT) && (unchanged || wrong.iter().any(|part| text.contains(part)))
}

/// The answer to the one event of a step.
pub(super) fn answer(
    ledger: &Ledger,
    step: Step,
    payload: Option<&Payload>,
    settings: &GatewaySettings,
) -> String {
    let limit = seconds(settings.listener_timeout);
    let Some((_, sent)) = ledger.of_step(step).find(|(_, sent)| sent.is_asked()) else {
        return "it did not take the event".to_owned();
    };
    let given_up = match settings.on_timeout {
        OnTimeout::Drop => "dropped",
        OnTimeout::Broadcast => "sent on unchanged",
        OnTimeout::Close => "dropped, and its sender closed",
    };
    match (sent.took(), sent.timed_out) {
        (None, Some(_)) => format!("no answer in {limit}: the message is {given_up}"),
        (None, None) => {
            format!("no answer (a gateway waits {limit}): the message is {given_up}")
        }
        (Some(took), Some(_)) => format!(
            "answered after {}, which is too late (listener-timeout is {limit}): the message is \
             {given_up}",
            seconds(took)
        ),
        (Some(took), None) if sent.deeds.is_empty() => {
            format!("answered in {}: the answer is at fault, the message is dropped", seconds(took))
        }
        (Some(took), None) => {
            let deeds: Vec<String> = sent.deeds.iter().map(|deed| says(deed, payload)).collect();
            format!("answered in {}: {}", seconds(took), deeds.join(", "))
        }
    }
}

/// What was done without an event that asks for it.
pub(super) fn unasked(deeds: &[Deed], count: usize) -> String {
    let mut said: Vec<String> = deeds.iter().take(2).map(|deed| says(deed, None)).collect();
    if count > 2 {
        said.push(format!("and {} more", count - 2));
    }
    if said.is_empty() { String::new() } else { format!(": {}", said.join(", ")) }
}

fn says(deed: &Deed, original: Option<&Payload>) -> String {
    match deed {
        Deed::Sent { to: 0, .. } => "sent to nobody".to_owned(),
        Deed::Sent { payload, to, of } => {
            let what = match payload.as_text() {
                _ if original == Some(payload) => "sent on unchanged".to_owned(),
                Some(text) => format!("sends \"{}\"", escape(&excerpt(text, SHOWN))),
                None => format!("sends a binary message of {} bytes", payload.bytes().len()),
            };
            match (to, of) {
                (1, 1) => format!("{what} to the only client"),
                (to, of) if to == of => format!("{what} to all {of} clients"),
                (to, of) => format!("{what} to {to} of {of} clients"),
            }
        }
        Deed::Closed { conn, code } => format!("closes {conn} with {code}"),
        Deed::Handshake(made) => decision(made),
        Deed::Channels { conn, join, leave } => {
            let names = |list: &[_]| {
                let names: Vec<String> = list
                    .iter()
                    .map(|c: &crate::listener::protocol::channel::Channel| c.as_str().to_owned())
                    .collect();
                names.join(", ")
            };
            match (join.is_empty(), leave.is_empty()) {
                (false, false) => {
                    format!("{conn} joins {} and leaves {}", names(join), names(leave))
                }
                (false, true) => format!("{conn} joins {}", names(join)),
                _ => format!("{conn} leaves {}", names(leave)),
            }
        }
    }
}

/// What becomes of a handshake.
pub(super) fn decision(decision: &HandshakeDecision) -> String {
    match decision {
        HandshakeDecision::Accept { protocol: Some(name), .. } => {
            format!("the client is accepted, with the subprotocol {name}")
        }
        HandshakeDecision::Accept { .. } => "the client is accepted".to_owned(),
        HandshakeDecision::Refuse(status, reason) => {
            let reason = escape(excerpt(reason.trim(), SHOWN).as_ref()).into_owned();
            let reason = if reason.is_empty() { reason } else { format!(" ({reason})") };
            format!("the client is refused with {status}{reason}")
        }
        HandshakeDecision::Unavailable => "the client is refused with 503".to_owned(),
    }
}

/// What a program that pushes is told.
pub(super) fn push_outcome(result: &Result<PushOutcome, ApiError>) -> String {
    match result {
        Ok(outcome) => format!("; wsgw send prints \"delivered {}\"", outcome.delivered),
        Err(error) => format!("; wsgw send fails: {}", error.message),
    }
}

/// How a burst went.
pub(super) fn burst(answers: usize, of: usize, took: Duration) -> String {
    if answers == 0 {
        return format!("no answers to {of} messages");
    }
    let rate = answers as f64 / took.as_secs_f64().max(0.000_1);
    let rate = if rate < 10.0 { format!("{rate:.1}") } else { format!("{rate:.0}") };
    format!("{answers} of {of} messages answered in {} ({rate} a second)", seconds(took))
}
