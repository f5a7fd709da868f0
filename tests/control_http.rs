//! The control port over raw HTTP: who may ask, what it answers, and that nobody can hang or starve
//! it.

mod control_support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;

use control_support::{Answer, Port, ok, settings};
use rustix::process::{Resource, getrlimit, setrlimit};
use serde_json::json;
use wsgw::config::settings::ControlListen;
use wsgw::control::bind;

const NDJSON: &str = "Content-Type: application/x-ndjson\r\n";
const MESSAGES: &str = "/v1/gateways/chat/messages";

#[test]
fn the_token_is_asked_for_everywhere_but_for_health_and_metrics() {
    let port = Port::start();
    for path in ["/v1/gateways", "/v1/nowhere", "/v1/open"] {
        for authorization in ["", "Authorization: Bearer x\r\n", "Authorization: Basic eDp5\r\n"] {
            let answer = port.raw(&format!(
                "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{authorization}\r\n"
            ));
            assert_eq!((answer.status, answer.code().as_str()), (401, "unauthorized"), "{path}");
            assert!(answer.head.contains("www-authenticate: bearer"));
        }
    }
    for path in ["/healthz", "/metrics"] {
        let answer = port
            .raw(&format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"));
        assert_eq!(answer.status, 200);
    }
    assert_eq!(port.get("/v1/gateways").status, 200);
}

#[test]
fn no_web_page_can_drive_it() {
    let port = Port::start();
    let ask = |path: &str, host: &str, more: &str| {
        let token = &port.token;
        port.raw(&format!(
            "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\
             Authorization: Bearer {token}\r\n{more}\r\n"
        ))
        .status
    };
    for path in ["/v1/gateways", "/metrics"] {
        assert_eq!(ask(path, "localhost", ""), 200);
        assert_eq!(ask(path, "evil.example", ""), 403, "a name that was made to point here");
        assert_eq!(ask(path, "localhost", "Origin: http://localhost\r\n"), 403);
        assert_eq!(ask(path, "localhost", "Origin: null\r\n"), 403);
    }
    assert_eq!(ask("http://evil.example/v1/gateways", "localhost", ""), 403);
    assert_eq!(ask("/healthz", "evil.example", "Origin: http://evil.example\r\n"), 200);
    let none = port.raw("GET /v1/gateways HTTP/1.1\r\nConnection: close\r\n\r\n").status;
    assert_eq!(none, 400);
}

#[test]
fn health_and_metrics() {
    let port = Port::start();
    assert_eq!(port.get("/healthz").body, "ok\n");
    port.fake.state().unhealthy = true;
    let answer = port.get("/healthz");
    assert_eq!((answer.status, answer.body.as_str()), (503, "stopping\n"));
    let metrics = port.get("/metrics");
    assert!(metrics.head.contains("content-type: text/plain; version=0.0.4"));
    assert!(metrics.body.ends_with("wsgw_x 1\n"));
}

#[test]
fn lists_are_bare_arrays_and_things_bare_objects() {
    let port = Port::start();
    let all = port.get("/v1/gateways").json();
    assert_eq!((&all[0]["id"], &all[1]["id"]), (&json!("chat"), &json!("idle")));
    let one = port.get("/v1/gateways/Chat").json();
    assert_eq!(one, all[0], "ids are lower case, however they are asked for");
    let list = port.get("/v1/gateways/chat/connections").json();
    assert_eq!(list[0]["conn"], "k1");
    assert_eq!(port.get("/v1/gateways/chat/connections/k2").json()["path"], "/chat\u{1b}");
}

#[test]
fn errors_say_what_is_wrong() {
    let port = Port::start();
    for (method, path, body, status, code) in [
        ("POST", "/", "", 405, "method_not_allowed"),
        ("GET", "/v1/open", "", 405, "method_not_allowed"),
        ("GET", "/page/nope.js", "", 404, "not_found"),
        ("GET", "/v2/gateways", "", 404, "not_found"),
        ("GET", "/v1/gateways/", "", 404, "unknown_gateway"),
        ("GET", "/v1/gateways/nope", "", 404, "unknown_gateway"),
        ("POST", "/v1/gateways/nope/messages", "{}", 404, "unknown_gateway"),
        ("GET", "/v1/gateways/chat/connections/k9", "", 404, "unknown_connection"),
        ("DELETE", "/v1/gateways/chat/connections/k9", "", 404, "unknown_connection"),
        ("DELETE", "/v1/gateways/chat/connections/k1?code=1006", "", 400, "bad_request"),
        ("POST", "/v1/gateways/idle/messages", r#"{"message":"x"}"#, 409, "not_running"),
        ("POST", MESSAGES, "", 400, "bad_request"),
        ("POST", MESSAGES, r#"{"message":"x","id":1}"#, 400, "bad_request"),
        ("POST", MESSAGES, r#"{"message":"!listener_timeout"}"#, 504, "listener_timeout"),
        ("POST", "/v1/gateways/chat/messages?hook=off", r#"{"message":"x"}"#, 400, "bad_request"),
        ("POST", "/v1/gateways/idle/start", "", 500, "failed"),
        ("PUT", "/v1/gateways", "", 405, "method_not_allowed"),
        ("GET", MESSAGES, "", 405, "method_not_allowed"),
        ("OPTIONS", "/v1/reload", "", 405, "method_not_allowed"),
    ] {
        let answer = port.request(method, path, "", body);
        assert_eq!((answer.status, answer.code().as_str()), (status, code), "{method} {path}");
        assert!(answer.json()["error"]["message"].as_str().unwrap().len() > 5);
    }
    assert!(port.request("DELETE", "/v1/reload", "", "").head.contains("allow: post"));
    let known = port.get("/v1/gateways/nope").json();
    assert_eq!(known["error"]["known"], json!(["chat", "idle"]));
}

#[test]
fn head_is_get_without_the_body() {
    let port = Port::start();
    for path in ["/v1/gateways", "/healthz", "/metrics", "/v1/gateways/chat/connections"] {
        let answer = port.request("HEAD", path, "", "");
        assert_eq!((answer.status, answer.body.as_str()), (200, ""), "{path}");
        let length = format!("content-length: {}", port.get(path).body.len());
        assert!(answer.head.contains(&length), "{path}: {}", answer.head);
    }
}

#[test]
fn verbs_and_closes_reach_the_server() {
    let port = Port::start();
    for (method, path) in [
        ("POST", "/v1/gateways/chat/start"),
        ("POST", "/v1/gateways/chat/stop"),
        ("POST", "/v1/gateways/chat/restart"),
        ("POST", "/v1/gateways/chat/restart?listener=true"),
        ("POST", "/v1/reload"),
        ("DELETE", "/v1/gateways/chat/connections/k1"),
    ] {
        assert_eq!(port.request(method, path, "", "").status, 200, "{path}");
    }
    let long = "%C3%A4".repeat(100);
    let path = format!("/v1/gateways/chat/connections/k1?code=4001&reason={long}");
    assert_eq!(port.request("DELETE", &path, "", "").status, 200);
    let cut = format!("close chat k1 4001 {}", "ä".repeat(61));
    let calls = port.fake.state().calls.clone();
    assert_eq!(
        calls,
        [
            "start chat",
            "stop chat",
            "restart chat",
            "restart-listener chat",
            "reload",
            "close chat k1 1000 ",
            &cut,
        ]
    );
}

#[test]
fn a_push_whatever_its_content_type() {
    let port = Port::start();
    let body = r#"{"message":"hi"}"#;
    for content_type in ["application/json", "application/x-www-form-urlencoded"] {
        let header = format!("Content-Type: {content_type}\r\n");
        assert_eq!(port.request("POST", MESSAGES, &header, body).json(), ok(2));
    }
    let path = format!("{MESSAGES}?hook=none");
    assert_eq!(port.request("POST", &path, "", body).json(), ok(2));
    let pushes = port.fake.state().pushes.clone();
    let hooks: Vec<bool> = pushes.iter().map(|(_, hook)| *hook).collect();
    assert_eq!(hooks, [true, true, false]);
}

#[test]
fn a_connection_serves_many_requests() {
    let port = Port::start();
    let mut socket = port.connect();
    let one = format!("{}\r\n", port.head("GET", "/v1/gateways/chat"));
    let last = format!("{}Connection: close\r\n\r\n", port.head("GET", "/v1/gateways/chat"));
    socket.write_all(format!("{one}{one}{last}").as_bytes()).unwrap();
    let mut all = String::new();
    socket.read_to_string(&mut all).unwrap();
    assert_eq!(all.matches("HTTP/1.1 200 OK").count(), 3);
}

#[test]
fn too_large_is_said_to_a_client_that_writes_it_all_first() {
    let port = Port::start();
    let big = format!("{{\"message\":\"{}\"}}", "x".repeat(16 << 20));
    let announced = port.push(&big);
    assert_eq!((announced.status, announced.code().as_str()), (413, "too_large"));
    let mut socket = port.connect();
    let head = port.head("POST", MESSAGES);
    let size = format!("{:x}", big.len());
    socket
        .write_all(
            format!(
                "{head}Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n{size}\r\n{big}\r\n0\r\n\r\n"
            )
            .as_bytes(),
        )
        .unwrap();
    assert_eq!(Answer::read(&mut socket).status, 413);
    assert!(port.fake.messages().is_empty());
    let fits = format!("{{\"message\":\"{}\"}}", "x".repeat((16 << 20) - 14));
    assert_eq!(fits.len(), 16 << 20);
    assert_eq!(port.push(&fits).status, 200);
}

#[test]
fn who_asks_first_is_not_told_to_go_on() {
    let port = Port::start();
    let head = port.head("POST", MESSAGES);
    let answer =
        port.raw(&format!("{head}Expect: 100-continue\r\nContent-Length: 99999999\r\n\r\n"));
    assert_eq!(answer.status, 413);
    let head = port.head("POST", "/v1/gateways/nope/messages");
    let answer = port.raw(&format!("{head}Expect: 100-continue\r\nContent-Length: 9\r\n\r\n"));
    assert_eq!(answer.status, 404);
    let mut socket = port.connect();
    let head = port.head("POST", MESSAGES);
    let body = r#"{"message":"x"}"#;
    let length = body.len();
    let request = format!("{head}Expect: 100-continue\r\nContent-Length: {length}\r\n\r\n");
    socket.write_all(request.as_bytes()).unwrap();
    let mut go_on = [0; 25];
    socket.read_exact(&mut go_on).unwrap();
    assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n");
    socket.write_all(body.as_bytes()).unwrap();
    let mut status = [0; 15];
    socket.read_exact(&mut status).unwrap();
    assert_eq!(&status, b"HTTP/1.1 200 OK");
}

#[test]
fn a_refusal_comes_although_the_body_never_ends() {
    let port = Port::start();
    let mut socket = port.connect();
    let request = format!(
        "POST {MESSAGES} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{NDJSON}\
         Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"
    );
    socket.write_all(request.as_bytes()).unwrap();
    let mut line = String::new();
    BufReader::new(&mut socket).read_line(&mut line).unwrap();
    assert_eq!(line, "HTTP/1.1 401 Unauthorized\r\n");
}

#[test]
fn a_push_is_withdrawn_when_its_requester_goes() {
    let port = Port::start();
    let mut socket = port.connect();
    let head = port.head("POST", MESSAGES);
    let body = r#"{"message":"hold"}"#;
    socket
        .write_all(format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()).as_bytes())
        .unwrap();
    port.fake.wait_held(1);
    drop(socket);
    port.fake.wait_withdrawn();
}

#[test]
fn who_holds_connections_open_does_not_keep_others_out() {
    let port = Port::start();
    // More than the port has room for, where the limit of open files lets us have both ends.
    let mut files = getrlimit(Resource::Nofile);
    files.current = files.maximum;
    setrlimit(Resource::Nofile, files).unwrap();
    let count = files.maximum.map_or(2100, |limit| (limit / 4).min(2100));
    let _held: Vec<_> = (0..count)
        .map(|n| {
            let mut socket = port.connect();
            if n % 2 == 0 {
                socket.write_all(b"GET /v1/gateways HTTP/1.1\r\nHost: loc").unwrap();
            }
            socket
        })
        .collect();
    assert_eq!(port.get("/v1/gateways").status, 200);
}

#[test]
fn a_head_without_end_is_refused() {
    let port = Port::start();
    let mut socket = port.connect();
    let endless = format!("GET / HTTP/1.1\r\nHost: localhost\r\nX: {}", "x".repeat(1 << 20));
    // The port may hang up before all of it is out.
    let _ = socket.write_all(endless.as_bytes());
    let mut status = [0; 12];
    if socket.read_exact(&mut status).is_ok() {
        assert_eq!(&status, b"HTTP/1.1 431");
    }
    for junk in ["\0\u{1}\r\n\r\n", "GET\r\n\r\n", "POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n"] {
        let mut socket = port.connect();
        socket.write_all(junk.as_bytes()).unwrap();
        socket.shutdown(Shutdown::Write).unwrap();
        let mut rest = Vec::new();
        let _ = socket.read_to_end(&mut rest);
        assert!(rest.is_empty() || rest.starts_with(b"HTTP/1.1 400"), "{junk:?}");
    }
    assert_eq!(port.get("/v1/gateways").status, 200);
}

#[test]
fn the_file_is_private_and_goes_with_the_port() {
    let mut port = Port::start();
    let number = port.url.rsplit(':').next().unwrap();
    let path = port.state.join(format!("control-{number}.json"));
    let text = std::fs::read_to_string(&path).unwrap();
    let file: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(file, json!({"url": port.url, "token": port.token, "pid": std::process::id()}));
    assert!(port.token.len() >= 32);
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(std::fs::metadata(&port.state).unwrap().permissions().mode() & 0o777, 0o700);
    let held = port.connect();
    port.stop();
    assert!(!path.exists());
    drop(held);
}

#[test]
fn a_given_token() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    std::fs::write(&file, "my-own-token\n").unwrap();
    let port = Port::start_with(|s| s.token_file = Some(file.clone()));
    assert_eq!(port.token, "my-own-token");
    assert_eq!(port.get("/v1/gateways").status, 200);
    std::fs::write(&file, "two words").unwrap();
    let mut settings = settings(dir.path());
    settings.token_file = Some(file.clone());
    let error = bind(&settings).unwrap_err();
    assert!(error.exit == 1 && error.message.contains(file.to_str().unwrap()));
}

#[test]
fn an_address_that_cannot_be_is_said_with_the_way_out() {
    let dir = tempfile::tempdir().unwrap();
    let taken = Port::start();
    let mut settings = settings(dir.path());
    let number: u16 = taken.url.rsplit(':').next().unwrap().parse().unwrap();
    settings.listen = ControlListen::Tcp("127.0.0.1".to_owned(), number);
    let error = bind(&settings).unwrap_err();
    assert_eq!(error.exit, 1);
    assert!(error.message.contains(&number.to_string()) && error.message.contains("--control"));
    settings.listen = ControlListen::Tcp("0.0.0.0".to_owned(), 0);
    let error = bind(&settings).unwrap_err();
    assert!(error.message.contains("insecure"), "{error}");
    settings.insecure = true;
    assert!(bind(&settings).is_ok());
    settings.listen = ControlListen::Off;
    assert!(bind(&settings).unwrap().is_none());
}

#[test]
fn a_unix_socket_needs_no_token_and_has_its_mode() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("run/control.sock");
    let mut port = Port::start_with(|s| {
        s.listen = ControlListen::Unix(path.clone());
        s.mode = 0o660;
    });
    assert_eq!(port.url, format!("http+unix://{}", path.display()));
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
    assert!(port.state.join(format!("control-{}.json", std::process::id())).exists());
    let ask = |more: &str| {
        let mut socket = UnixStream::connect(&path).unwrap();
        let request =
            format!("GET /v1/gateways HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{more}\r\n");
        socket.write_all(request.as_bytes()).unwrap();
        Answer::read(&mut socket).status
    };
    assert_eq!(ask(""), 200);
    assert_eq!(ask("Origin: http://localhost\r\n"), 403);

    let mut second = settings(dir.path());
    second.listen = ControlListen::Unix(path.clone());
    assert!(bind(&second).unwrap_err().message.contains("another process listens on it"));
    port.stop();
    assert!(!path.exists());

    // One that nobody answers on is replaced; what is no socket is left alone.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    drop(bind(&second).unwrap());
    std::fs::write(&path, "data").unwrap();
    assert!(bind(&second).unwrap_err().message.contains("not a socket"));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "data");
}
