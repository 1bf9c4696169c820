//! Look-aside: koorde is asked; where it has nothing, the inner service makes the request, under a
//! lease so that nobody else in the cluster makes it too, and what comes is put for all who wait.

use std::{borrow::Cow, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Uri, header, request::Parts,
    response,
};
use tokio::{sync::oneshot, time::timeout};

use crate::{
    Body, BodyError, CacheResult, CacheStatus, Purge, PurgeError, Reason, Receipt,
    body::Boxed,
    breaker::Ticket,
    delegate,
    inner::{self, Inner},
    layer::Shared,
    policy::only_if_cached,
    resume::Guard,
    status::{self, Said},
};

mod channels;
#[cfg(feature = "embedded")]
mod node;
mod sidecar;
mod tasks;
mod tee;

#[cfg(feature = "embedded")]
pub(crate) use node::Node;
pub(crate) use sidecar::Sidecar;
use tasks::Tasks;
use tee::{Budget, Pieces, Tee};

/// How long what a stale response may stand in for is held back by the question whether it does.
const STANDS_IN: Duration = Duration::from_millis(250);

/// Who is asked, and what is needed to put.
#[derive(Clone, Debug)]
pub(crate) struct Aside {
    backend: Backend,
    tasks: Tasks,
    budget: Budget,
}

#[derive(Clone, Debug)]
enum Backend {
    Sidecar(Sidecar),
    #[cfg(feature = "embedded")]
    Node(Node),
}

/// What asking has come to.
pub(crate) enum Asked {
    /// A response; with a lease, it is stale and to be renewed in the background.
    Answer(Response<Boxed>, Option<Held>),
    /// Make the request, and put what comes.
    Lease(Held),
    /// Make the request, and put nothing; koorde's reason.
    Alone(Option<CacheStatus>),
    /// The request said `only-if-cached`.
    NotStored,
}

/// A lease; dropping it gives it back.
pub(crate) struct Held {
    /// To be sent in place of the request's own conditions.
    conditions: HeaderMap,
    kind: HeldKind,
}

enum HeldKind {
    Sidecar(sidecar::Lease),
    #[cfg(feature = "embedded")]
    Node(Box<libkoorde::Lease>),
}

/// What becomes of a response that was put.
pub(crate) enum Decision {
    /// This is the answer in its place.
    Answer(Response<Boxed>),
    /// It is the answer.
    Keep,
    /// The lease was lost.
    Lost,
}

/// Who waits for it.
type Decided = oneshot::Sender<Decision>;

/// What is asked for.
pub(crate) struct Asking<'a> {
    pub(crate) parts: &'a Parts,
    /// As koorde is to know them.
    pub(crate) fields: Cow<'a, HeaderMap>,
    pub(crate) target: &'a Uri,
    pub(crate) stored_as: Option<&'a Uri>,
    pub(crate) tenant: Option<&'a HeaderValue>,
}

impl<'a> Asking<'a> {
    pub(crate) fn new(
        shared: &'a Shared,
        parts: &'a Parts,
        target: &'a Uri,
        stored_as: Option<&'a Uri>,
    ) -> Self {
        Self {
            parts,
            fields: shared.policy.asked_fields(parts),
            target,
            stored_as,
            tenant: shared.policy.tenant.as_ref(),
        }
    }
}

impl Aside {
    pub(crate) fn sidecar(sidecar: Sidecar) -> Self {
        Self::new(Backend::Sidecar(sidecar))
    }

    #[cfg(feature = "embedded")]
    pub(crate) fn node(node: Node) -> Self {
        Self::new(Backend::Node(node))
    }

    fn new(backend: Backend) -> Self {
        Self {
            backend,
            tasks: Tasks::default(),
            budget: Budget::default(),
        }
    }

    /// Bytes of bodies that wait to be put, all together.
    pub(crate) fn buffer(&mut self, bytes: usize) {
        self.budget = Budget::new(bytes);
    }

    /// The answer, if it is in the stores of this process and nobody has to be asked.
    #[cfg(feature = "embedded")]
    pub(crate) fn near<R>(
        &self,
        shared: &Shared,
        asking: &Asking<'_>,
    ) -> Option<Response<Body<R>>> {
        let Backend::Node(node) = &self.backend else {
            return None;
        };
        let (response, status) = node.near(asking)?;
        shared.events.answered(&status);
        let mut response = response.map(Body::stored);
        response.extensions_mut().insert(status);
        Some(response)
    }

    async fn ask(&self, asking: Asking<'_>) -> Result<Asked, Reason> {
        match &self.backend {
            Backend::Sidecar(sidecar) => sidecar.ask(asking).await,
            #[cfg(feature = "embedded")]
            Backend::Node(node) => node.ask(asking).await,
        }
    }

    /// Makes what is stored of these URLs stale; whether that is certain.
    pub(crate) async fn invalidate(&self, urls: &[Uri], shared: &Shared) -> bool {
        match &self.backend {
            Backend::Sidecar(sidecar) => sidecar.invalidate(urls, shared).await,
            #[cfg(feature = "embedded")]
            Backend::Node(node) => node.invalidate(urls, shared).await,
        }
    }

    pub(crate) async fn purge(
        &self,
        purge: &Purge,
        shared: &Shared,
    ) -> Result<Receipt, PurgeError> {
        match &self.backend {
            Backend::Sidecar(sidecar) => sidecar.purge(purge, shared).await,
            #[cfg(feature = "embedded")]
            Backend::Node(node) => node.purge(purge, shared).await,
        }
    }
}

impl Held {
    /// Puts a response. Runs until its body is at its end, or nobody needs it.
    async fn put(
        self,
        head: response::Parts,
        lifetime: Option<Duration>,
        pieces: Pieces,
        decided: Decided,
    ) {
        match self.kind {
            HeldKind::Sidecar(lease) => lease.put(head, lifetime, pieces, decided).await,
            #[cfg(feature = "embedded")]
            HeldKind::Node(lease) => node::put(*lease, head, lifetime, pieces, decided).await,
        }
    }

    /// No response came: a stale one that may stand in.
    async fn fail(self) -> Option<Response<Boxed>> {
        match self.kind {
            HeldKind::Sidecar(lease) => lease.fail().await,
            #[cfg(feature = "embedded")]
            HeldKind::Node(lease) => node::fail(*lease).await,
        }
    }
}

/// One request, all of it. `service` is ready.
pub(crate) async fn fetch<S, B, R>(
    mut service: S,
    aside: Arc<Aside>,
    shared: Arc<Shared>,
    ticket: Ticket,
    parts: Parts,
    (target, stored_as): (Uri, Option<Uri>),
) -> Result<Response<Body<R>>, S::Error>
where
    S: Inner<B, R>,
    S::Future: 'static,
    B: http_body::Body + Default + Send + 'static,
    R: http_body::Body<Data = Bytes, Error: Into<BodyError>> + Send + 'static,
{
    let asking = Asking::new(&shared, &parts, &target, stored_as.as_ref());
    let asked = match aside.ask(asking).await {
        Ok(asked) => asked,
        Err(why) => {
            shared.failed(ticket, &why);
            if only_if_cached(&parts) {
                return Ok(delegate::not_stored());
            }
            let response = service.call(Request::from_parts(parts, B::default()));
            return Ok(delegate::opened(&shared, why, response.await?));
        }
    };
    shared.succeeded(ticket);
    let fetch = Fetch {
        aside,
        shared,
        parts,
    };
    match asked {
        Asked::NotStored => Ok(delegate::not_stored()),
        Asked::Answer(response, renewal) => {
            if let Some(held) = renewal {
                fetch.renew::<S, B, R>(service.clone(), held);
            }
            Ok(fetch.answer::<S, B, R>(response, service))
        }
        Asked::Alone(_) if only_if_cached(&fetch.parts) => Ok(delegate::not_stored()),
        Asked::Alone(status) => {
            let request = Request::from_parts(fetch.parts.clone(), B::default());
            let response = service.call(request).await?;
            let alone = || CacheStatus::new(CacheResult::Bypass, None);
            Ok(fetch.said(response.map(Body::plain), status.unwrap_or_else(alone)))
        }
        Asked::Lease(held) => fetch.leased::<S, B, R>(service, held).await,
    }
}

/// A request of which koorde knows.
struct Fetch {
    aside: Arc<Aside>,
    shared: Arc<Shared>,
    parts: Parts,
}

impl Fetch {
    /// Makes the request and puts what comes, while the app reads it.
    async fn leased<S, B, R>(
        self,
        mut service: S,
        held: Held,
    ) -> Result<Response<Body<R>>, S::Error>
    where
        S: Inner<B, R>,
        S::Future: 'static,
        B: http_body::Body + Default + Send + 'static,
        R: http_body::Body<Data = Bytes, Error: Into<BodyError>> + Send + 'static,
    {
        let is_conditional = !held.conditions.is_empty();
        let request = Request::from_parts(conditional(&self.parts, &held.conditions), B::default());
        let response = match service.call(request).await {
            Ok(response) => response,
            Err(error) => {
                let stale = timeout(STANDS_IN, held.fail()).await.ok().flatten();
                return match stale {
                    Some(stale) => Ok(self.answer::<S, B, R>(stale, service)),
                    None => Err(error),
                };
            }
        };
        let (head, body) = response.into_parts();
        let is_validation = head.status == StatusCode::NOT_MODIFIED && is_conditional;
        // What is stored may have no validator, and stand in all the same (RFC 5861 §4).
        let may_stand_in = head.status.is_server_error();
        let (body, decision) = self.put(held, &head, body);
        if is_validation || may_stand_in {
            let patience = if is_validation {
                self.shared.patience
            } else {
                STANDS_IN
            };
            match timeout(patience, decision).await {
                Ok(Ok(Decision::Answer(response))) => {
                    return Ok(self.answer::<S, B, R>(response, service));
                }
                // The app did not ask for a 304: the request is made again, as it was.
                _ if is_validation => return self.again::<S, B, R>(service).await,
                _ => {}
            }
        }
        let response = Response::from_parts(head, body);
        Ok(self.said(response, CacheStatus::new(CacheResult::Miss, None)))
    }

    /// Begins to put a response: its body as the app is to read it, and what will become of it.
    fn put<R>(
        &self,
        held: Held,
        head: &response::Parts,
        body: R,
    ) -> (Body<R>, oneshot::Receiver<Decision>)
    where
        R: http_body::Body<Data = Bytes, Error: Into<BodyError>> + Send + 'static,
    {
        let lifetime = self.shared.policy.lifetime_of(&self.parts, head);
        let (tell, decision) = oneshot::channel();
        let (sink, pieces) = tee::channel(&self.aside.budget);
        let put = held.put(head.clone(), lifetime, pieces, tell);
        if !self.aside.tasks.spawn(put) {
            return (Body::plain(body), decision);
        }
        let tee = Tee::new(body, sink, self.aside.tasks.clone());
        (Body::boxed(Box::pin(tee)), decision)
    }

    /// The request as the app made it, once more.
    async fn again<S, B, R>(self, mut service: S) -> Result<Response<Body<R>>, S::Error>
    where
        S: Inner<B, R>,
        B: http_body::Body + Default + Send + 'static,
        R: http_body::Body<Data = Bytes, Error: Into<BodyError>> + Send + 'static,
    {
        let request = Request::from_parts(self.parts.clone(), B::default());
        let response = inner::ask(&mut service, request).await?.map(Body::plain);
        Ok(self.said(
            response,
            CacheStatus::new(CacheResult::Miss, Some("lease-lost")),
        ))
    }

    /// Renews what a stale answer was made of, while the app has that.
    fn renew<S, B, R>(&self, mut service: S, held: Held)
    where
        S: Inner<B, R>,
        S::Future: 'static,
        B: http_body::Body + Default + Send + 'static,
        R: http_body::Body<Data = Bytes, Error: Into<BodyError>> + Send + 'static,
    {
        let fetch = Self {
            aside: Arc::clone(&self.aside),
            shared: Arc::clone(&self.shared),
            parts: self.parts.clone(),
        };
        let tasks = self.aside.tasks.clone();
        let renewal = async move {
            let parts = conditional(&fetch.parts, &held.conditions);
            let request = Request::from_parts(parts, B::default());
            let asked = timeout(tee::LONGEST, inner::ask(&mut service, request));
            if let Ok(Ok(response)) = asked.await {
                let (head, body) = response.into_parts();
                // Dropping it reads it to its end.
                drop(fetch.put(held, &head, body));
            }
        };
        tasks.spawn(renewal);
    }

    /// A response of koorde's. Its body goes on from the origin if it breaks off.
    fn answer<S, B, R>(self, response: Response<Boxed>, service: S) -> Response<Body<R>>
    where
        S: Inner<B, R>,
        S::Future: 'static,
        B: http_body::Body + Default + Send + 'static,
        R: http_body::Body<Data = Bytes, Error: Into<BodyError>> + Send + 'static,
    {
        let status = match status::read(response.headers()) {
            Some(Said::Answer(status)) => status,
            _ => CacheStatus::new(CacheResult::Hit, None),
        };
        let (head, body) = response.into_parts();
        if only_if_cached(&self.parts) {
            return self.said(Response::from_parts(head, Body::boxed(body)), status);
        }
        let (shared, parts) = (Arc::clone(&self.shared), self.parts.clone());
        // A clone: the ready one would keep its place for as long as the body is read.
        let guard = Guard::new::<S, B>(&head, service.clone(), shared, parts);
        self.said(
            Response::from_parts(head, Body::boxed_guarded(body, guard)),
            status,
        )
    }

    fn said<R>(&self, mut response: Response<Body<R>>, status: CacheStatus) -> Response<Body<R>> {
        self.shared.events.answered(&status);
        response.extensions_mut().insert(status);
        response
    }
}

/// The request with the lease's conditions in place of its own: a response to those would answer
/// nobody else.
fn conditional(parts: &Parts, conditions: &HeaderMap) -> Parts {
    let mut parts = parts.clone();
    let own: [HeaderName; 5] = [
        header::IF_NONE_MATCH,
        header::IF_MODIFIED_SINCE,
        header::IF_MATCH,
        header::IF_UNMODIFIED_SINCE,
        header::IF_RANGE,
    ];
    for name in own {
        parts.headers.remove(name);
    }
    for (name, value) in conditions {
        parts.headers.append(name, value.clone());
    }
    parts
}
