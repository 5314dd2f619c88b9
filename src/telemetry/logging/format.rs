//! One event → one line.
//!
//! Not the stock formatters: the text one leaves line breaks in values as they are, so that an image name could write
//! a log line of its own, and both let a value grow without a limit.

use std::fmt::{self, Write};

use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber, span};
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields};
use tracing_subscriber::registry::LookupSpan;

use super::Format;
use crate::domain::printable::unprintable;

/// Longest value in bytes; what is longer is cut with a count of what was left out.
const MAX_VALUE: usize = 8 * 1024;

/// Formats events, and the fields of the spans they happen in.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lines(pub(super) Format);

impl<S> FormatEvent<S, Self> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn format_event(&self, ctx: &FmtContext<'_, S, Self>, mut out: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let metadata = event.metadata();
        let (now, level, target) = (jiff::Timestamp::now(), metadata.level(), metadata.target());
        match self.0 {
            Format::Text => write!(out, "{now:.6} {level} {target}:")?,
            Format::Json => {
                write!(out, "{{\"timestamp\":\"{now:.6}\",\"level\":\"{level}\",\"target\":\"{target}\"")?;
            }
        }
        let mut fields = Fields::new(self.0, &mut out);
        event.record(&mut fields);
        fields.result?;
        self.spans(ctx, &mut out)?;
        out.write_str(match self.0 {
            Format::Text => "\n",
            Format::Json => "}\n",
        })
    }
}

impl Lines {
    fn spans<S>(self, ctx: &FmtContext<'_, S, Self>, out: &mut Writer<'_>) -> fmt::Result
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        let Some(scope) = ctx.event_scope() else { return Ok(()) };
        let mut first = true;
        for span in scope.from_root() {
            let extensions = span.extensions();
            let fields = extensions.get::<FormattedFields<Self>>().map_or("", |fields| fields.fields.as_str());
            match (self.0, first) {
                (Format::Text, _) => write!(out, " {}{{{fields} }}", span.name())?,
                (Format::Json, true) => write!(out, ",\"spans\":[{{\"span\":\"{}\"{fields}}}", span.name())?,
                (Format::Json, false) => write!(out, ",{{\"span\":\"{}\"{fields}}}", span.name())?,
            }
            first = false;
        }
        if self.0 == Format::Json && !first { out.write_char(']') } else { Ok(()) }
    }
}

impl<'writer> FormatFields<'writer> for Lines {
    fn format_fields<R: RecordFields>(&self, mut out: Writer<'writer>, fields: R) -> fmt::Result {
        let mut visitor = Fields::new(self.0, &mut out);
        fields.record(&mut visitor);
        visitor.result
    }

    /// Every field brings its separator, so later ones are simply appended.
    fn add_fields(&self, current: &'writer mut FormattedFields<Self>, fields: &span::Record<'_>) -> fmt::Result {
        self.format_fields(current.as_writer(), fields)
    }
}

/// Writes fields, each with a separator before it; the first error ends it.
struct Fields<'a, 'w> {
    format: Format,
    out: &'a mut Writer<'w>,
    /// Where values are put that can only be formatted; kept from field to field.
    scratch: String,
    result: fmt::Result,
}

impl<'a, 'w> Fields<'a, 'w> {
    fn new(format: Format, out: &'a mut Writer<'w>) -> Self {
        Self { format, out, scratch: String::new(), result: Ok(()) }
    }

    /// A value that needs no escapes: a number or a truth value.
    fn plain(&mut self, field: &Field, value: fmt::Arguments<'_>) {
        if self.result.is_ok() {
            self.result = self.key(field).and_then(|()| self.out.write_fmt(value));
        }
    }

    fn text(&mut self, field: &Field, value: &str, left_out: usize) {
        if self.result.is_ok() {
            self.result = self.key(field).and_then(|()| self.value(field, value, left_out));
        }
    }

    fn key(&mut self, field: &Field) -> fmt::Result {
        let name = field.name();
        match (self.format, name) {
            (Format::Text, "message") => self.out.write_char(' '),
            (Format::Text, _) => write!(self.out, " {name}="),
            (Format::Json, "timestamp" | "level" | "target" | "span" | "spans") => {
                write!(self.out, ",\"field_{name}\":")
            }
            (Format::Json, _) => write!(self.out, ",\"{name}\":"),
        }
    }

    fn value(&mut self, field: &Field, value: &str, left_out: usize) -> fmt::Result {
        let style = match self.format {
            Format::Json => Style::Json,
            Format::Text if field.name() == "message" => Style::Message,
            Format::Text if left_out == 0 && is_word(value) => return self.out.write_str(value),
            Format::Text => Style::Quoted,
        };
        if style != Style::Message {
            self.out.write_char('"')?;
        }
        escape(self.out, value, style)?;
        if left_out > 0 {
            write!(self.out, "… ({left_out} more bytes)")?;
        }
        if style == Style::Message { Ok(()) } else { self.out.write_char('"') }
    }
}

impl Visit for Fields<'_, '_> {
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.plain(field, format_args!("{value}"));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.plain(field, format_args!("{value}"));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.plain(field, format_args!("{value}"));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        if value.is_finite() {
            self.plain(field, format_args!("{value}"));
        } else {
            self.record_debug(field, &value);
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        let kept = value.get(..value.floor_char_boundary_at(MAX_VALUE)).unwrap_or_default();
        self.text(field, kept, value.len() - kept.len());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.clear();
        let mut bounded = Bounded { text: scratch, left_out: 0 };
        // A value whose formatting fails is shown as far as it came.
        let _ = write!(bounded, "{value:?}");
        self.text(field, &bounded.text, bounded.left_out);
        self.scratch = bounded.text;
    }
}

/// Keeps the first [`MAX_VALUE`] bytes and counts the rest.
struct Bounded {
    text: String,
    left_out: usize,
}

impl Write for Bounded {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        let room = if self.left_out > 0 { 0 } else { MAX_VALUE.saturating_sub(self.text.len()) };
        let kept = part.get(..part.floor_char_boundary_at(room)).unwrap_or_default();
        self.text.push_str(kept);
        self.left_out += part.len() - kept.len();
        Ok(())
    }
}

trait FloorCharBoundary {
    /// The greatest boundary of a character that is not beyond `limit`.
    fn floor_char_boundary_at(&self, limit: usize) -> usize;
}

impl FloorCharBoundary for str {
    fn floor_char_boundary_at(&self, limit: usize) -> usize {
        if limit >= self.len() {
            return self.len();
        }
        (0..=limit).rev().find(|end| self.is_char_boundary(*end)).unwrap_or(0)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Style {
    /// Text that is not in quotes.
    Message,
    /// Text in quotes.
    Quoted,
    /// A JSON string (RFC 8259 section 7).
    Json,
}

/// Whether a value can stand in a text line without quotes and still be told from what is around it.
fn is_word(value: &str) -> bool {
    !value.is_empty()
        && value.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\' | b'=' | b'{' | b'}'))
}

fn escape(out: &mut Writer<'_>, value: &str, style: Style) -> fmt::Result {
    // The ordinary value is printable ASCII without anything to escape: found out byte by byte, written in one piece.
    if value.bytes().all(|byte| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\')) {
        return out.write_str(value);
    }
    let mut rest = value;
    let special = |c: char| unprintable(c) || (style != Style::Message && matches!(c, '"' | '\\'));
    while let Some((at, c)) = rest.char_indices().find(|(_, c)| special(*c)) {
        let (before, after) = rest.split_at(at);
        out.write_str(before)?;
        match (c, style) {
            ('\n', _) => out.write_str("\\n")?,
            ('\r', _) => out.write_str("\\r")?,
            ('\t', _) => out.write_str("\\t")?,
            ('"' | '\\', _) => write!(out, "\\{c}")?,
            (_, Style::Json) => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    write!(out, "\\u{unit:04x}")?;
                }
            }
            (_, Style::Message | Style::Quoted) => write!(out, "\\u{{{:x}}}", u32::from(c))?,
        }
        rest = after.get(c.len_utf8()..).unwrap_or_default();
    }
    out.write_str(rest)
}
