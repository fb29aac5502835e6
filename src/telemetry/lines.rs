//! Log lines that belong to a trace say so: `trace_id`, as the last field of a line. Of all others
//! nothing is copied.

use std::fmt;

use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use crate::store::traces;

/// Lines for people.
pub struct Text<F>(pub F);

/// One JSON object a line.
pub struct Json<F>(pub F);

/// Writes a line of `inner`; if it belongs to a trace, as `with` has it of the line and the trace.
fn write_line<S, N>(
    inner: &impl FormatEvent<S, N>,
    ctx: &FmtContext<'_, S, N>,
    mut writer: Writer<'_>,
    event: &Event<'_>,
    with: impl FnOnce(&mut Writer<'_>, &str, u128) -> fmt::Result,
) -> fmt::Result
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    let Some(current) = traces::current() else {
        return inner.format_event(ctx, writer, event);
    };
    let mut line = String::new();
    inner.format_event(ctx, Writer::new(&mut line), event)?;
    with(&mut writer, line.trim_end_matches('\n'), current.trace)
}

impl<S, N, F> FormatEvent<S, N> for Text<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        ctx: &FmtContext<'_, S, N>,
        writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        write_line(&self.0, ctx, writer, event, |writer, line, trace| {
            // As the formatter writes the names of fields.
            let (on, off) = match writer.has_ansi_escapes() {
                true => ("\x1b[3m", "\x1b[0m"),
                false => ("", ""),
            };
            writeln!(writer, "{line} {on}trace_id{off}={trace:032x}")
        })
    }
}

impl<S, N, F> FormatEvent<S, N> for Json<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        ctx: &FmtContext<'_, S, N>,
        writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        write_line(
            &self.0,
            ctx,
            writer,
            event,
            |writer, line, trace| match line.strip_suffix('}') {
                Some(open) => writeln!(writer, "{open},\"trace_id\":\"{trace:032x}\"}}"),
                None => writeln!(writer, "{line}"),
            },
        )
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};
    use std::sync::Arc;

    use parking_lot::Mutex;
    use tracing_subscriber::fmt::MakeWriter;

    use super::*;
    use crate::domain::trace::TraceContext;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl MakeWriter<'_> for Lines {
        type Writer = Self;

        fn make_writer(&self) -> Self {
            self.clone()
        }
    }

    impl Lines {
        fn taken(&self) -> Vec<String> {
            let text = String::from_utf8(std::mem::take(&mut *self.0.lock())).unwrap();
            text.lines().map(str::to_owned).collect()
        }
    }

    fn log() {
        let entered = traces::enter(Some(TraceContext {
            trace: 0xab,
            span: 1,
            sampled: true,
        }));
        tracing::info!(n = 1, "within");
        drop(entered);
        tracing::info!("beside");
    }

    const ID: &str = "000000000000000000000000000000ab";

    #[test]
    fn a_line_of_json_says_its_trace_and_stays_json() {
        let lines = Lines::default();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(lines.clone())
            .json()
            .flatten_event(true)
            .map_event_format(Json)
            .finish();
        tracing::subscriber::with_default(subscriber, log);
        let read: Vec<serde_json::Value> = (lines.taken().iter())
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(read.len(), 2);
        assert_eq!(
            (&read[0]["message"], &read[0]["n"]),
            (&"within".into(), &1.into())
        );
        assert_eq!(read[0]["trace_id"], ID);
        assert!(read[1].get("trace_id").is_none());
    }

    #[test]
    fn a_line_for_people_says_its_trace_at_the_end() {
        for colours in [false, true] {
            let lines = Lines::default();
            let subscriber = tracing_subscriber::fmt()
                .with_writer(lines.clone())
                .with_ansi(colours)
                .map_event_format(|lines| Text(lines.with_ansi(colours)))
                .finish();
            tracing::subscriber::with_default(subscriber, log);
            let lines = lines.taken();
            let coloured = lines[0].contains("\x1b[");
            assert_eq!(coloured, colours, "{lines:?}");
            assert!(lines[0].contains("within"), "{lines:?}");
            // The line itself is coloured as one without a trace.
            assert_eq!(lines[1].contains("\x1b["), colours, "{lines:?}");
            assert_eq!(lines[0].starts_with("\x1b["), lines[1].starts_with("\x1b["));
            assert!(lines[0].ends_with(&format!("={ID}")), "{lines:?}");
            assert!(lines[1].ends_with("beside"), "{lines:?}");
        }
    }
}
