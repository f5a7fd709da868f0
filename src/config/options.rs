//! One definition for each setting: from it follow the flag, the key of the file, the default, the
//! field that the program reads, and what `--help` says.
//!
//! [`options!`] takes the list of a table's keys and makes two structs of it. The *options* hold
//! what was written: each field is an `Option`, those of several places are merged. The *settings*
//! are plain data with every default filled in. How a value is written is its [`Kind`].

use clap::error::ErrorKind;
use clap::{Arg, ArgMatches};

use crate::config::place::{Place, Table, Value, did_you_mean, entries};

/// How the values of a key are written.
pub(crate) trait Kind {
    /// What was written, checked.
    type Written: Clone;
    /// What the program reads.
    type Plain;

    /// How often the flag may be given, and what shells may complete.
    fn arg(arg: Arg) -> Arg {
        arg
    }

    /// Reads the values of a flag, at least one.
    fn from_flag(values: &[&str]) -> Result<Self::Written, String>;

    /// Reads a value of the file; what is wrong with it becomes an error of that place.
    fn from_file(value: &Value<'_>, place: &mut Place<'_, '_>) -> Option<Self::Written>;

    /// Puts `over` in place of `base`, or combines the two where the kind is a table.
    fn merge(_base: Self::Written, over: Self::Written) -> Self::Written {
        over
    }

    /// What was written, as the program reads it.
    fn plain(written: Self::Written) -> Self::Plain;

    /// What the program reads where nothing was written. `None`: such a key has a default.
    fn absent() -> Option<Self::Plain> {
        None
    }
}

/// The value of a key that is not given.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Unset {
    /// The same as if this was written as the flag's value.
    Is(&'static str),
    /// The kind's [`Kind::absent`], which `--help` and the documentation call this.
    Called(&'static str),
    /// The kind's [`Kind::absent`], which needs no words.
    Nothing,
}

/// The flag of a key.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Flag {
    /// `--NAME`, and what `--help` calls its value.
    Named(&'static str, &'static str),
    /// The key stands in the file alone.
    None,
}

/// A key as flags, errors and the documentation need it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Key {
    pub(crate) name: &'static str,
    pub(crate) help: &'static str,
    pub(crate) unset: Unset,
    pub(crate) flag: Flag,
    /// Its [`Kind::arg`].
    pub(crate) arg: fn(Arg) -> Arg,
}

impl Key {
    /// What the documentation gives as the default.
    #[cfg(test)]
    pub(crate) fn default(&self) -> &'static str {
        match self.unset {
            Unset::Is(text) | Unset::Called(text) => text,
            Unset::Nothing => "none",
        }
    }
}

/// What [`options!`] makes of a table.
pub(crate) trait Options: Default {
    /// The table with its defaults filled in.
    type Settings;

    /// The heading in `--help`.
    const HEADING: Option<&'static str>;

    /// Every key, in the order of the documentation.
    const KEYS: &'static [Key];

    /// Reads one key of the file. False if there is no such key.
    fn read(&mut self, key: &str, value: &Value<'_>, place: &mut Place<'_, '_>) -> bool;

    /// Puts what `over` has over what is here.
    fn merge(self, over: Self) -> Self;

    /// Fills in the defaults.
    fn settings(self) -> Self::Settings;
}

/// The flags of a table.
pub(crate) fn add_flags<O: Options>(mut command: clap::Command) -> clap::Command {
    for key in O::KEYS {
        let Flag::Named(flag, value) = key.flag else { continue };
        let default = match key.unset {
            Unset::Is(text) | Unset::Called(text) => format!(" [default: {text}]"),
            Unset::Nothing => String::new(),
        };
        let help = format!("{}{default}", key.help.trim());
        let arg = Arg::new(flag).long(flag).value_name(value).help(help);
        command = command.arg((key.arg)(arg).help_heading(O::HEADING));
    }
    command
}

/// The value of a flag, if it is given.
pub(crate) fn flag_value<K: Kind>(
    matches: &ArgMatches,
    flag: Flag,
) -> Result<Option<K::Written>, clap::Error> {
    let Flag::Named(name, value) = flag else { return Ok(None) };
    let Some(given) = matches.get_raw(name) else { return Ok(None) };
    let wrong = |why: String| {
        let text = format!("invalid value for '--{name} <{value}>': {why}");
        let usage = "wsgw serve [OPTIONS] [-- <COMMAND>...]";
        let mut command = clap::Command::new("wsgw serve").override_usage(usage);
        clap::Error::raw(ErrorKind::ValueValidation, text).format(&mut command)
    };
    let given: Option<Vec<&str>> = given.map(|text| text.to_str()).collect();
    let given = given.ok_or_else(|| wrong("it is not UTF-8 text".to_owned()))?;
    K::from_flag(&given).map(Some).map_err(wrong)
}

/// Two layers of one key.
pub(crate) fn merged<K: Kind>(
    base: Option<K::Written>,
    over: Option<K::Written>,
) -> Option<K::Written> {
    match (base, over) {
        (Some(base), Some(over)) => Some(K::merge(base, over)),
        (base, over) => over.or(base),
    }
}

/// A key as the program reads it.
pub(crate) fn settled<K: Kind>(written: Option<K::Written>, unset: Unset) -> K::Plain {
    let plain = match (written, unset) {
        (Some(written), _) => Some(K::plain(written)),
        (None, Unset::Is(text)) => K::from_flag(&[text]).ok().map(K::plain),
        (None, Unset::Called(_) | Unset::Nothing) => K::absent(),
    };
    // The defaults are constants of ours, and a test settles every key.
    plain.expect("a default that its kind accepts")
}

/// A table within a table: `[gateways.ID.history]`. Without it the program reads `None`.
pub(crate) struct SubTable<O>(std::marker::PhantomData<O>);

impl<O: Options + Clone> Kind for SubTable<O> {
    type Written = O;
    type Plain = Option<O::Settings>;

    fn from_flag(_: &[&str]) -> Result<O, String> {
        Err("a table has no value of its own".to_owned())
    }

    fn from_file(value: &Value<'_>, place: &mut Place<'_, '_>) -> Option<O> {
        let table: &Table<'_> = place.table(value)?;
        let mut options = O::default();
        read_table(table, &mut options, place);
        Some(options)
    }

    fn merge(base: O, over: O) -> O {
        base.merge(over)
    }

    fn plain(written: O) -> Option<O::Settings> {
        Some(written.settings())
    }

    fn absent() -> Option<Option<O::Settings>> {
        Some(None)
    }
}

/// Reads each key of a table.
fn read_table<O: Options>(table: &Table<'_>, options: &mut O, place: &mut Place<'_, '_>) {
    for (key, value) in entries(table) {
        let at = key.span().start;
        let name = key.get_ref().as_ref();
        let full = format!("{}.{name}", place.name);
        let mut inner = Place { reader: &mut *place.reader, name: full, at };
        if !options.read(name, value.get_ref(), &mut inner) {
            let hint = did_you_mean(name, O::KEYS.iter().map(|key| key.name));
            place.reader.error(at, format!("{}: unknown key {name:?}{hint}", place.name));
        }
    }
}

/// Defines a table's keys. See the module's documentation; `config::tables` shows how.
macro_rules! options {
    (
        $(#[doc = $about:literal])+
        pub struct $settings:ident from $options:ident under $heading:expr;
        $( also { $( $(#[doc = $also_doc:literal])+ pub $also:ident: $also_type:ty, )+ } )?
        $(
            $(#[doc = $help:literal])+
            #[key($name:literal: $kind:ty = $unset:expr, $flag:expr)]
            pub $field:ident: $plain:ty,
        )+
    ) => {
        $(#[doc = $about])+
        // Some of these tables are the crate's alone.
        #[allow(unreachable_pub)]
        #[derive(Debug, Clone, PartialEq)]
        pub struct $settings {
            $( $( $(#[doc = $also_doc])+ pub $also: $also_type, )+ )?
            $( $(#[doc = $help])+ pub $field: $plain, )+
        }

        impl Default for $settings {
            /// Every key at its default.
            fn default() -> $settings {
                $crate::config::options::Options::settings($options::default())
            }
        }

        #[doc = concat!("What was written of [`", stringify!($settings), "`].")]
        #[derive(Debug, Clone, Default, PartialEq)]
        pub(crate) struct $options {
            $(
                pub(in crate::config) $field:
                    Option<<$kind as $crate::config::options::Kind>::Written>,
            )+
        }

        impl $crate::config::options::Options for $options {
            type Settings = $settings;
            const HEADING: Option<&'static str> = $heading;
            const KEYS: &'static [$crate::config::options::Key] = &[ $(
                $crate::config::options::Key {
                    name: $name,
                    help: concat!($($help),+),
                    unset: $unset,
                    flag: $flag,
                    arg: <$kind as $crate::config::options::Kind>::arg,
                },
            )+ ];

            fn read(
                &mut self,
                key: &str,
                value: &$crate::config::place::Value<'_>,
                place: &mut $crate::config::place::Place<'_, '_>,
            ) -> bool {
                match key {
                    $( $name => {
                        self.$field =
                            <$kind as $crate::config::options::Kind>::from_file(value, place);
                    } )+
                    _ => return false,
                }
                true
            }

            fn merge(self, over: $options) -> $options {
                $options { $(
                    $field: $crate::config::options::merged::<$kind>(self.$field, over.$field),
                )+ }
            }

            fn settings(self) -> $settings {
                $settings {
                    $( $( $also: Default::default(), )+ )?
                    $( $field: $crate::config::options::settled::<$kind>(self.$field, $unset), )+
                }
            }
        }

        impl clap::FromArgMatches for $options {
            fn from_arg_matches(matches: &clap::ArgMatches) -> Result<$options, clap::Error> {
                Ok($options { $(
                    $field: $crate::config::options::flag_value::<$kind>(matches, $flag)?,
                )+ })
            }

            fn update_from_arg_matches(
                &mut self,
                matches: &clap::ArgMatches,
            ) -> Result<(), clap::Error> {
                let over = <$options as clap::FromArgMatches>::from_arg_matches(matches)?;
                *self = $crate::config::options::Options::merge(std::mem::take(self), over);
                Ok(())
            }
        }

        impl clap::Args for $options {
            fn augment_args(command: clap::Command) -> clap::Command {
                $crate::config::options::add_flags::<$options>(command)
            }

            fn augment_args_for_update(command: clap::Command) -> clap::Command {
                $crate::config::options::add_flags::<$options>(command)
            }
        }
    };
}

pub(crate) use options;
