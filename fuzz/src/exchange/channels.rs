//! Channels: who is in which, what a line may change about that, and what the listener is told of it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde_json::Value;
use wsgw::config::hooks::Hook;
use wsgw::config::settings::Route;
use wsgw::listener::exchange::{Effect, HandshakeDecision};
use wsgw::listener::membership::LeaveReason;
use wsgw::listener::op::{Membership, Op};
use wsgw::listener::protocol::channel::Channel;
use wsgw::listener::protocol::connid::ConnId;
use wsgw::listener::recipients::{ChannelTarget, Recipients};

use super::Model;

/// The `max-channels` of the model.
pub(super) const MOST: usize = 2;

/// Sets of channels that a line or an opening may name.
const SETS: [&[&str]; 4] = [&[], &["a"], &["b", "a"], &["a", "b", "c"]];

pub(super) type Names = BTreeSet<String>;

/// The channels of one connection, as they changed.
pub(super) struct Rooms {
    versions: Vec<Names>,
    /// The version that an event listed last, or a later one.
    listed: usize,
}

impl Rooms {
    pub(super) fn new(first: Names) -> Rooms {
        Rooms { versions: vec![first], listed: 0 }
    }

    pub(super) fn now(&self) -> &Names {
        self.versions.last().expect("there is a first")
    }
}

/// A connection that the listener has accepted and that is not open.
pub(super) struct Accepted {
    first: Names,
    now: Names,
    /// What the shard carries out behind the opening.
    changes: Vec<Membership>,
}

impl Accepted {
    fn new(first: Names) -> Accepted {
        Accepted { now: first.clone(), first, changes: Vec::new() }
    }
}

/// The channels that the URL of an asked connection names.
fn url(id: ConnId) -> Names {
    set(id.0 as usize % 3)
}

/// They as the last member of the event.
pub(super) fn asked(id: ConnId) -> String {
    let names = Vec::from_iter(url(id));
    if names.is_empty() { String::new() } else { format!(",\"join\":{names:?}").replace(' ', "") }
}

/// What is expected about channels of all connections.
#[derive(Default)]
pub(super) struct Channels {
    members: BTreeMap<String, u64>,
    /// Joins and leaves that this incarnation is still to be told.
    told: VecDeque<(ConnId, String, u64, Option<LeaveReason>)>,
    /// What each `onMessage` listed.
    listed: BTreeMap<u64, Names>,
    /// Opens that this incarnation was sent and has not answered.
    opens: BTreeMap<u64, ConnId>,
    /// Whether lines that are read now were made before other things happened.
    pub(super) behind: bool,
}

impl Channels {
    /// The incarnation has ended.
    pub(super) fn detached(&mut self) {
        self.told.clear();
        self.opens.clear();
        self.behind = false;
    }

    pub(super) fn told_all(&self) -> bool {
        self.told.is_empty()
    }
}

pub(super) fn set(which: usize) -> Names {
    SETS[which % SETS.len()].iter().map(|name| (*name).to_owned()).collect()
}

pub(super) fn channels(names: &Names) -> Vec<Channel> {
    names.iter().map(|name| Channel::parse(name).expect("a name")).collect()
}

fn names(channels: &[Channel]) -> Names {
    channels.iter().map(|channel| channel.as_str().to_owned()).collect()
}

/// What an event lists.
pub(super) fn listed(event: &Value) -> Names {
    let Some(list) = event.get("channels") else { return Names::new() };
    let list = list.as_array().expect("an array");
    let names: Vec<&str> = list.iter().map(|name| name.as_str().expect("a name")).collect();
    assert!(!names.is_empty() && names.is_sorted_by(|a, b| a < b), "{names:?}");
    names.into_iter().map(str::to_owned).collect()
}

/// Changes that a line asks for.
pub(super) struct Change {
    pub(super) leave: Names,
    pub(super) join: Names,
}

impl Change {
    pub(super) fn members(&self) -> String {
        let member = |key: &str, names: &Names| match names.len() {
            0 => String::new(),
            1 => format!(",\"{key}\":{:?}", names.first().expect("one")),
            _ => format!(",\"{key}\":{:?}", Vec::from_iter(names)),
        };
        member("join", &self.join) + &member("leave", &self.leave)
    }

    /// What changes for a connection that is in these channels; an error if that is a fault.
    pub(super) fn effective(&self, before: &Names) -> Result<Option<Change>, ()> {
        let leave: Names = self.leave.intersection(before).cloned().collect();
        let stays: Names = before.difference(&leave).cloned().collect();
        let join: Names = self.join.difference(&stays).cloned().collect();
        if !join.is_empty() && stays.len() + join.len() > MOST {
            return Err(());
        }
        Ok((!leave.is_empty() || !join.is_empty()).then_some(Change { leave, join }))
    }
}

impl Model {
    /// Does what the shards do with a change, which has to be this one.
    pub(super) fn carry_out(&mut self, id: ConnId, expected: &Change, op: Membership) {
        assert_eq!(op.conn, id);
        assert_eq!(
            (names(&op.leave), names(&op.join)),
            (expected.leave.clone(), expected.join.clone())
        );
        let mut after: Names = self.now_in(id).difference(&expected.leave).cloned().collect();
        after.extend(expected.join.iter().cloned());
        if let Some(accepted) = self.accepted.get_mut(&id) {
            accepted.now = after;
            return accepted.changes.push(op);
        }
        self.tell_change(&op);
        let rooms = &mut self.conns.get_mut(&id).expect("a connection").rooms;
        rooms.versions.push(after);
    }

    fn tell_change(&mut self, op: &Membership) {
        for channel in &op.leave {
            self.left(op.conn, channel, LeaveReason::Left);
        }
        for channel in &op.join {
            self.joined(op.conn, channel);
        }
    }

    /// The channels that a connection is in, or will be in when it is open.
    fn now_in(&self, id: ConnId) -> &Names {
        self.accepted.get(&id).map_or_else(|| self.conns[&id].rooms.now(), |conn| &conn.now)
    }

    /// The listener has answered the handshake of a connection, and joined it to these channels unless
    /// there are none.
    pub(super) fn handshake_answered(&mut self, id: ConnId, join: Names) {
        let is_acceptance = |effect: &Effect| {
            let Effect::Handshake { decision, .. } = effect else { return false };
            matches!(decision, HandshakeDecision::Accept { .. })
        };
        let accepted = self.exchange.effects.iter().any(is_acceptance);
        assert_eq!(accepted, join.len() <= MOST);
        if accepted {
            let first = if join.is_empty() { url(id) } else { join };
            self.accepted.insert(id, Accepted::new(first));
        }
    }

    /// A connection that was accepted opens, and its shard carries out what the listener has changed.
    pub(super) fn open_accepted(&mut self, nth: usize) {
        let id = self.accepted.keys().nth(nth % self.accepted.len()).copied();
        let id = id.expect("there is one");
        let conn = self.accepted.remove(&id).expect("just there");
        self.opened(id, &conn.first, conn.now);
        for change in &conn.changes {
            self.tell_change(change);
        }
    }

    /// Takes the change out of the effects of one line, in front of its delivery. `None` expects none.
    pub(super) fn expect_change(&mut self, id: ConnId, expected: Option<&Change>) {
        let is_change = |effect: &Effect| matches!(effect, Effect::Op(Op::Membership(_)));
        let effects = &mut self.exchange.effects;
        let at = effects.iter().position(is_change);
        let delivery = effects.iter().position(|e| matches!(e, Effect::Op(Op::Deliver(_))));
        match (at, expected) {
            (None, None) => {}
            (Some(at), Some(expected)) => {
                assert!(
                    delivery.is_none_or(|delivery| at < delivery),
                    "joined behind the delivery"
                );
                let Effect::Op(Op::Membership(op)) = effects.remove(at) else { unreachable!() };
                self.carry_out(id, expected, *op);
            }
            (at, _) => panic!("a change: {}", at.is_some()),
        }
        assert!(!self.exchange.effects.iter().any(is_change), "one change for each line");
    }

    pub(super) fn joined(&mut self, id: ConnId, channel: &Channel) {
        let members = self.channels.members.entry(channel.as_str().to_owned()).or_default();
        *members += 1;
        let members = *members;
        if self.up && self.hook(Hook::OnJoin) {
            self.channels.told.push_back((id, channel.as_str().to_owned(), members, None));
        }
        self.exchange.joined(id, channel.clone(), members);
    }

    pub(super) fn left(&mut self, id: ConnId, channel: &Channel, reason: LeaveReason) {
        let members = self.channels.members.get_mut(channel.as_str()).expect("it has members");
        *members -= 1;
        let members = *members;
        if self.up && self.hook(Hook::OnLeave) {
            self.channels.told.push_back((id, channel.as_str().to_owned(), members, Some(reason)));
        }
        self.exchange.left(id, channel.clone(), members, reason);
    }

    /// Whether a delivery without a target of its own goes where the route leads for this sender,
    /// which was in `asked` when the listener was asked.
    pub(super) fn expect_routed(&self, to: &Recipients, sender: Option<ConnId>, asked: &Names) {
        let Some(sender) = sender.filter(|_| self.settings.route == Route::Channels) else {
            return assert_eq!(*to, Recipients::All);
        };
        let conn = &self.conns[&sender];
        let members = |names: &Names| ChannelTarget::recipients(channels(names), Vec::new());
        // One that has gone was in the channels of then.
        let then = conn.closed && *to == members(asked);
        assert!(then || *to == members(conn.rooms.now()), "{to:?} of {:?}", conn.rooms.versions);
    }

    /// The listener joins a connection, or takes it out.
    pub(super) fn membership_command(&mut self, id: ConnId, joins: bool, which: usize) {
        if !self.up {
            return;
        }
        let (set, with_ref) = (set(which), which.is_multiple_of(3));
        let there = self.accepted.contains_key(&id) || !self.conns[&id].closed;
        let change = match joins {
            true => Change { leave: Names::new(), join: set.clone() },
            false => Change { leave: set.clone(), join: Names::new() },
        };
        let expected = match there {
            true => change.effective(self.now_in(id)),
            false => Ok(None),
        };
        let command = if joins { "join" } else { "leave" };
        let names = Vec::from_iter(&set);
        // The text of an error is not known here.
        let reference = if with_ref && expected.is_ok() { ",\"ref\":9" } else { "" };
        let line = format!(
            "{{\"command\":\"{command}\",\"conn\":\"{id}\",\"channel\":{names:?}{reference}}}"
        );
        self.line(&line);
        let nothing = Change { leave: Names::new(), join: Names::new() };
        match (expected, reference) {
            (Ok(change), "") | (Ok(change @ Some(_)), _) => self.expect_change(id, change.as_ref()),
            (Ok(None), _) if there => self.expect_change(id, Some(&nothing)),
            (Ok(None), _) => {
                let gone = format!("{{\"event\":\"onResult\",\"ref\":9,\"gone\":[\"{id}\"]}}");
                self.results_given.push_back(gone);
                self.expect_change(id, None);
            }
            (Err(()), _) => self.expect_change(id, None),
        }
        assert!(self.exchange.effects.is_empty(), "a command changes channels alone");
    }

    /// The listener answers an open, perhaps one that it has answered before.
    pub(super) fn answer_open(&mut self, nth: usize, which: usize) {
        let ids: Vec<u64> = self.here.open_ids.keys().copied().collect();
        let Some(id) = ids.get(nth % ids.len().max(1)).copied().filter(|_| self.up) else { return };
        let conn = self.here.open_ids[&id];
        let first = self.channels.opens.remove(&id).is_some() && !self.conns[&conn].closed;
        let change = Change { leave: set(which / 4), join: set(which) };
        let members = change.members();
        let late = self.metrics.late.get();
        self.line(&format!("{{\"id\":{id}{members}}}"));
        let counts = first && !members.is_empty();
        let expected = match counts {
            true => change.effective(self.conns[&conn].rooms.now()).unwrap_or_default(),
            false => None,
        };
        self.expect_change(conn, expected.as_ref());
        assert!(self.exchange.effects.is_empty(), "an answer to an open sends nothing");
        assert_eq!(self.metrics.late.get(), late + u64::from(!counts), "late");
    }

    /// An event of a connection was read: it lists the channels of when its line was made.
    pub(super) fn inbound_channels(&mut self, id: ConnId, event: &Value, redelivered: bool) {
        let listed = listed(event);
        let number = event["id"].as_u64().expect("an id");
        match event["event"].as_str() {
            Some("onClientOpen") => {
                self.here.open_ids.insert(number, id);
                self.channels.opens.insert(number, id);
            }
            Some("onMessage") if self.listed_again(number, &listed) => return,
            _ => {}
        }
        let rooms = &mut self.conns.get_mut(&id).expect("a connection").rooms;
        let last = rooms.versions.len() - 1;
        if redelivered {
            // Its line was made for an incarnation that did not read it.
            return assert!(rooms.versions.contains(&listed), "{listed:?}");
        }
        let from = if self.channels.behind { rooms.listed } else { last };
        let at = rooms.versions[from..].iter().position(|version| *version == listed);
        rooms.listed = from + at.unwrap_or_else(|| panic!("{listed:?} of {:?}", rooms.versions));
    }

    /// Notes what a message listed. Sent again, it lists the same; then true.
    pub(super) fn listed_again(&mut self, id: u64, listed: &Names) -> bool {
        match self.channels.listed.insert(id, listed.clone()) {
            Some(before) => {
                assert_eq!(before, *listed, "a line that is sent again");
                true
            }
            None => false,
        }
    }

    /// What a message listed when the listener was asked.
    pub(super) fn listed_then(&self, id: u64) -> Names {
        self.channels.listed.get(&id).cloned().unwrap_or_default()
    }

    /// An `onJoin` or `onLeave` was read.
    pub(super) fn inbound_membership(&mut self, id: ConnId, event: &Value) {
        let reason = match (event["event"].as_str(), event["reason"].as_str()) {
            (Some("onJoin"), None) => None,
            (Some("onLeave"), Some("left")) => Some(LeaveReason::Left),
            (Some("onLeave"), Some("closed")) => Some(LeaveReason::Closed),
            other => panic!("{other:?}"),
        };
        let channel = event["channel"].as_str().expect("a channel").to_owned();
        let members = event["members"].as_u64().expect("a number");
        assert_eq!(self.channels.told.pop_front(), Some((id, channel, members, reason)));
        assert!(
            !self.hook(Hook::OnClientOpen) || self.here.opened.contains(&id),
            "before its open"
        );
        assert!(!self.here.closed.contains(&id), "behind its close");
    }
}
