//! `wsgw send`: one message, or with `--lines` a stream of them.

mod input;
mod stream;

use std::time::Duration;

use crate::api::endpoint::Endpoint;
use crate::api::{ApiError, MAX_STRUCT, PushOutcome, read_result};
use crate::cli::SendArgs;
use crate::commands::control;
use crate::commands::control::{channel, only_gateway, seconds, segment};
use crate::commands::output::{print, print_json};
use crate::commands::send::input::Payload;
use crate::control_client::Client;
use crate::control_client::discovery::env_text;
use crate::error::{Failure, complain, exit};
use crate::listener::protocol::json;
use crate::listener::protocol::json::Members;
use crate::listener::protocol::push::Push;
use crate::text::escape::escape;

/// `wsgw send`.
pub(crate) fn run(args: &SendArgs) -> Result<u8, Failure> {
    if args.message.as_deref().is_some_and(|m| m != "-") && (args.lines || args.binary) {
        return Err(Failure::usage("--lines and --binary read stdin; they take no MESSAGE"));
    }
    for name in &args.channel {
        channel(name)?;
    }
    let retry = match &args.retry {
        Some(text) => seconds("--retry", text)?,
        None => Duration::ZERO,
    };
    if args.lines {
        return stream::run(args, retry);
    }
    let body = build(args)?;
    let mut client = control::open(&args.control, retry)?;
    let path = messages_path(&mut client, args, false)?;
    let answer = client.call("POST", &path, Some(&body))?;
    let outcome = read_outcome(&answer)??;
    if !args.quiet {
        if args.json {
            print_json(&answer)?;
        } else {
            print(&format!("delivered {}\n", outcome.delivered))?;
            if outcome.dropped > 0 {
                complain(&format!("wsgw: dropped {}: their queues are full", outcome.dropped));
            }
        }
    }
    if let Some(why) = nobody(args, &outcome).or_else(|| silent(args, &outcome)) {
        return Err(Failure::new(exit::NO_GATEWAY, why));
    }
    if !args.quiet && !args.json && !outcome.gone.is_empty() {
        complain(&format!("wsgw: gone: {}", names(&outcome.gone)));
    }
    Ok(exit::OK)
}

/// Reads what became of one message; in a stream also that it failed.
fn read_outcome(json: &[u8]) -> Result<Result<PushOutcome, ApiError>, Failure> {
    read_result(json).map_err(|e| control::not_understood(&e))
}

/// Names of connections, as a listener may have made them up.
fn names(gone: &[String]) -> String {
    escape(&gone.join(", ")).into_owned()
}

/// The reason, if it is a failure that nobody got the message.
fn nobody(args: &SendArgs, outcome: &PushOutcome) -> Option<String> {
    let wanted = args.require_one || !args.to.is_empty();
    if !wanted || outcome.delivered > 0 {
        return None;
    }
    Some(if outcome.dropped > 0 {
        "nobody got it: the queues are full".to_owned()
    } else if !outcome.gone.is_empty() {
        format!("nobody got it: {} gone", names(&outcome.gone))
    } else {
        "nobody got it".to_owned()
    })
}

/// The reason, if it is a failure that not all nodes said what came of the message.
fn silent(args: &SendArgs, outcome: &PushOutcome) -> Option<String> {
    let silent = outcome.silent.as_ref().filter(|silent| !silent.is_empty())?;
    args.require_all_nodes.then(|| format!("these nodes are silent: {}", names(silent)))
}

/// The struct of one message, checked here so that a mistake is a usage error, whoever runs.
fn build(args: &SendArgs) -> Result<Vec<u8>, Failure> {
    let body = match &args.data {
        Some(data) => from_data(args, data)?,
        None => {
            let payload = match args.message.as_deref() {
                None => Payload::from_stdin(args, false)?,
                Some("-") => Payload::from_stdin(args, true)?,
                Some(text) => Payload::from_text(args, text)?,
            };
            let mut body = Vec::new();
            payload.write(&mut body);
            body.extend_from_slice(&targets(args));
            body
        }
    };
    if body.len() > MAX_STRUCT {
        return Err(Failure::other(format!(
            "the message is too large: its struct has {} bytes, {} MiB are the limit",
            body.len(),
            MAX_STRUCT >> 20
        )));
    }
    match Push::parse(&body) {
        Ok(_) => Ok(body),
        Err(e) if args.data.is_some() => Err(Failure::usage(format!("--data: {e}"))),
        Err(e) if args.base64 => Err(Failure::usage(format!("--base64: {e}"))),
        Err(e) => Err(Failure::usage(e)),
    }
}

fn from_data(args: &SendArgs, data: &str) -> Result<Vec<u8>, Failure> {
    let Members(members) = serde_json::from_str::<Members<'_>>(data)
        .map_err(|e| Failure::usage(format!("--data is not a JSON object: {e}")))?;
    for (key, given) in flags(args) {
        if !given.is_empty() && members.iter().any(|(k, _)| k == key) {
            return Err(Failure::usage(format!("--data has {key:?} already; leave the flag out")));
        }
    }
    if members.is_empty() {
        return Err(Failure::usage("--data: the struct needs a \"message\" or a \"base64\""));
    }
    // It is an object, so the last byte is its brace: the flags go in front of it.
    let mut body = data.trim_end().as_bytes().to_vec();
    body.pop();
    body.extend_from_slice(&targets(args));
    Ok(body)
}

/// The keys that say whom a struct is for, with the flags that set them.
fn flags(args: &SendArgs) -> [(&'static str, &Vec<String>); 3] {
    [("connections", &args.to), ("except", &args.except), ("channel", &args.channel)]
}

/// The end of each struct: whom it is for, and the brace.
fn targets(args: &SendArgs) -> Vec<u8> {
    let mut out = Vec::new();
    for (key, names) in flags(args) {
        if names.is_empty() {
            continue;
        }
        out.push(b',');
        json::push_str(&mut out, key);
        out.push(b':');
        // A list of strings always serializes.
        let _ = serde_json::to_writer(&mut out, names);
    }
    out.push(b'}');
    out
}

/// Where the message goes: the gateway given, or the only one that runs.
fn messages_path(client: &mut Client, args: &SendArgs, each: bool) -> Result<String, Failure> {
    let own = own_gateway(client.endpoint())?;
    let id = match (&args.gateway, &own) {
        (Some(id), _) => id.trim().to_ascii_lowercase(),
        // A listener that names none means its own.
        (None, Some(own)) => own.clone(),
        (None, None) => only_gateway(client, "choose one with -g")?,
    };
    // The listener cannot answer an event while it waits for this command to end.
    let skip_hook = args.no_hook || own.as_deref() == Some(&id);
    let query = match (skip_hook, each) {
        (false, false) => "",
        (true, false) => "?hook=none",
        (false, true) => "?results=each",
        (true, true) => "?hook=none&results=each",
    };
    Ok(format!("/v1/gateways/{}/messages{query}", segment(&id)))
}

/// The gateway whose listener we run under, if it is one of this `serve`.
fn own_gateway(endpoint: &Endpoint) -> Result<Option<String>, Failure> {
    let Some(id) = env_text("WSGW_GATEWAY")? else { return Ok(None) };
    match env_text("WSGW_CONTROL")? {
        Some(url) if Endpoint::parse(&url).as_ref() != Ok(endpoint) => Ok(None),
        _ => Ok(Some(id.trim().to_ascii_lowercase())),
    }
}
