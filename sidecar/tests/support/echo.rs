//! An origin that can do more than answer, and a client that says exactly what it is told to.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::{Answer, SOON};

/// What an origin was asked.
#[derive(Clone, Debug)]
pub struct Seen {
    pub method: Method,
    pub what: String,
    pub fields: HeaderMap,
    pub body: Bytes,
}

/// An origin: `/echo…` sends the body back, `/status/N` that status, `/lines` several lines of one
/// field, `/type/T/S` that type; anything else its own path and query, fresh for a minute.
pub struct Echo {
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Echo {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let seen = Arc::new(Mutex::new(Vec::new()));
        let record = Arc::clone(&seen);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let record = Arc::clone(&record);
                let service = service_fn(move |request: Request<Incoming>| {
                    let record = Arc::clone(&record);
                    async move {
                        let (head, body) = request.into_parts();
                        let Ok(body) = body.collect().await else {
                            // Broken off: not a request.
                            return Ok(Response::default());
                        };
                        let seen = Seen {
                            method: head.method,
                            what: head.uri.to_string(),
                            fields: head.headers,
                            body: body.to_bytes(),
                        };
                        let response = respond(&seen);
                        record.lock().expect("no test panics in here").push(seen);
                        Ok::<_, Infallible>(response)
                    }
                });
                let io = TokioIo::new(stream);
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new().serve_connection(io, service),
                );
            }
        });
        Self { address, seen }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Every request so far that came whole.
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().expect("no test panics in here").clone()
    }

    /// Method and path of every request so far.
    pub fn asked(&self) -> Vec<String> {
        let seen = self.seen();
        let line = |seen: &Seen| format!("{} {}", seen.method, seen.what);
        seen.iter().map(line).collect()
    }
}

fn respond(seen: &Seen) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(seen.what.clone())));
    let fields = response.headers_mut();
    fields.insert(
        "x-method",
        HeaderValue::from_str(seen.method.as_str()).expect("a token"),
    );
    fields.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    fields.insert(
        header::CACHE_CONTROL,
        HeaderValue::from_static("max-age=60"),
    );
    let path = seen.what.split('?').next().unwrap_or_default();
    if path.starts_with("/echo") {
        *response.body_mut() = Full::new(seen.body.clone());
    } else if let Some(status) = path.strip_prefix("/status/") {
        *response.status_mut() = status.parse().expect("the test asks for a status");
    } else if path == "/lines" {
        let fields = response.headers_mut();
        for line in ["a, b", "c"] {
            fields.append("x-lines", HeaderValue::from_static(line));
        }
        fields.append(header::LINK, HeaderValue::from_static("</a>; rel=x"));
        fields.append(header::LINK, HeaderValue::from_static("</b>; rel=y"));
    } else if path == "/moved" {
        let fields = response.headers_mut();
        fields.insert(header::LOCATION, HeaderValue::from_static("/there?x#y"));
        fields.insert(header::CONTENT_LOCATION, HeaderValue::from_static("here"));
    } else if let Some(kind) = path.strip_prefix("/type/") {
        let kind = HeaderValue::from_str(kind).expect("the test asks for a type");
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
    } else if path == "/untyped" {
        response.headers_mut().remove(header::CONTENT_TYPE);
    }
    response
}

/// A request of HTTP/1.1 whose target goes out as it is: a path, a URL, `*`, `host:port`.
pub fn request(method: &str, target: &str, host: &str) -> http::request::Builder {
    Request::builder()
        .method(method)
        .uri(target)
        .header(header::HOST, host)
}

/// Sends one request on a connection of its own and takes the whole answer.
pub async fn ask(address: SocketAddr, request: Request<Full<Bytes>>) -> Answer {
    let io = TokioIo::new(TcpStream::connect(address).await.expect("it listens"));
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io)
        .await
        .expect("HTTP/1");
    tokio::spawn(connection);
    whole(sender.send_request(request)).await
}

/// The same over HTTP/2 in clear.
pub async fn ask_h2(address: SocketAddr, request: Request<Full<Bytes>>) -> Answer {
    let io = TokioIo::new(TcpStream::connect(address).await.expect("it listens"));
    let executor = TokioExecutor::new();
    let handshake = hyper::client::conn::http2::handshake(executor, io).await;
    let (mut sender, connection) = handshake.expect("HTTP/2");
    tokio::spawn(connection);
    whole(sender.send_request(request)).await
}

async fn whole(answer: impl Future<Output = hyper::Result<Response<Incoming>>>) -> Answer {
    let answer = tokio::time::timeout(SOON, answer)
        .await
        .expect("an answer in time");
    let (head, body) = answer.expect("an answer").into_parts();
    let body = body.collect().await.expect("a whole body").to_bytes();
    Answer {
        status: head.status,
        fields: head.headers,
        body: String::from_utf8_lossy(&body).into_owned(),
    }
}

/// A body of nothing.
pub fn nothing() -> Full<Bytes> {
    Full::default()
}

/// Writes bytes and reads until the other side closes, or says nothing for `quiet` milliseconds.
pub async fn exchange(address: SocketAddr, bytes: &[u8], quiet: u64) -> (String, bool) {
    let mut stream = TcpStream::connect(address).await.expect("it listens");
    // Whoever refuses early may close before all is written.
    let _ = stream.write_all(bytes).await;
    let (mut all, mut buffer) = (Vec::new(), [0; 4096]);
    let quiet = std::time::Duration::from_millis(quiet);
    let closed = loop {
        match tokio::time::timeout(quiet, stream.read(&mut buffer)).await {
            Ok(Ok(0) | Err(_)) => break true,
            Ok(Ok(count)) => all.extend_from_slice(&buffer[..count]),
            Err(_) => break false,
        }
    };
    (String::from_utf8_lossy(&all).into_owned(), closed)
}

/// What a status is in an assertion.
pub fn status(code: u16) -> StatusCode {
    StatusCode::from_u16(code).expect("a status")
}
