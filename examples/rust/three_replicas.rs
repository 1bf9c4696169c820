//! Three replicas of an axum app call an upstream that allows one request a second; in look-aside each
//! makes its own requests, and all share what came.
//!
//! Run:
//!     cargo run --release -- dev            # in one terminal
//!     cargo run -p koorde-examples --example three_replicas
//!
//! You should see: 300 calls to the three replicas, all answered 200, and the upstream asked once.
//! Without `koorde dev` each call is a request of its own, and the upstream answers most with 429.

use std::{
    net::Ipv4Addr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::Body,
    extract::State,
    http::{Request, StatusCode},
    response::{IntoResponse, Response},
    routing::get,
};
use bytes::Bytes;
use http_body_util::Empty;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use koorde_client::{Koorde, KoordeLayer};
use tokio::{net::TcpListener, task::JoinSet};
use tower::{Layer, ServiceExt};

/// What a replica calls its upstream with.
type Upstream = Koorde<Client<HttpConnector, Empty<Bytes>>>;

static ASKED: AtomicUsize = AtomicUsize::new(0);

/// One request a second; all others are refused.
async fn limited(State(last): State<Arc<Mutex<Option<Instant>>>>) -> Response {
    ASKED.fetch_add(1, Ordering::Relaxed);
    {
        let mut last = last.lock().expect("nothing panics in here");
        if last.is_some_and(|last| last.elapsed() < Duration::from_secs(1)) {
            return StatusCode::TOO_MANY_REQUESTS.into_response();
        }
        *last = Some(now());
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    ([("cache-control", "max-age=60")], "1.0834").into_response()
}

/// A replica's handler: what its upstream says.
async fn rate(State((upstream, url)): State<(Upstream, String)>) -> Response {
    let request = Request::get(url).body(Empty::new()).expect("a URL");
    match upstream.oneshot(request).await {
        Ok(response) => response.map(Body::new),
        Err(_) => StatusCode::BAD_GATEWAY.into_response(),
    }
}

#[expect(clippy::disallowed_methods, reason = "an app reads the clock")]
fn now() -> Instant {
    Instant::now()
}

/// Serves an app on a free port; its URL.
#[expect(clippy::disallowed_methods, reason = "an app starts tasks")]
async fn serve(app: Router) -> std::io::Result<String> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let url = format!("http://{}/rate", listener.local_addr()?);
    tokio::spawn(async move { axum::serve(listener, app).await });
    Ok(url)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let last = Arc::default();
    let upstream = serve(Router::new().route("/rate", get(limited)).with_state(last)).await?;

    let mut replicas = Vec::new();
    for port in [8080, 8081, 8082] {
        let layer = KoordeLayer::new(&format!("http://127.0.0.1:{port}"))?.look_aside()?;
        let client = layer.layer(Client::builder(TokioExecutor::new()).build_http());
        let state = (client, upstream.clone());
        replicas.push(serve(Router::new().route("/rate", get(rate)).with_state(state)).await?);
    }

    let (began, client) = (now(), reqwest::Client::new());
    let mut calls = JoinSet::new();
    for n in 0..300 {
        let call = client.get(&replicas[n % 3]).send();
        calls.spawn(async move { call.await.map(|response| response.status()) });
    }
    let answers = calls.join_all().await;
    let good = answers
        .iter()
        .filter(|answer| matches!(answer, Ok(StatusCode::OK)));
    println!(
        "{} of 300 calls answered 200 in {:?}; the upstream was asked {} time(s)",
        good.count(),
        began.elapsed(),
        ASKED.load(Ordering::Relaxed)
    );
    Ok(())
}
