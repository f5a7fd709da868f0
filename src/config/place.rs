//! A config file while it is read: where a key stands, and what is wrong with it.

use std::borrow::Cow;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::error::Failure;

pub(crate) type Table<'a> = DeTable<'a>;
pub(crate) type Value<'a> = DeValue<'a>;
type KeyName<'a> = Spanned<Cow<'a, str>>;

/// What is wrong with a file: as many errors as somebody may read, the rest is counted.
#[derive(Debug, Default)]
pub(super) struct Errors {
    found: Vec<(usize, String)>,
    further: usize,
}

/// The errors of a file that are told.
const MOST_ERRORS: usize = 100;

impl Errors {
    pub(super) fn add(&mut self, line: usize, why: String) {
        if self.found.len() < MOST_ERRORS {
            self.found.push((line, why));
        } else {
            self.further += 1;
        }
    }

    /// All of them, a line each in the order of the file; without a file, only what is wrong.
    pub(super) fn result(mut self, path: Option<&Path>) -> Result<(), Failure> {
        if self.found.is_empty() {
            return Ok(());
        }
        self.found.sort();
        let Some(path) = path.map(Path::display) else {
            let lines: Vec<String> = self.found.into_iter().map(|(_, why)| why).collect();
            return Err(Failure::other(lines.join("\n")));
        };
        let lines = self.found.iter().map(|(line, why)| format!("{path}:{line}: {why}"));
        let mut text = lines.collect::<Vec<_>>().join("\n");
        if let (1.., Some((line, _))) = (self.further, self.found.last()) {
            text.push_str(&format!("\n{path}:{line}: and {} more errors", self.further));
        }
        Err(Failure::other(text))
    }
}

/// The file while it is read.
pub(crate) struct Reader<'a> {
    /// Where the lines end.
    newlines: Vec<usize>,
    base: &'a Path,
    pub(super) errors: Errors,
}

impl<'a> Reader<'a> {
    /// Begins a text, whose relative paths start at `base`.
    pub(super) fn new(text: &str, base: &'a Path) -> Reader<'a> {
        let bytes = text.bytes().enumerate();
        let newlines = bytes.filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at).collect();
        Reader { newlines, base, errors: Errors::default() }
    }

    pub(super) fn line(&self, at: usize) -> usize {
        self.newlines.partition_point(|end| *end < at) + 1
    }

    pub(super) fn error(&mut self, at: usize, why: String) {
        let line = self.line(at);
        self.errors.add(line, why);
    }
}

/// A key of the file, for what is wrong with its value.
pub(crate) struct Place<'r, 'a> {
    pub(super) reader: &'r mut Reader<'a>,
    /// Its name with its tables: `gateways.chat.port`.
    pub(super) name: String,
    /// Where it stands in the text.
    pub(super) at: usize,
}

impl Place<'_, '_> {
    /// The value is wrong.
    pub(crate) fn error(&mut self, why: &str) {
        self.reader.error(self.at, format!("{}: {why}", self.name));
    }

    /// The directory at which relative paths start.
    pub(crate) fn base(&self) -> &Path {
        self.reader.base
    }

    /// The value as a table.
    pub(crate) fn table<'t, 'v>(&mut self, value: &'t Value<'v>) -> Option<&'t Table<'v>> {
        let table = value.as_table();
        if table.is_none() {
            let what = found(value);
            self.reader.error(self.at, format!("{:?} must be a table, not {what}", self.name));
        }
        table
    }
}

/// The entries of a table in the order of the file.
pub(super) fn entries<'a, 't>(
    table: &'t Table<'a>,
) -> Vec<(&'t KeyName<'a>, &'t Spanned<Value<'a>>)> {
    let mut all: Vec<_> = table.iter().collect();
    all.sort_by_key(|(key, _)| key.span().start);
    all
}

/// What a value is, in words: "a boolean".
pub(crate) fn found(value: &Value<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// ` (did you mean …?)` for a name that is nearly one of these.
pub(super) fn did_you_mean<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> String {
    let flat = name.replace('_', "-").to_ascii_lowercase();
    if flat.len() > 64 {
        return String::new();
    }
    known
        .map(|other| (distance(&flat, other), other))
        .filter(|(distance, other)| *distance <= 2.min(other.len() / 2))
        .min()
        .map_or(String::new(), |(_, other)| format!(" (did you mean {other:?}?)"))
}

/// The Levenshtein distance of two names, in bytes.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let cost = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = cost.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}
