//! The verbs that look at a running `serve` and change it.

use std::io::Write;
use std::time::Duration;

use serde_json::Value;

use crate::cli::{CloseArgs, ControlArgs, ReloadArgs, RestartArgs, StatusArgs, VerbArgs};
use crate::config::units;
use crate::control::client::Client;
use crate::control::discovery::{Environment, find};
use crate::error::{Failure, complain};
use crate::escape::escape;

/// A client as the flags and the environment say.
pub fn client(args: &ControlArgs) -> Result<Client, Failure> {
    Ok(Client::new(find(args, &Environment::of_process())?, timeout(&args.timeout)?))
}

/// `--timeout`.
pub fn timeout(text: &str) -> Result<Duration, Failure> {
    let time = units::duration(text).map_err(|why| Failure::usage(format!("--timeout: {why}")))?;
    if time.is_zero() {
        return Err(Failure::usage("--timeout must be more than zero"));
    }
    Ok(time)
}

/// A segment of a URL's path, or a value of its query.
pub fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// A line on stdout; a reader that has gone is no failure.
pub fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

fn parse(body: &[u8]) -> Result<Value, Failure> {
    serde_json::from_slice(body)
        .map_err(|_| Failure::other("the control port's answer is no JSON: is it wsgw?"))
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => escape(text).into_owned(),
        other => other.to_string(),
    }
}

/// Columns as wide as they need to be.
fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let width = |i: usize, name: &str| {
        rows.iter().map(|row| row[i].chars().count()).chain([name.len()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = head.iter().enumerate().map(|(i, name)| width(i, name)).collect();
    let line = |cells: Vec<&str>| {
        let padded: Vec<String> =
            cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        padded.join("  ").trim_end().to_owned() + "\n"
    };
    let mut out = line(head.to_vec());
    for row in rows {
        out.push_str(&line(row.iter().map(String::as_str).collect()));
    }
    out
}

fn status_table(gateways: &[Value]) -> String {
    let head =
        ["GATEWAY", "STATE", "ADDRESS", "CONNECTIONS", "LISTENER", "PID", "RESTARTS", "IN", "OUT"];
    let keys = [
        "id",
        "state",
        "address",
        "connections",
        "listener",
        "listener_pid",
        "restarts",
        "messages_in",
        "messages_out",
    ];
    let rows: Vec<Vec<String>> =
        gateways.iter().map(|g| keys.iter().map(|key| text(&g[*key])).collect()).collect();
    let mut out = table(&head, &rows);
    for gateway in gateways {
        if let Some(error) = gateway["error"].as_str() {
            let error = escape(error).replace("\\n", "\n");
            out.push_str(&format!("{}: {error}\n", text(&gateway["id"])));
        }
    }
    out
}

fn show_gateways(body: &[u8], json: bool) -> Result<u8, Failure> {
    if json {
        print(&String::from_utf8_lossy(body));
        return Ok(0);
    }
    let value = parse(body)?;
    let one = std::slice::from_ref(&value);
    print(&status_table(value.as_array().map_or(one, Vec::as_slice)));
    Ok(0)
}

/// `wsgw status [ID]`.
pub fn status(args: &StatusArgs) -> Result<u8, Failure> {
    let path = match &args.id {
        Some(id) => format!("/v1/gateways/{}", encode(id)),
        None => "/v1/gateways".to_owned(),
    };
    let body = client(&args.control)?.request("GET", &path, b"")?.ok()?;
    show_gateways(&body, args.json)
}

fn verb(control: &ControlArgs, path: &str, json: bool, done: &str) -> Result<u8, Failure> {
    let body = client(control)?.request("POST", path, b"")?.ok()?;
    if json {
        print(&String::from_utf8_lossy(&body));
    } else {
        let value = parse(&body)?;
        let address = value["address"].as_str().map_or(String::new(), |a| format!(" on {a}"));
        print(&format!("gateway {} {done}{address}\n", text(&value["id"])));
    }
    Ok(0)
}

/// `wsgw start ID`.
pub fn start(args: &VerbArgs) -> Result<u8, Failure> {
    let path = format!("/v1/gateways/{}/start", encode(&args.id));
    verb(&args.control, &path, args.json, "running")
}

/// `wsgw stop ID`.
pub fn stop(args: &VerbArgs) -> Result<u8, Failure> {
    let path = format!("/v1/gateways/{}/stop", encode(&args.id));
    verb(&args.control, &path, args.json, "stopped")
}

/// `wsgw restart ID [--listener]`.
pub fn restart(args: &RestartArgs) -> Result<u8, Failure> {
    let (query, done) =
        if args.listener { ("?listener=true", "has a new listener") } else { ("", "running") };
    let path = format!("/v1/gateways/{}/restart{query}", encode(&args.id));
    verb(&args.control, &path, args.json, done)
}

/// `wsgw reload`.
pub fn reload(args: &ReloadArgs) -> Result<u8, Failure> {
    let answer = client(&args.control)?.request("POST", "/v1/reload", b"")?;
    if let Some(notice) = &answer.notice {
        complain(&format!("wsgw: {}", escape(notice)));
    }
    let body = answer.ok()?;
    show_gateways(&body, args.json)
}

/// `wsgw connections [ID]`.
pub fn connections(args: &StatusArgs) -> Result<u8, Failure> {
    let client = client(&args.control)?;
    let ids: Vec<String> = match &args.id {
        Some(id) => vec![id.clone()],
        None => {
            let all = parse(&client.request("GET", "/v1/gateways", b"")?.ok()?)?;
            let all = all.as_array().cloned().unwrap_or_default();
            all.iter().filter_map(|g| Some(g["id"].as_str()?.to_owned())).collect()
        }
    };
    let mut list = Vec::new();
    for id in &ids {
        let path = format!("/v1/gateways/{}/connections", encode(id));
        let rows = parse(&client.request("GET", &path, b"")?.ok()?)?;
        for row in rows.as_array().cloned().unwrap_or_default() {
            list.push((id.clone(), row));
        }
    }
    if args.json {
        let all = list.into_iter().map(|(id, mut row)| {
            if args.id.is_none() {
                // The list of all gateways says whose each is.
                row["gateway"] = id.into();
            }
            row
        });
        print(&(Value::Array(all.collect()).to_string() + "\n"));
        return Ok(0);
    }
    let now = std::time::SystemTime::now();
    let rows: Vec<Vec<String>> = list
        .iter()
        .map(|(id, row)| {
            let opened = row["opened_at"].as_str().unwrap_or_default();
            let age = humantime::parse_rfc3339(opened)
                .ok()
                .and_then(|at| now.duration_since(at).ok())
                .map_or("-".to_owned(), |age| {
                    humantime::format_duration(Duration::from_secs(age.as_secs())).to_string()
                });
            let cells = [&row["conn"], &row["remote"], &row["path"]].map(text);
            let queued = text(&row["queued_bytes"]);
            let [conn, remote, path] = cells;
            vec![id.clone(), conn, remote, path, age, queued]
        })
        .collect();
    print(&table(&["GATEWAY", "CONN", "REMOTE", "PATH", "AGE", "QUEUED"], &rows));
    Ok(0)
}

/// `wsgw close ID CONN`.
pub fn close(args: &CloseArgs) -> Result<u8, Failure> {
    let path = format!(
        "/v1/gateways/{}/connections/{}?code={}&reason={}",
        encode(&args.id),
        encode(&args.conn),
        args.code,
        encode(&args.reason)
    );
    client(&args.control)?.request("DELETE", &path, b"")?.ok()?;
    print(&format!("closed {}\n", escape(&args.conn)));
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_they_need_to_be() {
        let rows = vec![
            vec!["a".to_owned(), "long cell".to_owned()],
            vec!["bb".to_owned(), "x".to_owned()],
        ];
        assert_eq!(table(&["A", "B"], &rows), "A   B\na   long cell\nbb  x\n");
    }

    #[test]
    fn paths_are_encoded() {
        assert_eq!(encode("a b/ü?"), "a%20b%2F%C3%BC%3F");
    }
}
