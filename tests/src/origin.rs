//! A scripted origin: a real HTTP/1.1 server on loopback that counts what it is asked.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    future::Future,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use futures_util::StreamExt;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::{body::Frame, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpListener, sync::watch, task::JoinSet};

/// A response's body.
pub type Body = BoxBody<Bytes, std::io::Error>;
type Script =
    dyn Fn(Request<Incoming>) -> Pin<Box<dyn Future<Output = Response<Body>> + Send>> + Send + Sync;

/// A running origin; it ends when dropped.
#[derive(Debug)]
pub struct Origin {
    address: SocketAddr,
    asked: Arc<Mutex<BTreeMap<String, Vec<HeaderMap>>>>,
    total: watch::Receiver<usize>,
    _server: JoinSet<()>,
}

impl Origin {
    /// Answers every request by `script`.
    pub async fn start<F>(script: impl Fn(Request<Incoming>) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Response<Body>> + Send + 'static,
    {
        Self::at(([127, 0, 0, 1], 0).into(), script).await
    }

    /// The same at an address that was found before.
    pub async fn at<F>(
        address: SocketAddr,
        script: impl Fn(Request<Incoming>) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Response<Body>> + Send + 'static,
    {
        let listener = TcpListener::bind(address)
            .await
            .expect("loopback has a free port");
        let address = listener.local_addr().expect("it is bound");
        let asked = Arc::new(Mutex::new(BTreeMap::<String, Vec<HeaderMap>>::new()));
        let (count, total) = watch::channel(0);
        let script: Arc<Script> = Arc::new(move |request| Box::pin(script(request)));
        let mut server = JoinSet::new();
        server.spawn(accept(
            listener,
            script,
            Arc::clone(&asked),
            Arc::new(count),
        ));
        Self {
            address,
            asked,
            total,
            _server: server,
        }
    }

    /// Answers every request with 200, these fields and this body, after `delay`.
    pub async fn fixed(
        delay: Duration,
        fields: &[(&'static str, &'static str)],
        body: &'static str,
    ) -> Self {
        let fields = fields.to_vec();
        Self::start(move |_| {
            let fields = fields.clone();
            async move {
                tokio::time::sleep(delay).await;
                response(200, &fields, body)
            }
        })
        .await
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The URL of a path that begins with `/`.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Requests for a path so far.
    pub fn count(&self, path: &str) -> usize {
        self.requests(path).len()
    }

    /// The fields of each request for a path, in order.
    pub fn requests(&self, path: &str) -> Vec<HeaderMap> {
        self.asked
            .lock()
            .expect("no test panics in here")
            .get(path)
            .cloned()
            .unwrap_or_default()
    }

    /// Requests so far, of whatever path.
    pub fn total(&self) -> usize {
        *self.total.borrow()
    }

    /// The same, for somebody who looks later.
    pub fn watch_total(&self) -> impl Fn() -> usize + Send + 'static {
        let total = self.total.clone();
        move || *total.borrow()
    }

    /// Waits until `n` requests, of whatever path, have come.
    pub async fn asked(&self, n: usize) {
        let mut total = self.total.clone();
        total
            .wait_for(|total| *total >= n)
            .await
            .expect("the origin runs");
    }
}

async fn accept(
    listener: TcpListener,
    script: Arc<Script>,
    asked: Arc<Mutex<BTreeMap<String, Vec<HeaderMap>>>>,
    count: Arc<watch::Sender<usize>>,
) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            continue;
        };
        let (script, asked, count) = (Arc::clone(&script), Arc::clone(&asked), Arc::clone(&count));
        let service = service_fn(move |request: Request<Incoming>| {
            let path = request
                .uri()
                .path_and_query()
                .map_or("/", |path| path.as_str())
                .to_owned();
            asked
                .lock()
                .expect("no test panics in here")
                .entry(path)
                .or_default()
                .push(request.headers().clone());
            count.send_modify(|count| *count += 1);
            let answer = script(request);
            async move { Ok::<_, Infallible>(answer.await) }
        });
        connections.spawn(async move {
            let _ended = http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
        while connections.try_join_next().is_some() {}
    }
}

/// A response of one piece.
pub fn response(
    status: u16,
    fields: &[(&'static str, &'static str)],
    body: &'static str,
) -> Response<Body> {
    let mut response = Response::new(whole(body));
    *response.status_mut() = status.try_into().expect("a status");
    for (name, value) in fields {
        response
            .headers_mut()
            .append(*name, value.parse().expect("a field value"));
    }
    response
}

/// A body that is there.
pub fn whole(text: impl Into<Bytes>) -> Body {
    Full::new(text.into())
        .map_err(|never| match never {})
        .boxed()
}

/// A body of `chunks` pieces of `size` bytes, made as it is read. `cut`: a moment later the
/// connection breaks, in place of the body's end.
pub fn stream(chunks: u64, size: usize, cut: bool) -> Body {
    let piece = Bytes::from(vec![b'x'; size]);
    let frames = (0..chunks).map(move |_| Ok(Frame::data(piece.clone())));
    let end = async move {
        // Long enough for the pieces before it to leave the server's buffer.
        tokio::time::sleep(Duration::from_millis(100)).await;
        Err(std::io::Error::other("cut"))
    };
    let end = futures_util::stream::iter(cut.then_some(end)).then(|end| end);
    BodyExt::boxed(StreamBody::new(
        futures_util::stream::iter(frames).chain(end),
    ))
}
