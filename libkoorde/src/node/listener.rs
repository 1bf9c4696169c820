//! The accept loop for peers: HTTP/2 only, a bound on connections, and keep-alive pings.

use std::{sync::Arc, time::Duration};

use hyper::server::conn::http2;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{net::TcpListener, sync::Semaphore, time};

use super::{
    service::{PeerService, log_refused},
    tasks::Tasks,
};

/// Requests at once on one peer's connection: a peer's clients may all ask for different keys.
const MAX_STREAMS: u32 = 4096;
/// Bytes of one stream that wait here at most. The connection's window is a multiple: where one
/// stream could fill it, one put whose readers are slow would hold up all that the peer asks.
const STREAM_WINDOW: u32 = 1 << 20;
const KEEPALIVE: Duration = Duration::from_secs(10);
/// A peer speaks first, and at once.
const FIRST_BYTE: Duration = Duration::from_secs(5);

/// Accepts peers until the node stops.
pub(crate) async fn serve(
    listener: TcpListener,
    service: PeerService,
    max_connections: usize,
    tasks: Tasks,
) {
    let permits = Arc::new(Semaphore::new(max_connections));
    let closing = tasks.closing();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = closing.cancelled() => return,
        };
        let (stream, from) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors, most likely: without a pause this would spin.
                tracing::warn!(%error, "Can't accept a peer's connection.");
                time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let Ok(permit) = Arc::clone(&permits).try_acquire_owned() else {
            log_refused(from);
            continue;
        };
        // Messages are small and answers are waited for.
        let _ = stream.set_nodelay(true);
        let service = TowerToHyperService::new(service.clone());
        let closing = closing.clone();
        tasks.spawn_connection(async move {
            let _permit = permit;
            // hyper waits for the first byte as long as it takes; silent connections would use up
            // the bound.
            tokio::select! {
                speaks = time::timeout(FIRST_BYTE, stream.readable()) => if speaks.is_err() { return },
                () = closing.cancelled() => return,
            }
            let connection = builder().serve_connection(TokioIo::new(stream), service);
            tokio::pin!(connection);
            tokio::select! {
                // How a connection ends is seen by its requests.
                _ended = &mut connection => return,
                () = closing.cancelled() => connection.as_mut().graceful_shutdown(),
            }
            let _ended = connection.await;
        });
    }
}

fn builder() -> http2::Builder<TokioExecutor> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(16 * STREAM_WINDOW)
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(64 << 10);
    builder
}
