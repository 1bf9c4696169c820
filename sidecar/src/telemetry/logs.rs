//! Logs: one line an event, on standard error. Standard output belongs to what a command prints.

use std::fmt::{self, Write as _};

use opentelemetry::{Context, trace::TraceContextExt};
use serde_json::Value;
use tracing::{Event, Subscriber, field::Field};
use tracing_subscriber::{
    EnvFilter, Layer,
    field::Visit,
    fmt::{
        FmtContext, FormatEvent, FormatFields,
        format::Writer,
        time::{FormatTime, SystemTime},
    },
    registry::LookupSpan,
};

use super::sparing::Sparing;
use crate::settings::{LogFormat, LogSettings, environment};

/// The layer that writes events.
pub(super) fn layer<S>(settings: &LogSettings) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
{
    let json = match settings.format {
        LogFormat::Json => true,
        LogFormat::Text => false,
        LogFormat::Auto => !environment::logs_to_a_terminal(),
    };
    // `Settings::check` has read it before.
    let filter = EnvFilter::try_new(&settings.level).unwrap_or_else(|_| EnvFilter::new("info"));
    let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    if json {
        let format = Sparing::new(Json, settings.max_lines, add_to_json);
        layer.event_format(format).with_filter(filter).boxed()
    } else {
        layer
            .with_target(false)
            .with_ansi(environment::logs_to_a_terminal())
            .map_event_format(|text| Sparing::new(text, settings.max_lines, add_to_text))
            .with_filter(filter)
            .boxed()
    }
}

fn add_to_json(line: &mut String, left_out: u64) {
    line.truncate(line.trim_end_matches("}\n").len());
    let _ = writeln!(line, ",\"left_out\":{left_out}}}");
}

fn add_to_text(line: &mut String, left_out: u64) {
    line.truncate(line.trim_end().len());
    let _ = writeln!(line, " left_out={left_out}");
}

/// An event as one JSON object: `ts`, `level`, `msg`, `target`, its fields, and `trace_id` and `span_id` where
/// the trace is sampled. Fields of spans are left out; they are in the trace.
#[derive(Debug)]
pub struct Json;

impl<S, N> FormatEvent<S, N> for Json
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut line = Line::default();
        event.record(&mut line);
        let metadata = event.metadata();
        writer.write_str("{\"ts\":\"")?;
        SystemTime.format_time(&mut writer)?;
        let level = metadata.level().as_str().to_ascii_lowercase();
        write!(
            writer,
            "\",\"level\":\"{level}\",\"msg\":{}",
            Value::from(line.message)
        )?;
        write!(
            writer,
            ",\"target\":{}{}",
            Value::from(metadata.target()),
            line.fields
        )?;
        let context = Context::current();
        let span = context.span();
        let span = span.span_context();
        if span.is_valid() && span.is_sampled() {
            let (trace, id) = (span.trace_id(), span.span_id());
            write!(writer, ",\"trace_id\":\"{trace}\",\"span_id\":\"{id}\"")?;
        }
        writeln!(writer, "}}")
    }
}

/// An event's message, and its other fields as JSON members, each with its comma.
#[derive(Default)]
struct Line {
    message: String,
    fields: String,
}

impl Line {
    fn add(&mut self, field: &Field, value: Value) {
        if field.name() == "message" {
            self.message = value
                .as_str()
                .map_or_else(|| value.to_string(), str::to_owned);
        } else {
            let name = Value::from(field.name());
            write!(self.fields, ",{name}:{value}").expect("writing to a string does not fail");
        }
    }
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field, format!("{value:?}").into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.add(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, value.into());
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        sync::{Arc, Mutex},
    };

    use tracing::info;
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0
                .lock()
                .expect("no test panics while it writes")
                .extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn an_event_is_one_json_object_on_one_line() {
        let lines = Lines::default();
        let writer = lines.clone();
        let layer = tracing_subscriber::fmt::layer()
            .event_format(Json)
            .with_writer(move || writer.clone());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            info!(count = 3, ratio = 0.5, ok = true, name = %"a \"b\"\nc", "Done.");
        });
        let bytes = lines
            .0
            .lock()
            .expect("no test panics while it writes")
            .clone();
        let text = String::from_utf8(bytes).expect("JSON is UTF-8");
        assert_eq!(text.lines().count(), 1, "{text}");
        let value: Value = serde_json::from_str(&text).expect("a JSON object");
        assert_eq!(
            (&value["level"], &value["msg"]),
            (&"info".into(), &"Done.".into())
        );
        assert_eq!((&value["count"], &value["ratio"]), (&3.into(), &0.5.into()));
        assert_eq!(
            (&value["ok"], &value["name"]),
            (&true.into(), &"a \"b\"\nc".into())
        );
        assert!(
            value["ts"].as_str().is_some_and(|ts| ts.ends_with('Z')),
            "{text}"
        );
        assert!(value.get("trace_id").is_none(), "nothing is sampled");
    }

    #[test]
    fn a_line_with_how_many_were_left_out_is_one_line_still() {
        let mut json = "{\"msg\":\"{}\",\"a\":{\"b\":{}}}\n".to_owned();
        add_to_json(&mut json, 7);
        let value: Value = serde_json::from_str(&json).expect("a JSON object");
        assert_eq!(
            (&value["left_out"], &value["a"]["b"]),
            (&7.into(), &Value::Object(Default::default()))
        );
        assert!(json.ends_with("}\n"));
        let mut text = "WARN a line\n".to_owned();
        add_to_text(&mut text, 7);
        assert_eq!(text, "WARN a line left_out=7\n");
    }
}
