//! A hit in the store of the process's own node.
#![allow(clippy::unwrap_used, reason = "tests may panic")]

use std::{
    convert::Infallible,
    net::Ipv4Addr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body as _;
use http_body_util::{BodyExt, Full};
use koorde_client::{CacheResult, CacheStatus, Event, KoordeLayer};
use libkoorde::{Config, Metrics, Node, Propagation};
use tower::{Layer, Service, ServiceExt, limit::ConcurrencyLimit, service_fn};

async fn node() -> Node {
    let mut config = Config::default();
    config.node.name = "app-0".to_owned();
    config.ring.listen = (Ipv4Addr::LOCALHOST, 0).into();
    let metrics = Metrics::new(&mut Default::default());
    let node = Node::start(config, metrics, Propagation::default()).await;
    node.unwrap()
}

fn get(url: &str) -> Request<Full<Bytes>> {
    Request::get(url).body(Full::default()).unwrap()
}

#[tokio::test]
async fn a_hit_says_what_its_cache_status_says_and_takes_no_place_of_the_inner_service() {
    let (asked, node, events) = (
        Arc::new(AtomicUsize::new(0)),
        node().await,
        Events::default(),
    );
    let app = {
        let asked = Arc::clone(&asked);
        service_fn(move |_: Request<Full<Bytes>>| {
            asked.fetch_add(1, Ordering::Relaxed);
            let response = Response::builder().header("cache-control", "max-age=600");
            let response = response.body(Full::from("a body")).unwrap();
            async { Ok::<_, Infallible>(response) }
        })
    };
    let log = Arc::clone(&events);
    let layer = KoordeLayer::embedded(node.clone())
        .on_event(move |event| log.lock().unwrap().push(event.clone()));
    let mut service = layer.layer(ConcurrencyLimit::new(app, 1));
    let url = "http://a.example/page?x";
    // The body is put while it is read, so it may be stored a moment after its end.
    let hit = loop {
        let response = service.ready().await.unwrap().call(get(url)).await.unwrap();
        let status = response.extensions().get::<CacheStatus>().unwrap().clone();
        if status.result == CacheResult::Hit {
            break response;
        }
        assert_eq!(
            response.into_body().collect().await.unwrap().to_bytes(),
            "a body"
        );
        tokio::task::yield_now().await;
    };
    let before = asked.load(Ordering::Relaxed);
    let status = hit.extensions().get::<CacheStatus>().unwrap();
    let ttl = status.ttl.unwrap();
    assert!((590..600).contains(&ttl), "{ttl}");
    let told = hit.headers()["cache-status"].to_str().unwrap();
    assert_eq!(told, format!("koorde; hit; ttl={ttl}; detail=app-0"));
    assert_eq!(status.detail.as_deref(), Some("app-0"));
    assert!(!status.stored && !status.collapsed);
    let last = events.lock().unwrap().last().cloned();
    assert_eq!(last, Some(Event::Answered(status.clone())));
    assert_eq!(hit.headers()["content-length"], "6");
    assert_eq!(hit.body().size_hint().exact(), Some(6));

    // Of the one place that there is, the hit has kept none, though its service and its body live.
    let mut other = service.clone();
    let free = tokio::time::timeout(Duration::from_secs(5), other.ready());
    assert!(free.await.is_ok(), "the hit keeps a place");
    assert_eq!(
        hit.into_body().collect().await.unwrap().to_bytes(),
        "a body"
    );
    assert_eq!(asked.load(Ordering::Relaxed), before, "a hit asks nobody");
    node.stop(Duration::from_secs(1)).await;
}

type Events = Arc<Mutex<Vec<Event>>>;
