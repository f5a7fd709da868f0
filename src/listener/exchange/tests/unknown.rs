//! Lines and messages that come while the exchange does not have their connection: before it is
//! reported as open, and after all hooks were taken away.

use serde_json::json;

use super::channels::{answered, effects, faults, results};
use super::*;

const HOOKS: &str = "--hooks=onHandshake,onClientOpen,onMessage,onClientClose";

/// The listener accepts a connection whose URL names these channels, and writes these lines behind its
/// answer.
fn accepts(rig: &mut Rig, conn: u64, url: &[&str], members: &str, lines: &[&str]) {
    let url = if url.is_empty() { String::new() } else { format!(",\"join\":{url:?}") };
    let asked = format!("\"path\":\"/\"{}", url.replace(' ', ""));
    rig.exchange.handshake(ConnId(conn), asked.into_bytes(), Vec::new(), rig.now);
    let id = rig.lines().last().unwrap()["id"].clone();
    rig.answer(&format!("{{\"id\":{id}{members}}}"));
    lines.iter().for_each(|line| rig.answer(line));
}

#[test]
fn a_command_behind_the_acceptance_changes_channels() {
    let mut rig = Rig::new(&[HOOKS, "--route", "channels", "--max-channels", "3"]);
    rig.exchange.attach(rig.now);
    let commands = [
        r#"{"command":"join","conn":"k1","channel":["b","a"],"ref":1,"since":5}"#,
        r#"{"command":"leave","conn":"k1","channel":["b","url"],"ref":2}"#,
        r#"{"command":"join","conn":"k1","channel":["a","c","d"]}"#,
        r#"{"command":"join","conn":"k1","channel":["e"],"ref":3}"#,
        r#"{"command":"send","channel":"a","message":"to a"}"#,
    ];
    accepts(&mut rig, 1, &["url"], "", &commands);
    // Each stands behind the handshake, and the channels of the URL count.
    assert_eq!(
        effects(&mut rig),
        [
            "Accept { protocol: None, join: None, since: None }",
            r#"k1 - +a,b since Newest(5){"event":"onResult","ref":1,"joined":["b","a"]}"#,
            r#"k1 -b,url +{"event":"onResult","ref":2,"left":["b","url"]}"#,
            "k1 - +c,d",
            "to a to #a",
        ]
    );
    let told = results(&mut rig);
    assert!(told.len() == 1 && told[0].contains(r#""ref":3,"error":"#), "{told:?}");
    assert_eq!((rig.exchange.metrics.gone.get(), faults(&rig)), (0, 1));
    rig.open_in(1, &["url"]);
    assert_eq!(rig.lines()[0]["channels"], json!(["a", "c", "d"]));
    assert_eq!(answered(&mut rig, 1, r#","leave":"d""#), ["k1 -d +", "hi to #a,c"]);
    // From here on it is a connection like any other.
    rig.close(1);
    rig.answer(r#"{"command":"join","conn":"k1","channel":"a","ref":4}"#);
    assert!(effects(&mut rig).is_empty());
    assert_eq!(results(&mut rig), [r#"{"event":"onResult","ref":4,"gone":["k1"]}"#]);
}

#[test]
fn a_command_behind_the_acceptance_counts_after_the_listener_has_exited() {
    let mut rig = Rig::new(&[HOOKS]);
    rig.exchange.attach(rig.now);
    let join = r#"{"command":"join","conn":"k1","channel":"b"}"#;
    accepts(&mut rig, 1, &["url"], r#","join":"a""#, &[join]);
    assert_eq!(effects(&mut rig)[1], "k1 - +b");
    rig.restart(false);
    rig.open_in(1, &["a"]);
    assert_eq!(rig.lines()[0]["channels"], json!(["a", "b"]));
    // A connection that the listener leaves as it is gets the channels of its opening.
    accepts(&mut rig, 2, &[], "", &[]);
    rig.open_in(2, &["z"]);
    assert_eq!(rig.lines()[0]["channels"], json!(["z"]));
}

#[test]
fn a_command_to_a_refused_connection_finds_nobody() {
    let mut rig = Rig::new(&[HOOKS]);
    rig.exchange.attach(rig.now);
    let join = r#"{"command":"join","conn":"k1","channel":"a","ref":1}"#;
    accepts(&mut rig, 1, &[], r#","reject":403"#, &[join]);
    assert_eq!(effects(&mut rig).len(), 1);
    assert_eq!(results(&mut rig), [r#"{"event":"onResult","ref":1,"gone":["k1"]}"#]);
}

#[test]
fn a_message_behind_the_loss_of_all_hooks_goes_to_the_channels_of_its_sender() {
    let mut rig = Rig::new(&["--route", "channels"]);
    rig.exchange.attach(rig.now);
    rig.open_in(1, &["a"]);
    rig.open_in(2, &[]);
    rig.lines();
    let none = settings(&["--route", "channels", "--hooks", "none"]);
    rig.exchange.set_settings(Arc::clone(&none));
    // Its shard has not heard of that yet.
    rig.say(1, "behind");
    rig.say(2, "in none");
    rig.exchange.set_settings(none);
    rig.say(1, "again");
    assert_eq!(effects(&mut rig), ["behind to #a", "in none to ", "again to #a"]);
    // They are kept for a while.
    rig.wait(0.0);
    rig.wait(9.0);
    assert!(!rig.exchange.released.is_empty());
    rig.wait(1.0);
    assert!(rig.exchange.released.is_empty());
}
