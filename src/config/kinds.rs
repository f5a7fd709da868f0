//! How values are written: texts, numbers, times, sizes, choices, paths, lists.

use std::ffi::OsString;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgAction, ValueHint};
use toml::de::{DeFloat, DeInteger, DeValue};

use crate::config::options::Kind;
use crate::config::place::{Place, Value, found};
use crate::config::values::{ListenerCommand, NamedValues};
use crate::paths;
use crate::text::units;

/// A kind whose value is one piece of text, as a flag and in the file.
pub(crate) trait Scalar {
    type Plain: Clone;

    /// What the file must hold: "a string".
    const EXPECTED: &'static str;

    /// For a flag's completions.
    fn arg(arg: Arg) -> Arg {
        arg
    }

    fn parse(text: &str) -> Result<Self::Plain, String>;

    /// The text of a value of the file. `None`: it has the wrong type.
    fn text(value: &Value<'_>) -> Option<String> {
        value.as_str().map(str::to_owned)
    }
}

impl<S: Scalar> Kind for S {
    type Written = S::Plain;
    type Plain = S::Plain;

    fn arg(arg: Arg) -> Arg {
        S::arg(arg)
    }

    fn from_flag(values: &[&str]) -> Result<S::Plain, String> {
        match values {
            [text] => S::parse(text),
            _ => Err("it takes one value".to_owned()),
        }
    }

    fn from_file(value: &Value<'_>, place: &mut Place<'_, '_>) -> Option<S::Plain> {
        let read = match S::text(value) {
            Some(text) => S::parse(&text),
            None => Err(format!("expected {}, found {}", S::EXPECTED, found(value))),
        };
        read.map_err(|why| place.error(&why)).ok()
    }

    fn plain(written: S::Plain) -> S::Plain {
        written
    }
}

/// A key that may be left out, and then has no value at all.
pub(crate) struct Maybe<K>(PhantomData<K>);

impl<K: Kind> Kind for Maybe<K> {
    type Written = K::Written;
    type Plain = Option<K::Plain>;

    fn arg(arg: Arg) -> Arg {
        K::arg(arg)
    }

    fn from_flag(values: &[&str]) -> Result<K::Written, String> {
        K::from_flag(values)
    }

    fn from_file(value: &Value<'_>, place: &mut Place<'_, '_>) -> Option<K::Written> {
        K::from_file(value, place)
    }

    fn plain(written: K::Written) -> Option<K::Plain> {
        Some(K::plain(written))
    }

    fn absent() -> Option<Option<K::Plain>> {
        Some(None)
    }
}

/// A number as the file writes it, in any of TOML's notations.
fn integer(value: &Value<'_>) -> Option<String> {
    let DeValue::Integer(number) = value else { return None };
    Some(decimal(number))
}

fn decimal(number: &DeInteger<'_>) -> String {
    match i128::from_str_radix(number.as_str(), number.radix()) {
        Ok(number) => number.to_string(),
        // Too many digits even for that: the check of the range says so.
        Err(_) => number.as_str().to_owned(),
    }
}

/// A whole number.
pub(crate) struct Whole<T, const MIN: u64, const MAX: u64>(PhantomData<T>);

impl<T: TryFrom<u64> + Clone, const MIN: u64, const MAX: u64> Scalar for Whole<T, MIN, MAX> {
    type Plain = T;
    const EXPECTED: &'static str = "a whole number, without quotes";

    fn parse(text: &str) -> Result<T, String> {
        let number = units::count(text, MIN, MAX)?;
        T::try_from(number).map_err(|_| format!("{text:?} is too large for this machine"))
    }

    fn text(value: &Value<'_>) -> Option<String> {
        integer(value)
    }
}

/// A duration, zero too.
pub(crate) struct Time;

impl Scalar for Time {
    type Plain = Duration;
    const EXPECTED: &'static str = "a duration (seconds, or \"250ms\", \"10s\", \"5m\")";

    fn parse(text: &str) -> Result<Duration, String> {
        units::duration(text)
    }

    fn text(value: &Value<'_>) -> Option<String> {
        match value {
            DeValue::Float(number) => Some(float(number)),
            value => integer(value).or_else(|| value.as_str().map(str::to_owned)),
        }
    }
}

fn float(number: &DeFloat<'_>) -> String {
    number.as_str().to_owned()
}

/// A duration of more than zero.
pub(crate) struct PositiveTime;

impl Scalar for PositiveTime {
    type Plain = Duration;
    const EXPECTED: &'static str = Time::EXPECTED;

    fn parse(text: &str) -> Result<Duration, String> {
        let time = units::duration(text)?;
        if time.is_zero() { Err("it must be more than zero".to_owned()) } else { Ok(time) }
    }

    fn text(value: &Value<'_>) -> Option<String> {
        Time::text(value)
    }
}

/// A number of bytes, at least `MIN`.
pub(crate) struct Size<const MIN: usize>;

impl<const MIN: usize> Scalar for Size<MIN> {
    type Plain = usize;
    const EXPECTED: &'static str = "a size (bytes, or \"64KiB\", \"1MiB\")";

    fn parse(text: &str) -> Result<usize, String> {
        let size = units::size(text)?;
        if size < MIN { Err(format!("it must be at least {MIN} byte")) } else { Ok(size) }
    }

    fn text(value: &Value<'_>) -> Option<String> {
        integer(value).or_else(|| value.as_str().map(str::to_owned))
    }
}

/// `true` or `false`.
pub(crate) struct Switch;

impl Scalar for Switch {
    type Plain = bool;
    const EXPECTED: &'static str = "true or false, without quotes";

    fn arg(arg: Arg) -> Arg {
        // `--streams` alone switches it on; a word behind it is not its value.
        let arg = arg.num_args(0..=1).require_equals(true).default_missing_value("true");
        arg.value_parser(PossibleValuesParser::new(["true", "false"]))
    }

    fn parse(text: &str) -> Result<bool, String> {
        text.parse().map_err(|_| format!("{text:?} is neither true nor false"))
    }

    fn text(value: &Value<'_>) -> Option<String> {
        value.as_bool().map(|switch| switch.to_string())
    }
}

/// The mode of a file: a string of octal digits, or TOML's octal literal.
pub(crate) struct Mode;

impl Scalar for Mode {
    type Plain = u32;
    const EXPECTED: &'static str = "a mode (\"0660\" or 0o660; other notations of a number are not \
                                    read as octal digits)";

    fn parse(text: &str) -> Result<u32, String> {
        let octal = !text.is_empty() && text.bytes().all(|digit| (b'0'..=b'7').contains(&digit));
        let mode = if octal { u32::from_str_radix(text, 8).ok() } else { None };
        mode.filter(|mode| *mode <= 0o777)
            .ok_or_else(|| format!("invalid mode {text:?}: write octal digits up to \"0777\""))
    }

    fn text(value: &Value<'_>) -> Option<String> {
        match value {
            DeValue::Integer(number) if number.radix() == 8 => Some(number.as_str().to_owned()),
            value => value.as_str().map(str::to_owned),
        }
    }
}

/// Text that is not empty, without the white space around it.
pub(crate) struct Text;

impl Scalar for Text {
    type Plain = String;
    const EXPECTED: &'static str = "a string";

    fn parse(text: &str) -> Result<String, String> {
        let text = text.trim();
        if text.is_empty() { Err("it is empty".to_owned()) } else { Ok(text.to_owned()) }
    }
}

/// One of a few names.
pub(crate) struct Choice<T>(PhantomData<T>);

impl<T: NamedValues> Scalar for Choice<T> {
    type Plain = T;
    const EXPECTED: &'static str = "a string";

    fn arg(arg: Arg) -> Arg {
        let names = T::NAMES.iter().map(|(name, _)| *name);
        arg.value_parser(PossibleValuesParser::new(names)).hide_possible_values(true)
    }

    fn parse(text: &str) -> Result<T, String> {
        T::NAMES.iter().find(|(name, _)| *name == text).map(|(_, value)| *value).ok_or_else(|| {
            let names: Vec<&str> = T::NAMES.iter().map(|(name, _)| *name).collect();
            format!("{text:?} is not one of {}", names.join(", "))
        })
    }
}

/// A kind that is a path at heart: relative ones start at the file's directory, or, as a flag, at
/// the current one; `~` is the home directory.
pub(crate) trait Located {
    type Plain: Clone;

    /// What shells complete.
    const HINT: ValueHint;

    fn locate(text: &str, base: &Path) -> Result<Self::Plain, String>;
}

/// [`Located`] as a [`Kind`].
pub(crate) struct At<L>(PhantomData<L>);

impl<L: Located> Kind for At<L> {
    type Written = L::Plain;
    type Plain = L::Plain;

    fn arg(arg: Arg) -> Arg {
        arg.value_hint(L::HINT)
    }

    fn from_flag(values: &[&str]) -> Result<L::Plain, String> {
        match values {
            [text] => L::locate(text, &current_dir()),
            _ => Err("it takes one value".to_owned()),
        }
    }

    fn from_file(value: &Value<'_>, place: &mut Place<'_, '_>) -> Option<L::Plain> {
        let located = match value.as_str() {
            Some(text) => L::locate(text, place.base()),
            None => Err(format!("expected a string, found {}", found(value))),
        };
        located.map_err(|why| place.error(&why)).ok()
    }

    fn plain(written: L::Plain) -> L::Plain {
        written
    }
}

/// The current directory; where it is gone, what is relative stays so.
pub(crate) fn current_dir() -> PathBuf {
    std::env::current_dir().unwrap_or_else(|_| PathBuf::from("."))
}

/// The path of a file or a directory.
pub(crate) struct AnyPath;

impl Located for AnyPath {
    type Plain = PathBuf;
    const HINT: ValueHint = ValueHint::AnyPath;

    fn locate(text: &str, base: &Path) -> Result<PathBuf, String> {
        if text.trim().is_empty() {
            return Err("it is empty".to_owned());
        }
        if text.contains('\0') {
            return Err("a path cannot contain a NUL character".to_owned());
        }
        Ok(base.join(paths::expand_home(Path::new(text))?))
    }
}

/// A list: an array of strings, or one string; the flag may be repeated, or hold commas.
pub(crate) trait Items {
    type Plain: Clone;

    /// Reads the entries, none of which is empty or has white space around it.
    fn parse(entries: &[String]) -> Result<Self::Plain, String>;
}

/// [`Items`] as a [`Kind`].
pub(crate) struct List<I>(PhantomData<I>);

impl<I: Items> Kind for List<I> {
    type Written = I::Plain;
    type Plain = I::Plain;

    fn arg(arg: Arg) -> Arg {
        arg.action(ArgAction::Append).value_delimiter(',')
    }

    fn from_flag(values: &[&str]) -> Result<I::Plain, String> {
        let entries = values.iter().flat_map(|value| value.split(','));
        let entries: Vec<String> = entries.map(|entry| entry.trim().to_owned()).collect();
        // `--headers ''` is the empty list.
        I::parse(&entries.into_iter().filter(|entry| !entry.is_empty()).collect::<Vec<_>>())
    }

    fn from_file(value: &Value<'_>, place: &mut Place<'_, '_>) -> Option<I::Plain> {
        let entries = strings(value).and_then(|entries| {
            let entries: Vec<String> =
                entries.iter().map(|entry| entry.trim().to_owned()).collect();
            match entries.iter().any(String::is_empty) {
                true => Err("an entry is empty".to_owned()),
                false => Ok(entries),
            }
        });
        entries.and_then(|entries| I::parse(&entries)).map_err(|why| place.error(&why)).ok()
    }

    fn plain(written: I::Plain) -> I::Plain {
        written
    }

    fn absent() -> Option<I::Plain> {
        I::parse(&[]).ok()
    }
}

/// One string, or an array of them.
fn strings(value: &Value<'_>) -> Result<Vec<String>, String> {
    let expected = "expected a list of strings, or one string";
    match value {
        DeValue::String(text) => Ok(vec![text.to_string()]),
        DeValue::Array(entries) => {
            let text = |entry: &Value<'_>| match entry.as_str() {
                Some(text) => Ok(text.to_owned()),
                None => Err(format!("{expected}; found {} in the list", found(entry))),
            };
            entries.iter().map(|entry| text(entry.get_ref())).collect()
        }
        value => Err(format!("{expected}; found {}", found(value))),
    }
}

/// The listener's command: one string for `sh -c`, or a list of the program and its arguments.
pub(crate) struct CommandLine;

impl Kind for CommandLine {
    type Written = ListenerCommand;
    type Plain = ListenerCommand;

    fn from_flag(values: &[&str]) -> Result<ListenerCommand, String> {
        match values {
            [line] => shell(line),
            _ => Err("it takes one value".to_owned()),
        }
    }

    fn from_file(value: &Value<'_>, place: &mut Place<'_, '_>) -> Option<ListenerCommand> {
        let command = match value.as_str() {
            Some(line) => shell(line),
            None => strings(value).and_then(|mut argv| {
                // No shell is there to do it.
                if let Some(first) = argv.first_mut().filter(|first| first.starts_with("~/")) {
                    let path = paths::expand_home(Path::new(first))?;
                    *first = path.to_string_lossy().into_owned();
                }
                program(argv.into_iter().map(OsString::from).collect())
            }),
        };
        command.map_err(|why| place.error(&why)).ok()
    }

    fn plain(written: ListenerCommand) -> ListenerCommand {
        written
    }
}

fn shell(line: &str) -> Result<ListenerCommand, String> {
    if line.trim().is_empty() {
        return Err("it is empty".to_owned());
    }
    program(vec!["sh".into(), "-c".into(), line.into()])
}

/// A program and its arguments; the directory is filled in by `config::load`.
pub(crate) fn program(argv: Vec<OsString>) -> Result<ListenerCommand, String> {
    if argv.first().is_none_or(|program| program.is_empty()) {
        return Err("it is empty".to_owned());
    }
    if argv.iter().any(|part| part.as_encoded_bytes().contains(&0)) {
        return Err("a command cannot contain a NUL character".to_owned());
    }
    Ok(ListenerCommand { argv, directory: PathBuf::new() })
}
