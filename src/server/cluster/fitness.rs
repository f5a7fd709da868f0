//! Whether a stream that is there can be used, and how it differs from what the settings want.

use async_nats::jetstream::stream::{Config, DiscardPolicy, RetentionPolicy};

/// Whether a subject with wildcards (`*` for a word, `>` for the rest) covers another.
fn covers(pattern: &str, subject: &str) -> bool {
    let mut words = subject.split('.');
    for word in pattern.split('.') {
        match (word, words.next()) {
            (">", Some(_)) => return true,
            ("*", Some(_)) => {}
            (word, Some(there)) if word == there => {}
            _ => return false,
        }
    }
    words.next().is_none()
}

/// Why a stream that somebody else made cannot be used.
pub(super) fn unfit(want: &Config, there: &Config, most: usize) -> Option<String> {
    let mut wrong = Vec::new();
    let takes = |subject: &String| there.subjects.iter().any(|pattern| covers(pattern, subject));
    let missing = want.subjects.iter().filter(|subject| !takes(subject));
    wrong.extend(missing.map(|subject| format!("it does not take the subject {subject}")));
    let most = i32::try_from(most).unwrap_or(i32::MAX);
    let rules = [
        (there.retention != RetentionPolicy::Limits, "its retention is not limits"),
        (there.discard != DiscardPolicy::Old, "it discards new messages"),
        (there.max_messages_per_subject > 0, "it has max_msgs_per_subject"),
        (there.max_messages > 0, "it has max_msgs"),
        (there.no_ack, "it acknowledges nothing (no_ack)"),
        (there.sealed, "it is sealed"),
        (there.mirror.is_some(), "it is a mirror"),
        (
            there.max_message_size > 0 && there.max_message_size < most,
            "its max_msg_size is below the server's max_payload",
        ),
    ];
    wrong.extend(rules.iter().filter(|(is, _)| *is).map(|(_, why)| (*why).to_owned()));
    (!wrong.is_empty())
        .then(|| format!("the stream {} cannot be used: {}", want.name, wrong.join("; ")))
}

/// What is not as the settings want it.
pub(super) fn differences(want: &Config, there: &Config) -> Vec<String> {
    let mut found = Vec::new();
    let mut compare = |what: &str, there: String, wanted: String| {
        if there != wanted {
            found.push(format!("{what} is {there} there, and {wanted} here"));
        }
    };
    compare("max_bytes", there.max_bytes.to_string(), want.max_bytes.to_string());
    compare("max_age", format!("{:?}", there.max_age), format!("{:?}", want.max_age));
    let (copies, wanted) = (there.num_replicas.max(1), want.num_replicas);
    compare("num_replicas", copies.to_string(), wanted.to_string());
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_cover_subjects() {
        for (pattern, covered) in [
            ("wsgw.chat.messages", true),
            ("wsgw.*.messages", true),
            ("wsgw.>", true),
            (">", true),
            ("wsgw.chat", false),
            ("wsgw.chat.messages.>", false),
            ("wsgw.*", false),
            ("wsgw.other.messages", false),
        ] {
            assert_eq!(covers(pattern, "wsgw.chat.messages"), covered, "{pattern}");
        }
    }
}
