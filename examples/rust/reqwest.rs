//! reqwest's client behind the layer, in delegate mode.
//!
//! Run:
//!     cargo run --release -- dev            # in one terminal
//!     cargo run -p koorde-examples --example reqwest
//!
//! You should see: `Miss` (or `Hit` if it was asked before), then `Hit`, each with the page's size.

use http_body_util::BodyExt;
use koorde_client::{CacheStatus, KoordeLayer, ReqwestService};
use reqwest::redirect::Policy;
use tower::{Layer, ServiceExt};

#[tokio::main]
#[expect(clippy::disallowed_methods, reason = "an app reads its environment")]
async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let endpoint = std::env::var("KOORDE_ENDPOINT");
    let endpoint = endpoint.unwrap_or_else(|_| "http://127.0.0.1:8080".to_owned());
    // Redirects are the app's, or tower-http's FollowRedirect's before the layer.
    // The page to ask for: another one as the first argument.
    let url = std::env::args().nth(1);
    let url = url.unwrap_or_else(|| "http://127.0.0.1:9000/page".to_owned());
    let client = reqwest::Client::builder()
        .redirect(Policy::none())
        .build()?;
    let client = KoordeLayer::new(&endpoint)?.layer(ReqwestService::new(client));

    for _ in 0..2 {
        let request = http::Request::get(&url);
        let request = request.body(reqwest::Body::default())?;
        let response = client.clone().oneshot(request).await?;
        let koorde = response.extensions().get::<CacheStatus>();
        let result = koorde.map(|status| status.result);
        let body = response.into_body().collect().await?.to_bytes();
        println!("{result:?} {} bytes", body.len());
    }
    Ok(())
}
