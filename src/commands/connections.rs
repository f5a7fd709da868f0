//! `wsgw connections`.

use std::time::{Duration, SystemTime};

use crate::api::ConnectionInfo;
use crate::cli::ConnectionsArgs;
use crate::commands::control;
use crate::commands::control::{channel, segment, with_question_mark};
use crate::commands::lists::{Listing, Lists};
use crate::commands::output::{print, table};
use crate::error::{Failure, exit};
use crate::listener::protocol::connid::ConnId;
use crate::text::age::age;
use crate::text::escape::escape;

/// `wsgw connections [ID]`. Those of all gateways have a key `gateway` each.
pub(super) fn run(args: &ConnectionsArgs) -> Result<u8, Failure> {
    let mut query = Vec::new();
    if let Some(name) = &args.channel {
        query.push(format!("channel={}", segment(channel(name)?)));
    }
    if let Some(limit) = args.limit {
        query.push(format!("limit={limit}"));
    }
    if let Some(after) = &args.after {
        if ConnId::parse(after).is_none() {
            let text = format!("--after {after:?} is not the name of a connection, such as k3");
            return Err(Failure::usage(text));
        }
        query.push(format!("after={after}"));
    }
    if args.local {
        query.push("local=true".to_owned());
    }
    let path = format!("connections{}", with_question_mark(&query));
    let mut client = control::open(&args.control, Duration::ZERO)?;
    let listing = Listing { path: &path, pages: None };
    let lists = Lists::fetch(&mut client, args.id.as_deref(), &listing)?;
    if args.json {
        lists.print_json()?;
        return Ok(exit::OK);
    }
    let now = SystemTime::now();
    let connections: Vec<(&str, ConnectionInfo)> = lists.items()?;
    let rows: Vec<_> = connections.iter().map(|(id, info)| row(id, info, now)).collect();
    print(&connections_table(&rows))?;
    Ok(exit::OK)
}

fn row(gateway: &str, connection: &ConnectionInfo, now: SystemTime) -> Vec<String> {
    vec![
        gateway.to_owned(),
        connection.conn.clone(),
        escape(&connection.remote).into_owned(),
        escape(&connection.transport).into_owned(),
        age(&connection.opened_at, now),
        connection.queued_bytes.to_string(),
        escape(&connection.path_text()).into_owned(),
        escape(&connection.channels.join(" ")).into_owned(),
    ]
}

fn connections_table(rows: &[Vec<String>]) -> String {
    if rows.is_empty() {
        return "no connections\n".to_owned();
    }
    table(&["GATEWAY", "CONN", "REMOTE", "TRANSPORT", ">AGE", ">QUEUED", "PATH", "CHANNELS"], rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_client_chose_is_escaped() {
        let connection = ConnectionInfo {
            conn: "k3".into(),
            remote: "127.0.0.1:5".into(),
            path: serde_json::value::to_raw_value("/\u{1b}[2J").unwrap(),
            transport: "websocket".into(),
            opened_at: "2026-11-24T12:00:00Z".into(),
            queued_bytes: 0,
            channels: vec!["room1".into()],
        };
        let text = connections_table(&[row("chat", &connection, SystemTime::UNIX_EPOCH)]);
        assert!(!text.contains('\u{1b}') && text.contains(r"/\x1b[2J"), "{text}");
    }
}
