//! `wsgw send --lines`, the real binary, against a real control port over a fake server.

mod control_support;

use std::io::Write;
use std::process::Stdio;

use control_support::{Port, code, err, is, out};
use serde_json::{Value, json};

#[test]
fn lines_in_order_with_one_total() {
    let port = Port::start();
    let count = 50_000;
    let input: String = (0..count).map(|n| format!("{n}\n")).collect();
    is(&port.run_with(&["send", "--lines"], input.as_bytes()), 0, "delivered 100000\n");
    let want: Vec<String> = (0..count).map(|n| n.to_string()).collect();
    assert_eq!(port.fake.messages(), want);
}

#[test]
fn lines_as_they_come() {
    let port = Port::start();
    let mut child = port
        .wsgw(&["send", "--lines"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    for n in 1..=3 {
        stdin.write_all(b"line\n").unwrap();
        port.fake.wait("a line goes before the next comes", |s| s.pushes.len() == n);
    }
    stdin.write_all(b"no newline").unwrap();
    drop(stdin);
    is(&child.wait_with_output().unwrap(), 0, "delivered 8\n");
    assert_eq!(port.fake.messages().last().unwrap(), "no newline");
}

#[test]
fn an_empty_input_is_done_and_empty_lines_are_skipped() {
    let port = Port::start();
    is(&port.run(&["send", "--lines"]), 0, "delivered 0\n");
    is(&port.run_with(&["send", "--lines"], b"\n\na\n\n"), 0, "delivered 2\n");
    is(&port.run_with(&["send", "--lines", "-q"], b"a\n"), 0, "");
    is(&port.run_with(&["send", "--lines", "-"], b"a\n"), 0, "delivered 2\n");
}

#[test]
fn it_goes_on_after_a_failed_line_and_names_it() {
    let port = Port::start();
    let input = b"a\n\n!listener_timeout\n\xff\nb\n!listener_timeout\n";
    let done = port.run_with(&["send", "--lines", "--json"], input);
    assert_eq!(code(&done), 5, "the first failure's code");
    let lines: Vec<String> = err(&done).lines().map(str::to_owned).collect();
    assert_eq!(lines.len(), 3, "{lines:?}");
    for (line, number) in lines.iter().zip(["line 3:", "line 4:", "line 6:"]) {
        assert!(line.contains(number), "{line}");
    }
    assert_eq!(
        serde_json::from_str::<Value>(&out(&done)).unwrap(),
        json!({
            "matched": 4, "delivered": 4, "dropped": 0, "gone": [],
            "failed": [
                {"line": 3, "code": "listener_timeout"},
                {"line": 4, "code": "bad_request"},
                {"line": 6, "code": "listener_timeout"},
            ],
            "failures": 3,
        })
    );
    assert_eq!(port.fake.messages(), ["a", "!listener_timeout", "b", "!listener_timeout"]);

    let done = port.run_with(&["send", "--lines", "--base64"], b"AAEC\n%%%\nAAED\n");
    is(&done, 1, "delivered 4\n");
    assert!(err(&done).contains("line 2:"));
    let done = port.run_with(&["send", "--lines", "--to", "k9"], b"x\ny\n");
    is(&done, 4, "delivered 0\n");
    assert!(err(&done).contains("line 1:") && err(&done).contains("line 2:"));
    is(&port.run_with(&["send", "--lines", "-g", "nope"], b"x\n"), 4, "delivered 0\n");
}

#[test]
fn without_progress_it_gives_up() {
    let port = Port::start();
    let done = port.run_with(&["send", "--lines", "--timeout", "0.1"], b"a\nhold\nb\n");
    is(&done, 3, "delivered 2\n");
    assert!(err(&done).contains("line 2"), "{}", err(&done));
    port.fake.wait_withdrawn();
}

#[test]
fn the_end_of_the_control_port_ends_it_though_stdin_stays_open() {
    let mut port = Port::start();
    let mut child = port
        .wsgw(&["send", "--lines"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"a\n").unwrap();
    port.fake.wait("the line", |s| s.pushes.len() == 1);
    port.stop();
    let done = child.wait_with_output().unwrap();
    assert_eq!(code(&done), 3, "{}", err(&done));
    drop(stdin);
}
