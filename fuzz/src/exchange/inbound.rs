//! The lines that come in at the listener: their order, their ids, and the window.

use std::time::Duration;

use serde_json::Value;
use wsgw::config::hooks::Hook;
use wsgw::listener::protocol::connid::ConnId;

use super::super::members_of_line;
use super::{About, Model, Owed};

impl Model {
    /// The listener has read a line.
    pub(super) fn inbound(&mut self, line: &[u8]) {
        assert!(self.up, "a line although the listener is down");
        let members = members_of_line(line);
        if members[0].0 == "event" {
            let expected = self.results_given.pop_front();
            assert_eq!(expected.as_deref(), std::str::from_utf8(&line[..line.len() - 1]).ok());
            return;
        }
        let event: Value = serde_json::from_slice(line).expect("JSON");
        let id = event["id"].as_u64().expect("an id");
        let redelivered = event["redelivered"] == true;
        assert!(self.here.seen.insert(id), "{id} twice");
        assert!(!self.here.completed.contains(&id), "{id} was complete before this incarnation");
        if redelivered {
            assert!(id > self.here.redelivered, "oldest first");
            self.here.redelivered = id;
        } else {
            assert!(id > self.highest, "ids rise");
            assert!(
                !self.sent.contains(&id),
                "{id} was sent before but is not marked as redelivered"
            );
            let mut old = self.here.to_redeliver.iter();
            let came = old.all(|id| self.here.seen.contains(id) || self.completed.contains(id));
            assert!(came || event["event"] != "onMessage", "old messages come before new ones");
        }
        self.highest = self.highest.max(id);

        let conn = event["conn"].as_str().map(|name| ConnId::parse(name).expect("a name"));
        if let Some(conn) = conn.filter(|conn| self.conns.contains_key(conn)) {
            match event["event"].as_str() {
                Some("onJoin" | "onLeave") => return self.inbound_membership(conn, &event),
                _ => self.inbound_channels(conn, &event, redelivered),
            }
        }
        match event["event"].as_str().expect("an event") {
            "onClientOpen" => self.inbound_open(conn.expect("a conn"), &event),
            "onClientClose" => self.inbound_close(conn.expect("a conn"), &event),
            "onMessage" => {
                let about = match conn {
                    Some(conn) => {
                        let text = event["message"].as_str().expect("text");
                        let number = text.parse().expect("ours");
                        self.inbound_message(conn, number, redelivered);
                        About::Message(number)
                    }
                    None => About::Push(event["push"].as_u64().expect("ours") as usize),
                };
                // The event may have timed out while its line was in the pipe.
                if !matches!(about, About::Push(number) if self.push_is_complete(number)) {
                    self.asked(id, about);
                }
            }
            "onHandshake" => {
                let conn = conn.expect("a conn");
                assert!(!redelivered);
                // The event may have timed out while its line was in the pipe.
                if self.handshakes.contains(&conn) {
                    self.asked(id, About::Handshake(conn));
                }
            }
            other => panic!("{other}"),
        }
    }

    fn inbound_open(&mut self, id: ConnId, event: &Value) {
        assert!(self.hook(Hook::OnClientOpen));
        let resumed = event["resumed"] == true;
        let conn = self.conns.get_mut(&id).expect("a connection");
        assert_eq!(
            resumed, conn.open_announced,
            "resumed if and only if an earlier incarnation was told"
        );
        assert!(!conn.close_announced && !conn.forgotten);
        conn.open_announced = true;
        assert!(self.here.opened.insert(id), "opened twice");
        if resumed {
            let left = event["left"].as_u64().expect("a number");
            assert!(self.here.left.is_none_or(|before| left + 1 == before), "left counts down");
            self.here.left = Some(left);
        }
    }

    fn inbound_close(&mut self, id: ConnId, event: &Value) {
        assert!(self.hook(Hook::OnClientClose));
        let conn = self.conns.get_mut(&id).expect("a connection");
        assert!(conn.closed && !conn.forgotten && conn.unseen.is_empty());
        assert!(!conn.close_announced, "closed twice");
        conn.close_announced = true;
        assert_eq!(event["reason"], id.to_string());
        let opened = !self.settings.hooks.has(Hook::OnClientOpen) || self.here.opened.contains(&id);
        assert!(opened, "closed before its open");
        self.here.closed.insert(id);
        // The close comes after the last message: none is still to be sent again.
        let waits = self.owed.iter().any(|(id_, owed)| {
            matches!(owed.about, About::Message(m) if self.messages[m] == id)
                && self.here.to_redeliver.contains(id_)
                && !self.here.seen.contains(id_)
        });
        assert!(!waits, "closed before its last message");
    }

    fn inbound_message(&mut self, id: ConnId, number: usize, redelivered: bool) {
        assert_eq!(self.messages[number], id, "the message has the wrong sender");
        let conn = self.conns.get_mut(&id).expect("a connection");
        match conn.unseen.front() {
            Some(next) if *next == number => {
                conn.unseen.pop_front();
            }
            _ => assert!(
                redelivered && !conn.unseen.contains(&number),
                "not in order, or one was lost: {number} of {:?}",
                conn.unseen
            ),
        }
        assert!(!self.here.closed.contains(&id), "a message after the close");
        // If the close was announced, or is not among the hooks, the message comes without its open.
        let over = conn.closed && !self.settings.hooks.has(Hook::OnClientClose);
        let tells = self.settings.hooks.has(Hook::OnClientOpen) && !conn.close_announced && !over;
        assert!(!tells || self.here.opened.contains(&id), "a message before the open");
    }

    fn asked(&mut self, id: u64, about: About) {
        if self.completed.contains(&id) {
            // The event was answered while its line was in the pipe.
            return;
        }
        let position = self.here.answers.len();
        self.here.answers.push(None);
        let owed = Owed { about, written: Some((position, self.now)) };
        self.owed.insert(id, owed);

        let here = |owed: &&Owed| owed.written.is_some();
        let in_flight = self.owed.values().filter(here).count();
        let window = self.settings.window;
        assert!(in_flight <= window, "{in_flight} in a window of {window}");
        let quarter = (window / 4).max(1);
        let party = |about: &About| match about {
            About::Message(number) => Some(self.messages[*number]),
            About::Handshake(_) => Some(ConnId(0)),
            About::Push(_) => None,
        };
        if let Some(party_of) = party(&about) {
            let own = self.owed.values().filter(|o| party(&o.about) == Some(party_of)).count();
            assert!(own <= quarter, "{own} of a quarter of {quarter}");
        }
        if self.here.one_at_a_time && self.here.to_redeliver.contains(&id) {
            assert_eq!(in_flight, 1, "one at a time");
            let lived = self.here.since.is_some_and(|at| self.now >= at + Duration::from_secs(1));
            assert!(self.here.wrote_line || lived, "the incarnation has shown no sign of life yet");
        }
    }
}
