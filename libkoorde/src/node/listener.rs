//! The accept loop for peers: HTTP/2 only, a bound on connections, and keep-alive pings.

use std::{sync::Arc, time::Duration};

use hyper::server::conn::http2;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{net::TcpListener, sync::Semaphore};

use super::{
    service::{PeerService, log_refused},
    tasks::Tasks,
};

/// Requests at once on one peer's connection: a peer's clients may all ask for different keys.
const MAX_STREAMS: u32 = 4096;

/// Accepts peers until the node stops.
pub(crate) async fn serve(
    listener: TcpListener,
    service: PeerService,
    max_connections: usize,
    tasks: Tasks,
) {
    let permits = Arc::new(Semaphore::new(max_connections));
    loop {
        let (stream, from) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors, most likely: without a pause this would spin.
                tracing::warn!(%error, "Can't accept a peer's connection.");
                tokio::time::sleep(Duration::from_millis(100)).await;
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
        tasks.spawn(async move {
            let mut builder = http2::Builder::new(TokioExecutor::new());
            builder
                .timer(TokioTimer::new())
                .keep_alive_interval(Duration::from_secs(10))
                .keep_alive_timeout(Duration::from_secs(10))
                .max_concurrent_streams(MAX_STREAMS)
                .max_header_list_size(64 << 10);
            // How a connection ends is seen by its requests.
            let _ended = builder
                .serve_connection(TokioIo::new(stream), service)
                .await;
            drop(permit);
        });
    }
}
