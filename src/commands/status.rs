//! `wsgw status`.

use std::time::Duration;

use crate::api::{GatewayStatus, NodeStatus};
use crate::cli::StatusArgs;
use crate::commands::control;
use crate::commands::control::{only_gateway, read, segment};
use crate::commands::output::{print, print_json, table};
use crate::control_client::Client;
use crate::error::{Failure, exit};
use crate::text::escape::escape;

/// `wsgw status [ID]`.
pub(super) fn status(args: &StatusArgs) -> Result<u8, Failure> {
    let mut client = control::open(&args.control, Duration::ZERO)?;
    if args.nodes {
        return nodes(args, &mut client);
    }
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

/// `wsgw status --nodes`.
fn nodes(args: &StatusArgs, client: &mut Client) -> Result<u8, Failure> {
    let id = match &args.id {
        Some(id) => id.clone(),
        None => only_gateway(client, "name one (`wsgw status --nodes ID`)")?,
    };
    let body = client.call("GET", &format!("/v1/gateways/{}/nodes", segment(&id)), None)?;
    if args.json {
        print_json(&body)?;
        return Ok(exit::OK);
    }
    let nodes: Vec<NodeStatus> = read(&body)?;
    if nodes.is_empty() {
        print("no cluster\n")?;
        return Ok(exit::OK);
    }
    let row = |node: &NodeStatus| {
        let this = if node.this { "this one" } else { "" };
        let heard = Duration::from_millis(node.silent_ms / 100 * 100);
        vec![
            node.node.clone(),
            escape(&node.name).into_owned(),
            node.connections.to_string(),
            if node.this { "-".to_owned() } else { format!("{heard:?} ago") },
            this.to_owned(),
        ]
    };
    let rows: Vec<Vec<String>> = nodes.iter().map(row).collect();
    print(&table(&["NODE", "NAME", ">CONNECTIONS", ">HEARD", ""], &rows))?;
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
