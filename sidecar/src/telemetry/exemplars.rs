//! Exemplars of OpenMetrics: for each bucket of `koorde_request_duration_seconds` the last request with a
//! trace that was kept, so that from a slow bucket one gets to a slow request.
//!
//! <https://prometheus.io/docs/specs/om/open_metrics_spec/#exemplars>. `prometheus-client` takes them
//! from its own histograms only, so they are put into its text.

use std::sync::Mutex;

use libkoorde::{metrics::SECONDS, outcome::CacheResult};

use super::catalogue::REQUEST_SECONDS;

/// What is remembered of one request.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Exemplar {
    trace: u128,
    seconds: f64,
}

/// The last one of each bucket and result.
#[derive(Debug)]
pub struct Exemplars(Vec<Mutex<Option<Exemplar>>>);

/// Buckets of a result, the one without a bound among them.
const BUCKETS: usize = SECONDS.len() + 1;

impl Default for Exemplars {
    fn default() -> Self {
        let all = CacheResult::ALL.len() * BUCKETS;
        Self((0..all).map(|_| Mutex::default()).collect())
    }
}

impl Exemplars {
    /// Remembers a request with a trace that is kept. Never waits: who comes second is not remembered.
    pub fn remember(&self, result: CacheResult, seconds: f64, trace: u128) {
        let bucket = SECONDS.partition_point(|bound| *bound < seconds);
        if let Ok(mut last) = self.0[result as usize * BUCKETS + bucket].try_lock() {
            *last = Some(Exemplar { trace, seconds });
        }
    }

    fn last(&self, result: CacheResult, bucket: usize) -> Option<Exemplar> {
        *self.0[result as usize * BUCKETS + bucket].try_lock().ok()?
    }

    /// The text of OpenMetrics with what is remembered; as it was, if nothing is.
    #[must_use]
    pub fn put_into(&self, text: String) -> String {
        let is_none = |one: &Mutex<Option<Exemplar>>| one.try_lock().is_ok_and(|o| o.is_none());
        if self.0.iter().all(is_none) {
            return text;
        }
        let mut with = String::with_capacity(text.len() + 4096);
        for line in text.lines() {
            with.push_str(line);
            if let Some(found) = bucket(line).and_then(|(result, at)| self.last(result, at)) {
                let Exemplar { trace, seconds } = found;
                with.push_str(&format!(" # {{trace_id=\"{trace:032x}\"}} {seconds}"));
            }
            with.push('\n');
        }
        with
    }
}

/// Which result and bucket a line is about: `koorde_request_duration_seconds_bucket{le="0.1",result="hit"} 7`.
fn bucket(line: &str) -> Option<(CacheResult, usize)> {
    let rest = line.strip_prefix(REQUEST_SECONDS.name)?;
    let labels = rest.strip_prefix("_bucket{")?.split_once('}')?.0;
    let of = |name: &str| {
        let mut pairs = labels.split(',').filter_map(|pair| pair.split_once('='));
        let (_, value) = pairs.find(|(label, _)| *label == name)?;
        Some(value.trim_matches('"'))
    };
    let result = CacheResult::parse(of("result")?)?;
    let at = match of("le")? {
        "+Inf" => SECONDS.len(),
        bound => {
            let bound: f64 = bound.parse().ok()?;
            SECONDS
                .iter()
                .position(|known| (known - bound).abs() < bound * 1e-9)?
        }
    };
    Some((result, at))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use libkoorde::metrics::Book;

    use super::*;
    use crate::telemetry::prometheus;

    #[test]
    fn a_bucket_has_the_trace_of_the_last_request_that_fell_into_it() {
        let mut book = Book::default();
        let seconds = book.distributions(&REQUEST_SECONDS);
        let exemplars = Exemplars::default();
        let text = || book.open_metrics();
        for (result, millis, trace) in [
            (CacheResult::Hit, 3, 1),
            (CacheResult::Hit, 4, 0xabc),
            (CacheResult::Miss, 700, 2),
            (CacheResult::Miss, 60_000, 3),
        ] {
            let took = Duration::from_millis(millis);
            seconds.at(result as usize).took(took);
            assert!(exemplars.put_into(text()).matches(" # {").count() < 4);
            exemplars.remember(result, took.as_secs_f64(), trace);
        }
        let with = exemplars.put_into(text());
        for line in [
            "_bucket{le=\"0.005\",result=\"hit\"} 2 # {trace_id=\"00000000000000000000000000000abc\"} 0.004",
            "_bucket{le=\"1.0\",result=\"miss\"} 1 # {trace_id=\"00000000000000000000000000000002\"} 0.7",
            "_bucket{le=\"+Inf\",result=\"miss\"} 2 # {trace_id=\"00000000000000000000000000000003\"} 60",
        ] {
            assert!(
                with.contains(&format!("{line}\n")),
                "{line} is not in\n{with}"
            );
        }
        assert_eq!(with.matches(" # {").count(), 3);
        assert!(with.ends_with("# EOF\n"));
        // The older form has none.
        assert_eq!(prometheus::text(&with), prometheus::text(&text()));
    }

    #[test]
    fn without_traces_nothing_is_touched() {
        let mut book = Book::default();
        let seconds = book.distributions(&REQUEST_SECONDS);
        seconds.at(0).took(Duration::from_millis(1));
        let text = book.open_metrics();
        assert_eq!(Exemplars::default().put_into(text.clone()), text);
    }
}
