//! One request after the other through a layer: koorde's and its peers', before the same app.
//!
//! All serve the same hit: 1 KiB, fresh for ten minutes, read to its end.

use std::{convert::Infallible, net::Ipv4Addr};

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full};
use http_cache::MokaManager;
use http_cache_tower::HttpCacheLayer;
use koorde_client::KoordeLayer;
use libkoorde::{Config, Metrics, Node, Propagation, policy::Target};
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_http_cache::{backend::memory::InMemoryBackend, layer::CacheLayer};

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Case {
    /// The app itself: the floor.
    App,
    /// koorde's layer, for a request that it has no part in.
    Bypass,
    /// A hit in the store of koorde's own node.
    Koorde,
    /// The same without the layer, as a sidecar's doors ask their node.
    KoordeNode,
    /// A hit in http-cache-tower, with moka.
    HttpCacheTower,
    /// A hit in tower-http-cache, in memory.
    TowerHttpCache,
}

impl Case {
    pub const ALL: [Self; 6] = [
        Self::App,
        Self::Bypass,
        Self::Koorde,
        Self::KoordeNode,
        Self::HttpCacheTower,
        Self::TowerHttpCache,
    ];

    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::App => "app",
            Self::Bypass => "koorde-bypass",
            Self::Koorde => "koorde-hit",
            Self::KoordeNode => "koorde-node-hit",
            Self::HttpCacheTower => "http-cache-tower-hit",
            Self::TowerHttpCache => "tower-http-cache-hit",
        }
    }

    /// Sends `requests` of them. The first may be a miss.
    pub async fn run(self, requests: u64, measured: impl FnOnce()) {
        match self {
            Self::App => drive(service_fn(app), Method::GET, requests, measured).await,
            Self::Bypass => {
                let layer = KoordeLayer::new("http://127.0.0.1:8080").expect("a URL");
                let layer = layer.only_if(|_| false);
                drive(
                    layer.layer(service_fn(app)),
                    Method::GET,
                    requests,
                    measured,
                )
                .await;
            }
            Self::Koorde => {
                let layer = KoordeLayer::embedded(node().await);
                drive(
                    layer.layer(service_fn(app)),
                    Method::GET,
                    requests,
                    measured,
                )
                .await;
            }
            Self::KoordeNode => {
                let node = node().await;
                let layer = KoordeLayer::embedded(node.clone());
                drive(layer.layer(service_fn(app)), Method::GET, 1, || ()).await;
                let fetch = |request| ask(node.clone(), request);
                drive(service_fn(fetch), Method::GET, requests, measured).await;
            }
            Self::HttpCacheTower => {
                let layer = HttpCacheLayer::new(MokaManager::default());
                drive(
                    layer.layer(service_fn(app)),
                    Method::GET,
                    requests,
                    measured,
                )
                .await;
            }
            Self::TowerHttpCache => {
                let layer = CacheLayer::builder(InMemoryBackend::new(10_000)).build();
                drive(
                    layer.layer(service_fn(app)),
                    Method::GET,
                    requests,
                    measured,
                )
                .await;
            }
        }
    }
}

async fn node() -> Node {
    let mut config = Config::default();
    config.node.name = "bench".to_owned();
    config.ring.listen = (Ipv4Addr::LOCALHOST, 0).into();
    let metrics = Metrics::new(&mut Default::default());
    let node = Node::start(config, metrics, Propagation::default()).await;
    node.expect("a node alone")
}

/// Asks the node as a door does, by the text of the URL.
async fn ask(
    node: Node,
    request: Request<Full<Bytes>>,
) -> Result<Response<libkoorde::Body>, libkoorde::FetchError> {
    let (parts, _) = request.into_parts();
    let target = Target::parse(&parts.uri.to_string()).expect("a URL");
    node.fetch(libkoorde::Request::new(parts.method, target, parts.headers))
        .await
}

async fn app(_: Request<Full<Bytes>>) -> Result<Response<Full<Bytes>>, Infallible> {
    static BODY: [u8; 1024] = [b'x'; 1024];
    let response = Response::builder()
        .header("cache-control", "max-age=600")
        .header("content-type", "text/plain");
    let body = Full::new(Bytes::from_static(&BODY));
    Ok(response.body(body).expect("a response"))
}

/// Calls `measured` behind the first, which fills.
async fn drive<S, B>(mut service: S, method: Method, requests: u64, measured: impl FnOnce())
where
    S: Service<Request<Full<Bytes>>, Response = Response<B>>,
    S::Error: std::fmt::Debug,
    B: http_body::Body<Data = Bytes>,
    B::Error: std::fmt::Debug,
{
    let mut measured = Some(measured);
    for number in 0..=requests {
        let request = Request::builder()
            .method(method.clone())
            .uri("http://rates.example/latest?base=EUR")
            .header("accept", "*/*")
            .body(Full::default())
            .expect("a request");
        let service = service.ready().await.expect("ready");
        let response = service.call(request).await.expect("a response");
        let body = response.into_body().collect().await.expect("a body");
        assert_eq!(body.to_bytes().len(), 1024);
        if number == 0 {
            // What was filled is stored in the background.
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            if let Some(measured) = measured.take() {
                measured();
            }
        }
    }
}
