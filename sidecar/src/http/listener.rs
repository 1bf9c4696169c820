//! A bound socket, and the loop that accepts from it.

use std::{convert::Infallible, io, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::Incoming;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;
use tower::Service;
use tracing::{debug, info, warn};

use super::{
    admission::Admission,
    connection::{self, Shared},
    metrics::{Closed, HttpMetrics, ListenerName},
    tls,
};
use crate::{settings::HttpSettings, shutdown::Phase};

/// How long nothing is accepted after the system refused to: file descriptors are at their limit,
/// and asking again at once would only burn a core.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A bound socket that does not accept yet.
pub struct Listener {
    name: ListenerName,
    socket: TcpListener,
    address: SocketAddr,
    settings: HttpSettings,
    tls: Option<TlsAcceptor>,
    metrics: Arc<HttpMetrics>,
}

impl Listener {
    /// Binds `settings.listen` and reads the TLS files, if any.
    ///
    /// # Errors
    /// The address cannot be bound, or a TLS file cannot be used.
    pub async fn bind(
        name: ListenerName,
        settings: &HttpSettings,
        metrics: &Arc<HttpMetrics>,
    ) -> Result<Self, ListenError> {
        let wanted = settings.listen;
        let bind = |source| ListenError::Bind {
            name,
            address: wanted,
            source,
        };
        let tls = tls::acceptor(&settings.tls)?;
        let socket = TcpListener::bind(wanted).await.map_err(bind)?;
        let address = socket.local_addr().map_err(bind)?;
        info!(listener = name.as_str(), %address, tls = tls.is_some(), "Listening.");
        Ok(Self {
            name,
            socket,
            address,
            settings: settings.clone(),
            tls,
            metrics: Arc::clone(metrics),
        })
    }

    /// Speaks TLS with this in place of the files of its settings.
    #[must_use]
    pub fn secured(mut self, tls: TlsAcceptor) -> Self {
        self.tls = Some(tls);
        self
    }

    /// The address that was bound, with the port the system chose if that was 0.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves connections until `phase` says [`Phase::Stopping`], then closes the socket, lets what
    /// is under way finish for at most `finish`, and cuts off the rest.
    ///
    /// While [`Phase::Draining`] everything is served, and every answer asks the client to come
    /// back elsewhere (`Connection: close`, GOAWAY).
    pub async fn serve<S, B>(self, service: S, phase: watch::Receiver<Phase>, finish: Duration)
    where
        S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
        S: Clone + Send + Sync + 'static,
        S::Future: Send + 'static,
        B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let name = self.name;
        let shared = Arc::new(Shared {
            name,
            service,
            settings: self.settings,
            tls: self.tls,
            metrics: self.metrics,
            phase: phase.clone(),
        });
        let admission = Admission::new(
            shared.settings.max_connections,
            shared.settings.max_connections_per_client,
        );
        let mut connections = JoinSet::new();
        let mut stop = phase;
        loop {
            let (stream, client) = tokio::select! {
                biased;
                // The sender is gone only with the whole process; that ends serving, too.
                _ = stop.wait_for(|phase| *phase == Phase::Stopping) => break,
                Some(_) = connections.join_next(), if !connections.is_empty() => continue,
                accepted = accept(&self.socket, name) => match accepted {
                    Some(accepted) => accepted,
                    None => continue,
                },
            };
            match admission.admit(client.ip()) {
                Ok(admitted) => {
                    let shared = Arc::clone(&shared);
                    connections.spawn(connection::serve(stream, client, shared, admitted));
                }
                // Dropped, so closed, at once: an answer would cost what the bound is to save.
                Err(refused) => shared.metrics.closed(name, Closed::Refused(refused)),
            }
        }
        drop(self.socket);
        let all = async { while connections.join_next().await.is_some() {} };
        if tokio::time::timeout(finish, all).await.is_err() {
            warn!(
                listener = name.as_str(),
                left = connections.len(),
                "Cutting off connections."
            );
        }
        connections.shutdown().await;
    }
}

/// The next connection; none after a failure, which was waited out.
async fn accept(socket: &TcpListener, name: ListenerName) -> Option<(TcpStream, SocketAddr)> {
    match socket.accept().await {
        Ok(accepted) => Some(accepted),
        // The client was gone before we got to it.
        Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => None,
        Err(error) => {
            debug!(listener = name.as_str(), %error, "Cannot accept; pausing.");
            tokio::time::sleep(ACCEPT_PAUSE).await;
            None
        }
    }
}

/// Why a listener could not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ListenError {
    /// The address cannot be bound.
    #[error("{}.listen = {address}: {source}", name.as_str())]
    Bind {
        /// Which listener.
        name: ListenerName,
        /// The address asked for.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// A TLS file cannot be used.
    #[error("{key} = {path}: {reason}")]
    Tls {
        /// `http.tls.cert` or `http.tls.key`.
        key: &'static str,
        /// The file.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
}
