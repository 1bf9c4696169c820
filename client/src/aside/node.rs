//! Look-aside in process: this one is a node of the ring itself.

use std::{fmt, future::poll_fn, time::Duration};

use http::{Response, Uri, response};
use http_body_util::BodyExt;
use libkoorde::{
    Aside, FetchError, Kind, NotWanted, Overrides, Put, PutBody, Request, StoredBody,
    policy::Target,
};

use super::{
    Asked, Asking, Decided, Decision, Held, HeldKind,
    tee::{Piece, Pieces},
};
use crate::{
    CacheResult, CacheStatus, Purge, PurgeError, Reason, Receipt, body::Boxed, layer::Shared,
    purge::Scope, status,
};

/// The node that the app has started.
#[derive(Clone)]
pub(crate) struct Node(pub(crate) libkoorde::Node);

impl Node {
    /// A fresh response of the node's stores, and what is to be said of it.
    pub(super) fn near(&self, asking: &Asking<'_>) -> Option<(Response<StoredBody>, CacheStatus)> {
        let overrides = match (asking.tenant, asking.stored_as) {
            (None, None) => Overrides::default(),
            _ => overrides(&Target::of_uri(asking.target).ok()?, asking)?,
        };
        let (method, target) = (&asking.parts.method, asking.target);
        let near = self.0.near(method, target, &asking.fields, &overrides)?;
        let mut status = CacheStatus::new(CacheResult::Hit, Some(self.0.name()));
        status.ttl = Some(near.ttl);
        Some((near.response, status))
    }

    pub(super) async fn ask(&self, asking: Asking<'_>) -> Result<Asked, Reason> {
        let Some(request) = request(&asking) else {
            return Ok(Asked::Alone(None));
        };
        match self.0.look_aside(request).await {
            Ok(Aside::Answer(response, lease)) => {
                Ok(Asked::Answer(boxed(response), lease.map(held)))
            }
            Ok(Aside::Lease(lease)) => Ok(Asked::Lease(held(lease))),
            Ok(Aside::Alone(member)) => {
                let member = member.to_str().unwrap_or_default();
                Ok(Asked::Alone(status::of_member(member)))
            }
            Err(FetchError::NotStored) => Ok(Asked::NotStored),
            Err(FetchError::Overloaded(_)) => Err(Reason::Refused("overloaded".to_owned())),
            Err(FetchError::Stopping) => Err(Reason::Refused("stopping".to_owned())),
            Err(_) => Err(Reason::Refused("node".to_owned())),
        }
    }

    pub(super) async fn invalidate(&self, urls: &[Uri], shared: &Shared) -> bool {
        let targets: Result<Vec<_>, _> = urls.iter().map(parse).collect();
        let Ok(targets) = targets else {
            return false;
        };
        self.0.invalidate(&targets, tenant(shared)).await.is_ok()
    }

    pub(super) async fn purge(
        &self,
        purge: &Purge,
        shared: &Shared,
    ) -> Result<Receipt, PurgeError> {
        let kind = if purge.hard { Kind::Hard } else { Kind::Soft };
        let scope = scope(&purge.scope)?;
        let receipt = self.0.purge_for(tenant(shared), &scope, kind).await;
        Ok(Receipt {
            is_complete: receipt.is_complete(),
        })
    }
}

/// Puts under a lease of our own node.
pub(super) async fn put(
    lease: libkoorde::Lease,
    head: response::Parts,
    lifetime: Option<Duration>,
    pieces: Pieces,
    decided: Decided,
) {
    let mut put_head = Response::new(());
    *put_head.status_mut() = head.status;
    *put_head.headers_mut() = head.headers;
    let (decision, body) = match lease.put(put_head, lifetime).await {
        Put::Answer(response) => (Decision::Answer(boxed(response)), None),
        Put::Body(body) => (Decision::Keep, Some(body)),
        Put::Unwanted => (Decision::Keep, None),
        Put::Lost => (Decision::Lost, None),
    };
    let _nobody_waits = decided.send(decision);
    if let Some(body) = body {
        let _cut = write(body, pieces).await;
    }
}

/// Writes the body as it comes. Without an end it is dropped, which cuts it off.
async fn write(mut body: PutBody, mut pieces: Pieces) -> Result<(), NotWanted> {
    while let Some(piece) = poll_fn(|context| pieces.poll(context)).await {
        match piece {
            Piece::Chunk(data) => body.write(data).await?,
            Piece::End => {
                body.end().await;
                break;
            }
        }
    }
    Ok(())
}

pub(super) async fn fail(lease: libkoorde::Lease) -> Option<Response<Boxed>> {
    lease.fail().await.map(boxed)
}

fn held(lease: libkoorde::Lease) -> Held {
    Held {
        conditions: lease.conditions().clone(),
        kind: HeldKind::Node(Box::new(lease)),
    }
}

fn boxed(response: Response<libkoorde::Body>) -> Response<Boxed> {
    response.map(|body| Box::pin(body.map_err(Into::into)) as Boxed)
}

/// None if the target is one that no node would fetch.
fn request(asking: &Asking<'_>) -> Option<Request> {
    let target = Target::of_uri(asking.target).ok()?;
    let fields = asking.fields.clone().into_owned();
    let overrides = overrides(&target, asking)?;
    let mut request = Request::new(asking.parts.method.clone(), target, fields);
    request.version = asking.parts.version;
    request.overrides = overrides;
    Some(request)
}

fn overrides(target: &Target, asking: &Asking<'_>) -> Option<Overrides> {
    let tenant = asking.tenant.and_then(|tenant| tenant.to_str().ok());
    let name = asking.stored_as.map(Uri::to_string);
    let name = name.as_deref().unwrap_or_default();
    Overrides::new(target, tenant.unwrap_or_default(), name, None).ok()
}

fn parse(url: &Uri) -> Result<Target, PurgeError> {
    Target::of_uri(url).map_err(|_| PurgeError::Malformed("URL"))
}

/// The layer's tenant; empty for none.
fn tenant(shared: &Shared) -> &str {
    let tenant = shared.policy.tenant.as_ref();
    tenant
        .and_then(|tenant| tenant.to_str().ok())
        .unwrap_or_default()
}

fn scope(scope: &Scope) -> Result<libkoorde::Scope, PurgeError> {
    use libkoorde::Scope as Of;
    match scope {
        Scope::Url(url) => parse(url).map(Of::Url),
        Scope::Tag(tag) => Of::tag(tag, None).map_err(|_| PurgeError::Malformed("tag")),
        Scope::Prefix(prefix) => Target::parse(prefix)
            .map(Of::Prefix)
            .map_err(|_| PurgeError::Malformed("prefix")),
        Scope::Host(host) => Of::host(host).map_err(|_| PurgeError::Malformed("host")),
        Scope::Group { origin, name } => {
            Of::group(parse(origin)?, name).map_err(|_| PurgeError::Malformed("group"))
        }
        Scope::All => Ok(Of::All),
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Node").field(&self.0.name()).finish()
    }
}
