//! Why a client is refused. RFC 6455 knows the first of these reasons, a gateway the others; they
//! stand in one list, for each has its label in the metrics, and each its mend.

use std::fmt;

/// Why a client got another answer than the one that it asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The request is not what HTTP or RFC 6455 ask for.
    BadRequest,
    /// Its head is too large.
    HeadTooLarge,
    /// It asks for another version of the protocol.
    Version,
    /// Its method is not answered.
    Method,
    /// It asks for no upgrade, where there is nothing else.
    NoUpgrade,
    /// Its path takes no connections.
    Path,
    /// Its origin may not connect.
    Origin,
    /// A poll, where there are none.
    Poll,
    /// It asks for a channel that it may not join.
    Channel,
    /// It asks for too many channels.
    MaxChannels,
    /// It asks for a position that is not kept.
    Gone,
    /// Too many files are being sent.
    Files,
    /// There are too many connections.
    MaxConnections,
    /// There are too many connections from its address.
    MaxConnectionsPerIp,
    /// The request did not arrive in time.
    Timeout,
    /// The header of the PROXY protocol is missing, wrong, late, or from somebody else.
    ProxyProtocol,
    /// The listener refused it.
    Rejected,
    /// The listener's answer was at fault.
    ListenerFault,
    /// The listener did not answer.
    ListenerDown,
    /// The listener is behind with its events.
    ListenerQueue,
    /// The gateway stops.
    Stopping,
}

/// What is said of a reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Said {
    /// The label in the metrics.
    pub label: &'static str,
    /// The key of the config that would change it; `None` where none would.
    pub key: Option<&'static str>,
    /// What happened, and what to do about it.
    pub text: &'static str,
}

impl Reason {
    /// All of them.
    pub const ALL: [Reason; 21] = [
        Reason::BadRequest,
        Reason::HeadTooLarge,
        Reason::Version,
        Reason::Method,
        Reason::NoUpgrade,
        Reason::Path,
        Reason::Origin,
        Reason::Poll,
        Reason::Channel,
        Reason::MaxChannels,
        Reason::Gone,
        Reason::Files,
        Reason::MaxConnections,
        Reason::MaxConnectionsPerIp,
        Reason::Timeout,
        Reason::ProxyProtocol,
        Reason::Rejected,
        Reason::ListenerFault,
        Reason::ListenerDown,
        Reason::ListenerQueue,
        Reason::Stopping,
    ];

    /// The label in the metrics.
    pub fn label(self) -> &'static str {
        self.said().label
    }

    /// The reason with this label.
    pub fn of_label(label: &str) -> Option<Reason> {
        Reason::ALL.into_iter().find(|reason| reason.label() == label)
    }

    /// All that is said of it.
    // Long because each reason has its row here, and nowhere else.
    pub fn said(self) -> Said {
        let said = |label, key, text| Said { label, key, text };
        match self {
            Reason::BadRequest => said(
                "bad_request",
                None,
                "The request is malformed; the client, or a proxy before it, has to send another one.",
            ),
            Reason::HeadTooLarge => said(
                "head_too_large",
                None,
                "The request's head has more than 32 KiB or 100 headers, often because of cookies.",
            ),
            Reason::Version => said(
                "version",
                None,
                "The client asks for another version of WebSocket than 13; it needs an update.",
            ),
            Reason::Method => said(
                "method",
                Some("streams"),
                "The method is not answered here; POST is, where streams is true.",
            ),
            Reason::NoUpgrade => said(
                "no_upgrade",
                Some("streams"),
                "A plain HTTP request came where only WebSockets are served: a proxy may have dropped \
                 the header Upgrade, or the client wants a stream (streams = true).",
            ),
            Reason::Path => said(
                "path",
                Some("path"),
                "The path takes no connections; the key path lists those that do.",
            ),
            Reason::Origin => said(
                "origin",
                Some("allow-origin"),
                "A web page of another origin wanted to connect; the key allow-origin lists those that \
                 may.",
            ),
            Reason::Poll => said(
                "poll",
                Some("history"),
                "Polls need the table history, and cannot be used where onHandshake is among the \
                 hooks.",
            ),
            Reason::Channel => said(
                "channel",
                Some("allow-channels"),
                "The URL asks for a channel that allow-channels does not admit.",
            ),
            Reason::MaxChannels => said(
                "max_channels",
                Some("max-channels"),
                "The URL asks for more channels than max-channels.",
            ),
            Reason::Gone => said(
                "gone",
                Some("history"),
                "The client asked for messages after a position, and some of them are not kept any \
                 more; the table history says how many are.",
            ),
            Reason::Files => said(
                "files",
                None,
                "Too many static files are being sent at a time; serve them with a web server.",
            ),
            Reason::MaxConnections => said(
                "max_connections",
                Some("max-connections"),
                "As many connections as max-connections were open.",
            ),
            Reason::MaxConnectionsPerIp => said(
                "max_connections_per_ip",
                Some("max-connections-per-ip"),
                "As many connections as max-connections-per-ip were open from this address; behind a \
                 proxy, trusted-proxies makes the clients' own addresses count.",
            ),
            Reason::Timeout => said(
                "timeout",
                Some("handshake-timeout"),
                "The request did not arrive within handshake-timeout.",
            ),
            Reason::ProxyProtocol => said(
                "proxy_protocol",
                Some("proxy-protocol"),
                "The connection did not come from trusted-proxies, or had no good header of the PROXY \
                 protocol.",
            ),
            Reason::Rejected => said(
                "rejected",
                Some("listener"),
                "The listener refused it in its answer to onHandshake.",
            ),
            Reason::ListenerFault => said(
                "listener_fault",
                Some("listener"),
                "The listener's answer to onHandshake could not be used; the log says why, and \
                 `wsgw check` tries the listener out.",
            ),
            Reason::ListenerDown => said(
                "listener_down",
                Some("listener-timeout"),
                "The listener was down, or gave no answer to onHandshake within listener-timeout.",
            ),
            Reason::ListenerQueue => said(
                "listener_queue",
                Some("listener"),
                "The listener was 4 MiB of events behind; it has to read its stdin faster, or be sent \
                 fewer events (hooks).",
            ),
            Reason::Stopping => said("stopping", None, "The gateway was being stopped."),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_reason_is_in_the_list_and_has_its_own_label() {
        // `ALL` is in the order of the enum, so a reason that is left out moves the others.
        for (at, reason) in Reason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, at, "{reason:?}");
            assert_eq!(Reason::of_label(reason.label()), Some(reason));
        }
        assert_eq!(Reason::Stopping as usize + 1, Reason::ALL.len(), "the last one");
        let labels: BTreeSet<&str> = Reason::ALL.into_iter().map(Reason::label).collect();
        assert_eq!(labels.len(), Reason::ALL.len());
        assert_eq!(Reason::of_label("no such reason"), None);
    }

    #[test]
    fn each_is_said_in_sentences_that_name_its_key() {
        for reason in Reason::ALL {
            let said = reason.said();
            assert!(said.text.ends_with('.') && !said.text.contains("  "), "{reason}");
            assert!(said.label.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{reason}");
        }
    }
}
