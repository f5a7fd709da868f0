//! `wsgw start`, `stop`, `restart`, `reload` and `close`.

use std::time::Duration;

use crate::api::GatewayStatus;
use crate::cli::{CloseArgs, ControlArgs, ReloadArgs, RestartArgs, VerbArgs};
use crate::commands::control;
use crate::commands::control::{read, segment};
use crate::commands::output::{print, print_json};
use crate::commands::status::gateways_table;
use crate::error::{Failure, complain, exit};
use crate::text::escape;
use crate::ws::close;

/// `wsgw start ID`.
pub(super) fn start(args: &VerbArgs) -> Result<u8, Failure> {
    verb(&args.control, &args.id, "start", args.json)
}

/// `wsgw stop ID`.
pub(super) fn stop(args: &VerbArgs) -> Result<u8, Failure> {
    verb(&args.control, &args.id, "stop", args.json)
}

/// `wsgw restart ID [--listener]`.
pub(super) fn restart(args: &RestartArgs) -> Result<u8, Failure> {
    let verb_path = if args.listener { "restart?listener=true" } else { "restart" };
    verb(&args.control, &args.id, verb_path, args.json)
}

fn verb(args: &ControlArgs, id: &str, verb: &str, json: bool) -> Result<u8, Failure> {
    let mut client = control::open(args, Duration::ZERO)?;
    let path = format!("/v1/gateways/{}/{verb}", segment(id));
    let body = client.call("POST", &path, None)?;
    if json {
        print_json(&body)?;
    } else {
        let gateway: GatewayStatus = read(&body)?;
        let address = gateway.address.map(|a| format!(" on {a}")).unwrap_or_default();
        print(&format!("gateway {} {}{address}\n", gateway.id, gateway.state.name()))?;
    }
    Ok(exit::OK)
}

/// `wsgw reload`.
pub(super) fn reload(args: &ReloadArgs) -> Result<u8, Failure> {
    let mut client = control::open(&args.control, Duration::ZERO)?;
    let answer = client.request("POST", "/v1/reload", None)?;
    if answer.status != 200 {
        return Err(client.refused(answer.status, &answer.body));
    }
    if let Some(notice) = &answer.notice {
        complain(&format!("wsgw: {}", escape::lines(notice)));
    }
    let body = answer.body;
    if args.json {
        print_json(&body)?;
    } else {
        print(&gateways_table(&read::<Vec<GatewayStatus>>(&body)?))?;
    }
    Ok(exit::OK)
}

/// `wsgw close ID CONN`.
pub(super) fn close(args: &CloseArgs) -> Result<u8, Failure> {
    if !close::may_be_sent(args.code) {
        return Err(Failure::usage(format!(
            "--code {} may not be sent in a Close: 1000-1003, 1007-1014 and 3000-4999 may",
            args.code
        )));
    }
    if args.reason.len() > close::MAX_REASON {
        return Err(Failure::usage(format!(
            "--reason has {} bytes, a Close takes {}",
            args.reason.len(),
            close::MAX_REASON
        )));
    }
    let mut client = control::open(&args.control, Duration::ZERO)?;
    let path = format!(
        "/v1/gateways/{}/connections/{}?code={}&reason={}",
        segment(&args.id),
        segment(&args.conn),
        args.code,
        segment(&args.reason)
    );
    client.call("DELETE", &path, None)?;
    print(&format!("closed {}\n", args.conn))?;
    Ok(exit::OK)
}
