//! Logs: one line per event to stderr, as text or JSON, with UTC times.
//!
//! ```text
//! tracing event → one escaped line (format) → buffer in memory → writer thread → stderr
//! ```
//!
//! What comes from outside (image names, server answers) is data inside a line and can neither start a new line nor
//! pose as another field.

mod format;
mod writer;

use std::io;
use std::panic::PanicHookInfo;

use tracing_subscriber::filter::{EnvFilter, ParseError};
use tracing_subscriber::fmt;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::{SubscriberInitExt as _, TryInitError};

use self::format::Lines;
pub use self::writer::Guard;
use self::writer::Sink;

/// The environment variable with the filter, for example `info,podseal::source=debug`.
pub const FILTER_VARIABLE: &str = "PODSEAL_LOG";
const DEFAULT_FILTER: &str = "info";

/// How lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// `TIME LEVEL target: message key=value …`
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The filter cannot be read.
    #[error("log filter {filter:?} cannot be read; use for example \"info\" or \"info,podseal::source=debug\"")]
    Filter {
        /// The filter as given.
        filter: String,
        /// What is wrong with it.
        source: ParseError,
    },
    /// No thread for the writer.
    #[error("cannot start the log writer")]
    Thread(#[source] io::Error),
    /// Logging was set up before.
    #[error("logging is already set up")]
    Twice(#[source] TryInitError),
}

/// Sends the events of the whole process to stderr, and panics with them.
///
/// The filter is the first that is there: `filter` (from the command line), the variable [`FILTER_VARIABLE`], `info`.
/// Lines reach stderr from a thread of their own; keep the guard until the end of `main` and drop it before the
/// process exits, so that the last lines are written.
pub fn init(format: Format, filter: Option<&str>) -> Result<Guard, LogError> {
    let from_environment = std::env::var(FILTER_VARIABLE).ok().filter(|value| !value.trim().is_empty());
    let filter = filter.or(from_environment.as_deref()).unwrap_or(DEFAULT_FILTER);
    let filter = EnvFilter::try_new(filter).map_err(|source| LogError::Filter { filter: filter.to_owned(), source })?;
    let (sink, guard) = Sink::start(io::stderr(), format).map_err(LogError::Thread)?;
    tracing_subscriber::registry().with(filter).with(layer(format, sink)).try_init().map_err(LogError::Twice)?;
    std::panic::set_hook(Box::new(log_panic));
    Ok(guard)
}

fn layer<S>(format: Format, sink: Sink) -> fmt::Layer<S, Lines, Lines, Sink>
where
    S: tracing::Subscriber + for<'a> tracing_subscriber::registry::LookupSpan<'a>,
{
    fmt::layer().fmt_fields(Lines(format)).event_format(Lines(format)).with_writer(sink)
}

/// The standard hook prints several raw lines, which would break the one-line form and its escapes.
fn log_panic(info: &PanicHookInfo<'_>) {
    let payload = info.payload();
    let message =
        payload.downcast_ref::<&str>().copied().or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    let (file, line) = info.location().map_or(("unknown", 0), |place| (place.file(), place.line()));
    tracing::error!(
        reason = message.unwrap_or("not a text"),
        file,
        line,
        "panic: a defect of podseal, please report it"
    );
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Memory(Arc<Mutex<Vec<u8>>>);

    impl Write for Memory {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(format: Format, events: impl FnOnce()) -> String {
        let memory = Memory::default();
        let (sink, guard) = Sink::start(memory.clone(), format).unwrap();
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer(format, sink)), events);
        drop(guard);
        let bytes = memory.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    fn hostile() {
        let image = "evil\nINFO forged verdict=Allowed \u{1b}[31m\u{202e}\"\\\u{85}";
        tracing::info!(image, shown = %image, debug = ?image, "judged {image}");
    }

    #[test]
    fn a_text_line_has_time_level_target_message_and_fields() {
        let text = logged(Format::Text, || {
            tracing::warn!(image = "nginx:1", count = 3, ok = true, ratio = 0.5, name = %"a b", "slow \"store\"");
        });
        let (time, rest) = text.split_once(' ').unwrap();
        assert!(time.ends_with('Z') && time.parse::<jiff::Timestamp>().is_ok(), "{time}");
        let target = module_path!();
        assert_eq!(
            rest,
            format!("WARN {target}: slow \"store\" image=nginx:1 count=3 ok=true ratio=0.5 name=\"a b\"\n")
        );
    }

    #[test]
    fn j8_no_value_breaks_a_text_line_or_forges_a_field() {
        let text = logged(Format::Text, hostile);
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(text.trim_end_matches('\n').chars().all(|c| !c.is_control() && c != '\u{202e}'), "{text}");
        assert!(text.contains(r#"image="evil\nINFO forged verdict=Allowed \u{1b}[31m\u{202e}\"\\\u{85}""#), "{text}");
        assert!(text.contains("judged evil\\nINFO forged"), "{text}");
    }

    #[test]
    fn j8_no_value_breaks_a_json_line_and_it_reads_back_unchanged() {
        let text = logged(Format::Json, hostile);
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(text.trim_end_matches('\n').chars().all(|c| !c.is_control() && c != '\u{202e}'), "{text}");
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        let image = "evil\nINFO forged verdict=Allowed \u{1b}[31m\u{202e}\"\\\u{85}";
        assert_eq!(line["image"], image);
        assert_eq!(line["shown"], image);
        assert_eq!(line["message"], format!("judged {image}"));
        assert_eq!(line["level"], "INFO");
        assert!(line["timestamp"].as_str().unwrap().parse::<jiff::Timestamp>().is_ok());
    }

    #[test]
    fn json_keeps_types_and_its_own_keys() {
        let text = logged(Format::Json, || {
            tracing::info!(level = "forged", count = 3, big = u64::MAX, ok = false, ratio = f64::NAN, "x");
        });
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(line["level"], "INFO");
        assert_eq!(line["field_level"], "forged");
        assert_eq!(line["count"], 3);
        assert_eq!(line["big"], u64::MAX);
        assert_eq!(line["ok"], false);
        assert_eq!(line["ratio"], "NaN");
    }

    #[test]
    fn spans_name_the_request_a_line_belongs_to() {
        let event = || {
            let span = tracing::info_span!("review", uid = "a b", late = tracing::field::Empty);
            span.record("late", 7);
            span.in_scope(|| tracing::info!("judged"));
        };
        let text = logged(Format::Text, event);
        assert!(text.ends_with("judged review{ uid=\"a b\" late=7 }\n"), "{text}");
        let line: serde_json::Value = serde_json::from_str(&logged(Format::Json, event)).unwrap();
        assert_eq!(line["spans"], serde_json::json!([{"span": "review", "uid": "a b", "late": 7}]));
    }

    #[test]
    fn a_huge_value_is_cut_with_a_count() {
        for format in [Format::Text, Format::Json] {
            let text = logged(format, || {
                let huge = "é".repeat(100_000);
                tracing::info!(a = huge.as_str(), b = %huge, "x");
            });
            assert!(text.len() < 40_000, "{}", text.len());
            assert_eq!(text.matches("more bytes)").count(), 2);
        }
    }

    #[test]
    fn a_bad_filter_is_refused_with_a_way_out() {
        let error = init(Format::Text, Some("podseal=nonsense")).unwrap_err().to_string();
        assert!(error.contains("podseal=nonsense") && error.contains("use for example"), "{error}");
    }

    #[test]
    #[ignore = "a measurement: cargo test --release -- --ignored cost_of_a_line"]
    fn cost_of_a_line() {
        const LINES: u32 = 200_000;
        for format in [Format::Text, Format::Json] {
            let (sink, _guard) = Sink::start(io::sink(), format).unwrap();
            tracing::subscriber::with_default(tracing_subscriber::registry().with(layer(format, sink)), || {
                let started = std::time::Instant::now();
                for _ in 0..LINES {
                    tracing::info!(namespace = "default", image = "registry.local/app:1", verdict = "Allowed",
                        method = %"Cosign", elapsed = ?std::time::Duration::from_micros(80), "reviewed");
                }
                println!("{format:?}: {:?} per line", started.elapsed() / LINES);
            });
        }
    }
}
