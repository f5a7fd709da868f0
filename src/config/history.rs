//! The table `[gateways.ID.history]`, and the flag `--history`.

use std::path::PathBuf;
use std::time::Duration;

use crate::config::kinds::{AnyPath, At, Maybe, Scalar, Size, Time, Whole};
use crate::config::options::Flag;
use crate::config::options::Unset::{Is, Nothing};
use crate::config::options::{Kind, Options, SubTable, options};
use crate::config::place::{Place, Value, entries, found};
use crate::text::channel;
use crate::text::position::Since;

/// The most messages that a limit may keep.
const MOST: u64 = 1_000_000;

/// How many messages are kept; 0 keeps none.
type Limit = Whole<usize, 0, MOST>;

options! {
    /// The history of one gateway, `[gateways.ID.history]`.
    pub struct HistorySettings from HistoryOptions under None;

    /// Messages to keep of each channel that a pattern matches, in the order of the file; the
    /// longest pattern that matches applies, of two of one length the first
    #[key("channels": PatternLimits = Nothing, Flag::None)]
    pub channels: Vec<(String, usize)>,

    /// Messages to keep of what goes to all clients
    #[key("broadcast": Limit = Is("0"), Flag::None)]
    pub broadcast: usize,

    /// Time that a message is kept; 0 means no limit
    #[key("age": Time = Is("0s"), Flag::None)]
    pub age: Duration,

    /// Bytes that all kept messages of the gateway take; beyond them the oldest go first
    #[key("bytes": Size<1> = Is("64MiB"), Flag::None)]
    pub bytes: usize,

    /// What a client is sent that asks for nothing: last, a number of messages, or a duration;
    /// never a position
    #[key("since": Maybe<SinceWithoutPosition> = Nothing, Flag::None)]
    pub since: Option<Since>,

    /// The SQLite database that holds the history
    #[key("file": Maybe<At<AnyPath>> = Nothing, Flag::None)]
    pub file: Option<PathBuf>,
}

/// The table; as a flag it is one number, the limit of each channel and of what goes to all.
pub(crate) struct HistoryTable;

type Table = SubTable<HistoryOptions>;

impl Kind for HistoryTable {
    type Written = HistoryOptions;
    type Plain = Option<HistorySettings>;

    fn from_flag(values: &[&str]) -> Result<HistoryOptions, String> {
        let limit = <Limit as Kind>::from_flag(values)?;
        Ok(HistoryOptions {
            channels: Some(vec![("*".to_owned(), limit)]),
            broadcast: Some(limit),
            ..HistoryOptions::default()
        })
    }

    fn from_file(value: &Value<'_>, place: &mut Place<'_, '_>) -> Option<HistoryOptions> {
        if value.as_table().is_none() {
            place.error(&format!(
                "expected a table (history = {{ channels = {{ \"*\" = 100 }}, broadcast = 100 }}), \
                 found {}",
                found(value)
            ));
            return None;
        }
        Table::from_file(value, place)
    }

    fn merge(base: HistoryOptions, over: HistoryOptions) -> HistoryOptions {
        base.merge(over)
    }

    fn plain(written: HistoryOptions) -> Option<HistorySettings> {
        Table::plain(written)
    }

    fn absent() -> Option<Option<HistorySettings>> {
        Table::absent()
    }
}

/// A table of patterns and their limits, in the order of the file.
pub(crate) struct PatternLimits;

impl Kind for PatternLimits {
    type Written = Vec<(String, usize)>;
    type Plain = Vec<(String, usize)>;

    fn from_flag(_: &[&str]) -> Result<Self::Written, String> {
        Err("a table has no value of its own".to_owned())
    }

    fn from_file(value: &Value<'_>, place: &mut Place<'_, '_>) -> Option<Self::Written> {
        let Some(table) = value.as_table() else {
            place.error(&format!(
                "expected a table of patterns and numbers ({{ \"room.*\" = 100 }}), found {}",
                found(value)
            ));
            return None;
        };
        let mut limits = Vec::new();
        for (key, value) in entries(table) {
            let (pattern, value) = (key.get_ref().as_ref(), value.get_ref());
            let at = key.span().start;
            let mut inner = Place {
                reader: &mut *place.reader,
                name: format!("{}.{pattern:?}", place.name),
                at,
            };
            if let Err(why) = channel::check_pattern(pattern) {
                inner.error(&why);
            } else if value.as_table().is_some() {
                inner
                    .error("expected a whole number, found a table; a name with dots needs quotes");
            } else if let Some(limit) = <Limit as Kind>::from_file(value, &mut inner) {
                limits.push((pattern.to_owned(), limit));
            }
        }
        Some(limits)
    }

    fn plain(written: Self::Written) -> Self::Plain {
        written
    }

    fn absent() -> Option<Self::Plain> {
        Some(Vec::new())
    }
}

/// What a client is sent that asks for nothing. A position belongs to one run of the numbers, so no
/// file can name one.
pub(crate) struct SinceWithoutPosition;

impl Scalar for SinceWithoutPosition {
    type Plain = Since;
    const EXPECTED: &'static str = "\"last\", a number of messages, or a duration such as \"5m\"";

    fn parse(text: &str) -> Result<Since, String> {
        let text = text.trim();
        match Since::parse(text) {
            Ok(Since::After(_)) => Err(format!(
                "{text:?} is a position, which only a client can give; write {}",
                Self::EXPECTED
            )),
            Ok(Since::Newest(number)) if number > MOST => {
                Err(format!("{text:?} is not a whole number from 0 to {MOST}"))
            }
            Ok(since) => Ok(since),
            Err(_) => Err(format!("invalid since {text:?}: write {}", Self::EXPECTED)),
        }
    }

    fn text(value: &Value<'_>) -> Option<String> {
        Limit::text(value).or_else(|| value.as_str().map(str::to_owned))
    }
}

impl HistorySettings {
    /// Whether any message may be kept.
    pub(super) fn keeps(&self) -> bool {
        self.broadcast > 0 || self.channels.iter().any(|(_, limit)| *limit > 0)
    }
}

impl HistoryOptions {
    /// Whether the limits are set, be it to nothing.
    pub(super) fn names_limits(&self) -> bool {
        self.channels.is_some() || self.broadcast.is_some()
    }
}
