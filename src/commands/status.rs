//! `wsgw status` and `wsgw connections`.

use std::time::{Duration, SystemTime};

use serde_json::Value;

use crate::api::{ConnectionInfo, GatewayStatus};
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

/// `wsgw connections [ID]`. Those of all gateways have a key `gateway` each.
pub(super) fn connections(args: &StatusArgs) -> Result<u8, Failure> {
    let mut client = control::open(&args.control, Duration::ZERO)?;
    let path = |id: &str| format!("/v1/gateways/{}/connections", segment(id));
    // Each gateway's id and list.
    let mut lists: Vec<(String, Vec<u8>)> = Vec::new();
    if let Some(id) = &args.id {
        let body = client.call("GET", &path(id), None)?;
        if args.json {
            print_json(&body)?;
            return Ok(exit::OK);
        }
        lists.push((id.clone(), body));
    } else {
        let gateways = client.call("GET", "/v1/gateways", None)?;
        for gateway in read::<Vec<GatewayStatus>>(&gateways)? {
            let answer = client.request("GET", &path(&gateway.id), None)?;
            match answer.status {
                200 => lists.push((gateway.id, answer.body)),
                // Removed or stopped in the meantime: it has none.
                404 | 409 | 503 => {}
                status => return Err(client.refused(status, &answer.body)),
            }
        }
        if args.json {
            print_json(with_gateways(&lists)?.to_string().as_bytes())?;
            return Ok(exit::OK);
        }
    }
    let mut rows = Vec::new();
    let now = SystemTime::now();
    for (gateway, body) in &lists {
        let list: Vec<ConnectionInfo> = read(body)?;
        rows.extend(list.iter().map(|connection| row(gateway, connection, now)));
    }
    print(&connections_table(&rows))?;
    Ok(exit::OK)
}

/// The lists as one, each connection with its gateway and with all that the server said of it.
fn with_gateways(lists: &[(String, Vec<u8>)]) -> Result<Value, Failure> {
    let mut all = Vec::new();
    for (gateway, body) in lists {
        for mut connection in read::<Vec<Value>>(body)? {
            if let Some(members) = connection.as_object_mut() {
                members.insert("gateway".to_owned(), Value::from(gateway.as_str()));
            }
            all.push(connection);
        }
    }
    Ok(Value::from(all))
}

fn row(gateway: &str, connection: &ConnectionInfo, now: SystemTime) -> Vec<String> {
    vec![
        gateway.to_owned(),
        connection.conn.clone(),
        escape(&connection.remote).into_owned(),
        age(&connection.opened_at, now),
        connection.queued_bytes.to_string(),
        escape(&connection.path_text()).into_owned(),
    ]
}

fn connections_table(rows: &[Vec<String>]) -> String {
    if rows.is_empty() {
        return "no connections\n".to_owned();
    }
    table(&["GATEWAY", "CONN", "REMOTE", ">AGE", ">QUEUED", "PATH"], rows)
}

/// `3h12m`: the two largest units.
fn age(opened_at: &str, now: SystemTime) -> String {
    let Ok(opened) = humantime::parse_rfc3339_weak(opened_at) else {
        return escape(opened_at).into_owned();
    };
    let seconds = now.duration_since(opened).unwrap_or_default().as_secs();
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m{}s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{}h{}m", seconds / 3_600, seconds % 3_600 / 60),
        _ => format!("{}d{}h", seconds / 86_400, seconds % 86_400 / 3_600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages() {
        let now = humantime::parse_rfc3339("2026-11-24T12:00:00Z").unwrap();
        for (opened, want) in [
            ("2026-11-24T12:00:05Z", "0s"),
            ("2026-11-24T11:59:59.5Z", "0s"),
            ("2026-11-24T11:58:57.123456Z", "1m2s"),
            ("2026-11-24T09:30:00Z", "2h30m"),
            ("2026-11-20T11:00:00Z", "4d1h"),
            ("soon\u{1b}", "soon\\x1b"),
        ] {
            assert_eq!(age(opened, now), want);
        }
    }

    #[test]
    fn what_a_client_chose_is_escaped() {
        let connection = ConnectionInfo {
            conn: "k3".into(),
            remote: "127.0.0.1:5".into(),
            path: serde_json::value::to_raw_value("/\u{1b}[2J").unwrap(),
            opened_at: "2026-11-24T12:00:00Z".into(),
            queued_bytes: 0,
        };
        let text = connections_table(&[row("chat", &connection, SystemTime::UNIX_EPOCH)]);
        assert!(!text.contains('\u{1b}') && text.contains(r"/\x1b[2J"), "{text}");
    }
}
