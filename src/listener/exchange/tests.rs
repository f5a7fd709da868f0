mod channels;
mod plain;
mod unknown;

use std::time::Duration;

use clap::Parser as _;
use tokio::sync::oneshot;

use crate::api::{ApiError, ErrorCode, PushOutcome};
use crate::cli::{Cli, Command};
use crate::listener::connection::{Closed, ConnInfo};
use crate::listener::exchange::*;

/// An exchange with a clock, and a pipe that takes as many bytes as a test wants.
struct Rig {
    exchange: Exchange,
    now: Instant,
}

type Outcome = oneshot::Receiver<Result<PushOutcome, ApiError>>;

fn settings(flags: &[&str]) -> Arc<GatewaySettings> {
    let all = ["wsgw", "serve", "--listener", "cat"].iter().chain(flags);
    let Command::Serve(args) = Cli::try_parse_from(all).unwrap().command else { unreachable!() };
    Arc::new(crate::config::load(&args.serve).unwrap().gateways[0].clone())
}

impl Rig {
    fn new(flags: &[&str]) -> Rig {
        let now = Instant::now();
        let metrics = Arc::default();
        let exchange = Exchange::new("g".into(), settings(flags), metrics, 1, now);
        Rig { exchange, now }
    }

    fn open(&mut self, conn: u64) {
        self.open_in(conn, &[]);
    }

    /// Opens a connection that is in these channels.
    fn open_in(&mut self, conn: u64, channels: &[&str]) {
        let channels = channels.iter().map(|name| Channel::parse(name).unwrap()).collect();
        self.exchange.opened(
            Arc::new(ConnInfo {
                id: ConnId(conn),
                opened_at: std::time::SystemTime::UNIX_EPOCH,
                remote: "127.0.0.1:1".into(),
                members: (*b"\"path\":\"/\"").into(),
                path_len: 3,
            }),
            ChannelSet::new(channels).as_slice(),
        );
    }

    fn say(&mut self, conn: u64, text: &str) {
        let message = Payload::text(text);
        self.exchange.message(ConnId(conn), message);
    }

    fn close(&mut self, conn: u64) {
        let closed = Closed { code: 1000, reason: String::new(), clean: true };
        self.exchange.closed(ConnId(conn), closed);
    }

    fn push(&mut self, json: &str) -> Outcome {
        let (reply, outcome) = oneshot::channel();
        let push = Push::parse(json.as_bytes()).unwrap();
        self.exchange.push(PushAsk { push, reply, ticket: Box::new(()) }, self.now);
        outcome
    }

    fn wait(&mut self, seconds: f64) {
        self.now += Duration::from_secs_f64(seconds);
        assert!(!self.exchange.check(self.now));
    }

    /// What the pipe gets if it takes `most` bytes at most.
    fn written(&mut self, most: usize) -> String {
        let mut out = Vec::new();
        loop {
            self.exchange.pump(self.now);
            let bytes = self.exchange.unwritten();
            let n = bytes.len().min(most - out.len());
            if n == 0 {
                return String::from_utf8(out).unwrap();
            }
            out.extend_from_slice(&bytes[..n]);
            self.exchange.written(n, self.now);
        }
    }

    /// Lets the pipe take everything, and returns the parsed lines.
    fn lines(&mut self) -> Vec<serde_json::Value> {
        let text = self.written(usize::MAX);
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn answer(&mut self, line: &str) {
        let results: Arc<dyn Fn(String) + Send + Sync> = Arc::new(|_| {});
        self.exchange.output(self.now);
        self.exchange.line(line.as_bytes(), &results, self.now);
    }

    fn restart(&mut self, wanted: bool) {
        let exit = self.exchange.detach(wanted, self.now);
        assert!(!exit.start_clean);
        self.exchange.attach(self.now);
    }

    /// The texts that were delivered since the last call.
    fn sent(&mut self) -> Vec<String> {
        let sent = self.exchange.effects.drain(..).filter_map(|effect| match effect {
            Effect::Op(Op::Deliver(delivery)) => delivery.payload.as_text().map(str::to_owned),
            _ => None,
        });
        sent.collect()
    }

    fn dropped(&self) -> Vec<(String, u64)> {
        let mut all = Vec::new();
        self.exchange.metrics.messages_dropped.each(|label, n| all.push((label.to_owned(), n)));
        all
    }
}

fn kinds(lines: &[serde_json::Value]) -> Vec<String> {
    lines
        .iter()
        .map(|line| format!("{} {}", line["event"].as_str().unwrap(), line["conn"]))
        .collect()
}

#[test]
fn left_counts_down_to_zero_without_the_close_hook() {
    let mut rig = Rig::new(&["--hooks", "onClientOpen,onMessage"]);
    rig.exchange.attach(rig.now);
    (1..=3).for_each(|conn| rig.open(conn));
    assert_eq!(rig.lines().len(), 3);
    rig.restart(false);
    // The connection ends before the new incarnation was told of it.
    rig.close(2);
    let left: Vec<_> = rig.lines().iter().map(|line| line["left"].clone()).collect();
    assert_eq!(left, [2, 1, 0]);
    rig.restart(false);
    let left: Vec<_> = rig.lines().iter().map(|line| line["left"].clone()).collect();
    assert_eq!(left, [1, 0], "a connection that has ended is not announced again");
}

#[test]
fn an_event_with_an_old_id_is_marked_as_redelivered() {
    let mut rig = Rig::new(&[]);
    rig.exchange.attach(rig.now);
    rig.open(1);
    rig.lines();
    rig.say(1, "one");
    rig.say(1, "two");
    rig.exchange.pump(rig.now);
    let first = rig.exchange.unwritten().iter().position(|b| *b == b'\n').unwrap() + 1;
    rig.written(first);
    rig.restart(false);
    let lines = rig.lines();
    assert_eq!(lines[0]["resumed"], true);
    for (line, text) in lines[1..].iter().zip(["one", "two"]) {
        assert!(line["id"].as_u64() < lines[0]["id"].as_u64());
        assert_eq!((&line["message"], &line["redelivered"]), (&text.into(), &true.into()));
    }
}

#[test]
fn an_answer_before_the_redelivery_does_not_hold_back_the_close() {
    let mut rig = Rig::new(&["--hooks", "onMessage,onClientClose"]);
    rig.exchange.attach(rig.now);
    rig.open(1);
    rig.say(1, "one");
    let id = rig.lines()[0]["id"].clone();
    rig.restart(false);
    rig.close(1);
    // The listener remembers the event and answers it before it is sent again.
    rig.answer(&format!("{{\"id\":{id}}}"));
    assert_eq!(rig.sent(), ["one"]);
    assert_eq!(kinds(&rig.lines()), ["onClientClose \"k1\""]);
}

#[test]
fn a_wanted_exit_is_not_blamed_on_a_message() {
    let mut rig = Rig::new(&["--hooks", "onMessage"]);
    rig.exchange.attach(rig.now);
    rig.open(1);
    rig.say(1, "slow");
    for _ in 0..5 {
        assert_eq!(rig.lines().len(), 1, "the message is sent at once and not dropped");
        rig.restart(true);
    }
    for _ in 0..2 {
        rig.lines();
        rig.restart(false);
    }
    assert!(rig.lines().is_empty(), "the message waits for a sign of life now");
    rig.wait(1.0);
    assert_eq!(rig.lines().len(), 1);
    rig.restart(false);
    assert_eq!(rig.dropped(), [("poisonous".to_owned(), 1)]);
}

#[test]
fn a_late_answer_restarts_the_time_out_of_later_events() {
    let mut rig = Rig::new(&["--hooks", "onMessage", "--listener-timeout", "10s"]);
    rig.exchange.attach(rig.now);
    rig.open(1);
    rig.say(1, "one");
    let first = rig.lines()[0]["id"].clone();
    rig.wait(5.0);
    rig.say(1, "two");
    rig.lines();
    rig.wait(5.0);
    assert_eq!(rig.dropped(), [("timeout".to_owned(), 1)]);
    rig.wait(4.0);
    rig.answer(&format!("{{\"id\":{first}}}"));
    // This is ten seconds after the second event was written, but one second after that answer.
    rig.wait(1.5);
    rig.wait(8.4);
    assert_eq!(rig.dropped(), [("timeout".to_owned(), 1)]);
    rig.wait(0.2);
    assert_eq!(rig.dropped(), [("timeout".to_owned(), 2)]);
}

#[test]
fn a_push_that_timed_out_is_not_sent() {
    let mut rig = Rig::new(&["--hooks", "onMessage", "--listener-timeout", "10s"]);
    rig.exchange.attach(rig.now);
    let mut begun = rig.push(r#"{"message":"begun"}"#);
    rig.written(10);
    let mut refused = rig.push(r#"{"message":"refused"}"#);
    let gone = rig.push(r#"{"message":"its requester goes"}"#);
    rig.exchange.pump(rig.now);
    rig.exchange.stuck(rig.now);
    drop(gone);
    rig.exchange.withdraw();
    rig.wait(9.9);
    assert!(refused.try_recv().is_err());
    rig.wait(0.2);
    for outcome in [&mut begun, &mut refused] {
        assert_eq!(outcome.try_recv().unwrap().unwrap_err().code, ErrorCode::ListenerDown);
    }
    let mut after = rig.push(r#"{"message":"after"}"#);
    let text = rig.written(usize::MAX);
    let (rest, last) = text.trim_end().split_once('\n').unwrap();
    assert!(rest.contains("begun"), "the line that was begun is finished: {text}");
    let last: serde_json::Value = serde_json::from_str(last).unwrap();
    assert_eq!(last["message"], "after");
    rig.answer(&format!("{{\"id\":{}}}", last["id"]));
    let Some(Effect::Op(Op::Deliver(Delivery { report: Some(report), .. }))) =
        rig.exchange.effects.pop()
    else {
        panic!("the push was not delivered")
    };
    report.finish();
    assert!(after.try_recv().unwrap().is_ok());
}

#[test]
fn the_time_out_of_a_push_begins_when_it_comes() {
    let mut rig = Rig::new(&["--hooks", "onMessage", "--listener-timeout", "10s", "--window", "1"]);
    rig.exchange.attach(rig.now);
    rig.open(1);
    rig.say(1, "first");
    let id = rig.lines()[0]["id"].clone();
    let mut waits = rig.push(r#"{"message":"waits"}"#);
    rig.wait(8.0);
    // The push is made into a line, but the pipe does not take it.
    rig.answer(&format!("{{\"id\":{id}}}"));
    rig.exchange.pump(rig.now);
    rig.wait(2.1);
    assert_eq!(waits.try_recv().unwrap().unwrap_err().code, ErrorCode::ListenerDown);
    assert_eq!(rig.written(usize::MAX), "");
}

#[test]
fn the_time_out_of_a_begun_push_stands_still_across_a_restart() {
    let mut rig = Rig::new(&["--hooks", "onMessage", "--listener-timeout", "10s"]);
    rig.exchange.attach(rig.now);
    let mut outcome = rig.push(r#"{"message":"x"}"#);
    rig.lines();
    rig.exchange.detach(false, rig.now);
    rig.wait(25.0);
    rig.exchange.attach(rig.now);
    rig.exchange.pump(rig.now);
    rig.wait(12.0);
    assert!(outcome.try_recv().is_err(), "the push was not written again yet");
    assert_eq!(rig.lines()[0]["redelivered"], true);
    rig.wait(9.9);
    assert!(outcome.try_recv().is_err());
    rig.wait(0.2);
    assert_eq!(outcome.try_recv().unwrap().unwrap_err().code, ErrorCode::ListenerTimeout);
}

#[test]
fn a_reload_without_the_message_hook_sends_waiting_messages() {
    let mut rig = Rig::new(&["--hooks", "onHandshake,onMessage", "--window", "1"]);
    rig.exchange.attach(rig.now);
    rig.open(1);
    for text in ["asked", "waits 1", "waits 2"] {
        rig.say(1, text);
    }
    rig.lines();
    let _outcome = rig.push(r#"{"message":"push"}"#);
    rig.exchange.handshake(ConnId(9), Vec::new(), Vec::new(), rig.now);
    rig.exchange.detach(true, rig.now);
    rig.exchange.effects.clear();
    rig.exchange.set_settings(settings(&["--hooks", "onClientClose"]));
    assert_eq!(rig.sent(), ["asked", "push", "waits 1", "waits 2"]);
    assert!(!rig.exchange.busy() && !rig.exchange.window_full());
    assert_eq!(rig.exchange.queued(), 0);
    // Another shard may not know the new settings yet and still send a message.
    rig.say(1, "later");
    assert_eq!(rig.sent(), ["later"]);
    rig.close(1);
    rig.exchange.attach(rig.now);
    assert_eq!(kinds(&rig.lines()), ["onClientClose \"k1\""]);
}

#[test]
fn a_reload_without_the_handshake_hook_accepts_handshakes() {
    let mut rig = Rig::new(&["--hooks", "onHandshake"]);
    rig.exchange.attach(rig.now);
    for conn in [1, 2] {
        rig.exchange.handshake(ConnId(conn), b"\"path\":\"/\"".to_vec(), Vec::new(), rig.now);
        rig.exchange.pump(rig.now);
    }
    rig.exchange.set_settings(settings(&["--hooks", "onMessage"]));
    let accepted = rig.exchange.effects.iter().filter(|effect| {
        matches!(effect, Effect::Handshake { decision: HandshakeDecision::UNCHANGED, .. })
    });
    assert_eq!(accepted.count(), 2);
}

#[test]
fn connections_are_forgotten_when_the_listener_becomes_a_producer() {
    let mut rig = Rig::new(&[]);
    rig.exchange.attach(rig.now);
    rig.open(1);
    rig.lines();
    rig.exchange.detach(true, rig.now);
    rig.exchange.set_settings(settings(&["--hooks", "none"]));
    // The connection's end is not announced now.
    rig.exchange.attach(rig.now);
    rig.exchange.detach(true, rig.now);
    rig.exchange.set_settings(settings(&[]));
    rig.exchange.attach(rig.now);
    assert!(rig.lines().is_empty());
}

#[test]
fn an_unanswered_event_does_not_keep_the_times_of_all_later_answers() {
    let mut rig = Rig::new(&["--hooks", "onMessage"]);
    rig.exchange.attach(rig.now);
    rig.open(1);
    rig.say(1, "forgotten");
    rig.lines();
    for _ in 0..5000 {
        rig.say(1, "x");
        let id = rig.lines()[0]["id"].clone();
        rig.answer(&format!("{{\"id\":{id}}}"));
    }
    assert!(rig.exchange.answer_times.len() <= 1100);
    assert_eq!(rig.dropped(), []);
    rig.wait(10.0);
    assert_eq!(rig.dropped(), [("timeout".to_owned(), 1)]);
}
