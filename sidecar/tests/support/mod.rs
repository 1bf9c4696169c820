//! An origin, a client and a process for the tests that need all three.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test file uses a part of it"
)]

pub mod echo;

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Empty, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    client::legacy::{Client as Legacy, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo},
};
use koorde_sidecar::{
    app::App,
    settings::{Settings, ShutdownSettings},
};
use tokio::{
    net::TcpListener,
    sync::{Semaphore, watch},
};

/// Longest wait for anything; what is waited for comes much sooner.
pub const SOON: Duration = Duration::from_secs(20);

/// A process with all ports chosen by the system, allowed to reach loopback, ending at once.
pub fn settings() -> Settings {
    let mut settings = Settings::default();
    let any: SocketAddr = ([127, 0, 0, 1], 0).into();
    settings.node.name = "node-a".into();
    (
        settings.http.listen,
        settings.admin.listen,
        settings.ring.listen,
    ) = (any, any, any);
    settings.egress.allow = vec!["127.0.0.1".into()];
    settings.shutdown = ShutdownSettings {
        finish: SOON,
        ..ShutdownSettings::at_once()
    };
    settings
}

/// A process that is ready.
pub async fn start(settings: Settings) -> App {
    let app = App::start(settings).await.expect("the process starts");
    ready(&app).await;
    app
}

/// Waits until a process is ready.
pub async fn ready(app: &App) {
    let client = Client::default();
    let url = format!("http://{}/readyz", app.addresses().http);
    let ready = async {
        while client.get(&url).await.status != StatusCode::OK {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(SOON, ready)
        .await
        .expect("the node gets ready");
}

/// Percent-encodes everything that is not unreserved.
pub fn encode(url: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let one = |byte| {
        if plain(byte) {
            char::from(byte).to_string()
        } else {
            format!("%{byte:02X}")
        }
    };
    url.bytes().map(one).collect()
}

/// The address of `/cache` for a URL.
pub fn cache(app: &App, url: &str) -> String {
    format!("http://{}/cache?url={}", app.addresses().http, encode(url))
}

/// What came back, whole.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub fields: HeaderMap,
    pub body: String,
}

impl Answer {
    /// A field's value; empty without it.
    pub fn field(&self, name: &str) -> &str {
        self.fields
            .get(name)
            .map_or("", |value| value.to_str().expect("an ASCII field"))
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).expect("a JSON body")
    }
}

#[derive(Clone)]
pub struct Client(Legacy<HttpConnector, Empty<Bytes>>);

impl Default for Client {
    fn default() -> Self {
        Self(Legacy::builder(TokioExecutor::new()).build_http())
    }
}

impl Client {
    pub async fn get(&self, url: &str) -> Answer {
        self.send(Method::GET, url, &[]).await
    }

    pub async fn send(&self, method: Method, url: &str, fields: &[(&str, &str)]) -> Answer {
        let mut request = Request::builder().method(method).uri(url);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let request = request.body(Empty::new()).expect("a well-formed request");
        let response = tokio::time::timeout(SOON, self.0.request(request)).await;
        let (head, body) = response
            .expect("an answer in time")
            .expect("an answer")
            .into_parts();
        let body = body.collect().await.expect("a whole body").to_bytes();
        let body = String::from_utf8_lossy(&body).into_owned();
        Answer {
            status: head.status,
            fields: head.headers,
            body,
        }
    }
}

/// An origin that answers with the path and query it was asked for, fresh for a minute.
/// `/slow` waits for [`Origin::go`], `/status/404` is answered with that status.
pub struct Origin {
    pub address: SocketAddr,
    pub go: Arc<Semaphore>,
    seen: Arc<Mutex<Vec<(String, HeaderMap)>>>,
    count: watch::Receiver<usize>,
}

impl Origin {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let (go, seen) = (
            Arc::new(Semaphore::new(0)),
            Arc::new(Mutex::new(Vec::new())),
        );
        let (counter, count) = watch::channel(0);
        let counter = Arc::new(counter);
        let shared = (Arc::clone(&go), Arc::clone(&seen));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (go, seen) = shared.clone();
                let counter = Arc::clone(&counter);
                let service = service_fn(move |request: Request<Incoming>| {
                    let what = request.uri().to_string();
                    let entry = (what.clone(), request.headers().clone());
                    seen.lock().expect("no test panics in here").push(entry);
                    counter.send_modify(|count| *count += 1);
                    let go = Arc::clone(&go);
                    async move {
                        if what.starts_with("/slow") {
                            go.acquire().await.expect("it is never closed").forget();
                        }
                        let status = what.strip_prefix("/status/").map_or("200", |status| status);
                        let response = Response::builder()
                            .status(status)
                            .header(header::CACHE_CONTROL, "max-age=60")
                            .body(Full::new(Bytes::from(what)));
                        Ok::<_, Infallible>(response.expect("a well-formed response"))
                    }
                });
                let io = TokioIo::new(stream);
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new().serve_connection(io, service),
                );
            }
        });
        Self {
            address,
            go,
            seen,
            count,
        }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Path and query, and fields, of every request so far.
    pub fn seen(&self) -> Vec<(String, HeaderMap)> {
        self.seen.lock().expect("no test panics in here").clone()
    }

    /// Waits for this many requests.
    pub async fn asked(&self, times: usize) {
        let mut count = self.count.clone();
        let enough = count.wait_for(|count| *count >= times);
        let _ = tokio::time::timeout(SOON, enough)
            .await
            .expect("the origin is asked");
    }
}
