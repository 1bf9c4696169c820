//! reqwest's client as a service of the http crate's types.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use http::{Request, Response};
use reqwest::{Body, Client};
use tower_service::Service;

/// A `reqwest::Client` as a service of `http::Request` and `http::Response`, for a layer to stand
/// before; reqwest's own service is of its own types.
///
/// Let the client follow no redirects (`redirect::Policy::none()`) and put tower-http's
/// `FollowRedirect` before the layer: then each hop goes through koorde. A client that follows them
/// itself goes to the origin for all hops but the first, and for what it takes for another host, as
/// it does coming from the sidecar's address, it leaves out Authorization and Cookie. Nor should the
/// client have a proxy for the sidecar's address, or a cookie store: it would keep the cookies of all
/// sites as the sidecar's.
///
/// ```
/// use koorde_client::{KoordeLayer, ReqwestService};
/// use tower::{Layer, ServiceExt};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let client = reqwest::Client::builder()
///     .redirect(reqwest::redirect::Policy::none())
///     .build()?;
/// let client = KoordeLayer::from_env().layer(ReqwestService::new(client));
///
/// # if false {
/// let request = http::Request::get("https://a.example/").body(reqwest::Body::default())?;
/// let response = client.oneshot(request).await?;
/// # let _ = response;
/// # }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct ReqwestService(Client);

/// Where a response came from, redirects followed.
#[cfg(feature = "reqwest-middleware")]
#[derive(Clone, Debug)]
pub(crate) struct CameFrom(pub(crate) reqwest::Url);

impl ReqwestService {
    /// Of a client.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self(client)
    }
}

type Answer = Result<Response<Body>, reqwest::Error>;

impl Service<Request<Body>> for ReqwestService {
    type Response = Response<Body>;
    type Error = reqwest::Error;
    type Future = Pin<Box<dyn Future<Output = Answer> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Service::<reqwest::Request>::poll_ready(&mut self.0, context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let answer = reqwest::Request::try_from(request).map(|request| self.0.call(request));
        Box::pin(async move {
            let response = answer?.await?;
            #[cfg(feature = "reqwest-middleware")]
            let from = CameFrom(response.url().clone());
            let response = Response::<Body>::from(response);
            #[cfg(feature = "reqwest-middleware")]
            let response = {
                let mut response = response;
                response.extensions_mut().insert(from);
                response
            };
            Ok(response)
        })
    }
}
