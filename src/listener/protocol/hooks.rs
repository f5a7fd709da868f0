//! The events of the listener protocol and the sets of them that a gateway's `hooks` names.

use std::fmt;

/// One event that a listener can be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Hook {
    /// Asked before the upgrade is answered.
    OnHandshake = 1,
    /// Told of a new connection.
    OnClientOpen = 2,
    /// Asked what to do with a message.
    OnMessage = 4,
    /// Told of a connection's end.
    OnClientClose = 8,
}

impl Hook {
    /// All of them, in the order of a connection's life.
    pub const ALL: [Hook; 4] =
        [Hook::OnHandshake, Hook::OnClientOpen, Hook::OnMessage, Hook::OnClientClose];

    /// The name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Hook::OnHandshake => "onHandshake",
            Hook::OnClientOpen => "onClientOpen",
            Hook::OnMessage => "onMessage",
            Hook::OnClientClose => "onClientClose",
        }
    }
}

/// A set of [`Hook`]s.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Hooks(u8);

impl Hooks {
    /// No event: the listener is a pure producer, its stdin is /dev/null.
    pub const NONE: Hooks = Hooks(0);

    /// Adds one.
    pub fn with(self, hook: Hook) -> Hooks {
        Hooks(self.0 | hook as u8)
    }

    /// Whether it is in the set.
    pub fn has(self, hook: Hook) -> bool {
        self.0 & hook as u8 != 0
    }

    /// Whether the set is empty.
    pub fn is_none(self) -> bool {
        self.0 == 0
    }

    /// Parses names as in `hooks` and `--hooks`; `none` alone is the empty set.
    ///
    /// # Errors
    /// The name that is no event, with those that are.
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
                        "{name:?} is no hook; there are onHandshake, onClientOpen, onMessage, \
                         onClientClose, and none"
                    ));
                }
            }
        }
        if none && !set.is_none() {
            return Err("\"none\" cannot stand beside other hooks".to_owned());
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
