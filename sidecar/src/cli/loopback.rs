//! A small HTTP/1.1 server on loopback: the demo origin, the origin of `bench`, the fake nodes of
//! tests.

use std::{convert::Infallible, io, net::SocketAddr};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, combinators::BoxBody};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

/// A body; an error ends the connection in the middle of it.
pub(crate) type Body = BoxBody<Bytes, io::Error>;

/// More connections than this wait in the system's queue.
const MAX_CONNECTIONS: usize = 4096;

/// `inner` as a body of this server.
pub(crate) fn body<B>(inner: B) -> Body
where
    B: http_body::Body<Data = Bytes, Error = Infallible> + Send + Sync + 'static,
{
    inner.map_err(|never| match never {}).boxed()
}

/// A running server; dropped, it and its connections end.
#[derive(Debug)]
pub(crate) struct Loopback {
    address: SocketAddr,
    /// The one that accepts, which owns the connections; a set ends its tasks when dropped.
    _accept: JoinSet<()>,
}

impl Loopback {
    /// Serves `handler` on 127.0.0.1, port `port`, or a free one if that is 0.
    pub(crate) async fn start<H, F>(port: u16, handler: H) -> io::Result<Self>
    where
        H: Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Response<Body>> + Send + 'static,
    {
        let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], port))).await?;
        let address = listener.local_addr()?;
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, handler));
        Ok(Self {
            address,
            _accept: tasks,
        })
    }

    /// As [`Loopback::start`], but on a free port if `port` is taken.
    pub(crate) async fn start_near<H, F>(port: u16, handler: H) -> io::Result<Self>
    where
        H: Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Response<Body>> + Send + 'static,
    {
        match Self::start(port, handler.clone()).await {
            Ok(server) => Ok(server),
            Err(_) => Self::start(0, handler).await,
        }
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

/// Accepts until aborted. The connections live in its set, so they end with it.
async fn accept<H, F>(listener: TcpListener, handler: H)
where
    H: Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        if connections.len() >= MAX_CONNECTIONS {
            connections.join_next().await;
        }
        match listener.accept().await {
            Ok((stream, _)) => {
                connections.spawn(connection(stream, handler.clone()));
            }
            // Out of descriptors, mostly: one connection less is what helps.
            Err(error) => {
                tracing::debug!(%error, "A connection could not be accepted.");
                if connections.join_next().await.is_none() {
                    return;
                }
            }
        }
    }
}

async fn connection<H, F>(stream: TcpStream, handler: H)
where
    H: Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    // Without it, Nagle's algorithm adds its 40 ms to what we measure.
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| {
        let response = handler(request);
        async move { Ok::<_, Infallible>(response.await) }
    });
    // A peer that leaves in the middle is not this server's trouble.
    let _ = http1::Builder::new()
        .timer(TokioTimer::new())
        .serve_connection(TokioIo::new(stream), service)
        .await;
}
