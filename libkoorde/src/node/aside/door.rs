//! `koorde.cache.v1.Cache` over gRPC: the messages' words for [`Node::look_aside`](crate::Node) and
//! for purges, and nothing else.

use std::{pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{Stream, StreamExt, future::ready, stream};
use http::{HeaderMap, HeaderValue, Response, header};
use http_body_util::{BodyExt, combinators::UnsyncBoxBody};
use koorde_proto::cache::v1::{
    Alone, Chunk, End, GetReply, GetRequest, Granted, LeaseReply, LeaseRequest, Miss, PurgeReply,
    PurgeRequest, PutReply, PutRequest, Target,
    cache_server::{Cache, CacheServer},
    failed::Kind as FailedKind,
    get_reply,
    lease_reply::Part,
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, oneshot},
    time,
};
use tonic::{Request, Status, Streaming, body::Body as TonicBody, metadata::MetadataMap};
use tower::{BoxError, Service};

use super::{Aside, Desk, Lease};
use crate::{
    error::FetchError,
    node::{
        Body, Node,
        wire::{self, cache},
    },
};

mod taken;

/// Serves `koorde.cache.v1.Cache` for a node. Cheap to clone.
#[derive(Clone, Debug)]
pub struct CacheService(CacheServer<Door>);

/// Whether the call may purge; an extension of its request.
#[derive(Clone, Copy, Debug)]
struct MayPurge(bool);

#[derive(Clone, Debug)]
struct Door {
    node: Node,
    /// Leases whose calls are open, and where those calls wait for what may stand in.
    held: Arc<Desk<Held>>,
    calls: Arc<Semaphore>,
}

/// A lease, and its call's wait for a response that is not the one put.
#[derive(Debug)]
struct Held(Lease, oneshot::Sender<Response<Body>>);

impl CacheService {
    /// For calls of Get, Lease and Purge, at most `max_calls` at once; a Put belongs to one of them.
    #[must_use]
    pub fn new(node: &Node, max_calls: usize) -> Self {
        let door = Door {
            node: node.clone(),
            held: Desk::new(max_calls),
            calls: Arc::new(Semaphore::new(max_calls)),
        };
        let server = CacheServer::new(door).max_decoding_message_size(wire::MAX_MESSAGE);
        Self(server)
    }

    /// Answers one call; `may_purge` says whether it may purge more than it invalidates.
    pub async fn call<B>(
        &self,
        mut request: http::Request<B>,
        may_purge: bool,
    ) -> Response<UnsyncBoxBody<Bytes, BoxError>>
    where
        B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<BoxError>,
    {
        request.extensions_mut().insert(MayPurge(may_purge));
        let answer = self.0.clone().call(request.map(TonicBody::new)).await;
        let answer = answer.unwrap_or_else(|never| match never {});
        answer.map(|body| body.map_err(Into::into).boxed_unsync())
    }

    /// The answer to who may not call.
    #[must_use]
    pub fn denied(message: &str) -> Response<UnsyncBoxBody<Bytes, BoxError>> {
        let denied = Status::permission_denied(message).into_http::<TonicBody>();
        denied.map(|body| body.map_err(Into::into).boxed_unsync())
    }
}

type Replies<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;
type Parts = Pin<Box<dyn Stream<Item = Part> + Send>>;

#[tonic::async_trait]
impl Cache for Door {
    type GetStream = Replies<GetReply>;
    type LeaseStream = Replies<LeaseReply>;

    async fn get(
        &self,
        request: Request<GetRequest>,
    ) -> Result<tonic::Response<Self::GetStream>, Status> {
        let (metadata, _, asked) = request.into_parts();
        let parts = self.ask(&metadata, asked.target, true).await?;
        let replies = parts.filter_map(|part| ready(got(part).map(Ok)));
        Ok(tonic::Response::new(Box::pin(replies)))
    }

    async fn lease(
        &self,
        request: Request<LeaseRequest>,
    ) -> Result<tonic::Response<Self::LeaseStream>, Status> {
        let (metadata, _, asked) = request.into_parts();
        let parts = self.ask(&metadata, asked.target, false).await?;
        let replies = parts.map(|part| Ok(LeaseReply { part: Some(part) }));
        Ok(tonic::Response::new(Box::pin(replies)))
    }

    async fn put(
        &self,
        request: Request<Streaming<PutRequest>>,
    ) -> Result<tonic::Response<PutReply>, Status> {
        let reply = self.take(request.into_inner()).await?;
        Ok(tonic::Response::new(reply))
    }

    async fn purge(
        &self,
        request: Request<PurgeRequest>,
    ) -> Result<tonic::Response<PurgeReply>, Status> {
        let may_purge = request
            .extensions()
            .get::<MayPurge>()
            .is_some_and(|may| may.0);
        let reply = self.purge_all(request.into_inner(), may_purge).await?;
        Ok(tonic::Response::new(reply))
    }
}

/// A part of a Lease's reply as one of a Get's; none for a lease, which a Get has no word for.
fn got(part: Part) -> Option<GetReply> {
    use get_reply::Part as To;
    let part = match part {
        Part::Head(head) => To::Head(head),
        Part::Chunk(chunk) => To::Chunk(chunk),
        Part::End(end) => To::End(end),
        Part::Failed(failed) => To::Failed(failed),
        Part::Alone(Alone { cache_status }) => To::Miss(Miss { cache_status }),
        Part::Granted(_) => return None,
    };
    Some(GetReply { part: Some(part) })
}

impl Door {
    /// Looks aside, within the caller's deadline.
    async fn ask(
        &self,
        metadata: &MetadataMap,
        target: Option<Target>,
        only_if_cached: bool,
    ) -> Result<Parts, Status> {
        let mut request = cache::request(target).map_err(Status::invalid_argument)?;
        if only_if_cached {
            let only = HeaderValue::from_static("only-if-cached");
            request.fields.append(header::CACHE_CONTROL, only);
        }
        let Ok(call) = Arc::clone(&self.calls).try_acquire_owned() else {
            return Ok(self.refused());
        };
        let asked = self.node.look_aside(request);
        let asked = match timeout(metadata) {
            Some(timeout) => time::timeout(timeout, asked).await.map_err(|_| {
                Status::deadline_exceeded("nothing came before the caller's deadline")
            })?,
            None => asked.await,
        };
        Ok(match asked {
            Ok(Aside::Answer(response, None)) => answered(response, call),
            Ok(Aside::Answer(response, Some(lease))) => self.lend(lease, Some(response), call),
            Ok(Aside::Lease(lease)) => self.lend(lease, None, call),
            Ok(Aside::Alone(member)) => one(Part::Alone(Alone {
                cache_status: text(&member),
            })),
            Err(FetchError::NotStored) => one(Part::Alone(Alone {
                cache_status: "koorde; fwd=miss; detail=not-stored".to_owned(),
            })),
            Err(error) => one(Part::Failed(cache::failure(&error))),
        })
    }

    /// There is no room for another call.
    fn refused(&self) -> Parts {
        let error = FetchError::Overloaded("http.max_look_aside");
        self.node.inner.metrics.failed(&error);
        one(Part::Failed(cache::failure(&error)))
    }

    /// Lends as long as the call is open. With a stale response, that goes out at once.
    fn lend(
        &self,
        lease: Lease,
        stale: Option<Response<Body>>,
        call: OwnedSemaphorePermit,
    ) -> Parts {
        let (valid, conditions) = (lease.valid_for(), lease.conditions().clone());
        let (stands_in, mut waits) = oneshot::channel();
        let Ok(slip) = self.held.lay(Held(lease, stands_in)) else {
            return self.refused();
        };
        let renews = stale.is_some();
        let granted = grant(slip.id(), valid, &conditions, renews);
        let call = Arc::new(call);
        let first = stale.map_or_else(nothing, |stale| answered(stale, Arc::clone(&call)));
        let held = Arc::clone(&self.held);
        let rest = async move {
            let ended = match time::timeout(valid, &mut waits).await {
                Ok(ended) => Some(ended),
                // Taken in time: its put is under way.
                Err(_elapsed) if held.take(slip.id()).is_none() => Some(waits.await),
                Err(_elapsed) => None,
            };
            match ended {
                Some(Ok(response)) if !renews => answered(response, call),
                // Put, and what was put is the answer.
                Some(_) => nothing(),
                None => {
                    let message = format!("the lease ran out after {valid:?}");
                    one(Part::Failed(cache::failed(FailedKind::LeaseLost, message)))
                }
            }
        };
        let rest = stream::once(rest).flatten();
        Box::pin(stream::iter([granted]).chain(first).chain(rest))
    }
}

fn grant(id: &[u8], valid: Duration, conditions: &HeaderMap, renews: bool) -> Part {
    Part::Granted(Granted {
        lease: Bytes::copy_from_slice(id),
        valid_ms: wire::millis(valid),
        conditions: cache::fields(conditions),
        renews,
    })
}

fn one(part: Part) -> Parts {
    Box::pin(stream::iter([part]))
}

fn nothing() -> Parts {
    Box::pin(stream::empty())
}

/// A response as its parts; `held` until its end.
fn answered(response: Response<Body>, held: impl Send + 'static) -> Parts {
    let head = Part::Head(cache::head(&response));
    let body = Some((response.into_body(), 0_u64, held));
    let body = stream::unfold(body, |state| async {
        let (mut body, sent, held) = state?;
        Some(match body.frame().await {
            Some(Ok(frame)) => {
                let data = frame.into_data().unwrap_or_default();
                let sent = sent + data.len() as u64;
                (Part::Chunk(Chunk { data }), Some((body, sent, held)))
            }
            Some(Err(error)) => {
                let failed = cache::failed(FailedKind::Cut, error.to_string());
                (Part::Failed(failed), None)
            }
            None => (Part::End(End { length: sent }), None),
        })
    });
    Box::pin(stream::iter([head]).chain(body))
}

/// The caller's deadline, from now.
fn timeout(metadata: &MetadataMap) -> Option<Duration> {
    cache::timeout(metadata.get("grpc-timeout")?.to_str().ok()?)
}

fn text(member: &HeaderValue) -> String {
    member.to_str().unwrap_or_default().to_owned()
}
