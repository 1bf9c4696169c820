//! What is asked of an inner service, and how it is asked once more.

use std::future::poll_fn;

use bytes::Bytes;
use http::{Request, Response};
use tower_service::Service;

use crate::BodyError;

/// A name for bounds, nothing else.
pub(crate) trait Inner<B, R>:
    Service<Request<B>, Response = Response<R>, Error: Send, Future: Send> + Clone + Send + 'static
where
    B: http_body::Body + Default + Send,
    R: http_body::Body<Data = Bytes, Error: Into<BodyError>> + Send + 'static,
{
}

impl<S, B, R> Inner<B, R> for S
where
    S: Service<Request<B>, Response = Response<R>, Error: Send, Future: Send>
        + Clone
        + Send
        + 'static,
    B: http_body::Body + Default + Send,
    R: http_body::Body<Data = Bytes, Error: Into<BodyError>> + Send + 'static,
{
}

/// Waits until the service is ready.
pub(crate) async fn ready<S, Q>(service: &mut S) -> Result<(), S::Error>
where
    S: Service<Q>,
{
    poll_fn(|context| service.poll_ready(context)).await
}

/// Asks the service as soon as it is ready.
pub(crate) async fn ask<S, Q>(service: &mut S, request: Q) -> Result<S::Response, S::Error>
where
    S: Service<Q>,
{
    ready(service).await?;
    service.call(request).await
}
