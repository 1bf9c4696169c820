//! No sidecar: the app is a node of the ring, and its own client makes the requests.
//!
//! Run:
//!     cargo run -p koorde-examples --example embedded
//!
//! You should see: 50 tasks of two apps ask for one slow page at once; the upstream is asked once.

use std::{
    net::Ipv4Addr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use koorde_client::KoordeLayer;
use libkoorde::{Config, Metrics, Node, Propagation};
use tokio::task::JoinSet;
use tower::{Layer, ServiceExt, service_fn};

/// A node, as yet a ring by itself.
async fn node(name: &str) -> Result<Node, libkoorde::StartError> {
    let mut config = Config::default();
    config.node.name = name.to_owned();
    config.ring.listen = (Ipv4Addr::LOCALHOST, 0).into();
    let metrics = Metrics::new(&mut Default::default());
    Node::start(config, metrics, Propagation::default()).await
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let first = node("app-0").await?;
    let second = node("app-1").await?;
    // In a cluster: the addresses of a headless Service, whenever they are resolved anew.
    second.seeds(vec![first.peer_address()]);
    while [&first, &second]
        .iter()
        .any(|node| node.ring().members.len() < 2 || !node.is_ready())
    {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }

    // The app's own way to its upstream: here a slow one that counts.
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let upstream = service_fn(move |_: Request<Full<Bytes>>| {
        count.fetch_add(1, Ordering::Relaxed);
        async {
            tokio::time::sleep(Duration::from_millis(300)).await;
            let response = Response::builder().header("cache-control", "max-age=60");
            response.body(Full::<Bytes>::from("1.0834"))
        }
    });
    let apps = [first.clone(), second.clone()]
        .map(|node| KoordeLayer::embedded(node).layer(upstream.clone()));

    let mut calls = JoinSet::new();
    for n in 0..50 {
        let app = apps[n % 2].clone();
        let request = Request::get("https://rates.example/eur").body(Full::default())?;
        calls.spawn(async move { app.oneshot(request).await.map(|response| response.status()) });
    }
    let answers = calls.join_all().await;
    let good = answers
        .iter()
        .filter(|answer| matches!(answer, Ok(status) if *status == 200));
    println!(
        "{} of 50 calls answered; the upstream was asked {} time(s)",
        good.count(),
        asked.load(Ordering::Relaxed)
    );

    for node in [first, second] {
        node.leave(Duration::from_millis(100)).await;
        node.stop(Duration::from_secs(1)).await;
    }
    Ok(())
}
