//! What a log keeps and replays.

mod model;

use std::sync::Arc;

use super::*;
use crate::listener::protocol::channel::Channel;
use crate::listener::recipients::{ChannelTarget, Recipients};
use crate::text::position::{Epoch, Since};
use crate::ws::payload::Payload;

fn channel(name: &str) -> Channel {
    Channel::parse(name).unwrap()
}

fn to(names: &[&str]) -> Recipients {
    ChannelTarget::recipients(names.iter().map(|name| channel(name)).collect(), Vec::new())
}

fn limits(channels: &[(&str, usize)], broadcast: usize) -> Limits {
    let channels = channels.iter().map(|(name, n)| ((*name).to_owned(), *n)).collect();
    Limits { channels, broadcast, age_ms: 0, bytes: 1 << 30 }
}

fn ask<'a>(channels: &'a [Channel], since: Option<Since>, log: &Log) -> Ask<'a> {
    Ask {
        channels,
        all: true,
        since,
        newest: log.position().number,
        fallback: None,
        max_bytes: 1 << 20,
        max_messages: 10_000,
    }
}

fn numbers(replay: &Replay) -> Vec<u64> {
    replay.messages.iter().map(|kept| kept.number).collect()
}

#[test]
fn what_goes_to_channels_and_to_all_is_kept_and_what_is_private_is_not() {
    let mut log = Log::new(Epoch::random(), limits(&[("a", 2), ("b", 1)], 1));
    let payload = Payload::text("x");
    let first = log.position();
    assert_eq!(first.number, 0);
    assert_eq!(log.keep(&Recipients::Only(Arc::from([])), &payload, 1), None);
    assert_eq!(log.keep(&to(&["c"]), &payload, 1), None);
    for (number, names) in [(1, vec!["a"]), (2, vec!["a", "b", "c"]), (3, vec!["b"])] {
        assert_eq!(log.keep(&to(&names), &payload, 1).map(|at| at.number), Some(number));
    }
    assert_eq!(log.keep(&Recipients::All, &payload, 1).map(|at| at.number), Some(4));
    let channels = [channel("a"), channel("c")];
    let asked = ask(&channels, Some(Since::After(first)), &log);
    let replay = log.replay(&asked, 1);
    assert_eq!((replay.recovered, replay.before, numbers(&replay)), (Some(true), 0, vec![1, 2, 4]));
    assert_eq!((replay.from, replay.from_all), (vec![0, 4], 0));
    let channels = [channel("b")];
    let asked = ask(&channels, Some(Since::After(first)), &log);
    let replay = log.replay(&asked, 1);
    assert_eq!((replay.recovered, replay.before, numbers(&replay)), (Some(false), 4, vec![]));
}
