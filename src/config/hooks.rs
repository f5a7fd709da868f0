//! The events that a listener can be sent, and the sets of them that the setting `hooks` names.

use std::fmt;

/// A kind of event that a listener can be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Hook {
    /// Asks whether a connection may be opened, before the upgrade is answered.
    OnHandshake = 1,
    /// Announces a new connection.
    OnClientOpen = 2,
    /// Asks what to do with a message.
    OnMessage = 4,
    /// Announces that a connection has ended.
    OnClientClose = 8,
    /// Announces that a connection has joined a channel.
    OnJoin = 16,
    /// Announces that a connection has left a channel.
    OnLeave = 32,
}

impl Hook {
    /// All of them, in the order of a connection's life.
    pub(crate) const ALL: [Hook; 6] = [
        Hook::OnHandshake,
        Hook::OnClientOpen,
        Hook::OnJoin,
        Hook::OnMessage,
        Hook::OnLeave,
        Hook::OnClientClose,
    ];

    /// The name in the protocol and in the setting `hooks`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Hook::OnHandshake => "onHandshake",
            Hook::OnClientOpen => "onClientOpen",
            Hook::OnMessage => "onMessage",
            Hook::OnClientClose => "onClientClose",
            Hook::OnJoin => "onJoin",
            Hook::OnLeave => "onLeave",
        }
    }
}

/// A set of [`Hook`]s.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Hooks(u8);

impl Hooks {
    /// No event. The listener only produces messages, and its stdin is /dev/null.
    pub(crate) const NONE: Hooks = Hooks(0);

    /// The set with `hook` added.
    pub(crate) fn with(self, hook: Hook) -> Hooks {
        Hooks(self.0 | hook as u8)
    }

    /// Whether `hook` is in the set.
    pub fn has(self, hook: Hook) -> bool {
        self.0 & hook as u8 != 0
    }

    /// Whether the set is empty.
    pub(crate) fn is_none(self) -> bool {
        self.0 == 0
    }

    /// Parses the names in `hooks` or `--hooks`. The name `none` alone is the empty set.
    ///
    /// # Errors
    /// The name that is not a hook, with the names that are, or `none` beside other names.
    pub fn parse<S: AsRef<str>>(names: &[S]) -> Result<Hooks, String> {
        let mut set = Hooks::NONE;
        let mut none = false;
        for name in names {
            let name = name.as_ref().trim();
            if name == "none" {
                none = true;
                continue;
            }
            match Hook::ALL.into_iter().find(|h| h.name() == name) {
                Some(hook) => set = set.with(hook),
                None => {
                    return Err(format!(
                        "unknown hook {name:?}; the hooks are {}, or none",
                        Hook::ALL.map(Hook::name).join(", ")
                    ));
                }
            }
        }
        if none && !set.is_none() {
            return Err("\"none\" cannot be combined with other hooks".to_owned());
        }
        Ok(set)
    }
}

impl Default for Hooks {
    /// `onClientOpen,onClientClose,onMessage`.
    fn default() -> Self {
        Hooks::NONE.with(Hook::OnClientOpen).with(Hook::OnMessage).with(Hook::OnClientClose)
    }
}

impl fmt::Debug for Hooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(Hook::ALL.into_iter().filter(|h| self.has(*h)).map(Hook::name))
            .finish()
    }
}
