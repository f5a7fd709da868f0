//! `wsgw send`, the real binary, against a real control port over a fake server.

mod control_support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::sync::atomic::Ordering;
use std::time::Instant;

use control_support::{PATIENCE, Port, code, err, is, ok, out, wsgw};
use serde_json::{Value, json};
use wsgw::config::settings::ControlListen;

#[test]
fn it_prints_how_many_got_it() {
    let port = Port::start();
    let done = port.run(&["send", "hi"]);
    is(&done, 0, "delivered 2\n");
    assert_eq!(err(&done), "");
    is(&port.run(&["send", "-q", "hi"]), 0, "");
    let done = port.run(&["send", "--json", "hi"]);
    assert_eq!(serde_json::from_str::<Value>(&out(&done)).unwrap(), ok(2));
}

#[test]
fn the_forms_of_a_message() {
    let port = Port::start();
    for (args, stdin, want) in [
        (&["hi"][..], "", "hi"),
        (&[""], "", ""),
        (&["--", "-x"], "", "-x"),
        (&["-5"], "", "-5"),
        (&[], "a\nb\n", "a\nb"),
        (&[], "a\n\n", "a\n"),
        (&["-"], "dash\n", "dash"),
        (&["-"], "", ""),
        (&["--base64", "AAEC"], "", "base64:AAEC"),
        (&["--base64"], "AA\nEC\n", "base64:AAEC"),
        (&["--binary"], "a\n", "base64:YQo="),
        (&["--binary", "-"], "a\n", "base64:YQo="),
        (&["--data", " {\"message\":\"d\"} "], "", "d"),
    ] {
        let args = [&["send"], args].concat();
        is(&port.run_with(&args, stdin.as_bytes()), 0, "delivered 2\n");
        assert_eq!(port.fake.messages().last().unwrap(), want, "{args:?}");
    }
}

#[test]
fn usage_errors_before_anybody_is_asked() {
    let nowhere = tempfile::tempdir().unwrap();
    for (args, stdin) in [
        (&[][..], &b""[..]),
        (&[], b"\n"),
        (&[], b"\xff\n"),
        (&["--binary"], b""),
        (&["--no-such-flag"], b""),
        (&["a", "b"], b""),
        (&["--data", "{}"], b""),
        (&["--data", "[]"], b""),
        (&["--data", "nope"], b""),
        (&["--data", r#"{"message":"x","id":1}"#], b""),
        (&["--data", r#"{"message":"x"}"#, "m"], b""),
        (&["--data", r#"{"message":"x","connections":[]}"#, "--to", "k1"], b""),
        (&["--base64", "A"], b""),
        (&["--binary", "x"], b"y"),
        (&["--lines", "x"], b"y\n"),
        (&["--timeout", "0", "x"], b""),
        (&["--timeout", "soon", "x"], b""),
        (&["--retry", "-1", "x"], b""),
        (&["--control", "ftp://x", "x"], b""),
    ] {
        let mut child = wsgw(nowhere.path())
            .arg("send")
            .args(args)
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // It may be gone already.
        let _ = child.stdin.take().unwrap().write_all(stdin);
        let done = child.wait_with_output().unwrap();
        assert_eq!(code(&done), 2, "{args:?}: {}", err(&done));
        assert!(!done.stderr.is_empty());
    }
}

#[test]
fn crons_stdin_is_a_usage_error() {
    let port = Port::start();
    let done = port.run(&["send"]);
    is(&done, 2, "");
    assert!(err(&done).contains("stdin is empty"));
}

#[test]
fn an_endless_stdin_is_refused() {
    let port = Port::start();
    let zero = std::fs::File::open("/dev/zero").unwrap();
    let done = port.wsgw(&["send", "--binary"]).stdin(zero).output().unwrap();
    is(&done, 1, "");
    assert!(err(&done).contains("too large"));
}

#[test]
fn with_a_message_stdin_is_not_read() {
    let port = Port::start();
    let binary = env!("CARGO_BIN_EXE_wsgw");
    let mut shell = Command::new("sh");
    for (name, value) in port.wsgw(&[]).get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    let script =
        format!("printf '1\\n2\\n3\\n' | while read -r x; do {binary} send -q \"$x\"; done");
    assert!(shell.args(["-c", &script]).status().unwrap().success());
    assert_eq!(port.fake.messages(), ["1", "2", "3"]);

    // A pipe that nobody ever closes does not matter either.
    let mut child =
        port.wsgw(&["send", "x"]).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let held = child.stdin.take();
    assert!(child.wait().unwrap().success());
    drop(held);
}

#[test]
fn targets() {
    let port = Port::start();
    is(&port.run(&["send", "--to", "k1", "--to", "k2", "x"]), 0, "delivered 2\n");
    let done = port.run(&["send", "--to", "k1", "--to", "k9", "x"]);
    is(&done, 0, "delivered 1\n");
    assert!(err(&done).contains("k9"));
    let done = port.run(&["send", "--to", "k9", "x"]);
    is(&done, 4, "delivered 0\n");
    assert!(err(&done).contains("k9"));
    is(&port.run(&["send", "--data", r#"{"message":"x"}"#, "--to", "k1"]), 0, "delivered 1\n");
    let nobody = r#"{"message":"x","connections":[]}"#;
    is(&port.run(&["send", "--data", nobody]), 0, "delivered 0\n");
    is(&port.run(&["send", "--data", nobody, "--require-one"]), 4, "delivered 0\n");
    is(&port.run(&["send", "--except", "k1", "--require-one", "x"]), 0, "delivered 2\n");
}

#[test]
fn which_gateway() {
    let port = Port::start();
    is(&port.run(&["send", "-g", "Chat", "x"]), 0, "delivered 2\n");
    let done = port.run(&["send", "-g", "nope", "x"]);
    is(&done, 4, "");
    assert!(err(&done).contains("chat, idle"), "{}", err(&done));
    is(&port.run(&["send", "-g", "idle", "x"]), 4, "");
    port.fake.state().two_run = true;
    let done = port.run(&["send", "x"]);
    is(&done, 2, "");
    assert!(err(&done).contains("chat, idle"));
    is(&port.run(&["send", "-g", "idle", "x"]), 0, "delivered 2\n");
}

#[test]
fn under_its_own_listener_it_skips_the_hook() {
    let port = Port::start();
    for (gateway, control, hook) in [
        (None, None, true),
        (Some("chat"), None, false),
        (Some("chat"), Some(port.url.as_str()), false),
        (Some("other"), Some(port.url.as_str()), true),
        (Some("chat"), Some("http://127.0.0.1:1"), true),
    ] {
        let mut command = port.wsgw(&["send", "-g", "chat", "--control", &port.url, "x"]);
        if let Some(gateway) = gateway {
            command.env("WSGW_GATEWAY", gateway);
        }
        if let Some(control) = control {
            command.env("WSGW_CONTROL", control);
        }
        is(&command.output().unwrap(), 0, "delivered 2\n");
        assert_eq!(port.fake.state().pushes.last().unwrap().1, hook, "{gateway:?} {control:?}");
    }
    is(&port.run(&["send", "--no-hook", "x"]), 0, "delivered 2\n");
    assert!(!port.fake.state().pushes.last().unwrap().1);
    // Without a name its own is meant.
    port.fake.state().two_run = true;
    let done = port.wsgw(&["send", "x"]).env("WSGW_GATEWAY", "idle").output().unwrap();
    is(&done, 0, "delivered 2\n");
}

#[test]
fn exit_codes_of_failures() {
    let port = Port::start();
    is(&port.run(&["send", "!listener_timeout"]), 5, "");
    let refused = port.wsgw(&["send", "x"]).env("WSGW_TOKEN", "wrong").output().unwrap();
    is(&refused, 6, "");
    assert!(err(&refused).contains("WSGW_TOKEN"));
    let done = port.run(&["send", "--timeout", "0.05", "hold"]);
    is(&done, 3, "");
    assert!(err(&done).contains("--timeout"));
    port.fake.wait_withdrawn();
    port.fake.limit.store(1, Ordering::Relaxed);
    let (held, _waits) = tokio::sync::oneshot::channel();
    port.fake.state().held.push(held);
    let done = port.run(&["send", "x"]);
    is(&done, 1, "");
    assert!(err(&done).contains("too many wait"));
}

#[test]
fn nobody_to_be_found() {
    let home = tempfile::tempdir().unwrap();
    let done = wsgw(home.path()).args(["send", "x"]).output().unwrap();
    is(&done, 3, "");
    for place in [home.path().join("wsgw").to_str().unwrap(), "/run/wsgw", "/var/lib/wsgw"] {
        assert!(err(&done).contains(place), "{}", err(&done));
    }
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let done =
        wsgw(home.path()).args(["send", "--control", &format!("http://{free}"), "x"]).output();
    let done = done.unwrap();
    is(&done, 3, "");
    assert!(err(&done).contains(&free.to_string()));

    let mut gone = Command::new("true").spawn().unwrap();
    gone.wait().unwrap();
    std::fs::create_dir(home.path().join("wsgw")).unwrap();
    let file = json!({"url": format!("http://{free}"), "token": "x", "pid": gone.id()});
    std::fs::write(home.path().join("wsgw/control-10124.json"), file.to_string()).unwrap();
    let done = wsgw(home.path()).args(["status"]).output().unwrap();
    is(&done, 3, "");
    assert!(err(&done).contains("stale"), "{}", err(&done));
}

#[test]
fn the_token_of_a_file_is_shown_to_nobody_else() {
    let port = Port::start();
    let spy = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", spy.local_addr().unwrap());
    let mut child = port
        .wsgw(&["send", "-g", "chat", "--control", &url, "x"])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut socket, _) = spy.accept().unwrap();
    let mut seen = [0; 4096];
    let n = socket.read(&mut seen).unwrap();
    let seen = String::from_utf8_lossy(&seen[..n]).to_lowercase();
    assert!(seen.starts_with("post /v1/gateways/chat/messages"));
    assert!(!seen.contains("authorization") && !seen.contains(&port.token));
    // Whatever answers there is no control port.
    socket.write_all(b"HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n").unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1));
}

#[test]
fn retry_looks_again_each_time() {
    let home = tempfile::tempdir().unwrap();
    let child = wsgw(home.path())
        .args(["send", "--retry", "30", "x"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let state = home.path().join("wsgw");
    let port = Port::start_with(|s| s.directory = Some(state.clone()));
    is(&child.wait_with_output().unwrap(), 0, "delivered 2\n");
    drop(port);
    let start = Instant::now();
    let done = wsgw(home.path()).args(["send", "--retry", "0.2", "x"]).output().unwrap();
    is(&done, 3, "");
    assert!(start.elapsed().as_millis() >= 200);
}

#[test]
fn over_a_unix_socket() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("c.sock");
    let port = Port::start_with(|s| s.listen = ControlListen::Unix(path.clone()));
    is(&port.run(&["send", "x"]), 0, "delivered 2\n");
    let url = format!("http+unix://{}", path.display());
    is(
        &wsgw(dir.path()).args(["send", "--control", &url, "x"]).output().unwrap(),
        0,
        "delivered 2\n",
    );
    is(&port.run_with(&["send", "--lines"], b"a\nb\n"), 0, "delivered 4\n");
}

#[test]
fn a_token_file_and_a_url_from_the_environment() {
    let port = Port::start();
    let elsewhere = tempfile::tempdir().unwrap();
    let file = elsewhere.path().join("token");
    std::fs::write(&file, format!("{}\n", port.token)).unwrap();
    let run = |command: &mut Command| command.args(["send", "x"]).output().unwrap();
    let mut with_file = wsgw(elsewhere.path());
    with_file.args(["send", "x", "--control", &port.url, "--token-file"]).arg(&file);
    is(&with_file.output().unwrap(), 0, "delivered 2\n");
    let mut env = wsgw(elsewhere.path());
    is(&run(env.env("WSGW_CONTROL", &port.url).env("WSGW_TOKEN", &port.token)), 0, "delivered 2\n");
    let mut none = wsgw(elsewhere.path());
    let done = run(none.env("WSGW_CONTROL", &port.url));
    is(&done, 6, "");
    assert!(err(&done).contains("no token"), "{}", err(&done));
}

#[test]
fn reading_a_line_of_a_slow_server_is_not_a_hang() {
    // A port that accepts and never says a word.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let home = tempfile::tempdir().unwrap();
    for args in [&["send", "-g", "a", "x"][..], &["send", "-g", "a", "--lines"], &["status"]] {
        let done = wsgw(home.path())
            .args(args)
            .args(["--control", &url, "--timeout", "0.1"])
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert_eq!(code(&done), 3, "{args:?}: {}", err(&done));
    }
    let mut child = wsgw(home.path())
        .args(["send", "-g", "a", "--lines", "--timeout", "0.1", "--control", &url])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.as_mut().unwrap().write_all(b"x\n").unwrap();
    let mut line = String::new();
    BufReader::new(child.stderr.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.contains("line 1"), "{line}");
    let start = Instant::now();
    assert_eq!(child.wait().unwrap().code(), Some(3));
    assert!(start.elapsed() < PATIENCE);
}

#[test]
fn over_tls_its_file_says_which_certificate_is_trusted() {
    let pem = |name: &str| {
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/control_support").join(name)
    };
    let port = Port::start_with(|s| {
        s.tls_cert = Some(pem("cert.pem"));
        s.tls_key = Some(pem("key.pem"));
        // With TLS an address that is not loopback needs no further word.
        s.listen = ControlListen::Tcp("0.0.0.0".to_owned(), 0);
    });
    assert!(port.url.starts_with("https://0.0.0.0:"));
    is(&port.run(&["send", "x"]), 0, "delivered 2\n");
    let count = 20_000;
    let input: String = (0..count).map(|n| format!("{n}\n")).collect();
    is(&port.run_with(&["send", "--lines"], input.as_bytes()), 0, "delivered 40000\n");
    assert_eq!(port.fake.messages().len(), count + 1);
    let large = vec![b'x'; 3 << 20];
    is(&port.run_with(&["send"], &large), 0, "delivered 2\n");

    // Whoever has no such file trusts what the system trusts, and that is not this one.
    let elsewhere = tempfile::tempdir().unwrap();
    let mut stranger = wsgw(elsewhere.path());
    stranger.args(["send", "-g", "chat", "--control", &port.url, "x"]).env("WSGW_TOKEN", "x");
    let done = stranger.output().unwrap();
    is(&done, 3, "");
    assert!(err(&done).contains("certificate"), "{}", err(&done));

    // Plain HTTP to it is no way in.
    let mut plain = wsgw(elsewhere.path());
    let url = port.url.replace("https:", "http:");
    plain.args(["send", "-g", "chat", "--control", &url, "x"]).env("WSGW_TOKEN", &port.token);
    assert_eq!(code(&plain.output().unwrap()), 3);
}

#[test]
fn tls_files_that_cannot_be_used_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let bad = dir.path().join("bad.pem");
    std::fs::write(&bad, "nothing").unwrap();
    let mut settings = control_support::settings(dir.path());
    settings.tls_cert = Some(bad.clone());
    let error = wsgw::control::bind(&settings).unwrap_err();
    assert!(error.message.contains("tls-key"), "{error}");
    settings.tls_key = Some(bad.clone());
    let error = wsgw::control::bind(&settings).unwrap_err();
    assert!(error.message.contains(bad.to_str().unwrap()), "{error}");
}
