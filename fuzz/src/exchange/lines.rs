//! What the listener writes.

use wsgw::listener::exchange::Effect;
use wsgw::listener::op::{Delivery, Op};
use wsgw::listener::protocol::connid::ConnId;
use wsgw::listener::recipients::{ChannelTarget, Recipients};

use super::channels::{Change, channels, set};
use super::completion::Completion;
use super::{About, Model};

impl Model {
    /// The listener answers an event. `more` says what it does about channels.
    pub(super) fn answer(&mut self, id: u64, how: usize, more: usize) {
        let Some(owed) = self.owed.remove(&id).filter(|_| self.up) else { return };
        self.completed.insert(id);
        if let Some((position, _)) = owed.written {
            self.here.answers[position] = Some(self.now);
        }
        // If its line was cut by a restart, no incarnation has seen the whole line.
        if let About::Message(number) = owed.about
            && let Some(conn) = self.conns.get_mut(&self.messages[number])
        {
            conn.unseen.retain(|m| *m != number);
        }
        (self.exits, self.alone) = (0, None);

        let change = Change { leave: set(more / 4), join: set(more) };
        let target = [None, Some("a"), Some("")][more / 16 % 3].filter(|_| how != 3);
        let mut rest = change.members();
        match target {
            None => {}
            Some("") => rest += ",\"channel\":[]",
            Some(name) => rest += &format!(",\"channel\":\"{name}\""),
        }
        // An answer as `jq` writes it.
        let line = match how {
            0 => format!("{{\"id\":{id}{rest}}}"),
            1 => format!("{{\"id\": {id}, \"message\":\"x\"{rest}}}"),
            2 => format!("{{\"id\":{id},\"connections\":[]{rest}}}"),
            3 => format!("{{\"id\":{id},\"connections\":null{rest}}}"),
            _ => format!("{{\"id\":{id},\"base64\":\"!\"{rest}}}"),
        };
        self.line(&line);

        let asked = self.listed_then(id);
        let sender = match owed.about {
            About::Message(number) => Some(self.messages[number]),
            About::Push(_) => None,
            About::Handshake(conn) => {
                self.handshake_answered(conn, change.join);
                return self.expect_completed(&[(owed.about, Completion::Sent)]);
            }
        };
        let changes = match sender {
            Some(conn) if !self.conns[&conn].closed => {
                change.effective(self.conns[&conn].rooms.now())
            }
            Some(_) => Ok(None),
            None => {
                if change.join.is_empty() {
                    Ok(None)
                } else {
                    Err(())
                }
            }
        };
        let fault = how >= 3 || how == 2 && target.is_some() || changes.is_err();
        let expected = changes.unwrap_or_default().filter(|_| !fault);
        self.expect_change(sender.unwrap_or(ConnId(0)), expected.as_ref());
        for effect in &self.exchange.effects {
            let Effect::Op(Op::Deliver(Delivery { to, .. })) = effect else { continue };
            let nobody = Recipients::Only([].into());
            match target {
                _ if how == 2 => assert_eq!(*to, nobody),
                None => self.expect_routed(to, sender, &asked),
                Some("") => assert_eq!(*to, nobody),
                Some(name) => {
                    let names = [name.to_owned()].into();
                    assert_eq!(*to, ChannelTarget::recipients(channels(&names), Vec::new()));
                }
            }
        }
        let how = if fault { Completion::Dropped } else { Completion::Sent };
        self.expect_completed(&[(owed.about, how)]);
    }

    pub(super) fn noise(&mut self, how: usize) {
        if !self.up {
            return;
        }
        let old = self.here.overdue.keys().chain(&self.completed).next().copied().unwrap_or(1);
        let late = self.metrics.late.get();
        let line = match how {
            0 => "garbage".to_owned(),
            1 => format!("{{\"id\":{}}}", self.highest + 100_000),
            2 => "{\"command\":\"close\",\"conn\":\"k1\"}".to_owned(),
            3 => "{\"event\":\"onResult\",\"id\":1}".to_owned(),
            4 if self.completed.contains(&old) => {
                if let Some(position) = self.here.overdue.remove(&old) {
                    self.here.answers[position] = Some(self.now);
                }
                format!("{{\"id\":{old},\"message\":\"again\",\"join\":\"late\"}}")
            }
            _ => "{\"command\":\"send\",\"message\":\"tick\",\"ref\":null}".to_owned(),
        };
        self.line(&line);
        let effects = std::mem::take(&mut self.exchange.effects);
        match (how, &effects[..]) {
            (2, [Effect::Op(Op::Close { conn: ConnId(1), code: 1000, .. })]) => {}
            (0 | 1 | 3, []) => {}
            (4, []) => assert_eq!(self.metrics.late.get(), late + 1, "late"),
            (4 | 5, [Effect::Op(Op::Deliver(Delivery { report: Some(_), .. }))]) => {}
            _ => panic!("{line}: {} effects", effects.len()),
        }
    }

    pub(super) fn line(&mut self, line: &str) {
        self.here.wrote_line = true;
        self.silent_exits = None;
        self.exchange.output(self.now);
        self.exchange.line(line.as_bytes(), &self.results, self.now);
    }
}
