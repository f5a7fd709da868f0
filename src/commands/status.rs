//! `wsgw status`.

use std::time::Duration;

use crate::api::GatewayStatus;
use crate::cli::StatusArgs;
use crate::commands::control;
use crate::commands::control::{read, segment};
use crate::commands::output::{print, print_json, table};
use crate::error::{Failure, exit};
use crate::text::escape::escape;

/// `wsgw status [ID]`.
pub(super) fn status(args: &StatusArgs) -> Result<u8, Failure> {
    let mut client = control::open(&args.control, Duration::ZERO)?;
    let path = match &args.id {
        None => "/v1/gateways".to_owned(),
        Some(id) => format!("/v1/gateways/{}", segment(id)),
    };
    let body = client.call("GET", &path, None)?;
    if args.json {
        print_json(&body)?;
    } else if args.id.is_some() {
        print(&gateways_table(&[read(&body)?]))?;
    } else {
        print(&gateways_table(&read::<Vec<GatewayStatus>>(&body)?))?;
    }
    Ok(exit::OK)
}

/// The table of `wsgw status`, with what went wrong below.
pub(super) fn gateways_table(gateways: &[GatewayStatus]) -> String {
    if gateways.is_empty() {
        return "no gateways\n".to_owned();
    }
    let head = [
        "GATEWAY",
        "STATE",
        "ADDRESS",
        ">CONNECTIONS",
        ">IN",
        ">OUT",
        "LISTENER",
        ">PID",
        ">RESTARTS",
    ];
    let none = || "-".to_owned();
    let rows: Vec<Vec<String>> = gateways
        .iter()
        .map(|g| {
            vec![
                g.id.clone(),
                g.state.name().to_owned(),
                g.address.clone().unwrap_or_else(none),
                g.connections.to_string(),
                g.messages_in.to_string(),
                g.messages_out.to_string(),
                g.listener.name().to_owned(),
                g.listener_pid.map_or_else(none, |pid| pid.to_string()),
                g.restarts.to_string(),
            ]
        })
        .collect();
    let mut out = table(&head, &rows);
    for gateway in gateways {
        if let Some(error) = &gateway.error {
            out.push_str(&format!("\n{}: {}\n", gateway.id, lines_escaped(error)));
        }
    }
    out
}

/// Several lines (a listener's last words), each escaped.
pub(super) fn lines_escaped(text: &str) -> String {
    text.lines().map(escape).collect::<Vec<_>>().join("\n  ")
}
