//! Connections of which nothing is read: CONNECT (RFC 9110 §9.3.6), behind the same guard as all
//! others.

use http::{Uri, uri::Authority};
use tokio::{net::TcpStream, time};

use super::{
    Node,
    connector::{connect, denied},
    origin::chain,
};
use crate::{
    error::FetchError,
    metrics::{OTHER, count},
};

impl Node {
    /// A connection to `host:port`, judged by the egress guard, within `origin.connect_timeout`.
    /// What is sent through it is neither looked at nor stored.
    ///
    /// # Errors
    /// A refusal of the guard, or no connection.
    pub async fn connect(&self, authority: &Authority) -> Result<TcpStream, FetchError> {
        let inner = &self.inner;
        let count_error = |kind| inner.metrics.origin_errors.of(&[OTHER, kind]).inc();
        let uri = Uri::from(authority.clone());
        let timeout = inner.config.origin.connect_timeout;
        let guard = inner.own.guard().unwrap_or(&inner.guard);
        let Ok(connected) = time::timeout(timeout, connect(guard, &inner.resolver, &uri)).await
        else {
            count_error("timeout");
            let millis = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
            return Err(FetchError::OriginTimeout(millis));
        };
        connected.map_err(|error| match denied(&*error) {
            Some(denied) => {
                count_error("denied");
                count(&inner.metrics.origin_denied, denied.reason);
                FetchError::Denied {
                    reason: denied.reason,
                    target: denied.target.clone(),
                }
            }
            None => {
                count_error("connect");
                FetchError::Origin(chain(&*error))
            }
        })
    }
}
