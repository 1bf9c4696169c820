//! What a scrape of a busy node costs: series, bytes, time. Every family and label that comes out is in
//! the catalogue.
#![allow(clippy::disallowed_methods, reason = "tests read clocks")]

mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use http::{Method, StatusCode};
use koorde_sidecar::telemetry::catalogue;
use libkoorde::{
    config::{RouteConfig, UpstreamConfig},
    metrics::describe::Words,
};
use support::{Client, Origin, cache, encode, settings, start};

/// Series that a scrape may have.
const SERIES: usize = 400;
/// Bytes that it may have.
const BYTES: usize = 64 << 10;

#[tokio::test]
async fn a_busy_node_has_no_more_than_four_hundred_series_all_of_them_in_the_catalogue() {
    scrape(0).await;
}

#[tokio::test]
async fn a_busy_node_with_twenty_upstreams_has_no_more_than_four_hundred_series() {
    scrape(20).await;
}

/// Scrapes a busy node that has so many upstreams, all of them in use.
async fn scrape(upstreams: usize) {
    let (origin, client) = (Origin::start().await, Client::default());
    let mut first = settings();
    for n in 0..upstreams {
        let upstream = UpstreamConfig {
            servers: vec![format!("http://{}", origin.address)],
            ..UpstreamConfig::default()
        };
        first.upstreams.insert(format!("upstream-{n}"), upstream);
        first.routes.push(RouteConfig {
            prefix: format!("/of/{n}/"),
            upstream: Some(format!("upstream-{n}")),
            ..RouteConfig::default()
        });
    }
    let app = start(first.clone()).await;
    let mut second = first;
    second.node.name = "node-b".into();
    second.ring.seeds = vec![app.addresses().peer.to_string()];
    let other = start(second).await;
    let admin = format!("http://{}", app.addresses().admin);
    let members = async || {
        client.get(&format!("{admin}/metrics/json")).await.json()["routing"]["members"].clone()
    };
    while members().await != 2 {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    // Some of everything: hits here and there, misses, refusals, failures, other methods.
    for n in 0..40 {
        let url = cache(&app, &origin.url(&format!("/{}", n % 20)));
        assert_eq!(client.get(&url).await.status, StatusCode::OK);
    }
    for n in 0..upstreams {
        for page in 0..4 {
            let url = cache(&app, &origin.url(&format!("/of/{n}/{page}")));
            assert_eq!(client.get(&url).await.status, StatusCode::OK);
        }
    }
    let url = cache(&app, &origin.url("/1"));
    client.send(Method::HEAD, &url, &[]).await;
    client
        .send(Method::GET, &url, &[("range", "bytes=0-0")])
        .await;
    client
        .send(Method::GET, &url, &[("cache-control", "no-cache")])
        .await;
    client.send(Method::POST, &url, &[]).await;
    let path = format!("http://{}/{}", app.addresses().http, origin.url("/2"));
    client.get(&path).await;
    for bad in ["http://169.254.169.254/", "http://127.0.0.1:9/", "nonsense"] {
        let url = format!("http://{}/cache?url={}", app.addresses().http, encode(bad));
        assert!(!client.get(&url).await.status.is_success());
    }
    for built_in in ["/livez", "/readyz", "/health", "/nowhere", "/debug/ring"] {
        client.get(&format!("{admin}{built_in}")).await;
    }
    let times = (0..20).map(|_| async {
        let began = Instant::now();
        let scraped = client.get(&format!("{admin}/metrics/prometheus")).await;
        (began.elapsed(), scraped.body)
    });
    let mut scrapes = Vec::new();
    for scrape in times {
        scrapes.push(scrape.await);
    }
    let (fastest, text) = scrapes.into_iter().min().expect("there are some");
    let samples: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    let most: usize = catalogue::all().map(|metric| metric.max_series(0)).sum();
    println!(
        "{} series of at most {most}, {} bytes, {fastest:?} a scrape{}",
        samples.len(),
        text.len(),
        if cfg!(debug_assertions) {
            " (not optimised)"
        } else {
            ""
        },
    );
    assert!(
        samples.len() <= SERIES,
        "{} series: {:?}",
        samples.len(),
        by_family(&samples)
    );
    assert!(text.len() <= BYTES, "{} bytes", text.len());
    let unknown: BTreeSet<String> = samples.iter().filter_map(|line| unknown(line)).collect();
    assert_eq!(unknown, BTreeSet::new());
    let of_upstreams = |line: &&&str| line.contains("upstream=\"upstream-");
    assert_eq!(
        upstreams > 0,
        samples.iter().any(|line| of_upstreams(&line))
    );
    for app in [other, app] {
        app.shutdown().await;
    }
}

#[tokio::test]
async fn a_client_that_leaves_before_the_head_is_counted_as_aborted() {
    let (origin, client) = (Origin::start().await, Client::default());
    let app = start(settings()).await;
    let admin = format!("http://{}/metrics/prometheus", app.addresses().admin);
    let url = cache(&app, &origin.url("/slow"));
    let bypassed = cache(&app, &origin.url("/slow/post"));
    let asks = tokio::spawn({
        let client = client.clone();
        async move {
            let get = client.get(&url);
            let post = client.send(Method::POST, &bypassed, &[]);
            tokio::join!(get, post);
        }
    });
    origin.asked(2).await;
    asks.abort();
    let of = |text: &str, start: &str, with: &str| -> f64 {
        let lines = text
            .lines()
            .filter(|l| l.starts_with(start) && l.contains(with));
        let numbers = lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
        numbers.sum()
    };
    let counted = async {
        loop {
            let text = client.get(&admin).await.body;
            let doors = of(&text, "koorde_http_requests_total", "status=\"aborted\"");
            let cache = of(&text, "koorde_cache_requests_total", "result=\"aborted\"");
            if (doors, cache) == (2.0, 2.0) {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    let counted = tokio::time::timeout(support::SOON, counted).await;
    assert!(counted.is_ok(), "{}", client.get(&admin).await.body);
    origin.go.add_permits(2);
    app.shutdown().await;
}

#[tokio::test]
async fn the_part_of_the_key_asked_for_most_is_told() {
    let (origin, client) = (Origin::start().await, Client::default());
    let app = start(settings()).await;
    let admin = format!("http://{}/metrics/prometheus", app.addresses().admin);
    let told = async || {
        let text = client.get(&admin).await.body;
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("koorde_hot_share_ratio "));
        line.expect("it is told").parse::<f64>().expect("a number")
    };
    assert_eq!(told().await, 0.0, "of nothing");
    for n in 0..40 {
        let path = if n % 4 == 0 {
            format!("/{n}")
        } else {
            "/hot".to_owned()
        };
        let url = cache(&app, &origin.url(&path));
        assert_eq!(client.get(&url).await.status, StatusCode::OK);
    }
    let share = told().await;
    assert!((0.7..=0.8).contains(&share), "{share} of three quarters");
    app.shutdown().await;
}

/// Series of each family, for whoever has to find out which are too many.
fn by_family(samples: &[&str]) -> BTreeMap<String, usize> {
    let mut families = BTreeMap::new();
    for line in samples {
        let name = line.split(['{', ' ']).next().unwrap_or_default();
        let family = catalogue::find(name).map_or(name, |metric| metric.name);
        *families.entry(family.to_owned()).or_default() += 1;
    }
    families
}

/// What of a sample is not in the catalogue.
fn unknown(line: &str) -> Option<String> {
    let (name, labels) = match line.split_once('{') {
        Some((name, rest)) => (name, rest.rsplit_once('}')?.0),
        None => (line.split(' ').next()?, ""),
    };
    let Some(metric) = catalogue::find(name) else {
        return Some(name.to_owned());
    };
    let pairs = labels.split("\",").filter(|pair| !pair.is_empty());
    for pair in pairs {
        let (label, word) = pair.split_once("=\"")?;
        let word = word.trim_end_matches('"');
        let known = metric.labels.iter().find(|known| known.name == label);
        let is_known = match known.map(|label| label.words) {
            Some(Words::Of(words)) => words.contains(&word),
            Some(Words::Upstreams | Words::Fixed) => true,
            None => label == "le",
        };
        if !is_known {
            return Some(format!("{name} {label}={word}"));
        }
    }
    None
}
