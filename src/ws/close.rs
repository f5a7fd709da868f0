//! Close codes and reasons, all in one table (RFC 6455 section 7.4).

/// Closes by `wsgw` itself: the code, and the reason that the client is told.
pub type Closing = (u16, &'static str);

/// A normal close; the default of `close`.
pub(crate) const NORMAL: u16 = 1000;
/// What `onClientClose` says of a Close frame without a code.
pub(crate) const NO_STATUS: u16 = 1005;
/// What `onClientClose` says where there was no Close frame.
pub(crate) const ABNORMAL: u16 = 1006;

/// The gateway stops.
pub(crate) const STOPPING: Closing = (1001, "going away");
/// `idle-timeout`.
pub(crate) const IDLE: Closing = (1001, "idle timeout");
/// A violation of the framing rules.
pub(crate) const PROTOCOL_ERROR: Closing = (1002, "protocol error");
/// Text that is not UTF-8.
pub(crate) const INVALID_TEXT: Closing = (1007, "invalid UTF-8");
/// A compressed message that cannot be inflated (RFC 7692 section 7.2.2).
pub(crate) const BAD_COMPRESSION: Closing = (1007, "bad compressed data");
/// More bytes wait than `max-queue`.
pub(crate) const SLOW_CONSUMER: Closing = (1008, "slow consumer");
/// `max-rate`.
pub(crate) const RATE: Closing = (1008, "too many messages");
/// `max-message`.
pub(crate) const TOO_BIG: Closing = (1009, "message too big");
/// `on-timeout = "close"`.
pub(crate) const LISTENER_TIMEOUT: Closing = (1011, "no answer in time");
/// A position that cannot be served, to a client that gets no frames.
pub(crate) const NOT_RECOVERED: Closing = (4010, "not recovered");
/// The listener failed for good.
pub(crate) const LISTENER_FAILED: Closing = (1011, "listener failed");

/// Bytes of a reason at most: a control frame's payload is 125, the code takes 2 (RFC 6455
/// section 5.5).
pub(crate) const MAX_REASON: usize = 123;

/// Whether an endpoint may put this code into a Close frame (RFC 6455 section 7.4.1 and 7.4.2,
/// with the codes that were registered since).
pub fn may_be_sent(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

/// The reason, cut at [`MAX_REASON`] bytes between two characters.
pub fn cut_reason(reason: &str) -> &str {
    &reason[..reason.floor_char_boundary(MAX_REASON)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_cut_between_characters() {
        let long = "ä".repeat(100);
        assert_eq!(cut_reason(&long).len(), 122);
        assert_eq!(cut_reason("short"), "short");
    }

    #[test]
    fn reserved_codes_are_never_sent() {
        for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535] {
            assert!(!may_be_sent(code), "{code}");
        }
        for code in [1000, 1001, 1003, 1007, 1011, 1014, 3000, 4999] {
            assert!(may_be_sent(code), "{code}");
        }
    }
}
