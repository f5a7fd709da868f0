//! `wsgw status`, `connections` and the verbs, the real binary, against a real control port over a
//! fake server.

mod control_support;

use std::process::Stdio;

use control_support::{Port, code, err, is, out};
use serde_json::{Value, json};

#[test]
fn status_is_a_table_or_the_apis_json() {
    let port = Port::start();
    let done = port.run(&["status"]);
    assert_eq!(code(&done), 0);
    let text = out(&done);
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].starts_with("GATEWAY") && lines[1].starts_with("chat"));
    assert!(lines[1].contains("running") && lines[1].contains("ws://127.0.0.1:10125"));
    let column = |line: &str, word: &str| line.find(word).unwrap();
    assert_eq!(column(lines[0], "STATE"), column(lines[1], "running"));
    assert_eq!(column(lines[0], "STATE"), column(lines[2], "stopped"));
    assert!(!text.contains('\u{1b}') && text.contains(r"\x1b[2J"), "{text:?}");
    let json: Value = serde_json::from_str(&out(&port.run(&["status", "--json"]))).unwrap();
    assert_eq!(json, port.get("/v1/gateways").json());
    let json: Value = serde_json::from_str(&out(&port.run(&["status", "chat", "--json"]))).unwrap();
    assert_eq!(json["id"], "chat");
    assert_eq!(out(&port.run(&["status", "chat"])).lines().count(), 2);
    assert_eq!(code(&port.run(&["status", "nope"])), 4);
}

#[test]
fn nobody_reading_the_table_is_no_failure() {
    let port = Port::start();
    let mut child =
        port.wsgw(&["status"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let done = child.wait_with_output().unwrap();
    assert_eq!((code(&done), err(&done).as_str()), (0, ""));
}

#[test]
fn connections() {
    let port = Port::start();
    for args in [&["connections"][..], &["connections", "chat"]] {
        let done = port.run(args);
        let text = out(&done);
        assert_eq!((code(&done), text.lines().count()), (0, 3), "{text}");
        assert!(text.contains("k1") && text.contains("203.0.113.9:5151"));
        assert!(text.contains(r"/chat\x1b"), "{text:?}");
    }
    let all: Value = serde_json::from_str(&out(&port.run(&["connections", "--json"]))).unwrap();
    assert_eq!((&all[0]["gateway"], &all[1]["conn"]), (&json!("chat"), &json!("k2")));
    let one = out(&port.run(&["connections", "chat", "--json"]));
    let one: Value = serde_json::from_str(&one).unwrap();
    assert_eq!(one, port.get("/v1/gateways/chat/connections").json());
    assert_eq!(code(&port.run(&["connections", "idle"])), 4);
}

#[test]
fn verbs() {
    let port = Port::start();
    let running = "gateway chat running on ws://127.0.0.1:10125\n";
    is(&port.run(&["start", "chat"]), 0, running);
    is(&port.run(&["stop", "chat"]), 0, running);
    is(&port.run(&["restart", "chat"]), 0, running);
    is(&port.run(&["restart", "chat", "--listener"]), 0, running);
    let json: Value = serde_json::from_str(&out(&port.run(&["start", "chat", "--json"]))).unwrap();
    assert_eq!(json["state"], "running");
    let done = port.run(&["start", "idle"]);
    is(&done, 1, "");
    assert!(err(&done).contains("cannot be started"));
    assert_eq!(code(&port.run(&["start", "nope"])), 4);
    let done = port.run(&["reload"]);
    assert_eq!((code(&done), err(&done).as_str()), (0, "wsgw: needs a new serve\n"));
    is(&port.run(&["close", "chat", "k1"]), 0, "closed k1\n");
    is(&port.run(&["close", "chat", "k2", "--code", "4001", "--reason", "a b"]), 0, "closed k2\n");
    assert_eq!(code(&port.run(&["close", "chat", "k9"])), 4);
    assert_eq!(code(&port.run(&["close", "chat", "k1", "--code", "1005"])), 2);
    let long = "x".repeat(124);
    assert_eq!(code(&port.run(&["close", "chat", "k1", "--reason", &long])), 2);
    let calls = port.fake.state().calls.clone();
    assert_eq!(calls[0..4], ["start chat", "stop chat", "restart chat", "restart-listener chat"]);
    assert_eq!(
        calls[7..],
        ["reload", "close chat k1 1000 ", "close chat k2 4001 a b", "close chat k9 1000 ",]
    );
}
