//! One connection, from its first byte to its last.

use std::{
    convert::Infallible,
    net::{IpAddr, SocketAddr},
    pin::pin,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, Version, header};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    sync::watch,
};
use tokio_rustls::TlsAcceptor;
use tower::{Service, ServiceExt};
use tracing::debug;

use super::{
    activity::{Activity, Reason, Verdict},
    admission::Admitted,
    body::Tracked,
    interim::{Interims, Slot},
    metered::Metered,
    metrics::{Closed, HttpMetrics, ListenerName},
    tunnel::TunnelSlot,
};
use crate::{settings::HttpSettings, shutdown::Phase};

/// How long an idle connection may take to close in order.
const GOODBYE: Duration = Duration::from_secs(1);

/// Where a request's connection comes from; an extension of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ClientAddress(pub(crate) IpAddr);

/// What all connections of a listener have in common.
pub(super) struct Shared<S> {
    pub(super) name: ListenerName,
    pub(super) service: S,
    pub(super) settings: HttpSettings,
    pub(super) tls: Option<TlsAcceptor>,
    pub(super) metrics: Arc<HttpMetrics>,
    pub(super) phase: watch::Receiver<Phase>,
}

/// Serves a connection to its end, whatever ends it, and counts that.
pub(super) async fn serve<S, B>(
    stream: TcpStream,
    client: SocketAddr,
    shared: Arc<Shared<S>>,
    // Held to the end: the connection's place among all.
    _admitted: Admitted,
) where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
    S: Clone + Send + Sync + 'static,
    S::Future: Send + 'static,
    B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let _open = shared.metrics.open(shared.name);
    // Answers are small and written whole; waiting for more to send would only delay them.
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%client, %error, "The connection was gone at once.");
    }
    let closed = match &shared.tls {
        None => http(stream, client, &shared).await,
        Some(tls) => {
            let limit = shared.settings.tls.handshake_timeout;
            match tokio::time::timeout(limit, tls.accept(stream)).await {
                Ok(Ok(stream)) => http(stream, client, &shared).await,
                Ok(Err(error)) => {
                    debug!(%client, %error, "TLS handshake failed.");
                    Closed::Handshake
                }
                Err(_) => Closed::Handshake,
            }
        }
    };
    shared.metrics.closed(shared.name, closed);
}

/// HTTP/1.1 or HTTP/2, whichever the client speaks, under the watchdog.
async fn http<IO, S, B>(io: IO, client: SocketAddr, shared: &Shared<S>) -> Closed
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
    S: Clone + Send + Sync + 'static,
    S::Future: Send + 'static,
    B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let activity = Activity::new();
    let (interims, tunnel) = (Arc::new(Slot::default()), TunnelSlot::default());
    let metered = Metered::new(io, Arc::clone(&activity));
    let io = TokioIo::new(Interims::new(metered, Arc::clone(&interims)));
    let service = service_fn(|mut request: Request<Incoming>| {
        let http2 = request.version() == Version::HTTP_2;
        let exchange = activity.begin(http2);
        let interim = interims.open(request.version());
        // What only a connection can do for its requests.
        if let Some(interim) = interim.clone() {
            request.extensions_mut().insert(interim);
        }
        request.extensions_mut().insert(tunnel.clone());
        request.extensions_mut().insert(ClientAddress(client.ip()));
        let answer = shared.service.clone().oneshot(request);
        let phase = shared.phase.clone();
        async move {
            let mut response = answer.await?;
            if let Some(interim) = interim {
                interim.close();
            }
            // HTTP/2 knows no such field; there it is GOAWAY, sent when the phase changes.
            if !http2 && *phase.borrow() != Phase::Serving {
                let close = HeaderValue::from_static("close");
                response.headers_mut().insert(header::CONNECTION, close);
            }
            Ok::<_, Infallible>(response.map(|body| Tracked::new(body, exchange)))
        }
    });
    let builder = builder(&shared.settings);
    let mut connection = pin!(builder.serve_connection_with_upgrades(io, service));
    let mut phase = shared.phase.clone();
    loop {
        let pause = match activity.verdict(&shared.settings) {
            Verdict::Wait(pause) => pause,
            Verdict::Retire(pause) => {
                connection.as_mut().graceful_shutdown();
                pause
            }
            Verdict::Close(reason) => {
                if reason == Reason::Idle {
                    // A request may be on its way: GOAWAY tells its sender that it was not served.
                    connection.as_mut().graceful_shutdown();
                    let _ = tokio::time::timeout(GOODBYE, connection).await;
                }
                return Closed::Bound(reason);
            }
        };
        tokio::select! {
            ended = connection.as_mut() => return match (ended, tunnel.take()) {
                (Ok(()), Some(tunnel)) => {
                    interims.becomes_tunnel();
                    tunnel.run(shared.settings.idle_timeout).await
                }
                (Ok(()), None) => Closed::Done,
                (Err(_), _) => Closed::Broken,
            },
            () = tokio::time::sleep(pause) => {}
            Ok(()) = phase.changed() => match *phase.borrow_and_update() {
                Phase::Serving => {}
                // Closing idle HTTP/1.1 connections now would break requests that are on their way.
                Phase::Draining => if activity.is_http2() { connection.as_mut().graceful_shutdown() },
                Phase::Stopping => connection.as_mut().graceful_shutdown(),
            },
        }
    }
}

/// Bytes of one upload that wait here at most. A connection's window is a multiple: where one stream
/// could fill it, one whose reader is slow would hold up all the others.
const STREAM_WINDOW: u32 = 256 << 10;

fn builder(settings: &HttpSettings) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    let head = settings.max_header_bytes;
    // hyper's own timer runs for idle connections, too, so it gets the sum: a second safety belt.
    let backstop = settings.first_byte_timeout.max(settings.idle_timeout) + settings.header_timeout;
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(backstop)
        .max_buf_size(head.len())
        .max_headers(100);
    builder
        .http2()
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(16 * STREAM_WINDOW)
        .max_concurrent_streams(settings.max_streams)
        .max_header_list_size(u32::try_from(head.0).unwrap_or(u32::MAX))
        // Streams that were reset cost as much as open ones (rapid reset).
        .max_pending_accept_reset_streams(20)
        .max_local_error_reset_streams(100)
        .max_send_buf_size(64 << 10);
    builder
}
