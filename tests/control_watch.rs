//! `GET /v1/watch` over raw HTTP: samples are taken for all who watch, and for nobody else.

mod control_support;

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use control_support::{PATIENCE, Port};
use serde_json::Value;

/// One who watches.
struct Watcher(BufReader<TcpStream>);

impl Watcher {
    fn new(port: &Port) -> Watcher {
        let mut socket = port.connect();
        socket.write_all(format!("{}\r\n", port.head("GET", "/v1/watch")).as_bytes()).unwrap();
        Watcher(BufReader::new(socket))
    }

    /// The data of the next event; `None` at the end.
    fn next(&mut self) -> Option<Value> {
        let mut line = String::new();
        while self.0.read_line(&mut line).unwrap() > 0 {
            if let Some(data) = line.strip_prefix("data: ") {
                return Some(serde_json::from_str(data).unwrap());
            }
            line.clear();
        }
        None
    }
}

fn wait(what: &str, so: impl Fn() -> bool) {
    let start = Instant::now();
    while !so() {
        assert!(start.elapsed() < PATIENCE, "{what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn nothing_is_computed_while_nobody_looks() {
    let port = Port::start();
    let samples = || port.fake.samples.load(Ordering::Relaxed);
    let samplers = || port.fake.samplers.load(Ordering::Relaxed);
    assert_eq!(port.get("/v1/gateways").status, 200);
    assert_eq!(port.request("HEAD", "/v1/watch", "", "").status, 200);
    assert_eq!((samples(), samplers()), (0, 0), "before the first");

    let mut first = Watcher::new(&port);
    assert_eq!(first.next().unwrap()["version"], "1");
    let mut second = Watcher::new(&port);
    second.next().unwrap();
    let mut newest = 0;
    for _ in 0..2 {
        newest = first.next().unwrap()["version"].as_str().unwrap().parse().unwrap();
    }
    assert!(samples() >= newest && newest == 3, "one sample for both: {newest}");
    assert_eq!(samplers(), 1);

    drop(first);
    second.next().unwrap();
    assert_eq!(samplers(), 1, "one is left");
    drop(second);
    wait("the end of the sampler", || samplers() == 0);
    let then = samples();
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(samples(), then, "after the last");

    let again = Watcher::new(&port).next().unwrap();
    assert_eq!(again["version"], (then + 1).to_string(), "nothing old is shown");
}

#[test]
fn the_newest_lines_of_the_log_come_with_the_first_event_alone() {
    let port = Port::start();
    for _ in 0..2 {
        let mut watcher = Watcher::new(&port);
        assert_eq!(watcher.next().unwrap()["log"], serde_json::json!(["one", "two"]));
        assert_eq!(watcher.next().unwrap()["log"], serde_json::json!([]));
    }
}

#[test]
fn the_end_of_the_port_ends_the_stream_in_order() {
    let mut port = Port::start();
    let mut watcher = Watcher::new(&port);
    watcher.next().unwrap();
    port.stop();
    assert_eq!(watcher.next(), None);
    assert_eq!(port.fake.samplers.load(Ordering::Relaxed), 0);
}
