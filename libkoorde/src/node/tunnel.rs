//! Connections of which nothing is read: CONNECT (RFC 9110 §9.3.6), behind the same guard as all
//! others.

use http::{Uri, uri::Authority};
use tokio::{net::TcpStream, time};

use super::{
    Node,
    connector::{ConnectTimeout, connect},
    origin::NoAnswer,
};
use crate::{error::FetchError, metrics::OTHER};

impl Node {
    /// A connection to `host:port`, judged by the egress guard, within `origin.connect_timeout`.
    /// What is sent through it is neither looked at nor stored.
    ///
    /// # Errors
    /// A refusal of the guard, or no connection.
    pub async fn connect(&self, authority: &Authority) -> Result<TcpStream, FetchError> {
        let inner = &self.inner;
        let uri = Uri::from(authority.clone());
        let timeout = inner.config.origin.connect_timeout;
        let guard = inner.own.guard().unwrap_or(&inner.guard);
        inner.metrics.origin_requests.inc();
        let connecting = time::timeout(timeout, connect(guard, &inner.resolver, &uri));
        let connected = match connecting.await {
            Ok(connected) => connected,
            Err(_elapsed) => Err(ConnectTimeout(timeout).into()),
        };
        connected.map_err(|error| {
            let failure = NoAnswer::unconnected(&*error);
            failure.count(&inner.metrics, OTHER);
            inner.metrics.failed(&failure.error);
            failure.error
        })
    }
}
