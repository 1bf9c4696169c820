//! No kind of log line fills a disk: so many of each are written a minute, and then how many were not.
//!
//! An overload would otherwise write one for every request that it refuses; how many those are is in the
//! metrics. What was done on request (`audit`) is written each time.

use std::{
    collections::HashMap,
    fmt,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;
use tracing::{Event, Level, Subscriber, callsite::Identifier};
use tracing_subscriber::{
    fmt::{FmtContext, FormatEvent, FormatFields, format::Writer},
    registry::LookupSpan,
};

const MINUTE: Duration = Duration::from_secs(60);

/// Writes as its inner format does, but not every line.
#[derive(Debug)]
pub(super) struct Sparing<F> {
    inner: F,
    budget: Budget,
    /// Adds to a line how many like it were left out before.
    add: fn(&mut String, u64),
}

impl<F> Sparing<F> {
    /// At most `most` lines of a kind a minute; 0: all.
    pub(super) fn new(inner: F, most: u32, add: fn(&mut String, u64)) -> Self {
        let budget = Budget::new(most);
        Self { inner, budget, add }
    }
}

impl<S, N, F> FormatEvent<S, N> for Sparing<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let metadata = event.metadata();
        // Who asks for details wants all of them; who did what is asked for later.
        let level = *metadata.level();
        let is_audit = level == Level::INFO && metadata.fields().field("audit").is_some();
        if level > Level::INFO || is_audit {
            return self.inner.format_event(context, writer, event);
        }
        match self.budget.take(metadata.callsite(), Instant::now()) {
            None => Ok(()),
            Some(0) => self.inner.format_event(context, writer, event),
            Some(left_out) => {
                let mut line = String::new();
                self.inner
                    .format_event(context, Writer::new(&mut line), event)?;
                (self.add)(&mut line, left_out);
                writer.write_str(&line)
            }
        }
    }
}

/// Lines of each kind in its current minute. A kind is a place in the code, so there are as many as that.
#[derive(Debug)]
struct Budget {
    most: u32,
    kinds: Mutex<HashMap<Identifier, Kind>>,
}

#[derive(Debug)]
struct Kind {
    began: Instant,
    written: u32,
    left_out: u64,
}

impl Budget {
    fn new(most: u32) -> Self {
        let kinds = Mutex::default();
        Self { most, kinds }
    }

    /// Whether to write a line now: how many like it were left out since the last one, or none to leave
    /// it out.
    fn take(&self, kind: Identifier, now: Instant) -> Option<u64> {
        if self.most == 0 {
            return Some(0);
        }
        // Nothing can be half done in there.
        let mut kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
        let kind = kinds.entry(kind).or_insert(Kind {
            began: now,
            written: 0,
            left_out: 0,
        });
        if now.saturating_duration_since(kind.began) >= MINUTE {
            (kind.began, kind.written) = (now, 0);
        }
        if kind.written == self.most {
            kind.left_out += 1;
            return None;
        }
        kind.written += 1;
        Some(std::mem::take(&mut kind.left_out))
    }
}

#[cfg(test)]
mod tests {
    use tracing::{Callsite as _, Metadata, callsite::DefaultCallsite, field::FieldSet, metadata};

    use super::*;

    static ONE: DefaultCallsite = DefaultCallsite::new(&META);
    static OTHER: DefaultCallsite = DefaultCallsite::new(&META);
    static META: Metadata<'static> = Metadata::new(
        "a line",
        "test",
        Level::WARN,
        None,
        None,
        None,
        FieldSet::new(&[], Identifier(&ONE)),
        metadata::Kind::EVENT,
    );

    #[test]
    fn of_each_kind_so_many_lines_are_written_a_minute_and_then_how_many_were_not() {
        let budget = Budget::new(2);
        let (one, other) = (ONE.metadata().callsite(), Identifier(&OTHER));
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        for (kind, second, expected) in [
            (&one, 0, Some(0)),
            (&one, 1, Some(0)),
            (&one, 1, None),
            (&other, 1, Some(0)),
            (&one, 59, None),
            // The next minute begins with the first line in it.
            (&one, 90, Some(2)),
            (&one, 120, Some(0)),
            (&one, 149, None),
            (&one, 150, Some(1)),
            (&other, 150, Some(0)),
        ] {
            let taken = budget.take(kind.clone(), at(second));
            assert_eq!(taken, expected, "second {second}");
        }
    }

    #[test]
    fn without_a_bound_every_line_is_written() {
        let budget = Budget::new(0);
        let now = Instant::now();
        assert!((0..1000).all(|_| budget.take(Identifier(&ONE), now) == Some(0)));
    }
}
