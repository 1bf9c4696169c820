//! A scrape has a bound: with the largest configuration there may be, and when everything that can be
//! counted has been.
#![allow(clippy::disallowed_methods, reason = "tests start tasks")]

mod support;

use std::collections::BTreeSet;

use http::{Method, StatusCode};
use koorde_sidecar::{
    app::App,
    http::HttpMetrics,
    telemetry::{self, Telemetry, catalogue, process::Process, prometheus},
};
use libkoorde::{
    Metrics,
    config::{RouteConfig, UpstreamConfig},
    metrics::{
        Book, MAX_BYTES, MAX_SERIES, Values,
        describe::{Kind, MAX_UPSTREAMS},
    },
};
use support::{Client, Origin, cache, encode, settings, start};

/// Bytes that a scrape may have, exemplars included.
const BYTES: usize = 64 << 10;

fn samples(text: &str) -> Vec<&str> {
    text.lines().filter(|line| !line.starts_with('#')).collect()
}

fn left_out(text: &str) -> usize {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("koorde_telemetry_series_left_out "));
    line.expect("it is told").parse().expect("a number")
}

/// Names that take most room: each of the longest, of what is escaped.
fn upstreams() -> Vec<String> {
    (0..256)
        .map(|n| format!("{n:03}{}", "\"".repeat(61)))
        .collect()
}

/// The book of a process in which everything has been counted that can be.
fn full() -> Book {
    let mut book = telemetry::book(upstreams());
    let _http = HttpMetrics::new(&mut book);
    let _process = Process::new(&mut book);
    book.adopt(Telemetry::none().exports());
    let _node = Metrics::new(&mut book);
    for source in book.sources() {
        let each = match source.metric.kind {
            Kind::Histogram(bounds) => bounds.len() + 3,
            _ => 1,
        };
        for n in 0..source.metric.max_series(MAX_UPSTREAMS) / each {
            match &source.values {
                Values::Counters(counters) => counters.at(n).inc_by(u64::MAX),
                Values::Gauges(gauges) => gauges.at(n).set(i64::MIN),
                Values::Distributions(distributions) => distributions.at(n).record(u64::MAX),
            }
        }
    }
    book
}

#[test]
fn when_all_was_counted_that_can_be_a_scrape_has_what_tells_most_and_its_bounds_hold() {
    let book = full();
    let open = book.open_metrics();
    for text in [&open, &prometheus::text(&open)] {
        let samples = samples(text);
        println!("{} series, {} bytes", samples.len(), text.len());
        assert!(samples.len() <= MAX_SERIES, "{}", samples.len());
        assert!(text.len() <= MAX_BYTES, "{}", text.len());
    }
    let there: BTreeSet<&str> = samples(&open).into_iter().collect();
    let mut all = 0;
    for source in book.sources() {
        let metric = source.metric;
        all += metric.max_series(MAX_UPSTREAMS);
        let each: Vec<_> = match &source.values {
            Values::Counters(counters) => counters.each().map(|(labels, _)| labels).collect(),
            Values::Gauges(gauges) => gauges.each().map(|(labels, _)| labels).collect(),
            Values::Distributions(of) => of.each().map(|(labels, _)| labels).collect(),
        };
        for labels in each {
            let labels: Vec<(&str, &str)> = labels.iter().map(|(n, w)| (*n, &**w)).collect();
            if !metric.may_be_left_out(&labels) {
                let words = labels.iter().map(|(_, word)| word.replace('"', "\\\""));
                let words: Vec<String> = words.collect();
                let has = |line: &&&str| {
                    let of = catalogue::find(line.split(['{', ' ']).next().unwrap_or_default());
                    of.is_some_and(|of| of.name == metric.name)
                        && words
                            .iter()
                            .all(|word| line.contains(&format!("=\"{word}\"")))
                };
                let lines = there.iter().filter(has).count();
                let lines_of_one = match metric.kind {
                    Kind::Histogram(bounds) => bounds.len() + 3,
                    _ => 1,
                };
                assert_eq!(lines, lines_of_one, "{} {labels:?}", metric.name);
            }
        }
    }
    // What this build is comes from elsewhere.
    assert_eq!(left_out(&open), all + 1 - samples(&open).len());
}

#[test]
fn what_finds_no_room_is_there_when_there_is() {
    let mut book = Book::default();
    let _http = HttpMetrics::new(&mut book);
    assert_eq!(left_out(&book.open_metrics()), 0);
    let sparse = book
        .sources()
        .iter()
        .find(|source| source.metric.name == "http_server_request_duration_seconds");
    let Some(Values::Distributions(by_status)) = sparse.map(|source| &source.values) else {
        panic!("a histogram");
    };
    by_status.at(0).record(1);
    let (some, name) = (
        book.open_metrics(),
        "http_server_request_duration_seconds_count",
    );
    assert_eq!((some.matches(name).count(), left_out(&some)), (1, 0));
    for n in 0..200 {
        by_status.at(n).record(1);
    }
    let most = book.open_metrics();
    let shown = most.matches(name).count();
    assert!(shown > 50 && samples(&most).len() <= MAX_SERIES, "{shown}");
    assert_eq!(left_out(&most), (200 - shown) * 4);
    assert_eq!(book.open_metrics(), most, "the same series each time");
}

/// Asks at several doors, with every method, for every status.
async fn ask_for_everything(app: &App, origin: &Origin, client: &Client) {
    for n in 0..40 {
        let url = cache(app, &origin.url(&format!("/of/{n}/page")));
        assert_eq!(client.get(&url).await.status, StatusCode::OK);
    }
    let methods = ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PURGE"];
    for method in methods.map(|name| name.parse::<Method>().expect("a method")) {
        for status in [
            200, 204, 206, 301, 302, 304, 400, 401, 403, 404, 410, 416, 418, 429, 500, 502, 503,
            504,
        ] {
            let target = origin.url(&format!("/status/{status}"));
            client.send(method.clone(), &cache(app, &target), &[]).await;
        }
        for path in [
            "/livez", "/readyz", "/health", "/metrics", "/nowhere", "/purge",
        ] {
            for listener in [app.addresses().http, app.addresses().admin] {
                client
                    .send(method.clone(), &format!("http://{listener}{path}"), &[])
                    .await;
            }
        }
    }
    let by_path = format!("http://{}/{}", app.addresses().http, origin.url("/page"));
    assert_eq!(client.get(&by_path).await.status, StatusCode::OK);
    let ftp = format!(
        "http://{}/cache?url={}",
        app.addresses().http,
        encode("ftp://a.example/")
    );
    assert_eq!(client.get(&ftp).await.status, StatusCode::BAD_REQUEST);
}

/// Upstreams, routes and tenants as many as there may be; every door, method and status.
#[tokio::test]
async fn a_node_with_the_largest_configuration_keeps_to_its_bounds_whatever_it_is_asked() {
    let (origin, client) = (Origin::start().await, Client::default());
    let mut settings = settings();
    for name in upstreams() {
        let upstream = UpstreamConfig {
            servers: vec![format!("http://{}", origin.address)],
            ..UpstreamConfig::default()
        };
        settings.upstreams.insert(name, upstream);
    }
    let names = upstreams();
    settings.routes = (0..1000)
        .map(|n| RouteConfig {
            prefix: format!("/of/{n}/"),
            tenant: format!("tenant-{n}"),
            upstream: Some(names[n % names.len()].clone()),
            ..RouteConfig::default()
        })
        .collect();
    let app = start(settings).await;
    let admin = format!("http://{}", app.addresses().admin);
    ask_for_everything(&app, &origin, &client).await;
    for form in ["openmetrics", "prometheus"] {
        let text = client
            .get(&format!("{admin}/metrics?format={form}"))
            .await
            .body;
        let samples = samples(&text);
        let left_out = left_out(&text);
        println!(
            "{form}: {} series, {} bytes, {left_out} left out",
            samples.len(),
            text.len()
        );
        assert!(samples.len() <= MAX_SERIES, "{}", samples.len());
        assert!(text.len() <= BYTES, "{}", text.len());
        assert!(left_out > 0, "it was no test");
        for there in [
            "koorde_request_duration_seconds_count{result=\"miss\"}",
            "koorde_request_duration_seconds_count{result=\"bypass\"}",
            "koorde_origin_denied_total{reason=\"scheme\"} 1",
            "koorde_origin_inflight{upstream=\"other\"}",
            "koorde_hot_share_ratio 0.",
        ] {
            assert!(text.contains(there), "{there} is not in\n{text}");
        }
    }
    app.shutdown().await;
}
