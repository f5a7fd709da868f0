//! Reading the config file: every error of it at once, each with its line.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use toml::de::DeTable;

use crate::config::cluster::ClusterOptions;
use crate::config::id::gateway_id;
use crate::config::options::{Kind, Options, SubTable};
use crate::config::place::{Errors, Place, Reader, Value, did_you_mean, entries};
use crate::config::tables::{ControlOptions, GatewayOptions, LogOptions};
use crate::error::Failure;
use crate::files;

/// The tables that a file may have.
const TABLES: [&str; 5] = ["control", "log", "cluster", "defaults", "gateways"];

/// The longest config file that is read, in bytes.
const LONGEST: usize = 16 << 20;

/// A gateway as the file describes it.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) id: String,
    /// Its name as errors give it: `gateways.Chat`.
    pub(super) name: String,
    /// Its own keys, without those of `[defaults]`.
    pub(super) options: GatewayOptions,
    /// The line on which it begins.
    pub(super) line: usize,
}

impl Entry {
    /// The only gateway of a file that names none, or of no file.
    pub(super) fn unnamed(id: &str) -> Entry {
        let name = format!("gateway {id}");
        Entry { id: id.to_owned(), name, options: GatewayOptions::default(), line: 1 }
    }
}

/// What the file says, and what is wrong with it.
#[derive(Debug, Default)]
pub(super) struct FileOptions {
    pub(super) control: ControlOptions,
    /// The line on which `[control]` stands.
    pub(super) control_line: usize,
    pub(super) log: LogOptions,
    /// The line on which `[log]` stands.
    pub(super) log_line: usize,
    /// With the line on which it stands; `None` where there is no such table.
    pub(super) cluster: Option<(usize, ClusterOptions)>,
    pub(super) defaults: GatewayOptions,
    /// `None` where the file has no `[gateways]`: flags may name the only one.
    pub(super) gateways: Option<Vec<Entry>>,
    pub(super) errors: Errors,
}

/// Reads a file that `--config` names: also a pipe, as a shell's `<(...)` makes.
pub(super) fn read_given(path: &Path) -> Result<String, Failure> {
    files::read_text(path, LONGEST).map_err(|error| unreadable(path, &error))
}

/// Finds the first of the default files that is there, and reads it.
///
/// # Errors
/// A file that is there, or may be there, and cannot be read: it is never taken for absent, for a
/// gateway would then start without the rules that it names.
pub(super) fn find_default(candidates: Vec<PathBuf>) -> Result<Option<(PathBuf, String)>, Failure> {
    for path in candidates {
        if !is_there(&path).map_err(|error| unreadable(&path, &error))? {
            continue;
        }
        let text = files::open_regular(&path).and_then(|file| files::read_from(file, LONGEST));
        let text = text.and_then(|bytes| {
            String::from_utf8(bytes)
                .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8 text"))
        });
        let text = text.map_err(|error| unreadable(&path, &error))?;
        return Ok(Some((path, text)));
    }
    Ok(None)
}

/// Whether there is a file, a link without a target included.
pub(super) fn is_there(path: &Path) -> io::Result<bool> {
    use io::ErrorKind::{NotADirectory, NotFound};
    match fs::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(error) if matches!(error.kind(), NotFound | NotADirectory) => Ok(false),
        Err(error) => Err(error),
    }
}

fn unreadable(path: &Path, error: &io::Error) -> Failure {
    let shown = path.display();
    let why = match (error.kind(), fs::read_link(path)) {
        (io::ErrorKind::NotFound, Ok(target)) => {
            format!("it is a link to {}, which is not there", target.display())
        }
        (io::ErrorKind::IsADirectory, _) => "it is a directory".to_owned(),
        _ => error.to_string(),
    };
    Failure::other(format!(
        "the config file {shown} cannot be read: {why}; make it readable, remove it, or name \
         another one with --config FILE"
    ))
}

/// Reads the text of a config file; relative paths in it start at `base`.
pub(super) fn parse(base: &Path, text: &str) -> FileOptions {
    let mut reader = Reader::new(text, base);
    let (table, syntax) = DeTable::parse_recoverable(text);
    if !syntax.is_empty() {
        // What was made of the rest may be far from what is meant: no further errors.
        for error in syntax {
            let at = error.span().map_or(0, |span| span.start);
            reader.error(at, error.message().replace('\n', " "));
        }
        return FileOptions { errors: reader.errors, ..FileOptions::default() };
    }
    let mut file = FileOptions::default();
    for (key, value) in entries(table.get_ref()) {
        let at = key.span().start;
        let name = key.get_ref().as_ref();
        let mut place = Place { reader: &mut reader, name: name.to_owned(), at };
        match name {
            "control" => {
                let read = SubTable::<ControlOptions>::from_file(value.get_ref(), &mut place);
                file.control = read.unwrap_or_default();
                file.control_line = reader.line(at);
            }
            "log" => {
                let read = SubTable::<LogOptions>::from_file(value.get_ref(), &mut place);
                file.log = read.unwrap_or_default();
                file.log_line = reader.line(at);
            }
            "cluster" => {
                let read = SubTable::<ClusterOptions>::from_file(value.get_ref(), &mut place);
                file.cluster = read.map(|read| (reader.line(at), read));
            }
            "defaults" => {
                let read = SubTable::<GatewayOptions>::from_file(value.get_ref(), &mut place);
                file.defaults = read.unwrap_or_default();
            }
            "gateways" => file.gateways = Some(gateways(value.get_ref(), &mut place)),
            unknown => {
                let keys = GatewayOptions::KEYS.iter().map(|key| key.name);
                let hint = did_you_mean(unknown, TABLES.into_iter().chain(keys));
                let tables = TABLES.join(", ");
                reader.error(at, format!("unknown key {unknown:?}{hint}; tables are: {tables}"));
            }
        }
    }
    file.errors = reader.errors;
    file
}

fn gateways(value: &Value<'_>, place: &mut Place<'_, '_>) -> Vec<Entry> {
    let mut all: Vec<Entry> = Vec::new();
    let Some(table) = place.table(value) else { return all };
    for (key, value) in entries(table) {
        let written = key.get_ref().as_ref();
        let name = format!("gateways.{written}");
        let at = key.span().start;
        let mut place = Place { reader: &mut *place.reader, name: name.clone(), at };
        let options = SubTable::<GatewayOptions>::from_file(value.get_ref(), &mut place);
        let id = match gateway_id(written) {
            Ok(id) if all.iter().any(|other| other.id == id) => {
                place.reader.error(at, format!("[gateways]: {id:?} is there twice"));
                continue;
            }
            Ok(id) => id,
            Err(why) => {
                place.reader.error(at, format!("[gateways]: {why}"));
                continue;
            }
        };
        let line = place.reader.line(at);
        all.push(Entry { id, name, options: options.unwrap_or_default(), line });
    }
    all
}
