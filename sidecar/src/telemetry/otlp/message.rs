//! Every metric of the catalogue as OTLP has it: the same series and figures as at `/metrics`.
//!
//! The message is built from a look at the counters rather than by the SDK's instruments: those would
//! count everything a second time, and none of them can be shown a histogram that exists already.
//! Counts are since the start (cumulative): what is lost on its way is in the next message.
//!
//! Histograms have the catalogue's bounds, and not exponential ones: for these bounds the counts are
//! exact. Our fine bins divide an octave into equal parts, so counts of exponential buckets would
//! have to be guessed from them.

use std::borrow::Cow;

use libkoorde::metrics::{
    Counters, Distributions, Gauges, Source, Values, Word,
    describe::{Kind, Metric, Unit},
};
use opentelemetry_proto::tonic::{
    common::v1::{AnyValue, KeyValue, any_value},
    metrics::v1::{
        AggregationTemporality, Gauge, Histogram, HistogramDataPoint, Metric as Told,
        NumberDataPoint, Sum, metric::Data, number_data_point::Value,
    },
};

use super::super::{BUILD_LABELS, catalogue};

/// All metrics that have a series; `start` and `now` in nanoseconds since 1970.
#[must_use]
pub fn metrics(sources: &[Source], start: u64, now: u64) -> Vec<Told> {
    let period = Period { start, now };
    let told = sources.iter().filter_map(|source| {
        let data = match &source.values {
            Values::Counters(counters) => period.sum(source.metric, counters)?,
            Values::Gauges(gauges) => period.gauge(source.metric, gauges),
            Values::Distributions(all) => period.histogram(source.metric, all)?,
        };
        Some(of(source.metric, data))
    });
    told.chain([of(&catalogue::BUILD, period.info())]).collect()
}

fn of(metric: &Metric, data: Data) -> Told {
    Told {
        name: name(metric),
        description: metric.help.to_owned(),
        unit: unit(metric).to_owned(),
        data: Some(data),
        ..Told::default()
    }
}

/// `http_server_request_duration_seconds` is `http.server.request.duration`: the unit has its own place,
/// and that it only grows, too. Prometheus's name comes out again where a collector makes one.
#[must_use]
pub fn name(metric: &Metric) -> String {
    let name = match metric.kind {
        Kind::Info => metric.name,
        _ => metric.stem(),
    };
    name.replace('_', ".")
}

/// Of a level without a unit collectors take `1` for a ratio, and add that word to its name for
/// Prometheus; what is in braces only annotates.
const fn unit(metric: &Metric) -> &'static str {
    match (metric.kind, metric.unit) {
        (Kind::Gauge | Kind::Info, Unit::One) => "{thing}",
        (_, unit) => unit.as_str(),
    }
}

/// The time that figures are about.
#[derive(Clone, Copy)]
struct Period {
    start: u64,
    now: u64,
}

impl Period {
    /// None if nothing was counted that is not shown before.
    fn sum(self, metric: &Metric, counters: &Counters) -> Option<Data> {
        let points = counters.told().map(|(labels, count)| {
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            self.point(labels, number(metric, count))
        });
        let sum = Sum {
            data_points: points.collect(),
            aggregation_temporality: AggregationTemporality::Cumulative.into(),
            is_monotonic: true,
        };
        (!sum.data_points.is_empty()).then_some(Data::Sum(sum))
    }

    fn gauge(self, metric: &Metric, gauges: &Gauges) -> Data {
        let points = gauges
            .each()
            .map(|(labels, level)| self.point(labels, number(metric, level)));
        Data::Gauge(Gauge {
            data_points: points.collect(),
        })
    }

    /// None if nothing was recorded.
    fn histogram(self, metric: &Metric, all: &Distributions) -> Option<Data> {
        let Kind::Histogram(bounds) = metric.kind else {
            return None;
        };
        let points = all.each().map(|(labels, one)| {
            let buckets = one.buckets();
            HistogramDataPoint {
                attributes: attributes(labels),
                start_time_unix_nano: self.start,
                time_unix_nano: self.now,
                // Of the same moment as the buckets: the two must agree.
                count: buckets.iter().sum(),
                sum: Some(one.sum()),
                bucket_counts: buckets,
                explicit_bounds: bounds.to_vec(),
                ..HistogramDataPoint::default()
            }
        });
        let histogram = Histogram {
            data_points: points.collect(),
            aggregation_temporality: AggregationTemporality::Cumulative.into(),
        };
        (!histogram.data_points.is_empty()).then_some(Data::Histogram(histogram))
    }

    fn info(self) -> Data {
        let labels = BUILD_LABELS.map(|(name, word)| (name, Cow::Borrowed(word)));
        let one = self.point(&labels, Value::AsInt(1));
        Data::Gauge(Gauge {
            data_points: vec![one],
        })
    }

    fn point(self, labels: &[(&'static str, Word)], value: Value) -> NumberDataPoint {
        NumberDataPoint {
            attributes: attributes(labels),
            start_time_unix_nano: self.start,
            time_unix_nano: self.now,
            value: Some(value),
            ..NumberDataPoint::default()
        }
    }
}

/// Seconds are kept as nanoseconds, ratios as billionths.
fn number(metric: &Metric, value: i64) -> Value {
    match metric.unit {
        Unit::Seconds | Unit::Ratio => Value::AsDouble(value as f64 / 1e9),
        Unit::One | Unit::Bytes => Value::AsInt(value),
    }
}

fn attributes(labels: &[(&'static str, Word)]) -> Vec<KeyValue> {
    let attribute = |(name, word): &(&'static str, Word)| {
        let (key, value) = match *name {
            "http_response_status_code" => ("http.response.status_code", status(word)),
            other => (conventional(other), text(word)),
        };
        KeyValue {
            key: key.to_owned(),
            value: Some(AnyValue { value: Some(value) }),
            ..KeyValue::default()
        }
    };
    labels.iter().map(attribute).collect()
}

/// A label as the semantic conventions name it, if they do.
fn conventional(label: &'static str) -> &'static str {
    match label {
        "http_request_method" => "http.request.method",
        "http_route" => "http.route",
        "error_type" => "error.type",
        ours => ours,
    }
}

/// A number by the semantic conventions; those without a series of their own are a word.
fn status(word: &str) -> any_value::Value {
    let number = word.parse().map(any_value::Value::IntValue);
    number.unwrap_or_else(|_| text(word))
}

fn text(word: &str) -> any_value::Value {
    any_value::Value::StringValue(word.to_owned())
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, time::Duration};

    use libkoorde::{
        Metrics,
        metrics::Book,
        outcome::{CacheResult, Tier},
    };

    use super::*;

    fn told(book: &Book) -> Vec<Told> {
        metrics(book.sources(), 5, 7)
    }

    fn named<'a>(told: &'a [Told], name: &str) -> &'a Told {
        let found = told.iter().find(|metric| metric.name == name);
        found.unwrap_or_else(|| panic!("{name} is told"))
    }

    #[test]
    fn prometheus_gets_its_names_back_from_name_unit_and_kind() {
        let mut names = BTreeSet::new();
        for metric in catalogue::all() {
            let mut back = name(metric).replace('.', "_");
            back += match unit(metric) {
                "s" => "_seconds",
                "By" => "_bytes",
                _ => "",
            };
            if metric.kind == Kind::Counter {
                back += "_total";
            }
            assert_eq!(back, metric.name);
            assert!(
                names.insert(name(metric)),
                "{} is there twice",
                name(metric)
            );
        }
        let of_http = name(&catalogue::HTTP_SERVER_SECONDS);
        assert_eq!(
            of_http, "http.server.request.duration",
            "the semantic conventions"
        );
    }

    #[test]
    fn a_counter_grows_from_the_start_and_has_the_series_of_prometheus() {
        let mut book = Book::default();
        let counted = Metrics::new(&mut book);
        counted.requests(CacheResult::Hit, Tier::Local).inc_by(5);
        counted.origin_response_seconds.at(0).inc_by(1_500_000_000);
        let all = told(&book);
        let Some(Data::Sum(sum)) = &named(&all, "koorde.cache.requests").data else {
            panic!("a sum")
        };
        assert!(sum.is_monotonic && sum.aggregation_temporality == 2);
        let hits: Vec<_> = sum
            .data_points
            .iter()
            .filter(|p| p.value == Some(Value::AsInt(5)))
            .collect();
        assert_eq!(hits.len(), 1);
        assert_eq!(
            (hits[0].start_time_unix_nano, hits[0].time_unix_nano),
            (5, 7)
        );
        let words = [("result", "hit".into()), ("tier", "local".into())];
        assert_eq!(hits[0].attributes, attributes(&words));
        let time = named(&all, "koorde.origin.response");
        let Some(Data::Sum(sum)) = &time.data else {
            panic!("a sum")
        };
        assert_eq!(
            (time.unit.as_str(), &sum.data_points[0].value),
            ("s", &Some(Value::AsDouble(1.5)))
        );
        // As at `/metrics`: what is sparse and never happened is not there.
        assert!(
            all.iter()
                .all(|metric| metric.name != "koorde.look.aside.leases")
        );
    }

    #[test]
    fn a_histogram_has_the_catalogues_bounds_and_exact_counts() {
        let mut book = Book::default();
        let seconds = book.distributions(&catalogue::HTTP_SERVER_SECONDS);
        assert!(
            told(&book)
                .iter()
                .all(|metric| metric.name != "http.server.request.duration")
        );
        for millis in [1, 500, 501, 9_000] {
            seconds
                .of(&["GET", "200", "/cache"])
                .took(Duration::from_millis(millis));
        }
        seconds
            .of(&["GET", "418", "/cache"])
            .took(Duration::from_millis(1));
        let all = told(&book);
        let Some(Data::Histogram(histogram)) = &named(&all, "http.server.request.duration").data
        else {
            panic!("a histogram")
        };
        let point = &histogram.data_points[0];
        assert_eq!(
            (
                point.count,
                &point.bucket_counts[..],
                &point.explicit_bounds[..]
            ),
            (4, &[2, 2][..], &[0.5][..])
        );
        assert!((point.sum.expect("it is known") - 10.002).abs() < 1e-9);
        let status = |at: usize| histogram.data_points[at].attributes[1].value.clone();
        assert_eq!(
            status(0).and_then(|v| v.value),
            Some(any_value::Value::IntValue(200))
        );
        assert_eq!(status(1).and_then(|v| v.value), Some(text("other")));
    }
}
