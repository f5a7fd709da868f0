//! Channels: what answers and commands change, what events list, and what is told.

use parking_lot::Mutex;
use serde_json::{Value, json};

use super::*;
use crate::listener::membership::{LeaveReason, Members};
use crate::listener::recipients::ChannelTarget;
use crate::text::position::Since;

/// What the shards get: a line for each effect, in order.
pub(super) fn effects(rig: &mut Rig) -> Vec<String> {
    let names =
        |channels: &[Channel]| channels.iter().map(Channel::as_str).collect::<Vec<_>>().join(",");
    let recipients = |to: Recipients| match to {
        Recipients::All => "all".to_owned(),
        Recipients::AllBut(but) => format!("all but {but:?}"),
        Recipients::Only(ids) => ids.iter().map(ConnId::to_string).collect::<Vec<_>>().join(","),
        Recipients::Members(target) => {
            let ChannelTarget { channels, except } = &*target;
            format!("#{}{}", names(channels), if except.is_empty() { "" } else { " but" })
        }
    };
    let shown = rig.exchange.effects.drain(..).filter_map(|effect| match effect {
        Effect::Op(Op::Deliver(delivery)) => {
            Some(format!("{} to {}", delivery.payload.as_text()?, recipients(delivery.to)))
        }
        Effect::Op(Op::Membership(change)) => {
            let since = change.since.map(|since| format!(" since {since:?}")).unwrap_or_default();
            let reply = change.reply.map(|reply| reply.line(true)).unwrap_or_default();
            let (leave, join) = (names(&change.leave), names(&change.join));
            Some(format!("{} -{leave} +{join}{since}{reply}", change.conn))
        }
        Effect::Op(Op::Members(report)) => {
            report.add([ConnId(9), ConnId(3), ConnId(4)].into_iter());
            report.finish();
            Some(format!("members of {}", report.channel))
        }
        Effect::Handshake { decision, .. } => Some(format!("{decision:?}")),
        Effect::Op(_) => Some("another operation".to_owned()),
        Effect::Settled { .. } => None,
    });
    shown.collect()
}

pub(super) fn faults(rig: &Rig) -> u64 {
    let mut all = 0;
    rig.exchange.metrics.faults.each(|_, n| all += n);
    all
}

fn late(rig: &Rig) -> u64 {
    rig.exchange.metrics.late.get()
}

fn channel(name: &str) -> Channel {
    Channel::parse(name).unwrap()
}

/// A message of this connection, answered with these members.
pub(super) fn answered(rig: &mut Rig, conn: u64, members: &str) -> Vec<String> {
    rig.say(conn, "hi");
    let id = rig.lines().last().unwrap()["id"].clone();
    rig.answer(&format!("{{\"id\":{id}{members}}}"));
    effects(rig)
}

#[test]
fn one_line_leaves_then_joins_then_delivers() {
    let mut rig = Rig::new(&["--route", "channels"]);
    rig.exchange.attach(rig.now);
    rig.open_in(1, &["lobby"]);
    let members = r#","join":["room1","a"],"leave":"lobby","since":5"#;
    assert_eq!(
        answered(&mut rig, 1, members),
        ["k1 -lobby +a,room1 since Newest(5)", "hi to #a,room1"]
    );
    // What changes nothing makes no operation.
    assert_eq!(answered(&mut rig, 1, r#","join":"a","leave":["x"]"#), ["hi to #a,room1"]);
    assert_eq!(answered(&mut rig, 1, r#","join":[]"#), ["hi to #a,room1"]);
    // What is left and joined again is both.
    assert_eq!(
        answered(&mut rig, 1, r#","leave":"a","join":"a","channel":["b","a","b"],"except":["k1"]"#),
        ["k1 -a +a", "hi to #b,a but"]
    );
    assert_eq!(answered(&mut rig, 1, r#","leave":["a","room1"]"#), ["k1 -a,room1 +", "hi to "]);
    assert_eq!(answered(&mut rig, 1, r#","channel":[]"#), ["hi to "]);
}

#[test]
fn a_faulty_line_changes_nothing_and_goes_to_nobody() {
    let mut rig = Rig::new(&[]);
    rig.exchange.attach(rig.now);
    rig.open(1);
    let many: Vec<String> = (0..65).map(|n| format!("c{n}")).collect();
    for bad in [
        r#","join":null"#.to_owned(),
        r#","join":"a","leave":7"#.to_owned(),
        r#","join":"a","channel":null"#.to_owned(),
        r#","join":"a","since":null"#.to_owned(),
        r#","join":["a","b c"]"#.to_owned(),
        r#","join":"a","channel":"a","connections":[]"#.to_owned(),
        r#","join":"a","except":null"#.to_owned(),
        format!(",\"join\":{many:?}"),
    ] {
        let before = faults(&rig);
        assert_eq!(answered(&mut rig, 1, &bad), Vec::<String>::new(), "{bad}");
        assert_eq!(faults(&rig), before + 1, "{bad}");
    }
    // So many may be joined, and not one more.
    let most = format!(",\"join\":{:?}", &many[1..]);
    assert_eq!(answered(&mut rig, 1, &most).len(), 2);
    assert_eq!(answered(&mut rig, 1, r#","join":"c0""#), Vec::<String>::new());
    assert_eq!(answered(&mut rig, 1, r#","leave":"c1","join":"c0""#), ["k1 -c1 +c0", "hi to all"]);
}

#[test]
fn a_sender_that_has_gone_joins_nothing_and_its_message_goes_out() {
    let mut rig = Rig::new(&["--route", "channels"]);
    rig.exchange.attach(rig.now);
    rig.open_in(1, &["a"]);
    rig.say(1, "hi");
    let id = rig.lines()[1]["id"].clone();
    rig.close(1);
    rig.lines();
    assert!(!rig.exchange.knows(ConnId(1)), "its close is written");
    rig.answer(&format!("{{\"id\":{id},\"join\":\"b\",\"leave\":\"a\"}}"));
    assert_eq!(effects(&mut rig), ["hi to #a"], "the channels of when it was asked");
    assert_eq!(faults(&rig), 0);
}

#[test]
fn a_push_has_no_connection_that_could_join() {
    let mut rig = Rig::new(&["--route", "channels"]);
    rig.exchange.attach(rig.now);
    let asked = |rig: &mut Rig, push: &str, members: &str| {
        let outcome = rig.push(push);
        let id = rig.lines()[0]["id"].clone();
        rig.answer(&format!("{{\"id\":{id}{members}}}"));
        (effects(rig), outcome)
    };
    let push = r#"{"message":"hi","channel":["a","b"]}"#;
    assert_eq!(asked(&mut rig, push, "").0, ["hi to #a,b"]);
    assert_eq!(asked(&mut rig, push, r#","connections":["k1"]"#).0, ["hi to k1"]);
    assert_eq!(asked(&mut rig, push, r#","channel":"c","leave":"x","join":[]"#).0, ["hi to #c"]);
    let listed = r#"{"message":"hi","connections":["k1"]}"#;
    assert_eq!(asked(&mut rig, listed, r#","channel":"a""#).0, ["hi to #a"]);
    assert_eq!(asked(&mut rig, r#"{"message":"hi"}"#, "").0, ["hi to all"]);
    let (effects, mut outcome) = asked(&mut rig, push, r#","join":"a""#);
    assert!(effects.is_empty());
    assert_eq!(outcome.try_recv().unwrap().unwrap_err().code, ErrorCode::ListenerFault);
}

#[test]
fn the_first_answer_to_an_open_changes_channels() {
    let mut rig = Rig::new(&[]);
    rig.exchange.attach(rig.now);
    (1..=6).for_each(|conn| rig.open(conn));
    let opens = rig.lines();
    let id = |n: usize| opens[n].get("id").cloned().unwrap();
    let join = |rig: &mut Rig, id: &Value| {
        rig.answer(&format!(
            "{{\"id\":{id},\"join\":\"a\",\"since\":\"last\",\"connections\":null}}"
        ));
        effects(rig)
    };
    assert_eq!(join(&mut rig, &id(0)), ["k1 - +a since Newest(1)"]);
    assert_eq!((late(&rig), faults(&rig)), (0, 0));
    assert!(join(&mut rig, &id(0)).is_empty());
    assert_eq!(late(&rig), 1, "a further one is late");
    // An echo is the first answer too.
    rig.answer(&opens[1].to_string());
    assert!(join(&mut rig, &id(1)).is_empty());
    assert_eq!(late(&rig), 3);
    // A fault is logged, and nothing happens.
    rig.answer(&format!("{{\"id\":{},\"join\":null}}", id(2)));
    assert!(effects(&mut rig).is_empty());
    assert_eq!((late(&rig), faults(&rig)), (3, 1));
    // Not behind the connection's end, nor in another incarnation.
    rig.close(4);
    assert!(join(&mut rig, &id(3)).is_empty());
    rig.restart(false);
    assert!(join(&mut rig, &id(4)).is_empty());
    assert_eq!(late(&rig), 5);
    let resumed = rig.lines();
    let again = resumed.iter().find(|line| line["conn"] == "k5").unwrap()["id"].clone();
    assert_eq!(join(&mut rig, &again).len(), 1);
    assert_eq!(rig.exchange.opens.len(), 4, "k1, k2, k3 and k6");
    rig.exchange.detach(true, rig.now);
    assert!(rig.exchange.opens.is_empty());
}

#[test]
fn a_handshake_answer_names_the_first_channels() {
    let mut rig = Rig::new(&["--hooks", "onHandshake,onMessage"]);
    rig.exchange.attach(rig.now);
    let many: Vec<String> = (0..65).map(|n| format!("c{n}")).collect();
    for (members, decision) in [
        (String::new(), "Accept { protocol: None, join: None, since: None }"),
        (
            r#","join":["b","a","b"],"since":"last""#.into(),
            r#"Accept { protocol: None, join: Some(["a", "b"]), since: Some(Newest(1)) }"#,
        ),
        (r#","join":[]"#.into(), "Accept { protocol: None, join: Some([]), since: None }"),
        (r#","join":"a","since":"x""#.into(), "Refuse(500"),
        (r#","join":null"#.into(), "Refuse(500"),
        (r#","join":"a b""#.into(), "Refuse(500"),
        (format!(",\"join\":{many:?}"), "Refuse(500"),
    ] {
        rig.exchange.handshake(ConnId(7), b"\"path\":\"/\"".to_vec(), Vec::new(), rig.now);
        let id = rig.lines()[0]["id"].clone();
        rig.answer(&format!("{{\"id\":{id}{members}}}"));
        assert!(effects(&mut rig)[0].starts_with(decision), "{members}");
    }
}

/// The result lines that the listener reads.
pub(super) fn results(rig: &mut Rig) -> Vec<String> {
    let text = rig.written(usize::MAX);
    text.lines().filter(|line| line.contains("onResult")).map(str::to_owned).collect()
}

#[test]
fn commands_change_channels() {
    let mut rig = Rig::new(&[]);
    rig.exchange.attach(rig.now);
    rig.open_in(1, &["x"]);
    rig.answer(r#"{"command":"join","conn":"k1","channel":["b","a"],"since":"5m"}"#);
    rig.answer(r#"{"command":"join","conn":"k1","channel":"a"}"#);
    rig.answer(r#"{"command":"leave","conn":"k1","channel":["x","y"],"ref":1}"#);
    rig.answer(r#"{"command":"join","conn":"k1","channel":"a","ref":null}"#);
    assert_eq!(
        effects(&mut rig),
        [
            format!("k1 - +a,b since {:?}", Since::parse("5m").unwrap()),
            r#"k1 -x +{"event":"onResult","ref":1,"left":["x","y"]}"#.to_owned(),
            r#"k1 - +{"event":"onResult","ref":null,"joined":["a"]}"#.to_owned(),
        ]
    );
    rig.answer(r#"{"command":"join","conn":"k2","channel":"a","ref":3}"#);
    rig.answer(r#"{"command":"leave","conn":"\"x\"","channel":"a","ref":4}"#);
    rig.answer(r#"{"command":"leave","conn":"k2","channel":"a"}"#);
    rig.answer(r#"{"command":"join","conn":"k1","channel":null,"ref":5}"#);
    rig.answer(r#"{"command":"members","channel":"a"}"#);
    assert!(effects(&mut rig).is_empty());
    let told = results(&mut rig);
    assert_eq!(told[0], r#"{"event":"onResult","ref":3,"gone":["k2"]}"#);
    assert_eq!(told[1], r#"{"event":"onResult","ref":4,"gone":["\"x\""]}"#);
    assert!(told[2].starts_with(r#"{"event":"onResult","ref":5,"error":"#) && told.len() == 3);
    assert_eq!((rig.exchange.metrics.gone.get(), faults(&rig)), (3, 2));
    rig.answer(r#"{"command":"send","channel":"a","message":"tick","except":["k1"]}"#);
    assert_eq!(effects(&mut rig), ["tick to #a but"]);
}

#[test]
fn the_members_of_a_channel_are_a_result_line() {
    let mut rig = Rig::new(&[]);
    rig.exchange.attach(rig.now);
    let lines: Arc<Mutex<Vec<String>>> = Arc::default();
    let sink = Arc::clone(&lines);
    let results: Arc<dyn Fn(String) + Send + Sync> = Arc::new(move |line| sink.lock().push(line));
    for more in ["", ",\"limit\":1", ",\"after\":\"k3\""] {
        let line = format!("{{\"command\":\"members\",\"channel\":\"room1\",\"ref\":2{more}}}");
        rig.exchange.line(line.as_bytes(), &results, rig.now);
    }
    assert_eq!(effects(&mut rig).len(), 3);
    let head = r#"{"event":"onResult","ref":2,"channel":"room1","count":3,"members":"#;
    assert_eq!(
        *lines.lock(),
        [r#"["k3","k4","k9"]}"#, r#"["k3"]}"#, r#"["k4","k9"]}"#]
            .map(|list| format!("{head}{list}"))
    );
    let nobody = incoming::members_result("1", &channel("a"), &Members::default());
    assert_eq!(serde_json::from_str::<Value>(&nobody).unwrap()["members"], json!([]));
}

#[test]
fn a_producer_changes_channels_of_connections_that_the_exchange_does_not_have() {
    let mut rig = Rig::new(&["--hooks", "none"]);
    rig.exchange.attach(rig.now);
    rig.answer(r#"{"command":"join","conn":"k7","channel":["b","a"],"ref":1}"#);
    rig.answer(r#"{"command":"leave","conn":"k7","channel":"b"}"#);
    rig.answer(r#"{"command":"members","channel":"b","ref":2}"#);
    assert_eq!(effects(&mut rig), ["k7 - +b,a", "k7 -b +"]);
}

#[test]
fn events_list_the_channels() {
    let mut rig = Rig::new(&[]);
    rig.exchange.attach(rig.now);
    rig.open_in(1, &["b", "a"]);
    rig.say(1, "one");
    rig.say(1, "two");
    let lines = rig.lines();
    assert!(lines.iter().all(|line| line["channels"] == json!(["a", "b"])));
    // The event that is owed is changed by no later line.
    rig.answer(&format!("{{\"id\":{},\"leave\":\"b\"}}", lines[1]["id"]));
    rig.say(1, "three");
    assert_eq!(rig.lines()[0]["channels"], json!(["a"]));
    rig.exchange.detach(false, rig.now);
    // What is joined while the listener is down stands in the open, and nothing else tells of it.
    rig.exchange.joined(ConnId(1), channel("c"), 1);
    rig.exchange.attach(rig.now);
    let lines = rig.lines();
    let channels: Vec<&Value> = lines.iter().map(|line| &line["channels"]).collect();
    assert_eq!(channels, [&json!(["a"]), &json!(["a", "b"]), &json!(["a"])]);
    assert_eq!(lines[1]["redelivered"], true);
    rig.close(1);
    assert_eq!(rig.lines()[0]["channels"], json!(["a"]));
    rig.open(2);
    assert_eq!(rig.lines()[0].get("channels"), None);
}

#[test]
fn an_echo_with_channels_changes_nothing() {
    let mut rig = Rig::new(&["--route", "channels", "--hooks", "onMessage"]);
    rig.exchange.attach(rig.now);
    rig.open_in(1, &["b", "a"]);
    rig.say(1, "one");
    let line = rig.written(usize::MAX);
    rig.answer(line.trim_end());
    rig.say(1, "two");
    // As `jq -c '.message |= .'` writes it.
    let parsed = rig.lines()[0].to_string();
    rig.answer(&parsed);
    assert_eq!(effects(&mut rig), ["one to #a,b", "two to #a,b"]);
    assert_eq!((late(&rig), faults(&rig)), (0, 0));
}

#[test]
fn a_message_that_is_not_answered_goes_to_the_channels_of_its_sender() {
    let flags = ["--route", "channels", "--hooks", "onMessage", "--on-timeout", "broadcast"];
    let mut rig = Rig::new(&flags);
    rig.exchange.attach(rig.now);
    rig.open_in(1, &["a"]);
    rig.say(1, "late");
    rig.lines();
    rig.wait(10.0);
    assert_eq!(effects(&mut rig), ["late to #a"]);
    rig.say(1, "owed");
    rig.lines();
    rig.close(1);
    rig.open_in(2, &["b"]);
    (0..70).for_each(|_| rig.say(2, "waits"));
    let _outcome = rig.push(r#"{"message":"push","channel":"c"}"#);
    rig.exchange.set_settings(settings(&["--route", "channels", "--hooks", "onClientClose"]));
    let sent = effects(&mut rig);
    assert_eq!(sent[0], "owed to #a");
    assert_eq!(sent.iter().filter(|line| *line == "waits to #b").count(), 70);
    assert!(sent.contains(&"push to #c".to_owned()));
}

fn told(rig: &mut Rig) -> Vec<String> {
    let line = |line: &Value| {
        let event = line["event"].as_str().unwrap();
        match line["channel"].as_str() {
            Some(channel) => format!("{event} {channel} {}", line["members"]),
            None => event.to_owned(),
        }
    };
    rig.lines().iter().map(line).collect()
}

#[test]
fn joins_and_leaves_are_told_between_the_open_and_the_close() {
    let mut rig = Rig::new(&["--hooks", "onClientOpen,onClientClose,onJoin,onLeave"]);
    rig.exchange.attach(rig.now);
    rig.open_in(1, &["a"]);
    rig.exchange.joined(ConnId(1), channel("a"), 1);
    rig.exchange.joined(ConnId(1), channel("b"), 3);
    rig.exchange.left(ConnId(1), channel("b"), 2, LeaveReason::Left);
    rig.exchange.left(ConnId(1), channel("a"), 0, LeaveReason::Closed);
    rig.close(1);
    // Nothing is told behind the close, nor of a connection that there is not.
    rig.exchange.joined(ConnId(1), channel("a"), 1);
    rig.exchange.joined(ConnId(2), channel("a"), 1);
    assert!(rig.exchange.notice_bytes() > 500);
    assert_eq!(
        told(&mut rig),
        ["onClientOpen", "onJoin a 1", "onJoin b 3", "onLeave b 2", "onLeave a 0", "onClientClose"]
    );
    assert_eq!(rig.exchange.notice_bytes(), 0);
}

#[test]
fn a_restart_repeats_no_join() {
    let mut rig = Rig::new(&["--hooks", "onClientOpen,onJoin,onLeave"]);
    rig.exchange.attach(rig.now);
    rig.open_in(1, &["a"]);
    rig.exchange.joined(ConnId(1), channel("a"), 1);
    rig.open_in(2, &["a"]);
    rig.exchange.left(ConnId(2), channel("a"), 1, LeaveReason::Closed);
    rig.close(2);
    rig.exchange.detach(false, rig.now);
    assert!(rig.exchange.notice_bytes() < 400, "the room for the first connection");
    rig.exchange.joined(ConnId(1), channel("b"), 1);
    rig.exchange.attach(rig.now);
    assert_eq!(told(&mut rig), ["onClientOpen"]);
}

#[test]
fn a_leave_is_told_without_the_close_hook() {
    let mut rig = Rig::new(&["--hooks", "onClientOpen,onLeave"]);
    rig.exchange.attach(rig.now);
    rig.open_in(1, &["a"]);
    rig.exchange.left(ConnId(1), channel("a"), 0, LeaveReason::Closed);
    rig.close(1);
    assert_eq!(told(&mut rig), ["onClientOpen", "onLeave a 0"]);
    assert!(!rig.exchange.knows(ConnId(1)));
}

#[test]
fn what_a_listener_does_not_read_is_bounded() {
    let mut rig = Rig::new(&["--hooks", "onClientOpen,onClientClose,onJoin,onLeave"]);
    rig.exchange.attach(rig.now);
    rig.open(1);
    rig.lines();
    for _ in 0..100_000 {
        rig.exchange.joined(ConnId(1), channel("a"), 1);
        rig.exchange.left(ConnId(1), channel("a"), 0, LeaveReason::Left);
    }
    assert!(rig.exchange.notice_bytes() < 9 * 1024 * 1024);
    assert!(faults(&rig) > 0);
    // The end of a connection is told whatever waits.
    rig.exchange.left(ConnId(1), channel("z"), 0, LeaveReason::Closed);
    rig.close(1);
    let told = told(&mut rig);
    assert_eq!(told[told.len() - 2..], ["onLeave z 0", "onClientClose"]);
    assert_eq!(rig.exchange.notice_bytes(), 0);
}

#[test]
fn a_clean_start_forgets_the_channels() {
    let mut rig = Rig::new(&["--hooks", "onClientOpen,onClientClose,onLeave"]);
    rig.exchange.attach(rig.now);
    rig.open_in(1, &["a"]);
    rig.lines();
    rig.exchange.detach(false, rig.now);
    rig.exchange.start_clean();
    rig.exchange.attach(rig.now);
    rig.exchange.left(ConnId(1), channel("a"), 0, LeaveReason::Closed);
    rig.close(1);
    assert!(rig.lines().is_empty());
    assert!(rig.exchange.opens.is_empty());
}
