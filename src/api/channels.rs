//! Channels and what their history holds, as the control port shows them.

use serde::{Deserialize, Serialize};

/// How many channels, or members of one, a request lists that names no `limit`.
pub const CHANNELS_LISTED: usize = 100;

/// One channel in `GET /v1/gateways/ID/channels`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChannelSummary {
    /// Its name.
    pub channel: String,
    /// How many connections are in it.
    pub members: u64,
}

/// `GET /v1/gateways/ID/channels/NAME`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChannelInfo {
    /// Its name.
    pub channel: String,
    /// How many connections are in it, whether they are listed or not.
    pub count: u64,
    /// Some of them, in the order in which they connected.
    pub members: Vec<String>,
    /// What is kept of it; absent where the gateway keeps no history.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub history: Option<ChannelHistory>,
}

/// What is kept of a channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChannelHistory {
    /// How many messages.
    pub messages: u64,
    /// The bytes that they count against the history's limit.
    pub bytes: u64,
    /// When the oldest of them was kept, in RFC 3339; `None` where there is none.
    pub oldest_at: Option<String>,
    /// The position of the newest message; where none was kept, that of the whole history.
    pub at: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channel_comes_back_as_it_was_sent() {
        let mut info = ChannelInfo {
            channel: "room1".to_owned(),
            count: 7,
            members: vec!["k3".to_owned()],
            history: None,
        };
        let json = serde_json::to_string(&info).unwrap();
        assert!(!json.contains("history"), "{json}");
        assert_eq!(serde_json::from_str::<ChannelInfo>(&json).unwrap(), info);
        info.history = Some(ChannelHistory {
            messages: 0,
            bytes: 0,
            oldest_at: None,
            at: "q7Zk2pYa-0".to_owned(),
        });
        let json = serde_json::to_string(&info).unwrap();
        assert!(json.contains("\"oldest_at\":null"), "{json}");
        assert_eq!(serde_json::from_str::<ChannelInfo>(&json).unwrap(), info);
    }
}
