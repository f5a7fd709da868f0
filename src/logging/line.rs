//! The form of one line of the log.

use std::fmt;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::SystemTime;

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use crate::logging::recent::Recent;
use crate::text::escape::escape;
use crate::text::excerpt;

/// Bytes of a field that are shown.
const MAX_FIELD: usize = 1024;

/// Bytes of a message's body that are shown.
const MAX_BODY: usize = 8 * 1024;

/// Bytes of the message that are shown; more than those of a line that the listener wrote to stderr,
/// which is cut at 8 KiB before.
const MAX_MESSAGE: usize = 9 * 1024;

/// One line an event: time, level, gateway, connection, message, and the other fields.
pub(super) struct Line {
    pub(super) colour: bool,
    /// Who is told of warnings and errors.
    pub(super) recent: Option<Arc<Recent>>,
}

#[derive(Default)]
struct Fields {
    gateway: String,
    conn: String,
    message: String,
    rest: String,
}

impl Fields {
    fn add(&mut self, field: &Field, value: fmt::Arguments<'_>) {
        // Writing to a String cannot fail.
        let _ = match field.name() {
            "gateway" => write!(self.gateway, "{value}"),
            "conn" => write!(self.conn, "{value}"),
            "message" => write!(self.message, "{value}"),
            name => {
                let written = write!(self.rest, " {name}=");
                let start = self.rest.len();
                let max = if name == "body" { MAX_BODY } else { MAX_FIELD };
                let written = written.and_then(|()| write!(self.rest, "{value}"));
                // A client's path, for example, is as long as the client likes.
                shorten(&mut self.rest, start, max);
                written
            }
        };
    }
}

/// Cuts what stands behind `start` to `max` bytes, with a mark.
fn shorten(text: &mut String, start: usize, max: usize) {
    if text.len() - start > max {
        text.truncate(text.floor_char_boundary(start + max));
        text.push_str(&excerpt::mark(max));
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field, format_args!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, format_args!("{value}"));
    }
}

impl Line {
    fn went_wrong(&self, fields: &Fields) {
        let Some(recent) = &self.recent else { return };
        recent.went_wrong(&fields.gateway, || {
            let Fields { conn, message, rest, .. } = fields;
            let behind = if conn.is_empty() { "" } else { ": " };
            let text = escape(&format!("{conn}{behind}{message}{rest}")).into_owned();
            excerpt::excerpt(&text, MAX_FIELD).into_owned()
        });
    }
}

impl<S, N> FormatEvent<S, N> for Line
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut out: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let metadata = event.metadata();
        let level = *metadata.level();
        write!(out, "{} ", humantime::format_rfc3339_millis(SystemTime::now()))?;
        if self.colour {
            let colour = match level {
                Level::ERROR => 31,
                Level::WARN => 33,
                Level::INFO => 32,
                _ => 36,
            };
            write!(out, "\x1b[{colour}m{level:>5}\x1b[0m")?;
        } else {
            write!(out, "{level:>5}")?;
        }
        for name in [&fields.gateway, &fields.conn] {
            if !name.is_empty() {
                write!(out, " {}", escape(name))?;
            }
        }
        // What the listener said is told from what is said of it.
        if metadata.target() == "listener" {
            write!(out, " listener:")?;
        }
        // The last gate: whatever came from outside, a line is one line.
        shorten(&mut fields.message, 0, MAX_MESSAGE);
        if level <= Level::WARN && !fields.gateway.is_empty() && metadata.target() != "listener" {
            self.went_wrong(&fields);
        }
        writeln!(out, " {}{}", escape(&fields.message), escape(&fields.rest))
    }
}
