//! What a node that comes to the stream makes of what it finds there.
//!
//! This is plain data without I/O and without a clock.

use std::hash::{DefaultHasher, Hash, Hasher};

use crate::text::position::Epoch;

/// How many messages back a node begins to read that keeps no history, so that it learns the numbers of
/// the others.
const WARM_UP: u64 = 1_024;

/// How far a node has read the stream.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    /// The number of the last message.
    pub(super) handled: u64,
    /// What that is known by, if it was read.
    pub(super) mark: Option<u64>,
    /// When the stream was made, in nanoseconds of Unix time.
    pub(super) made: i128,
    /// The epoch there.
    pub(super) epoch: Option<Epoch>,
    /// The epochs that were read so far, also that one.
    pub(super) epochs: Vec<Epoch>,
    /// Whether its clients got what is not in the stream, or will not get what is there.
    pub(super) strayed: bool,
    /// Whether nothing of that was carried out yet, because the node has only begun to read.
    pub(super) restoring: bool,
}

/// What the stream is like.
#[derive(Debug, Clone)]
pub(super) struct Found {
    /// When it was made, in nanoseconds of Unix time.
    pub(super) made: i128,
    /// The number of its oldest message.
    pub(super) first: u64,
    /// The number of its newest message.
    pub(super) last: u64,
    /// Its newest epoch, and the number of that message.
    pub(super) epoch: Option<(Epoch, u64)>,
    /// Whether that message only repeats it.
    pub(super) repeats: bool,
    /// What the message is known by that was read last, if it is there.
    pub(super) mark: Option<u64>,
}

/// An epoch that is to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Write {
    /// None: the one that is there is good.
    Nothing,
    /// Another one than before.
    Another,
    /// The same one, whose message is not there any more.
    Again(Epoch),
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Plan {
    /// Whether the node begins to read.
    pub(super) begins: bool,
    /// Whether it is another stream than the one that was read before, or an older state of it.
    pub(super) is_other: bool,
    /// Whether messages that were not read are not there any more.
    pub(super) has_hole: bool,
    /// The epoch that is to be written.
    pub(super) write: Write,
}

/// What a message of the stream is known by later.
pub(super) fn mark_of(body: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    body.hash(&mut hasher);
    hasher.finish()
}

/// What a node has to do that has read so far and finds this.
pub(super) fn plan(seen: Option<&Seen>, found: &Found) -> Plan {
    let write = if found.epoch.is_some() { Write::Nothing } else { Write::Another };
    let begins = Plan { begins: true, is_other: false, has_hole: false, write };
    let Some(seen) = seen else { return begins };
    let is_new = |epoch: &Epoch| !seen.epochs.contains(epoch);
    let is_rewritten = match (seen.mark, found.mark) {
        (Some(read), Some(there)) => read != there,
        // One that was removed says nothing.
        _ => false,
    };
    let is_other = found.made != seen.made
        || found.last < seen.handled
        || is_rewritten
        || found.epoch.is_some_and(|(epoch, at)| is_new(&epoch) && at <= seen.handled);
    let has_hole = !is_other && found.first > seen.handled + 1;
    if seen.restoring && (is_other || has_hole) {
        return begins;
    }
    let ends = is_other || has_hole || seen.strayed;
    let write = match (found.epoch, seen.epoch) {
        // All who come there begin anew by it, if they can read where it begins.
        (Some((epoch, _)), _) if is_new(&epoch) && !(found.repeats && (is_other || has_hole)) => {
            Write::Nothing
        }
        (Some(_), _) if !ends => Write::Nothing,
        (None, Some(epoch)) if !ends => Write::Again(epoch),
        _ => Write::Another,
    };
    Plan { begins: false, is_other, has_hole, write }
}

/// The number from which a node reads the stream.
pub(super) fn reads_from(
    (seen, plan): (Option<&Seen>, Plan),
    (first, last, epoch_at): (u64, u64, u64),
    has_history: bool,
) -> u64 {
    match seen {
        // What stands in front of the epoch belongs to nobody's positions.
        Some(_) if plan.is_other => epoch_at,
        Some(seen) if !plan.begins => first.max(seen.handled + 1),
        _ if has_history => first.max(1),
        _ => first.max(last.saturating_sub(WARM_UP)).max(1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn epoch(text: &str) -> Epoch {
        Epoch::parse(text).unwrap()
    }

    fn seen() -> Seen {
        let epoch = epoch("aaaaaaaa");
        Seen {
            handled: 10,
            mark: Some(1),
            made: 5,
            epoch: Some(epoch),
            epochs: vec![epoch],
            strayed: false,
            restoring: false,
        }
    }

    fn found() -> Found {
        let epoch = Some((epoch("aaaaaaaa"), 2));
        Found { made: 5, first: 1, last: 20, epoch, repeats: false, mark: Some(1) }
    }

    // Long because it is a table.
    #[test]
    fn the_epoch_is_renewed_where_nobody_can_resume_from_before() {
        let good = Plan { begins: false, is_other: false, has_hole: false, write: Write::Nothing };
        let begins = Plan { begins: true, ..good };
        let other = Plan { is_other: true, write: Write::Another, ..good };
        let new = Some((epoch("bbbbbbbb"), 15));
        let new_before = Some((epoch("bbbbbbbb"), 9));
        let cases = [
            ("as it was", seen(), found(), good),
            ("made anew", seen(), Found { made: 6, ..found() }, other),
            ("its end is gone", seen(), Found { last: 9, mark: None, ..found() }, other),
            ("its end was written again", seen(), Found { mark: Some(2), ..found() }, other),
            ("the message was removed", seen(), Found { mark: None, ..found() }, good),
            (
                "what comes next is gone",
                seen(),
                Found { first: 12, mark: None, ..found() },
                Plan { has_hole: true, write: Write::Another, ..good },
            ),
            (
                "it strayed",
                Seen { strayed: true, ..seen() },
                found(),
                Plan { write: Write::Another, ..good },
            ),
            (
                "it strayed, and another node has renewed the epoch",
                Seen { strayed: true, ..seen() },
                Found { epoch: new, ..found() },
                good,
            ),
            (
                "made anew, and another node was there first",
                seen(),
                Found { made: 6, epoch: new, ..found() },
                Plan { write: Write::Nothing, ..other },
            ),
            (
                "made anew, and the epoch's beginning is not there any more",
                seen(),
                Found { made: 6, epoch: new, repeats: true, ..found() },
                other,
            ),
            (
                "its end is gone, and another node has written on",
                seen(),
                Found { epoch: new_before, mark: None, ..found() },
                Plan { write: Write::Nothing, ..other },
            ),
            (
                "its limits evicted the epoch",
                seen(),
                Found { epoch: None, ..found() },
                Plan { write: Write::Again(epoch("aaaaaaaa")), ..good },
            ),
            (
                "what comes next is gone, and it has only begun to read",
                Seen { restoring: true, ..seen() },
                Found { first: 12, mark: None, ..found() },
                begins,
            ),
            (
                "an older state, with nothing of the epoch",
                seen(),
                Found { last: 1, epoch: None, mark: None, ..found() },
                other,
            ),
        ];
        for (what, seen, found, expected) in cases {
            assert_eq!(plan(Some(&seen), &found), expected, "{what}");
        }
        assert_eq!(plan(None, &found()), begins, "a node that begins");
        let empty = Found { epoch: None, first: 0, last: 0, mark: None, ..found() };
        assert_eq!(plan(None, &empty), Plan { write: Write::Another, ..begins }, "the first node");
    }
}
