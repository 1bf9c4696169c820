//! The service: which way each request goes.

#[cfg(feature = "look-aside")]
use std::borrow::Cow;
use std::{
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Request, Response, Uri, request::Parts};
use tower_service::Service;

#[cfg(feature = "embedded")]
use crate::aside::Asking;
use crate::{
    Body, BodyError, Reason, ResponseFuture, delegate,
    inner::Inner,
    invalidate::{self, Change},
    layer::Shared,
    policy::{self, only_if_cached},
};

/// A service whose GET and HEAD requests koorde answers, and the inner service where koorde can't;
/// everything else goes straight to the inner service. Made by [`KoordeLayer`](crate::KoordeLayer).
#[derive(Clone, Debug)]
pub struct Koorde<S> {
    inner: S,
    shared: Arc<Shared>,
}

/// Where a request goes.
enum Way {
    /// To the inner service, and nowhere else.
    Past,
    /// To the inner service; then what is stored of its target is stale.
    Change(Change),
    /// To the sidecar, as this URI.
    Delegate(Uri),
    /// To the inner service, unless koorde has a response for this target; none: the request's URI.
    #[cfg(feature = "look-aside")]
    Aside(Arc<crate::aside::Aside>, Option<Uri>),
    /// Nowhere: there is no koorde to ask, and the origin may not be.
    NotStored,
}

impl<S> Koorde<S> {
    pub(crate) fn new(inner: S, shared: Arc<Shared>) -> Self {
        Self { inner, shared }
    }

    /// The inner service.
    pub fn get_ref(&self) -> &S {
        &self.inner
    }

    /// The inner service. What is asked of it directly goes past koorde.
    pub fn get_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// The inner service, without koorde.
    pub fn into_inner(self) -> S {
        self.inner
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Whether koorde has a part in reading this, which has no content.
    #[cfg(feature = "reqwest-middleware")]
    pub(crate) fn takes(&self, parts: &Parts) -> bool {
        !matches!(self.way(parts, false), Way::Past | Way::Change(_))
    }

    /// What this may change of what koorde has stored.
    #[cfg(feature = "reqwest-middleware")]
    pub(crate) fn changes(&self, parts: &Parts) -> Option<Change> {
        match self.way(parts, true) {
            Way::Change(change) => Some(change),
            _ => None,
        }
    }

    fn way(&self, parts: &Parts, has_body: bool) -> Way {
        let shared = &*self.shared;
        let Some(target) = shared.target(&parts.uri) else {
            return Way::Past;
        };
        if !shared.has_koorde() {
            let selected = only_if_cached(parts) && shared.policy.selects(parts, &target, has_body);
            return if selected { Way::NotStored } else { Way::Past };
        }
        if shared.policy.invalidates(parts, &target) {
            let name = shared.policy.name_of(parts);
            return Way::Change(Change::of(target.into_owned(), name));
        }
        if !shared.policy.selects(parts, &target, has_body) {
            return Way::Past;
        }
        #[cfg(feature = "look-aside")]
        if let Some(aside) = &shared.aside {
            let target = match target {
                Cow::Borrowed(_) => None,
                Cow::Owned(target) => Some(target),
            };
            return Way::Aside(Arc::clone(aside), target);
        }
        let endpoint = shared.endpoint.as_ref();
        let form = endpoint.and_then(|endpoint| endpoint.path_form(&target));
        form.map_or(Way::Past, Way::Delegate)
    }
}

impl<S, B, R> Service<Request<B>> for Koorde<S>
where
    S: Service<Request<B>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
    B: http_body::Body + Default + Send + 'static,
    R: http_body::Body<Data = Bytes> + Send + 'static,
    R::Error: Into<BodyError>,
{
    type Response = Response<Body<R>>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future, R, S::Error>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let has_body = !request.body().is_end_stream();
        let (parts, body) = request.into_parts();
        match self.way(&parts, has_body) {
            Way::Past => {
                let request = Request::from_parts(parts, body);
                ResponseFuture::bypass(self.inner.call(request))
            }
            Way::Change(change) => {
                let answer = self.inner.call(Request::from_parts(parts, body));
                let (spare, shared) = (self.inner.clone(), Arc::clone(&self.shared));
                ResponseFuture::koorde(async move {
                    let response = answer.await?;
                    let urls = change.made_by(response.status(), response.headers());
                    invalidate::after::<S, B, R>(spare, &shared, &urls).await;
                    Ok(response.map(Body::plain))
                })
            }
            Way::Delegate(uri) => self.delegate(parts, uri),
            #[cfg(feature = "look-aside")]
            Way::Aside(aside, target) => self.aside(aside, target, parts),
            Way::NotStored => self.not_stored(),
        }
    }
}

impl<S> Koorde<S> {
    /// Through the sidecar. The service that was made ready sends what is asked first; a clone, made
    /// ready again, what is asked in its place.
    fn delegate<B, R>(
        &mut self,
        mut parts: Parts,
        uri: Uri,
    ) -> ResponseFuture<S::Future, R, S::Error>
    where
        S: Inner<B, R, Error: 'static, Future: 'static>,
        B: http_body::Body + Default + Send + 'static,
        R: http_body::Body<Data = Bytes, Error: Into<BodyError>> + Send + 'static,
    {
        policy::strip(&mut parts.headers);
        let shared = Arc::clone(&self.shared);
        let Some(ticket) = shared.ask() else {
            return self.direct(parts);
        };
        let mut asked = delegate::to_sidecar(&parts, uri);
        policy::write(&shared.policy, &parts, &mut asked.headers);
        let first = self.inner.call(Request::from_parts(asked, B::default()));
        let spare = self.inner.clone();
        ResponseFuture::koorde(delegate::fetch::<S, B, R>(
            first, spare, shared, ticket, parts,
        ))
    }

    /// With koorde beside. The service that was made ready is kept for the request itself.
    #[cfg(feature = "look-aside")]
    fn aside<B, R>(
        &mut self,
        aside: Arc<crate::aside::Aside>,
        target: Option<Uri>,
        mut parts: Parts,
    ) -> ResponseFuture<S::Future, R, S::Error>
    where
        S: Inner<B, R, Error: 'static, Future: 'static>,
        B: http_body::Body + Default + Send + 'static,
        R: http_body::Body<Data = Bytes, Error: Into<BodyError>> + Send + 'static,
    {
        policy::strip(&mut parts.headers);
        let stored_as = self.shared.policy.name_of(&parts);
        #[cfg(feature = "embedded")]
        {
            let target = target.as_ref().unwrap_or(&parts.uri);
            let asking = Asking::new(&self.shared, &parts, target, stored_as.as_ref());
            if let Some(response) = aside.near(&self.shared, &asking) {
                self.let_go();
                return ResponseFuture::ready(response);
            }
        }
        let shared = Arc::clone(&self.shared);
        let Some(ticket) = shared.ask() else {
            return self.direct(parts);
        };
        let clone = self.inner.clone();
        let ready = std::mem::replace(&mut self.inner, clone);
        let target = target.unwrap_or_else(|| parts.uri.clone());
        let target = (target, stored_as);
        ResponseFuture::koorde(crate::aside::fetch::<S, B, R>(
            ready, aside, shared, ticket, parts, target,
        ))
    }

    /// What was made ready is not needed: it would keep its place until the next call.
    fn let_go(&mut self)
    where
        S: Clone,
    {
        self.inner = self.inner.clone();
    }

    /// 504 without asking anybody.
    fn not_stored<B, R>(&mut self) -> ResponseFuture<S::Future, R, S::Error>
    where
        S: Inner<B, R, Error: 'static>,
        B: http_body::Body + Default + Send,
        R: http_body::Body<Data = Bytes, Error: Into<BodyError>> + Send + 'static,
    {
        self.let_go();
        ResponseFuture::koorde(async { Ok(delegate::not_stored()) })
    }

    /// Past a sidecar that is left alone for a moment.
    fn direct<B, R>(&mut self, parts: Parts) -> ResponseFuture<S::Future, R, S::Error>
    where
        S: Inner<B, R, Error: 'static, Future: 'static>,
        B: http_body::Body + Default + Send + 'static,
        R: http_body::Body<Data = Bytes, Error: Into<BodyError>> + Send + 'static,
    {
        if only_if_cached(&parts) {
            return self.not_stored();
        }
        let shared = Arc::clone(&self.shared);
        let answer = self.inner.call(Request::from_parts(parts, B::default()));
        ResponseFuture::koorde(async move {
            let response = answer.await?;
            Ok(delegate::opened(&shared, Reason::BreakerOpen, response))
        })
    }
}
