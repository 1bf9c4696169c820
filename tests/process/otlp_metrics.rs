//! Metrics by OTLP: the figures of `/metrics`, by either protocol.

use std::{collections::BTreeMap, time::Duration};

use koorde_tests::{
    origin::Origin,
    process::{Process, client, fetch, now},
};
use opentelemetry_proto::tonic::metrics::v1::{
    Metric, NumberDataPoint, metric::Data, number_data_point::Value,
};
use tokio::{net::TcpListener, task::JoinSet};

use super::{
    FRESH,
    collector::{Collector, PROTOCOLS, attributes},
};

/// Series by name and labels, as Prometheus has them.
type All = BTreeMap<(String, Vec<(String, String)>), f64>;

/// What requests make of these depends on nothing else: others change by themselves, or by being looked at.
const OF_REQUESTS: [&str; 5] = [
    "koorde_cache_",
    "koorde_request_duration_",
    "http_server_request_",
    "koorde_origin_",
    "koorde_build_info",
];

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_is_told_the_figures_of_the_metrics_page_by_either_protocol() {
    for protocol in PROTOCOLS {
        let collector = Collector::start().await;
        let origin = Origin::fixed(Duration::ZERO, FRESH, "body").await;
        let mut args = collector.flags(protocol);
        let more = [
            "--telemetry.metrics_interval",
            "1s",
            "--telemetry.service_name",
            "shop",
        ];
        args.extend(more.map(str::to_owned));
        let fields = "api-key=a%2Cb,x-tenant=one";
        args.extend(["--telemetry.otlp_headers", fields].map(str::to_owned));
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let mut node = Process::start("koorde-0", &[], &args).await;
        node.knows(1).await;
        for path in ["/a", "/a", "/a", "/a", "/b"] {
            let answer = fetch(&client(), &node.url(&origin.url(path))).await;
            assert_eq!(answer.expect("an answer").status(), 200);
        }
        let json = node.admin_json("/metrics/json").await;
        let page = scraped(&node.text("/metrics/prometheus").await);
        collector
            .until(|received| received.metrics.len() >= 2)
            .await;
        node.signal("-TERM").await;
        assert!(node.wait().await, "exit 0");

        let received = collector.received();
        let last = received.metrics.last().expect("one at the end");
        let told = told(last);
        let is_of_requests = |name: &str| OF_REQUESTS.iter().any(|stem| name.starts_with(stem));
        let of_requests = |all: &All| -> All {
            let some = all.iter().filter(|((name, _), _)| is_of_requests(name));
            some.map(|(series, value)| (series.clone(), *value))
                .collect()
        };
        assert!(of_requests(&page).len() > 50, "{page:?}");
        assert_eq!(of_requests(&told), of_requests(&page), "{protocol}");
        let names = |all: &All| -> Vec<String> {
            let mut names: Vec<_> = all.keys().map(|(name, _)| name.clone()).collect();
            names.dedup();
            names
        };
        let is_told = |name: &String| told.keys().any(|(told, _)| told == name);
        let missing: Vec<_> = names(&page)
            .into_iter()
            .filter(|name| !is_told(name))
            .collect();
        assert!(missing.is_empty(), "{missing:?}");
        let counted = |result: &str| -> f64 {
            let is = |(name, labels): &(String, Vec<(String, String)>)| {
                name == "koorde_cache_requests_total"
                    && labels.contains(&("result".to_owned(), result.to_owned()))
            };
            told.iter()
                .filter(|(series, _)| is(series))
                .map(|(_, value)| value)
                .sum()
        };
        for (result, key, expected) in [("hit", "hits", 3.0), ("miss", "misses", 2.0)] {
            assert_eq!(counted(result), expected, "{result}");
            assert_eq!(json["cache"][key].as_f64(), Some(expected), "{key}");
        }
        cumulative(&received.metrics);
        for resource in &received.resources {
            for (key, value) in [
                ("service.name", "shop"),
                ("service.instance.id", "koorde-0"),
            ] {
                assert!(
                    resource.contains(&(key.to_owned(), value.to_owned())),
                    "{resource:?}"
                );
            }
        }
        for fields in &received.fields {
            assert_eq!(
                (&fields["api-key"], &fields["x-tenant"]),
                (&"a,b".parse().unwrap(), &"one".parse().unwrap())
            );
            // Not every server takes a body in chunks.
            let has_length = fields.contains_key("content-length");
            assert!(protocol == "grpc" || has_length, "{fields:?}");
        }
    }
}

/// One start, time that goes on, and counts that never fall.
fn cumulative(exports: &[Vec<Metric>]) {
    let mut before: BTreeMap<_, _> = BTreeMap::new();
    let mut starts = Vec::new();
    for metric in exports.iter().flatten() {
        let Some(Data::Sum(sum)) = &metric.data else {
            continue;
        };
        assert!(
            sum.is_monotonic && sum.aggregation_temporality == 2,
            "{metric:?}"
        );
        for point in &sum.data_points {
            starts.push(point.start_time_unix_nano);
            assert!(point.start_time_unix_nano < point.time_unix_nano);
            let series = (metric.name.clone(), attributes(&point.attributes));
            let this = (point.time_unix_nano, number(point));
            if let Some((time, value)) = before.insert(series, this) {
                assert!(time < this.0 && value <= this.1, "{metric:?}");
            }
        }
    }
    starts.dedup();
    assert_eq!(starts.len(), 1, "the process has started once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_takes_all_and_answers_nothing_delays_nobody_and_is_one_line_in_the_log() {
    let origin = Origin::fixed(Duration::ZERO, FRESH, "body").await;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let endpoint = format!("http://{}", listener.local_addr().expect("bound"));
    let mut hole = JoinSet::new();
    hole.spawn(async move {
        let mut kept = Vec::new();
        while let Ok(connection) = listener.accept().await {
            kept.push(connection);
        }
    });
    for protocol in PROTOCOLS {
        let started = now();
        let mut node = Process::start(
            "koorde-0",
            &[],
            &[
                "--telemetry.otlp_endpoint",
                &endpoint,
                "--telemetry.otlp_protocol",
                protocol,
                "--telemetry.sample_ratio",
                "1",
                "--telemetry.metrics_interval",
                "1s",
                "--telemetry.export_timeout",
                "30s",
                "--shutdown.flush",
                "1s",
            ],
        )
        .await;
        let url = node.url(&origin.url(&format!("/{protocol}")));
        for _ in 0..50 {
            assert_eq!(
                fetch(&client(), &url).await.expect("an answer").body(),
                "body"
            );
        }
        assert!(
            started.elapsed() < Duration::from_secs(10),
            "{:?}",
            started.elapsed()
        );
        node.signal("-TERM").await;
        assert!(node.wait().await, "exit 0");
        assert!(
            started.elapsed() < Duration::from_secs(20),
            "{:?}",
            started.elapsed()
        );
    }

    // One that is gone is trouble at once, and again each second.
    hole.shutdown().await;
    let flags = [
        "--telemetry.otlp_endpoint",
        endpoint.as_str(),
        "--telemetry.sample_ratio",
        "1",
        "--telemetry.metrics_interval",
        "1s",
    ];
    let mut node = Process::start("koorde-0", &[], &flags).await;
    let url = node.url(&origin.url("/gone"));
    assert_eq!(
        fetch(&client(), &url).await.expect("an answer").body(),
        "body"
    );
    let failed = "koorde_telemetry_exports_total{exporter=\"otlp_metrics\",outcome=\"error\"}";
    while node.series(failed).await < 2 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    node.signal("-TERM").await;
    assert!(node.wait().await, "exit 0");
    let lines = node.logged().await;
    let said = lines
        .iter()
        .filter(|line| line["msg"] == "The collector cannot be told.");
    assert_eq!(said.count(), 1, "{lines:#?}");
}

/// Metrics of OTLP under the names of Prometheus.
fn told(metrics: &[Metric]) -> All {
    let mut all = All::new();
    let mut put = |name: String, labels: Vec<(String, String)>, value: f64| {
        let before = all.insert((name, labels), value);
        assert!(before.is_none(), "a series is there once");
    };
    for metric in metrics {
        let unit = match metric.unit.as_str() {
            "s" => "_seconds",
            "By" => "_bytes",
            "1" | "{thing}" => "",
            other => panic!("{other} is no unit of ours"),
        };
        let name = format!("{}{unit}", metric.name.replace('.', "_"));
        match metric.data.as_ref().expect("figures") {
            Data::Sum(sum) => {
                for point in &sum.data_points {
                    put(
                        format!("{name}_total"),
                        labels(&attributes(&point.attributes)),
                        number(point),
                    );
                }
            }
            Data::Gauge(gauge) => {
                for point in &gauge.data_points {
                    put(
                        name.clone(),
                        labels(&attributes(&point.attributes)),
                        number(point),
                    );
                }
            }
            Data::Histogram(histogram) => {
                for point in &histogram.data_points {
                    let of = labels(&attributes(&point.attributes));
                    let mut below = 0;
                    let bounds = point.explicit_bounds.iter().copied().chain([f64::INFINITY]);
                    for (bound, count) in bounds.zip(&point.bucket_counts) {
                        below += count;
                        let mut with = of.clone();
                        with.push(("le".to_owned(), bound.to_string()));
                        with.sort();
                        put(format!("{name}_bucket"), with, below as f64);
                    }
                    assert_eq!(below, point.count);
                    put(format!("{name}_count"), of.clone(), point.count as f64);
                    put(format!("{name}_sum"), of, point.sum.expect("a sum"));
                }
            }
            other => panic!("{other:?} is nothing of ours"),
        }
    }
    all
}

fn number(point: &NumberDataPoint) -> f64 {
    match point.value.expect("a value") {
        Value::AsDouble(value) => value,
        Value::AsInt(value) => value as f64,
    }
}

fn labels(attributes: &[(String, String)]) -> Vec<(String, String)> {
    let label = |(key, value): &(String, String)| (key.replace('.', "_"), value.clone());
    let mut labels: Vec<_> = attributes.iter().map(label).collect();
    labels.sort();
    labels
}

/// The text of Prometheus.
fn scraped(text: &str) -> All {
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    let sample = |line: &str| {
        let (series, value) = line.rsplit_once(' ').expect("a sample");
        let (name, rest) = series.split_once('{').unwrap_or((series, ""));
        let pairs = rest
            .trim_end_matches('}')
            .split("\",")
            .filter(|pair| !pair.is_empty());
        let pair = |pair: &str| {
            let (label, word) = pair.split_once("=\"").expect("a label");
            let word = word.trim_end_matches('"');
            // `1.0` and `1` are one bound.
            let bound = word.replace("+Inf", "inf").parse::<f64>();
            let word = match bound {
                Ok(bound) if label == "le" => bound.to_string(),
                _ => word.to_owned(),
            };
            (label.to_owned(), word)
        };
        let mut labels: Vec<_> = pairs.map(pair).collect();
        labels.sort();
        let value = value.parse().expect("a number");
        ((name.to_owned(), labels), value)
    };
    samples.map(sample).collect()
}
