//! The commands that a listener writes.

use crate::listener::protocol::answer::{Fields, NewBody, RecipientLists};
use crate::listener::protocol::channel::Channel;
use crate::listener::protocol::connid::ConnId;
use crate::listener::protocol::fields::{channel, channels, present, since, whole_number};
use crate::listener::protocol::json;
use crate::text::position::Since;
use crate::ws::close;

/// A command.
#[derive(Debug, PartialEq, Eq)]
pub enum Command<'a> {
    /// Send a message to connections.
    Send {
        /// The message.
        body: NewBody<'a>,
        /// Who gets the message.
        lists: RecipientLists,
    },
    /// Close a connection.
    Close {
        /// The name of the connection; it may name none.
        conn: String,
        /// A close code that may be sent.
        code: u16,
        /// The reason in full; the sender cuts it to the 123 bytes that fit.
        reason: String,
    },
    /// Let a connection join channels or leave them.
    Membership {
        /// The name of the connection; it may name none.
        conn: String,
        /// Whether it joins; else it leaves.
        joins: bool,
        /// The channels, each once, in the order of the command.
        channels: Vec<Channel>,
        /// What it is sent of the history of those that it joins.
        since: Option<Since>,
    },
    /// List the members of a channel.
    Members {
        /// The channel.
        channel: Channel,
        /// The most that are listed.
        limit: usize,
        /// Only those that were opened after this one, which may have gone, are listed.
        after: Option<ConnId>,
    },
}

impl<'a> Fields<'a> {
    /// Reads a command.
    ///
    /// # Errors
    /// The listener's fault, for the log and for the result line.
    pub fn command(&self) -> Result<Command<'a>, String> {
        let name =
            present(self.command).and_then(json::as_str).ok_or("\"command\" is not a string")?;
        match name.as_ref() {
            "send" => Ok(Command::Send {
                body: self.body()?.ok_or("\"send\" needs a message or base64")?,
                lists: self.recipient_lists()?,
            }),
            "close" => self.close_command(),
            "join" | "leave" => self.membership_command(name == "join"),
            "members" => self.members_command(),
            other => Err(format!(
                "unknown command {other:?}; the commands are send, close, join, leave and members"
            )),
        }
    }

    fn close_command(&self) -> Result<Command<'a>, String> {
        let conn = self.named_conn("close")?;
        let code = match present(self.code) {
            None => close::NORMAL,
            Some(raw) => whole_number(raw)
                .and_then(|c| u16::try_from(c).ok())
                .filter(|c| close::may_be_sent(*c))
                .ok_or_else(|| format!("close code {} may not be sent", raw.get()))?,
        };
        let reason = match present(self.reason) {
            None => String::new(),
            Some(raw) => json::as_str(raw).ok_or("\"reason\" is not a string")?.into_owned(),
        };
        Ok(Command::Close { conn, code, reason })
    }

    fn membership_command(&self, joins: bool) -> Result<Command<'a>, String> {
        let name = if joins { "join" } else { "leave" };
        let conn = self.named_conn(name)?;
        let raw = self.channel.ok_or_else(|| format!("\"{name}\" needs a channel"))?;
        let mut seen = std::collections::HashSet::new();
        let mut channels = channels(raw, "channel")?;
        channels.retain(|channel| seen.insert(channel.clone()));
        let since = self.since.filter(|_| joins).map(since).transpose()?;
        Ok(Command::Membership { conn, joins, channels, since })
    }

    fn members_command(&self) -> Result<Command<'a>, String> {
        let name =
            self.channel.and_then(json::as_str).ok_or("\"members\" needs a channel, a string")?;
        let limit = match present(self.limit) {
            None => usize::MAX,
            Some(raw) => {
                let limit = whole_number(raw).ok_or("\"limit\" is not a whole number")?;
                usize::try_from(limit).unwrap_or(usize::MAX)
            }
        };
        let after = match present(self.after) {
            None => None,
            Some(raw) => {
                let conn = json::as_str(raw).and_then(|name| ConnId::parse(&name));
                Some(conn.ok_or("\"after\" is not the name of a connection")?)
            }
        };
        if self.reference().is_none() {
            return Err("\"members\" needs a ref, because its result is a line".to_owned());
        }
        Ok(Command::Members { channel: channel(&name, "channel")?, limit, after })
    }

    /// The `conn` that a command needs.
    fn named_conn(&self, command: &str) -> Result<String, String> {
        let conn = present(self.conn).and_then(json::as_str);
        let conn = conn.ok_or_else(|| format!("\"{command}\" needs a conn, a string"))?;
        Ok(conn.into_owned())
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use proptest::prelude::*;

    use super::*;
    use crate::listener::protocol::answer::{Line, parse};
    use crate::listener::protocol::target::Target;

    fn command(line: &str) -> Result<Command<'_>, String> {
        match parse(line.as_bytes()) {
            Line::Command(fields) => fields.command(),
            other => panic!("{line}: {other:?}"),
        }
    }

    fn tick<'a>() -> NewBody<'a> {
        NewBody::Text(Cow::Borrowed("tick"))
    }

    fn channel(name: &str) -> Channel {
        Channel::parse(name).unwrap()
    }

    #[test]
    fn send_and_close_are_parsed() {
        assert_eq!(
            command(r#"{"command":"send","message":"tick"}"#),
            Ok(Command::Send { body: tick(), lists: RecipientLists::default() })
        );
        let target = Some(Target::Channels(vec![channel("room1")]));
        assert_eq!(
            command(r#"{"command":"send","channel":"room1","message":"tick"}"#),
            Ok(Command::Send { body: tick(), lists: RecipientLists { target, except: None } })
        );
        assert_eq!(
            command(r#"{"command":"close","conn":"k3","code":4001,"reason":"kicked"}"#),
            Ok(Command::Close { conn: "k3".into(), code: 4001, reason: "kicked".into() })
        );
        assert!(matches!(
            command(r#"{"command":"close","conn":"k3"}"#),
            Ok(Command::Close { code: 1000, .. })
        ));
    }

    #[test]
    fn commands_about_channels_are_parsed() {
        assert_eq!(
            command(r#"{"command":"join","conn":"k3","channel":["b","a","b"],"since":"last"}"#),
            Ok(Command::Membership {
                conn: "k3".into(),
                joins: true,
                channels: vec![channel("b"), channel("a")],
                since: Some(Since::Newest(1)),
            })
        );
        assert_eq!(
            command(r#"{"command":"leave","conn":"k3","channel":"a"}"#),
            Ok(Command::Membership {
                conn: "k3".into(),
                joins: false,
                channels: vec![channel("a")],
                since: None,
            })
        );
        assert_eq!(
            command(r#"{"command":"members","channel":"a","ref":null}"#),
            Ok(Command::Members { channel: channel("a"), limit: usize::MAX, after: None })
        );
        assert_eq!(
            command(r#"{"command":"members","channel":"a","limit":2,"after":"k9","ref":1}"#),
            Ok(Command::Members { channel: channel("a"), limit: 2, after: Some(ConnId(9)) })
        );
    }

    #[test]
    fn bad_commands_are_faults() {
        for bad in [
            r#"{"command":"send"}"#,
            r#"{"command":"send","message":null}"#,
            r#"{"command":"send","message":"x","connections":null}"#,
            r#"{"command":"send","message":"x","channel":null}"#,
            r#"{"command":"send","message":"x","channel":"a","connections":["k3"]}"#,
            r#"{"command":"close"}"#,
            r#"{"command":"close","conn":"k3","code":1005}"#,
            r#"{"command":"close","conn":"k3","code":"4001"}"#,
            r#"{"command":"join","channel":"a"}"#,
            r#"{"command":"join","conn":"k3"}"#,
            r#"{"command":"join","conn":"k3","channel":null}"#,
            r#"{"command":"join","conn":"k3","channel":"a","since":null}"#,
            r#"{"command":"leave","conn":7,"channel":"a"}"#,
            r#"{"command":"leave","conn":"k3","channel":["a",""]}"#,
            r#"{"command":"members","ref":1}"#,
            r#"{"command":"members","channel":"a"}"#,
            r#"{"command":"members","channel":["a"],"ref":1}"#,
            r#"{"command":"members","channel":"a","limit":-1,"ref":1}"#,
            r#"{"command":"members","channel":"a","after":"x","ref":1}"#,
            r#"{"command":"dance"}"#,
            r#"{"command":7}"#,
        ] {
            assert!(command(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_command_panics(
            name in prop::sample::select(vec!["send", "close", "join", "leave", "members"]),
            rest in "(,\"(conn|channel|since|limit|after|ref|code|reason)\":(null|-?[0-9]{1,30}|\"\\PC{0,5}\"|\\[\\]))*",
        ) {
            if let Line::Command(fields) = parse(format!("{{\"command\":\"{name}\"{rest}}}").as_bytes()) {
                let _ = fields.command();
            }
        }
    }
}
