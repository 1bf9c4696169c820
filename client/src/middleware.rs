//! koorde as a middleware of reqwest-middleware's clients.

use http::{Extensions, Method, Request, Response};
use reqwest::{Body as ReqwestBody, Client, ResponseBuilderExt, Url};
use reqwest_middleware::{Middleware, Next, Result};
use tower_layer::Layer;
use tower_service::Service;

use crate::{Body, Koorde, KoordeLayer, ReqwestService, invalidate, reqwest_service::CameFrom};

/// koorde as a middleware. Put it last: for what koorde answers, the middlewares behind it are not
/// asked. What is said of redirects, proxies and cookies at [`ReqwestService`] holds here, too.
///
/// [`OnlyIfCached`](crate::OnlyIfCached), [`NoStore`](crate::NoStore) and
/// [`Lifetime`](crate::Lifetime) are extensions of the request (`with_extension`).
///
/// ```
/// use koorde_client::{KoordeLayer, KoordeMiddleware};
///
/// let client = reqwest::Client::new();
/// let koorde = KoordeMiddleware::new(&KoordeLayer::from_env(), client.clone());
/// let client = reqwest_middleware::ClientBuilder::new(client).with(koorde).build();
/// # let _ = client;
/// ```
#[derive(Clone, Debug)]
pub struct KoordeMiddleware {
    service: Koorde<ReqwestService>,
}

impl KoordeMiddleware {
    /// Before this client: the one that the chain ends in.
    #[must_use]
    pub fn new(layer: &KoordeLayer, client: Client) -> Self {
        let service = layer.layer(ReqwestService::new(client));
        Self { service }
    }

    /// For purges and for warming.
    pub fn service(&self) -> &Koorde<ReqwestService> {
        &self.service
    }

    /// Through koorde.
    async fn fetch(&self, request: Request<ReqwestBody>, asked: Url) -> Result<reqwest::Response> {
        // A reqwest client is always ready.
        let response = self.service.clone().call(request).await?;
        Ok(self.reqwests(response, asked))
    }

    fn reqwests(&self, response: Response<Body<ReqwestBody>>, asked: Url) -> reqwest::Response {
        let (mut head, body) = response.into_parts();
        let from = head.extensions.remove::<CameFrom>();
        let from = from.map(|CameFrom(url)| url);
        let url = from.filter(|url| !self.is_sidecars(url)).unwrap_or(asked);
        let answer = Response::builder().url(url);
        let answer = answer.status(head.status).version(head.version);
        let mut answer = answer
            .body(ReqwestBody::wrap(body))
            .expect("all parts were taken from a response");
        *answer.headers_mut() = head.headers;
        answer.extensions_mut().extend(head.extensions);
        reqwest::Response::from(answer)
    }

    fn is_sidecars(&self, url: &Url) -> bool {
        let endpoint = self.service.shared().endpoint.as_ref();
        let authority = url.authority().parse().ok();
        endpoint
            .zip(authority)
            .is_some_and(|(endpoint, authority)| endpoint.is_at(&authority))
    }
}

#[async_trait::async_trait]
impl Middleware for KoordeMiddleware {
    async fn handle(
        &self,
        request: reqwest::Request,
        extensions: &mut Extensions,
        next: Next<'_>,
    ) -> Result<reqwest::Response> {
        let asked = request.url().clone();
        let is_readable = [Method::GET, Method::HEAD].contains(request.method());
        if is_readable && request.body().is_none() {
            let mut request = Request::<ReqwestBody>::try_from(request)?;
            request.extensions_mut().extend(extensions.clone());
            let (parts, body) = request.into_parts();
            if self.service.takes(&parts) {
                return self.fetch(Request::from_parts(parts, body), asked).await;
            }
            let request = reqwest::Request::try_from(Request::from_parts(parts, body))?;
            return next.run(request, extensions).await;
        }
        let change = self.service.change(&request, extensions);
        let response = next.run(request, extensions).await?;
        if let Some(change) = change {
            let urls = change.made_by(response.status(), response.headers());
            let (service, shared) = (self.service.get_ref().clone(), self.service.shared());
            invalidate::after::<_, ReqwestBody, _>(service, shared, &urls).await;
        }
        Ok(response)
    }
}

impl Koorde<ReqwestService> {
    /// What a request may change.
    fn change(
        &self,
        request: &reqwest::Request,
        extensions: &Extensions,
    ) -> Option<invalidate::Change> {
        let (mut parts, ()) = Request::new(()).into_parts();
        parts.method = request.method().clone();
        parts.uri = request.url().as_str().parse().ok()?;
        parts.headers = request.headers().clone();
        parts.extensions = extensions.clone();
        self.changes(&parts)
    }
}
