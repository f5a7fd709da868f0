//! Streams of structs over raw HTTP: their order, their results, and that none hangs.

mod control_support;

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::sync::atomic::Ordering;

use control_support::{Answer, Port, ok};
use serde_json::json;

const NDJSON: &str = "Content-Type: application/x-ndjson\r\n";
const MESSAGES: &str = "/v1/gateways/chat/messages";

#[test]
fn a_streams_pushes_are_withdrawn_when_its_requester_goes() {
    let port = Port::start();
    for query in ["", "?results=each"] {
        let mut socket = port.connect();
        let head = port.head("POST", &format!("{MESSAGES}{query}"));
        let body = "{\"message\":\"hold\"}\n{\"message\":\"hold\"}\n";
        socket
            .write_all(
                format!(
                    "{head}{NDJSON}Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n",
                    body.len()
                )
                .as_bytes(),
            )
            .unwrap();
        port.fake.wait_held(2);
        drop(socket);
        port.fake.wait_withdrawn();
        port.fake.state().held.clear();
    }
}

#[test]
fn a_streams_totals() {
    let port = Port::start();
    let lines = "{\"message\":\"a\"}\n\n  \nnonsense\n{\"message\":\"!listener_timeout\"}\r\n\
                 {\"message\":\"b\",\"connections\":[\"k1\",\"k9\"]}\n{\"message\":\"last\"}";
    let totals = port.request("POST", MESSAGES, NDJSON, lines).json();
    assert_eq!(
        totals,
        json!({
            "matched": 5, "delivered": 5, "dropped": 0, "gone": ["k9"],
            "failed": [
                {"line": 4, "code": "bad_request"},
                {"line": 5, "code": "listener_timeout"},
            ],
            "failures": 2,
        })
    );
    assert_eq!(port.fake.messages(), ["a", "!listener_timeout", "b", "last"]);
    assert_eq!(port.fake.pauses.load(Ordering::Relaxed), 5, "between the structs");
}

#[test]
fn a_streams_results() {
    let port = Port::start();
    let lines = "{\"message\":\"a\"}\n\nnonsense\n{\"message\":\"b\",\"connections\":[]}\n";
    let path = format!("{MESSAGES}?results=each&hook=none");
    let results = port.request("POST", &path, NDJSON, lines).lines();
    assert_eq!(results.len(), 3);
    assert_eq!((&results[0], &results[2]), (&ok(2), &ok(0)));
    assert_eq!(results[1]["error"]["code"], "bad_request");
    assert_eq!(results[1]["line"], 3);
    assert!(port.fake.state().pushes.iter().all(|(_, hook)| !hook));
}

#[test]
fn results_come_while_the_stream_is_open() {
    let port = Port::start();
    let mut socket = port.connect();
    let head = port.head("POST", &format!("{MESSAGES}?results=each"));
    socket
        .write_all(format!("{head}{NDJSON}Transfer-Encoding: chunked\r\n\r\n").as_bytes())
        .unwrap();
    let mut reader = BufReader::new(socket.try_clone().unwrap());
    let mut lines = std::iter::from_fn(|| {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        Some(line)
    });
    for message in ["a", "b", "c"] {
        let line = format!("{{\"message\":\"{message}\"}}\n");
        socket.write_all(format!("{:x}\r\n{line}\r\n", line.len()).as_bytes()).unwrap();
        assert!(lines.any(|l| l.contains("\"delivered\":2")), "{message}");
    }
    socket.write_all(b"0\r\n\r\n").unwrap();
    assert!(lines.any(|l| l == "0\r\n"), "the stream ends when its input does");
}

#[test]
fn who_writes_all_and_reads_then_does_not_hang() {
    let port = Port::start();
    let count = 60_000;
    let body: String = (0..count).map(|n| format!("{{\"message\":\"{n}\"}}\n")).collect();
    let each = port.request("POST", &format!("{MESSAGES}?results=each"), NDJSON, &body);
    assert_eq!(each.body.lines().count(), count);
    let sent: Vec<String> = (0..count).map(|n| n.to_string()).collect();
    assert_eq!(port.fake.messages(), sent, "in order");
    let totals = port.request("POST", MESSAGES, NDJSON, &body).json();
    assert_eq!(totals["delivered"], 2 * count);
}

/// A connection on which all of a stream was written.
fn stream(port: &Port, body: &str) -> TcpStream {
    let mut socket = port.connect();
    let head = port.head("POST", MESSAGES);
    let length = body.len();
    let request =
        format!("{head}Connection: close\r\n{NDJSON}Content-Length: {length}\r\n\r\n{body}");
    socket.write_all(request.as_bytes()).unwrap();
    socket
}

#[test]
fn a_stream_keeps_a_bounded_number_of_receipts_open() {
    let port = Port::start();
    let mut socket = stream(&port, &"{\"message\":\"hold\"}\n".repeat(1000));
    let mut released = 0;
    while released < 1000 {
        let now = 256.min(1000 - released);
        port.fake.wait_held(now);
        assert_eq!(port.fake.state().pushes.len(), released + now);
        port.fake.release();
        released += now;
    }
    assert_eq!(Answer::read(&mut socket).json()["delivered"], 2000);
}

#[test]
fn a_busy_server_makes_a_stream_wait_not_fail() {
    let port = Port::start();
    port.fake.limit.store(2, Ordering::Relaxed);
    let mut socket = stream(&port, &"{\"message\":\"hold\"}\n".repeat(6));
    for _ in 0..3 {
        port.fake.wait_held(2);
        let refused = port.push(r#"{"message":"hold"}"#);
        assert_eq!((refused.status, refused.code().as_str()), (429, "busy"));
        port.fake.release();
    }
    let totals = Answer::read(&mut socket).json();
    assert_eq!((&totals["delivered"], &totals["failures"]), (&json!(12), &json!(0)));
}
