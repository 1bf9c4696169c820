//! How long a review takes, from a client's side of TLS: `cargo bench -p koorde-sidecar --bench injector`.
//!
//! Four clients against one process that renews its certificate every two seconds meanwhile; once over
//! connections that stay open, as API servers keep them, and once with a handshake for each review.
#![allow(clippy::disallowed_methods, reason = "a measurement needs a clock")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use tokio::task::JoinSet;

#[path = "../tests/webhook/mod.rs"]
mod webhook;

use webhook::{Injector, api_server::ApiServer, connect, review};

const CLIENTS: usize = 4;

#[tokio::main]
async fn main() {
    let api = Arc::new(ApiServer::start("bench").await);
    let injector = Injector::own(
        &api,
        &["--cert-lifetime", "24s", "--authority-lifetime", "1h"],
    )
    .await;
    injector.ready().await;
    let stop = Arc::new(AtomicBool::new(false));
    let damage = {
        let (api, stop) = (Arc::clone(&api), Arc::clone(&stop));
        tokio::spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                tokio::time::sleep(Duration::from_secs(2)).await;
                api.forget("tls.crt");
            }
        })
    };
    println!(
        "{CLIENTS} clients, times in ms        reviews       p50       p99     p99.9       max"
    );
    for (name, reviews, keeps) in [
        ("open connections", 8_000, true),
        ("a handshake each", 1_000, false),
    ] {
        let mut clients = JoinSet::new();
        for _ in 0..CLIENTS {
            clients.spawn(client(
                Arc::clone(&api),
                injector.webhook,
                reviews / CLIENTS,
                keeps,
            ));
        }
        let mut all = Histogram::<u64>::new(3).expect("three digits");
        while let Some(times) = clients.join_next().await {
            all.add(times.expect("no review failed"))
                .expect("they are alike");
        }
        let ms = |nanos: u64| nanos as f64 / 1e6;
        let at = |quantile| ms(all.value_at_quantile(quantile));
        println!(
            "{name:<28} {:>10} {:>9.3} {:>9.3} {:>9.3} {:>9.3}",
            all.len(),
            at(0.5),
            at(0.99),
            at(0.999),
            ms(all.max())
        );
    }
    let (_, metrics) = injector.admin("/metrics").await;
    println!("from a review's last byte to its answer, in the injector itself:");
    for line in metrics
        .lines()
        .filter(|line| line.starts_with("koorde_injector_review_seconds"))
    {
        println!("  {line}");
    }
    stop.store(true, Ordering::Relaxed);
    let _ = damage.await;
}

async fn client(
    api: Arc<ApiServer>,
    address: std::net::SocketAddr,
    reviews: usize,
    keeps: bool,
) -> Histogram<u64> {
    let mut times = Histogram::new(3).expect("three digits");
    let review = review("bench");
    let mut open = connect(address, &api.bundle()).await.expect("it serves");
    for _ in 0..reviews {
        let begun = Instant::now();
        if !keeps {
            open = connect(address, &api.bundle()).await.expect("it serves");
        }
        let response = open.review(&review).await.expect("an answer");
        times
            .record(u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX))
            .expect("it fits");
        assert!(response["patch"].is_string());
    }
    times
}
