//! A response cache in front of an axum service: the layer turned round, with a node in process.
//!
//! Run:
//!     cargo run -p koorde-examples --example server_side
//!
//! You should see: three requests for a page that takes 300 ms to make; the second and third take a
//! millisecond and the page was made once.

use std::{
    net::Ipv4Addr,
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use axum::{Router, response::IntoResponse, routing::get};
use koorde_client::KoordeLayer;
use libkoorde::{Config, Metrics, Node, Propagation};
use tokio::net::TcpListener;

static MADE: AtomicUsize = AtomicUsize::new(0);

/// A page that costs something.
async fn page() -> impl IntoResponse {
    tokio::time::sleep(Duration::from_millis(300)).await;
    let made = MADE.fetch_add(1, Ordering::Relaxed) + 1;
    (
        [("cache-control", "public, max-age=60")],
        format!("made {made} time(s)"),
    )
}

#[tokio::main]
#[expect(
    clippy::disallowed_methods,
    reason = "an app starts tasks and reads the clock"
)]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut config = Config::default();
    config.node.name = "shop-0".to_owned();
    config.ring.listen = (Ipv4Addr::LOCALHOST, 0).into();
    let metrics = Metrics::new(&mut Default::default());
    let node = Node::start(config, metrics, Propagation::default()).await?;
    while !node.is_ready() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }

    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    // As clients know this server: the same on all replicas.
    let origin = format!("http://{}", listener.local_addr()?);
    let koorde = KoordeLayer::embedded(node.clone()).server(&origin)?;
    let app = Router::new().route("/page", get(page)).layer(koorde);
    tokio::spawn(async move { axum::serve(listener, app).await });

    for _ in 0..3 {
        let began = Instant::now();
        let body = reqwest::get(format!("{origin}/page")).await?.text().await?;
        println!("{body} in {:?}", began.elapsed());
    }
    node.stop(Duration::from_secs(1)).await;
    Ok(())
}
