//! Plain lines: what a listener is sent, what it loses, and changes from and to JSON.

use proptest::prelude::*;

use super::*;

fn plain(flags: &[&str]) -> Rig {
    let all: Vec<&str> = ["--plain"].iter().chain(flags).copied().collect();
    let mut rig = Rig::new(&all);
    rig.exchange.attach(rig.now);
    rig
}

impl Rig {
    /// The senders whose messages were settled since the last call. Other effects are dropped.
    fn settled(&mut self) -> Vec<u64> {
        let settled = self.exchange.effects.drain(..).filter_map(|effect| match effect {
            Effect::Settled { conn, .. } => Some(conn.0),
            _ => None,
        });
        settled.collect()
    }

    fn binary(&mut self, conn: u64) {
        self.exchange.message(ConnId(conn), Payload::binary(b"\x01"));
    }

    fn change(&mut self, flags: &[&str]) {
        self.exchange.detach(true, self.now);
        self.exchange.set_settings(settings(flags));
        self.exchange.attach(self.now);
    }

    fn stuck(&mut self, in_pipe: Option<usize>, seconds: f64) {
        self.wait(seconds);
        self.exchange.pump(self.now);
        self.exchange.stuck_lines(in_pipe, self.now);
    }
}

#[test]
fn messages_are_lines_and_are_settled_when_the_pipe_has_taken_them() {
    let mut rig = plain(&[]);
    rig.say(1, "one");
    rig.say(2, "");
    rig.binary(1);
    rig.say(1, "a\nb");
    assert_eq!(rig.settled(), [1], "the binary one");
    assert_eq!(rig.dropped(), [("binary".to_owned(), 1)]);
    assert_eq!(rig.exchange.queued(), 3);
    assert_eq!(rig.written(5), "one\n\n");
    assert_eq!(rig.settled(), [1, 2]);
    assert_eq!(rig.written(usize::MAX), "a b\n");
    assert_eq!(rig.settled(), [1]);
    assert!(!rig.exchange.busy() && rig.exchange.flushed());
}

#[test]
fn lines_go_to_all_whatever_they_look_like() {
    let mut rig = plain(&["--route", "none"]);
    for line in ["tick", "", r#"{"command":"close","conn":"k1"}"#, r#"{"id":1}"#, "Ä"] {
        rig.answer(line);
    }
    let results: Arc<dyn Fn(String) + Send + Sync> = Arc::new(|_| {});
    rig.exchange.line(b"\xff|\xc3", &results, rig.now);
    let mut all = Vec::new();
    for effect in rig.exchange.effects.drain(..) {
        let Effect::Op(Op::Deliver(delivery)) = effect else { panic!("it only sends") };
        assert_eq!(delivery.to, Recipients::All);
        all.push(delivery.payload.as_text().unwrap().to_owned());
    }
    let command = r#"{"command":"close","conn":"k1"}"#;
    assert_eq!(all, ["tick", "", command, r#"{"id":1}"#, "Ä", "\u{fffd}|\u{fffd}"]);
}

#[test]
fn what_the_pipe_did_not_take_is_for_the_next_incarnation() {
    let mut rig = plain(&[]);
    for text in ["taken", "torn", "waiting"] {
        rig.say(1, text);
    }
    assert_eq!(rig.written(8), "taken\nto");
    assert_eq!(rig.settled(), [1]);
    let exit = rig.exchange.detach(false, rig.now);
    assert!(!exit.start_clean);
    rig.say(2, "meanwhile");
    assert_eq!(rig.written(usize::MAX), "", "nobody is there");
    rig.exchange.attach(rig.now);
    // One that exits at once takes nothing with it.
    assert_eq!(rig.written(usize::MAX), "");
    rig.restart(false);
    rig.wait(0.1);
    assert_eq!(rig.written(usize::MAX), "");
    rig.wait(0.1);
    assert_eq!(rig.written(usize::MAX), "torn\nwaiting\nmeanwhile\n");
    assert_eq!(rig.settled(), [1, 1, 2]);
    // Nor does it have to wait once it has written something, or if we replaced it.
    rig.restart(false);
    rig.say(1, "more");
    rig.answer("");
    assert_eq!(rig.written(usize::MAX), "more\n");
    rig.restart(true);
    rig.say(1, "last");
    assert_eq!(rig.written(usize::MAX), "last\n");
}

#[test]
fn a_silent_listener_never_hangs_and_loses_no_client() {
    let mut rig = plain(&["--hang-timeout", "1", "--listener-timeout", "1"]);
    rig.say(1, "one");
    assert_eq!(rig.written(usize::MAX), "one\n");
    for _ in 0..10 {
        // It asserts that the listener is not killed.
        rig.wait(3_600.0);
        let exit = rig.exchange.detach(false, rig.now);
        assert!(!exit.start_clean);
        rig.exchange.attach(rig.now);
    }
    assert!(rig.dropped().is_empty());
}

#[test]
fn messages_for_a_listener_that_reads_nothing_are_dropped_until_it_reads() {
    let mut rig = plain(&["--hang-timeout", "10"]);
    for text in ["one", "two", "three"] {
        rig.say(1, text);
    }
    assert_eq!(rig.written(2), "on");
    rig.stuck(Some(70_000), 0.0);
    rig.stuck(Some(70_000), 9.0);
    assert!(rig.settled().is_empty());
    // It has read something, though the pipe takes nothing yet.
    rig.stuck(Some(69_000), 2.0);
    rig.stuck(Some(69_000), 9.0);
    assert!(rig.settled().is_empty() && rig.dropped().is_empty());
    rig.stuck(Some(69_000), 2.0);
    assert_eq!(rig.settled(), [1, 1], "the line that was begun stays");
    rig.say(2, "four");
    assert_eq!(rig.settled(), [2]);
    assert_eq!(rig.dropped(), [("unread".to_owned(), 3)]);
    assert_eq!(rig.exchange.queued(), 1, "clients are read");
    // It reads again.
    assert_eq!(rig.written(usize::MAX), "e\n");
    rig.say(2, "five");
    assert_eq!(rig.written(usize::MAX), "five\n");
    assert_eq!(rig.settled(), [1, 2]);
    assert_eq!(rig.dropped(), [("unread".to_owned(), 3)]);
}

#[test]
fn the_end_of_the_drain_drops_what_waits_and_finishes_a_line() {
    let mut rig = plain(&[]);
    for text in ["one", "two"] {
        rig.say(1, text);
    }
    assert_eq!(rig.written(1), "o");
    assert_eq!(rig.exchange.drop_all("stop", ErrorCode::Stopping, "stop"), 2);
    assert_eq!((rig.settled(), rig.dropped()), (vec![1, 1], vec![("stop".to_owned(), 2)]));
    assert!(!rig.exchange.busy());
    assert_eq!(rig.written(usize::MAX), "ne\n");
}

#[test]
fn from_json_to_lines_messages_become_lines_and_pushes_go_out() {
    let mut rig = Rig::new(&["--window", "2"]);
    rig.exchange.attach(rig.now);
    rig.open(1);
    rig.open(2);
    let _outcome = rig.push(r#"{"message":"pushed"}"#);
    for text in ["asked", "waiting"] {
        rig.say(1, text);
        rig.say(2, text);
    }
    rig.binary(2);
    assert_eq!(rig.lines().len(), 4, "two opens, and two that are asked");
    rig.change(&["--plain"]);
    // A shard that has not heard of it yet.
    rig.open(3);
    rig.say(3, "late");
    rig.close(3);
    let written = rig.written(usize::MAX);
    let mut lines: Vec<_> = written.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["asked", "asked", "late", "waiting", "waiting"]);
    assert!(written.find("asked").unwrap() < written.find("waiting").unwrap());
    assert_eq!(rig.dropped(), [("binary".to_owned(), 1)]);
    let (mut settled, mut sent) = (0, Vec::new());
    for effect in rig.exchange.effects.drain(..) {
        match effect {
            Effect::Settled { .. } => settled += 1,
            Effect::Op(Op::Deliver(d)) => sent.push(d.payload.as_text().unwrap().to_owned()),
            _ => panic!("it sends and settles"),
        }
    }
    assert_eq!((settled, sent), (6, vec!["pushed".to_owned()]));
    rig.wait(60.0);
    assert!(!rig.exchange.busy());
}

#[test]
fn from_lines_to_json_messages_are_asked_behind_the_opens() {
    let mut rig = plain(&[]);
    rig.exchange.detach(false, rig.now);
    for conn in [1, 2, 3] {
        rig.say(conn, "one");
    }
    rig.change(&[]);
    // Of a shard that has not heard of it yet.
    rig.say(1, "two");
    assert!(rig.lines().is_empty());
    rig.open(2);
    rig.open(1);
    rig.say(1, "three");
    let got: Vec<_> = rig
        .lines()
        .iter()
        .map(|line| format!("{} {}", line["conn"].as_str().unwrap(), line["message"]))
        .collect();
    let one: Vec<_> = got.iter().filter(|line| line.starts_with("k1")).collect();
    assert_eq!(one, ["k1 \"\"", "k1 \"one\"", "k1 \"two\"", "k1 \"three\""]);
    assert_eq!(got.len(), 6);
    // The third has ended meanwhile, and nobody announces it.
    rig.wait(1.0);
    assert!(rig.dropped().is_empty());
    assert!(!rig.exchange.check(rig.now + Duration::from_secs(10)));
    assert_eq!(rig.dropped()[0], ("reload".to_owned(), 1));
}

#[test]
fn without_the_hook_or_the_listener_what_waits_is_sent_on() {
    for flags in [&["--plain", "--hooks", "none"][..], &["--hooks", "onClientOpen"]] {
        let mut rig = plain(&[]);
        rig.say(1, "one");
        rig.change(flags);
        rig.say(1, "two");
        assert_eq!(rig.sent(), ["one", "two"], "{flags:?}");
        assert!(!rig.exchange.busy() && rig.lines().is_empty());
    }
    let mut rig = plain(&[]);
    rig.say(1, "one");
    rig.exchange.detach(true, rig.now);
    rig.exchange.listener_removed();
    assert_eq!(rig.sent(), ["one"]);
}

#[test]
fn a_push_that_was_under_way_goes_out() {
    let mut rig = plain(&[]);
    let _outcome = rig.push(r#"{"message":"pushed"}"#);
    assert_eq!((rig.sent(), rig.written(usize::MAX).as_str()), (vec!["pushed".to_owned()], ""));
}

#[derive(Debug, Clone)]
enum Step {
    Say(u64),
    Binary(u64),
    /// The pipe takes so many bytes at most.
    Take(usize),
    Exit,
    Attach,
    Wait(u64),
    /// The pipe takes nothing.
    Stuck,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (1..4u64).prop_map(Step::Say),
        1 => (1..4u64).prop_map(Step::Binary),
        4 => (0..40usize).prop_map(Step::Take),
        1 => Just(Step::Exit),
        2 => Just(Step::Attach),
        1 => (0..300u64).prop_map(Step::Wait),
        1 => Just(Step::Stuck),
    ]
}

proptest! {
    /// Each message is settled once. Whole lines are messages, in order and each once, and no line of
    /// an incarnation is torn but its last.
    #[test]
    fn nothing_is_lost_twice_or_torn(steps in proptest::collection::vec(step(), 0..80)) {
        let mut rig = Rig::new(&["--plain", "--hang-timeout", "1"]);
        let (mut up, mut said, mut texts, mut settled) = (false, 0, 0, 0);
        let (mut lines, mut line) = (Vec::new(), String::new());
        for step in steps.into_iter().chain([Step::Attach, Step::Wait(300), Step::Take(usize::MAX)]) {
            match step {
                Step::Say(conn) => {
                    rig.say(conn, &texts.to_string());
                    texts += 1;
                    said += 1;
                }
                Step::Binary(conn) => {
                    rig.binary(conn);
                    said += 1;
                }
                Step::Take(most) => {
                    for c in rig.written(most).chars() {
                        if c == '\n' {
                            lines.push(std::mem::take(&mut line).parse::<u64>().unwrap());
                        } else {
                            line.push(c);
                        }
                    }
                }
                Step::Exit if up => {
                    prop_assert!(!rig.exchange.detach(false, rig.now).start_clean);
                    up = false;
                    line.clear();
                }
                Step::Attach if !up => {
                    rig.exchange.attach(rig.now);
                    up = true;
                }
                Step::Exit | Step::Attach => {}
                Step::Wait(ms) => rig.wait(ms as f64 / 1_000.0),
                Step::Stuck => {
                    rig.exchange.pump(rig.now);
                    if up && !rig.exchange.unwritten().is_empty() {
                        rig.stuck(None, 0.4);
                    }
                }
            }
            settled += rig.settled().len();
            prop_assert_eq!(settled + rig.exchange.queued(), said);
        }
        let dropped: u64 = rig.dropped().iter().map(|(_, n)| n).sum();
        prop_assert!(lines.is_sorted_by(|a, b| a < b), "{:?}", lines);
        prop_assert_eq!(lines.len() as u64 + dropped, said as u64);
        prop_assert!(line.is_empty() && rig.exchange.flushed() && !rig.exchange.busy());
    }
}
