//! hyper-util's client behind the layer, in delegate mode.
//!
//! Run:
//!     cargo run --release -- dev            # in one terminal
//!     cargo run -p koorde-examples --example hyper_util
//!
//! You should see: the first request takes as long as the demo origin does (`Miss`, or `Hit` if it was
//! asked before), the second a millisecond or two (`Hit`). Without `koorde dev`'s nodes, but with its origin, or with
//! `KOORDE_ENDPOINT` naming nobody, both are answered all the same (`FailOpen`).

use std::time::Instant;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use koorde_client::{CacheStatus, KoordeLayer};
use tower::{Layer, ServiceExt};

#[tokio::main]
#[expect(
    clippy::disallowed_methods,
    reason = "an app reads its environment and the clock"
)]
async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let endpoint = std::env::var("KOORDE_ENDPOINT");
    let endpoint = endpoint.unwrap_or_else(|_| "http://127.0.0.1:8080".to_owned());
    // The page to ask for: another one as the first argument.
    let url = std::env::args().nth(1);
    let url = url.unwrap_or_else(|| "http://127.0.0.1:9000/page".to_owned());
    let client = Client::builder(TokioExecutor::new()).build_http();
    let client = KoordeLayer::new(&endpoint)?.layer(client);

    for _ in 0..2 {
        let began = Instant::now();
        let request = http::Request::get(&url);
        let request = request.body(Empty::<Bytes>::new())?;
        let response = client.clone().oneshot(request).await?;
        let koorde = response.extensions().get::<CacheStatus>();
        let result = koorde.map(|status| status.result);
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        println!(
            "{status} {result:?} {} bytes in {:?}",
            body.len(),
            began.elapsed()
        );
    }
    Ok(())
}
