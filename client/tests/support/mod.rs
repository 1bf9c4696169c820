//! A real sidecar, real origins, and servers that are a sidecar's faults.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "each test file uses a part of it, and tests start tasks of their own"
)]

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, response::Parts};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::{Client, Error, connect::HttpConnector},
    rt::TokioExecutor,
};
use koorde_client::{CacheResult, CacheStatus, Event, Koorde, KoordeLayer};
use koorde_sidecar::{
    app::App,
    settings::{Settings, ShutdownSettings},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tower::{Layer, Service, ServiceExt};

/// Longest wait for anything; what is waited for comes much sooner.
pub const SOON: Duration = Duration::from_secs(20);

pub type Http = Client<HttpConnector, Empty<Bytes>>;

/// A sidecar with all ports chosen by the system, allowed to reach loopback, ending at once.
pub async fn sidecar() -> App {
    sidecar_with(|_| {}).await
}

/// The same with other settings.
pub async fn sidecar_with(change: impl FnOnce(&mut Settings)) -> App {
    let mut settings = Settings::default();
    let any: SocketAddr = ([127, 0, 0, 1], 0).into();
    settings.node.name = "node-a".into();
    (
        settings.http.listen,
        settings.admin.listen,
        settings.ring.listen,
    ) = (any, any, any);
    settings.egress.allow = vec!["127.0.0.1".into()];
    settings.http.purge = true;
    settings.shutdown = ShutdownSettings::at_once();
    change(&mut settings);
    let app = App::start(settings).await.expect("the process starts");
    let ready = async {
        while !app.node().is_ready() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(SOON, ready)
        .await
        .expect("the node gets ready");
    app
}

pub fn endpoint(app: &App) -> String {
    format!("http://{}", app.addresses().http)
}

/// An HTTP client as an app would have it.
pub fn http() -> Http {
    Client::builder(TokioExecutor::new()).build_http()
}

/// A layer that writes down what happens.
pub fn layer(endpoint: &str) -> (KoordeLayer, Arc<Mutex<Vec<Event>>>) {
    let events = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&events);
    let layer = KoordeLayer::new(endpoint)
        .expect("an endpoint")
        .on_event(move |event| log.lock().unwrap().push(event.clone()));
    (layer, events)
}

/// A client behind the layer.
pub fn client(endpoint: &str) -> (Koorde<Http>, Arc<Mutex<Vec<Event>>>) {
    let (layer, events) = layer(endpoint);
    (layer.layer(http()), events)
}

pub fn get(url: &str) -> Request<Empty<Bytes>> {
    request(Method::GET, url)
}

pub fn request(method: Method, url: &str) -> Request<Empty<Bytes>> {
    let request = Request::builder().method(method).uri(url);
    request.body(Empty::new()).expect("a well-formed request")
}

/// What came back, whole.
#[derive(Debug)]
pub struct Answer {
    pub head: Parts,
    pub body: Bytes,
}

impl Answer {
    pub fn status(&self) -> StatusCode {
        self.head.status
    }

    /// What koorde says it did.
    pub fn said(&self) -> Option<&CacheStatus> {
        self.head.extensions.get()
    }

    pub fn result(&self) -> Option<CacheResult> {
        self.said().map(|status| status.result)
    }

    /// Why koorde could not be used.
    pub fn why(&self) -> &str {
        let said = self.said().filter(|s| s.result == CacheResult::FailOpen);
        said.and_then(|said| said.detail.as_deref()).unwrap_or("")
    }
}

/// Sends a request and reads all of its response.
pub async fn send<S, B, R>(service: &S, request: Request<B>) -> Answer
where
    S: Service<Request<B>, Response = Response<R>> + Clone,
    S::Error: std::fmt::Debug,
    R: http_body::Body<Data = Bytes>,
    R::Error: std::fmt::Debug,
{
    let answered = async {
        let response = service.clone().oneshot(request).await.expect("an answer");
        let (head, body) = response.into_parts();
        let body = body.collect().await.expect("a whole body").to_bytes();
        Answer { head, body }
    };
    tokio::time::timeout(SOON, answered)
        .await
        .expect("an answer in time")
}

/// A port of loopback where nobody listens.
pub fn nobody() -> String {
    let address = std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr());
    format!("http://{}", address.expect("a free port"))
}

/// A server that reads a request's head, writes `answer`, and closes; `None`: it keeps the
/// connection and says nothing for ever.
pub async fn raw(answer: Option<&'static [u8]>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(one(stream, answer));
        }
    });
    format!("http://{address}")
}

async fn one(mut stream: TcpStream, answer: Option<&'static [u8]>) {
    let (mut head, mut piece) = (Vec::new(), [0; 4096]);
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut piece).await {
            Ok(0) | Err(_) => return,
            Ok(read) => head.extend_from_slice(&piece[..read]),
        }
    }
    match answer {
        Some(answer) => {
            let _ = stream.write_all(answer).await;
            let _ = stream.shutdown().await;
        }
        None => std::future::pending().await,
    }
}

pub type Plain = Incoming;
pub type HttpError = Error;

/// Asks until there is something.
pub async fn eventually<T, F: Future<Output = Option<T>>>(mut ask: impl FnMut() -> F) -> T {
    let asked = async {
        loop {
            if let Some(found) = ask().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(SOON, asked)
        .await
        .expect("it comes in time")
}
