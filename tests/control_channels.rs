//! Channels and history on the control port, and the commands that show them, over a fake server.

mod control_support;

use control_support::{Port, code, err, is, out};
use serde_json::{Value, json};

#[test]
fn channels_are_listed_in_pages() {
    let port = Port::start();
    let list = |query: &str| port.get(&format!("/v1/gateways/chat/channels{query}")).json();
    let row = |channel: &str, members: u64| json!({"channel": channel, "members": members});
    assert_eq!(list(""), json!([row("a+b/c", 1), row("room1", 2), row("room2", 1)]));
    assert_eq!(list("?limit=1"), json!([row("a+b/c", 1)]));
    assert_eq!(list("?limit=1&after=a%2Bb%2Fc"), json!([row("room1", 2)]));
    assert_eq!(list("?after=a+b/c&prefix=room"), json!([row("room1", 2), row("room2", 1)]));
    assert_eq!(list("?prefix=a+b"), json!([row("a+b/c", 1)]), "a plus stays a plus");
    assert_eq!(list("?after=room2"), json!([]));
}

#[test]
fn a_channel_has_its_members_and_its_history() {
    let port = Port::start();
    let room = port.get("/v1/gateways/Chat/channels/room1").json();
    assert_eq!((&room["count"], &room["members"]), (&json!(2), &json!(["k1", "k2"])));
    assert_eq!(room["history"]["at"], "q7Zk2pYa-4");
    let page = port.get("/v1/gateways/chat/channels/room1?limit=1&after=k1").json();
    assert_eq!((&page["count"], &page["members"]), (&json!(2), &json!(["k2"])));
    for path in ["a%2Bb%2Fc", "a+b%2fc", "a+b/c"] {
        let found = port.get(&format!("/v1/gateways/chat/channels/{path}")).json();
        assert_eq!(found["channel"], "a+b/c", "{path}");
    }
}

#[test]
fn connections_are_listed_in_pages_and_by_channel() {
    let port = Port::start();
    let list = |query: &str| {
        let list = port.get(&format!("/v1/gateways/chat/connections{query}")).json();
        let conns = list.as_array().unwrap().iter().map(|c| c["conn"].as_str().unwrap().to_owned());
        conns.collect::<Vec<_>>()
    };
    assert_eq!(list(""), ["k1", "k2"]);
    assert_eq!(list("?limit=1"), ["k1"]);
    assert_eq!(list("?after=k1"), ["k2"]);
    assert_eq!(list("?channel=a+b%2Fc"), ["k1"]);
    assert_eq!(list("?channel=nobody"), [""; 0]);
    let one = port.get("/v1/gateways/chat/connections/k1").json();
    assert_eq!(one["channels"], json!(["a+b/c", "room1", "room2"]));
}

#[test]
fn history_is_one_frame_a_line() {
    let port = Port::start();
    let read = |query: &str| port.get(&format!("/v1/gateways/chat/history{query}"));
    let all = read("");
    assert!(all.head.contains("content-type: application/x-ndjson"), "{}", all.head);
    let first =
        json!({"message": "two\nlines \\ \u{1b}[2J", "channel": "room1", "at": "q7Zk2pYa-2"});
    assert_eq!(all.lines()[..2], [first, json!({"base64": "AP8=", "at": "q7Zk2pYa-3"})]);
    let numbers = |query: &str| -> Vec<String> {
        let lines = read(query).lines();
        lines.iter().map(|f| f["at"].as_str().unwrap()[9..].to_owned()).collect()
    };
    assert_eq!(numbers(""), ["2", "3", "4", "5"]);
    assert_eq!(numbers("?limit=2"), ["4", "5"], "the newest");
    assert_eq!(numbers("?limit=2&since=q7Zk2pYa-2"), ["3", "4"], "the oldest behind a position");
    assert_eq!(numbers("?channel=room1&channel=old"), ["2", "4", "5"]);
    assert_eq!(numbers("?limit=0"), [""; 0]);
    let gone = read("?since=q7Zk2pYa-0");
    assert_eq!((gone.status, gone.code().as_str()), (410, "gone"));
    let head = port.request("HEAD", "/v1/gateways/chat/history", "", "");
    assert_eq!((head.status, head.body.as_str()), (200, ""));
}

#[test]
fn mistakes_are_said() {
    let port = Port::start();
    port.fake.state().two_run = true;
    let gateways = "/v1/gateways";
    for (path, status, code) in [
        ("/chat/channels?limit=x", 400, "bad_request"),
        ("/chat/channels?limit=-1", 400, "bad_request"),
        ("/chat/channels?after=a%20b", 400, "bad_request"),
        ("/chat/channels/", 400, "bad_request"),
        ("/chat/channels/a%20b", 400, "bad_request"),
        ("/chat/channels/room1?after=7", 400, "bad_request"),
        ("/chat/channels/nobody", 404, "unknown_channel"),
        ("/nope/channels", 404, "unknown_gateway"),
        ("/nope/channels/room1", 404, "unknown_gateway"),
        ("/chat/connections?limit=", 400, "bad_request"),
        ("/chat/connections?after=x", 400, "bad_request"),
        ("/chat/connections?channel=", 400, "bad_request"),
        ("/chat/connections?channel=a&channel=b", 400, "bad_request"),
        ("/chat/history?since=", 400, "bad_request"),
        ("/chat/history?since=yesterday", 400, "bad_request"),
        ("/chat/history?channel=a%00", 400, "bad_request"),
        ("/idle/history", 404, "no_history"),
        ("/nope/history", 404, "unknown_gateway"),
    ] {
        let answer = port.get(&format!("{gateways}{path}"));
        assert_eq!((answer.status, answer.code().as_str()), (status, code), "{path}");
    }
    for path in ["/chat/channels", "/chat/channels/room1", "/chat/history"] {
        let answer = port.request("POST", &format!("{gateways}{path}"), "", "{}");
        assert_eq!(answer.status, 405, "{path}");
        assert!(answer.head.contains("allow: get, head"), "{}", answer.head);
    }
}

#[test]
fn the_command_channels() {
    let port = Port::start();
    for args in [&["channels"][..], &["channels", "chat"]] {
        let want = "GATEWAY  CHANNEL  MEMBERS\n\
                    chat     a+b/c          1\n\
                    chat     room1          2\n\
                    chat     room2          1\n";
        is(&port.run(args), 0, want);
    }
    is(&port.run(&["channels", "idle"]), 0, "no channels\n");
    let one = "channel: room1\nhistory: 2 messages, 99 bytes, the oldest from \
               2026-11-24T12:00:00.000Z\nposition: q7Zk2pYa-4\nmembers: 2\n  k1\n  k2\n";
    is(&port.run(&["channels", "chat", "room1"]), 0, one);
    let json = |args: &[&str]| -> Value { serde_json::from_str(&out(&port.run(args))).unwrap() };
    assert_eq!(
        json(&["channels", "--json"])[1],
        json!({"channel":"room1","members":2,"gateway":"chat"})
    );
    assert_eq!(
        json(&["channels", "chat", "--json"]),
        port.get("/v1/gateways/chat/channels").json()
    );
    let room = port.get("/v1/gateways/chat/channels/a+b%2Fc").json();
    assert_eq!(json(&["channels", "chat", "a+b/c", "--json"]), room);
    assert_eq!(code(&port.run(&["channels", "chat", "nobody"])), 4);
    assert_eq!(code(&port.run(&["channels", "chat", "a b"])), 2);
    let done = port.run(&["channels", "room1"]);
    assert_eq!(code(&done), 4);
    assert!(err(&done).contains("known: chat, idle") && err(&done).contains("channels ID CHANNEL"));
}

#[test]
fn the_command_history() {
    let port = Port::start();
    let all = "two\\nlines \\\\ \u{1b}[2J\nAP8=\nfour\n\n";
    is(&port.run(&["history"]), 0, all);
    is(&port.run(&["history", "chat"]), 0, all);
    is(&port.run(&["history", "--channel", "old", "--channel", "room2"]), 0, "four\n");
    is(&port.run(&["history", "--since", "q7Zk2pYa-2", "--limit", "2"]), 0, "AP8=\nfour\n");
    let json = out(&port.run(&["history", "--json", "--limit", "2"]));
    let want = "{\"message\":\"four\",\"channel\":\"old\",\"at\":\"q7Zk2pYa-4\"}\n\
                {\"message\":\"\",\"channel\":\"room1\",\"at\":\"q7Zk2pYa-5\"}\n";
    assert_eq!(json, want);
    for (args, want) in [
        (&["history", "--since", "q7Zk2pYa-0"][..], 1),
        (&["history", "--since", "yesterday"], 2),
        (&["history", "--channel", "a b"], 2),
        (&["history", "idle"], 1),
        (&["history", "nope"], 4),
    ] {
        let done = port.run(args);
        is(&done, want, "");
        assert!(err(&done).starts_with("wsgw: "), "{}", err(&done));
    }
    port.fake.state().two_run = true;
    let done = port.run(&["history"]);
    is(&done, 2, "");
    assert!(err(&done).contains("wsgw history ID") && err(&done).contains("chat, idle"));
}

#[test]
fn the_command_connections_shows_a_page_or_a_channel() {
    let port = Port::start();
    let conns = |args: &[&str]| -> Vec<String> {
        let done = port.run(&[&["connections", "--json"], args].concat());
        assert_eq!(code(&done), 0, "{}", err(&done));
        let list: Value = serde_json::from_str(&out(&done)).unwrap();
        list.as_array().unwrap().iter().map(|c| c["conn"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(conns(&["--limit", "1"]), ["k1"]);
    assert_eq!(conns(&["chat", "--after", "k1", "--limit", "5"]), ["k2"]);
    assert_eq!(conns(&["--channel", "room2"]), ["k1"]);
    assert!(out(&port.run(&["connections"])).contains("a+b/c room1 room2"));
    assert_eq!(code(&port.run(&["connections", "--channel", "a b"])), 2);
    assert_eq!(code(&port.run(&["connections", "--after", "3"])), 2);
    assert_eq!(code(&port.run(&["connections", "--limit", "x"])), 2);
}

#[test]
fn send_takes_channels() {
    let port = Port::start();
    is(&port.run(&["send", "--channel", "room1", "hi"]), 0, "delivered 2\n");
    for args in [
        &["send", "--channel", "room1", "--to", "k1", "hi"][..],
        &["send", "--channel", "a b", "hi"],
        &["send", "--channel", "", "--lines"],
        &["send", "--channel", "a", "--data", r#"{"message":"x","channel":"b"}"#],
    ] {
        let done = port.run(args);
        assert_eq!(code(&done), 2, "{args:?} {}", err(&done));
    }
}
