//! `wsgw status` and `wsgw connections`.

use std::time::{Duration, SystemTime};

use serde::Deserialize;
use serde_json::Value;

use crate::cli::StatusArgs;
use crate::commands::control;
use crate::commands::control::{read, segment};
use crate::commands::output::{print, print_json, table};
use crate::error::{Failure, exit};
use crate::text::escape::escape;

/// What a status line needs of a gateway.
#[derive(Debug, Deserialize)]
pub struct Gateway {
    /// Its id.
    pub id: String,
    /// `running` and so on.
    pub state: String,
    listener: String,
    /// Where it listens.
    pub address: Option<String>,
    connections: u64,
    messages_in: u64,
    messages_out: u64,
    restarts: u64,
    listener_pid: Option<u32>,
    /// Why it failed.
    pub error: Option<String>,
}

/// `wsgw status [ID]`.
pub fn status(args: &StatusArgs) -> Result<u8, Failure> {
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
        print(&gateways_table(&read::<Vec<Gateway>>(&body)?))?;
    }
    Ok(exit::OK)
}

/// The table of `wsgw status`, with what went wrong below.
pub fn gateways_table(gateways: &[Gateway]) -> String {
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
                g.state.clone(),
                g.address.clone().unwrap_or_else(none),
                g.connections.to_string(),
                g.messages_in.to_string(),
                g.messages_out.to_string(),
                g.listener.clone(),
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
pub fn lines_escaped(text: &str) -> String {
    text.lines().map(escape).collect::<Vec<_>>().join("\n  ")
}

#[derive(Debug, Deserialize)]
struct Connection {
    gateway: String,
    conn: String,
    remote: String,
    path: String,
    opened_at: String,
    queued_bytes: u64,
}

/// `wsgw connections [ID]`. Those of all gateways have a key `gateway` each.
pub fn connections(args: &StatusArgs) -> Result<u8, Failure> {
    let mut client = control::open(&args.control, Duration::ZERO)?;
    let path = |id: &str| format!("/v1/gateways/{}/connections", segment(id));
    let mut all: Vec<Value> = Vec::new();
    if let Some(id) = &args.id {
        let body = client.call("GET", &path(id), None)?;
        if args.json {
            print_json(&body)?;
            return Ok(exit::OK);
        }
        add(&mut all, id, &body)?;
    } else {
        let gateways = client.call("GET", "/v1/gateways", None)?;
        for gateway in read::<Vec<Gateway>>(&gateways)? {
            let answer = client.request("GET", &path(&gateway.id), None)?;
            match answer.status {
                200 => add(&mut all, &gateway.id, &answer.body)?,
                // Removed or stopped in the meantime: it has none.
                404 | 409 | 503 => {}
                status => return Err(client.refused(status, &answer.body)),
            }
        }
        if args.json {
            print_json(Value::from(all).to_string().as_bytes())?;
            return Ok(exit::OK);
        }
    }
    let list: Vec<Connection> = all
        .into_iter()
        .map(|value| {
            serde_json::from_value(value).map_err(|e| {
                Failure::other(format!("the control port's answer is not understood: {e}"))
            })
        })
        .collect::<Result<_, _>>()?;
    print(&connections_table(&list, SystemTime::now()))?;
    Ok(exit::OK)
}

fn add(all: &mut Vec<Value>, gateway: &str, body: &[u8]) -> Result<(), Failure> {
    for mut connection in read::<Vec<Value>>(body)? {
        if let Some(members) = connection.as_object_mut() {
            members.insert("gateway".to_owned(), Value::from(gateway));
        }
        all.push(connection);
    }
    Ok(())
}

fn connections_table(list: &[Connection], now: SystemTime) -> String {
    if list.is_empty() {
        return "no connections\n".to_owned();
    }
    let rows: Vec<Vec<String>> = list
        .iter()
        .map(|c| {
            vec![
                c.gateway.clone(),
                c.conn.clone(),
                escape(&c.remote).into_owned(),
                age(&c.opened_at, now),
                c.queued_bytes.to_string(),
                escape(&c.path).into_owned(),
            ]
        })
        .collect();
    table(&["GATEWAY", "CONN", "REMOTE", ">AGE", ">QUEUED", "PATH"], &rows)
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
        let list = [Connection {
            gateway: "chat".into(),
            conn: "k3".into(),
            remote: "127.0.0.1:5".into(),
            path: "/\u{1b}[2J".into(),
            opened_at: "2026-11-24T12:00:00Z".into(),
            queued_bytes: 0,
        }];
        let text = connections_table(&list, SystemTime::UNIX_EPOCH);
        assert!(!text.contains('\u{1b}') && text.contains(r"/\x1b[2J"), "{text}");
    }
}
