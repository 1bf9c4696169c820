//! Look-aside through a sidecar: `koorde.cache.v1` over gRPC.

use std::{
    fmt,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, Uri, response};
use http_body::Frame;
use koorde_proto::cache::v1::{
    self as wire, cache_client::CacheClient, lease_reply, purge_request, put_reply, put_request,
};
use tokio::time::timeout;
use tokio_stream::Stream;
use tonic::{Code, Status, Streaming, metadata::MetadataMap, transport::Endpoint};

use super::{
    Asked, Asking, Decided, Decision, Held, HeldKind,
    channels::{CALLS, Channels, Place},
    tee::{Piece, Pieces},
};
use crate::{
    BodyError, InvalidSetting, Purge, PurgeError, Reason, Receipt, body::Boxed, layer::Shared,
    purge::Scope, status,
};

/// How long a connect may take.
const CONNECT: Duration = Duration::from_millis(250);
/// How long the answer to the question whether the sidecar is alive may take. All calls of a
/// connection end with it: longer than a machine that is busy for a moment needs.
const ALIVE: Duration = Duration::from_secs(2);
/// Bytes of one body that may be under way unread. A connection has room for that of all its calls:
/// bodies that nobody reads never hold up the answers of others.
const STREAM_WINDOW: u32 = 256 << 10;
const CONNECTION_WINDOW: u32 = STREAM_WINDOW * CALLS;

/// The sidecar's gRPC service, on the listener where it speaks HTTP.
#[derive(Clone)]
pub(crate) struct Sidecar {
    /// For calls of Lease, which may wait long.
    leases: Arc<Channels>,
    /// For what they wait for, a Put, and for purges.
    puts: Arc<Channels>,
    /// How long the first reply may take once there is a head: it goes out together with that.
    patience: Duration,
}

/// The replies of one call; open as long as the lease is held.
type Replies = Arc<Mutex<Call>>;

struct Call {
    replies: Streaming<wire::LeaseReply>,
    _place: Place,
}

/// A lease of the sidecar's.
pub(crate) struct Lease {
    id: Bytes,
    puts: Arc<Channels>,
    replies: Replies,
}

impl Sidecar {
    /// At the endpoint; `patience` is the time without a word after which it is asked whether it is
    /// alive.
    pub(crate) fn new(endpoint: &str, patience: Duration) -> Result<Self, InvalidSetting> {
        let wrong = |reason| InvalidSetting::new("endpoint", endpoint, reason);
        if !endpoint.starts_with("http://") {
            return Err(wrong("look-aside speaks HTTP/2 without TLS only"));
        }
        let uri = Endpoint::from_shared(endpoint.to_owned()).map_err(|_| wrong("not a URL"))?;
        let endpoint = uri
            .connect_timeout(CONNECT)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .http2_keep_alive_interval(patience)
            .keep_alive_timeout(ALIVE)
            .tcp_nodelay(true);
        Ok(Self {
            leases: Arc::new(Channels::new(endpoint.clone())),
            puts: Arc::new(Channels::new(endpoint)),
            patience,
        })
    }

    pub(super) async fn ask(&self, asking: Asking<'_>) -> Result<Asked, Reason> {
        let (channel, place) = self.leases.place().ok_or(Reason::Busy)?;
        let mut client = CacheClient::new(channel);
        let mut request = tonic::Request::new(wire::LeaseRequest {
            target: Some(target(&asking)),
        });
        trace(&asking.parts.headers, request.metadata_mut());
        let replies = match client.lease(request).await {
            Ok(replies) => replies,
            Err(status) if status.code() == Code::NotFound => return Ok(Asked::NotStored),
            Err(status) => {
                let why = reason(&status);
                if why == Reason::Unreachable {
                    self.leases.forget(&place);
                }
                return Err(why);
            }
        };
        let replies = Arc::new(Mutex::new(Call {
            replies: replies.into_inner(),
            _place: place,
        }));
        let first = timeout(self.patience, next(&replies)).await;
        let first = first.map_err(|_elapsed| Reason::Unresponsive)?;
        match first.map_err(|status| reason(&status))? {
            Some(lease_reply::Part::Granted(granted)) => {
                let renews = granted.renews;
                let held = held(granted, Arc::clone(&self.puts), Arc::clone(&replies));
                if !renews {
                    return Ok(Asked::Lease(held));
                }
                let stale = answer(replies).await.ok_or(Reason::Unreachable)?;
                Ok(Asked::Answer(stale, Some(held)))
            }
            Some(lease_reply::Part::Head(head)) => {
                let response = response(head, replies).ok_or(Reason::NotKoorde)?;
                Ok(Asked::Answer(response, None))
            }
            Some(lease_reply::Part::Alone(alone)) => {
                Ok(Asked::Alone(status::of_member(&alone.cache_status)))
            }
            Some(lease_reply::Part::Failed(failed)) => Err(Reason::Refused(word(&failed).into())),
            _ => Err(Reason::Unreachable),
        }
    }

    pub(super) async fn invalidate(&self, urls: &[Uri], shared: &Shared) -> bool {
        let scope = purge_request::Scope::Urls(wire::Urls {
            urls: urls.iter().map(Uri::to_string).collect(),
        });
        let request = wire::PurgeRequest {
            kind: wire::purge_request::Kind::Invalidate.into(),
            scope: Some(scope),
            tenant: tenant(shared.policy.tenant.as_ref()),
        };
        let Some((channel, _place)) = self.puts.place() else {
            return false;
        };
        CacheClient::new(channel).purge(request).await.is_ok()
    }

    pub(super) async fn purge(
        &self,
        purge: &Purge,
        shared: &Shared,
    ) -> Result<Receipt, PurgeError> {
        use wire::purge_request::Kind;
        let scope = match purge.scope.clone() {
            Scope::Url(url) => purge_request::Scope::Urls(wire::Urls {
                urls: vec![url.to_string()],
            }),
            Scope::Tag(tag) => purge_request::Scope::Tag(tag),
            Scope::Prefix(prefix) => purge_request::Scope::Prefix(prefix),
            Scope::Host(host) => purge_request::Scope::Host(host),
            Scope::Group { origin, name } => purge_request::Scope::Group(wire::Group {
                origin: origin.to_string(),
                name,
            }),
            Scope::All => purge_request::Scope::All(true),
        };
        let kind = if purge.hard { Kind::Hard } else { Kind::Soft };
        let mut request = tonic::Request::new(wire::PurgeRequest {
            kind: kind.into(),
            scope: Some(scope),
            tenant: tenant(shared.policy.tenant.as_ref()),
        });
        if let Some(token) = &purge.token {
            let value = format!("Bearer {token}").parse();
            let value = value.map_err(|_| PurgeError::Malformed("token"))?;
            request.metadata_mut().insert("authorization", value);
        }
        let place = self.puts.place().ok_or(PurgeError::Unreachable)?;
        let reply =
            CacheClient::new(place.0)
                .purge(request)
                .await
                .map_err(|status| match status.code() {
                    Code::InvalidArgument => PurgeError::Malformed("scope"),
                    Code::Unauthenticated => PurgeError::Refused(http::StatusCode::UNAUTHORIZED),
                    Code::PermissionDenied | Code::Unimplemented => {
                        PurgeError::Refused(http::StatusCode::FORBIDDEN)
                    }
                    _ => PurgeError::Unreachable,
                })?;
        let reply = reply.into_inner();
        Ok(Receipt {
            is_complete: reply.acknowledged >= reply.asked && reply.unreachable.is_empty(),
        })
    }
}

impl Lease {
    pub(super) async fn put(
        self,
        head: response::Parts,
        lifetime: Option<Duration>,
        pieces: Pieces,
        decided: Decided,
    ) {
        let first = wire::PutHead {
            lease: self.id.clone(),
            status: head.status.as_u16().into(),
            fields: fields(&head.headers),
            lifetime_ms: lifetime.map_or(0, |lifetime| {
                u64::try_from(lifetime.as_millis())
                    .unwrap_or(u64::MAX)
                    .max(1)
            }),
        };
        let requests = Requests {
            head: Some(first),
            pieces: Some((pieces, 0)),
        };
        let decision = match put(&self.puts, requests).await {
            Some(result) => self.decision(result).await,
            None => Decision::Lost,
        };
        let _nobody_waits = decided.send(decision);
    }

    async fn decision(self, result: put_reply::Result) -> Decision {
        match result {
            put_reply::Result::AnswerFollows => match answer(self.replies).await {
                Some(response) => Decision::Answer(response),
                None => Decision::Lost,
            },
            put_reply::Result::LeaseLost => Decision::Lost,
            _ => Decision::Keep,
        }
    }

    /// No response came.
    pub(super) async fn fail(self) -> Option<Response<Boxed>> {
        let none = wire::PutHead {
            lease: self.id.clone(),
            ..wire::PutHead::default()
        };
        let requests = Requests {
            head: Some(none),
            pieces: None,
        };
        let result = put(&self.puts, requests).await?;
        match self.decision(result).await {
            Decision::Answer(response) => Some(response),
            Decision::Keep | Decision::Lost => None,
        }
    }
}

/// What became of a put; none if that is not known.
async fn put(puts: &Channels, requests: Requests) -> Option<put_reply::Result> {
    let (channel, place) = puts.place()?;
    match CacheClient::new(channel).put(requests).await {
        Ok(reply) => Some(reply.into_inner().result()),
        Err(status) => {
            if reason(&status) == Reason::Unreachable {
                puts.forget(&place);
            }
            None
        }
    }
}

/// A put: a head, pieces as they come with the sum of their bytes, an end.
struct Requests {
    head: Option<wire::PutHead>,
    pieces: Option<(Pieces, u64)>,
}

impl Stream for Requests {
    type Item = wire::PutRequest;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let request = |part| wire::PutRequest { part: Some(part) };
        if let Some(head) = self.head.take() {
            return Poll::Ready(Some(request(put_request::Part::Head(head))));
        }
        let Some((pieces, length)) = &mut self.pieces else {
            return Poll::Ready(None);
        };
        let part = match ready!(pieces.poll(context)) {
            Some(Piece::Chunk(data)) => {
                *length += data.len() as u64;
                put_request::Part::Chunk(wire::Chunk { data })
            }
            Some(Piece::End) => {
                let length = *length;
                self.pieces = None;
                put_request::Part::End(wire::End { length })
            }
            None => {
                self.pieces = None;
                put_request::Part::Failed(wire::Failed {
                    kind: wire::failed::Kind::Cut.into(),
                    message: "the body is incomplete".to_owned(),
                })
            }
        };
        Poll::Ready(Some(request(part)))
    }
}

/// A stored response's body, as it comes from the sidecar.
struct Stored {
    replies: Option<Replies>,
    read: u64,
}

impl http_body::Body for Stored {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Some(replies) = self.replies.clone() else {
            return Poll::Ready(None);
        };
        let part = match ready!(poll_next(&replies, context)) {
            Ok(part) => part,
            Err(status) => {
                self.replies = None;
                return Poll::Ready(Some(Err(status.into())));
            }
        };
        match part {
            Some(lease_reply::Part::Chunk(chunk)) => {
                self.read += chunk.data.len() as u64;
                Poll::Ready(Some(Ok(Frame::data(chunk.data))))
            }
            Some(lease_reply::Part::End(end)) if end.length == self.read => {
                self.replies = None;
                Poll::Ready(None)
            }
            _ => {
                self.replies = None;
                Poll::Ready(Some(Err("koorde's answer was cut off".into())))
            }
        }
    }
}

fn held(granted: wire::Granted, puts: Arc<Channels>, replies: Replies) -> Held {
    let lease = Lease {
        id: granted.lease,
        puts,
        replies,
    };
    Held {
        conditions: map(granted.conditions),
        kind: HeldKind::Sidecar(lease),
    }
}

/// The head that is still to come, and its body.
async fn answer(replies: Replies) -> Option<Response<Boxed>> {
    match next(&replies).await {
        Ok(Some(lease_reply::Part::Head(head))) => response(head, replies),
        _ => None,
    }
}

fn response(head: wire::Head, replies: Replies) -> Option<Response<Boxed>> {
    let status = u16::try_from(head.status).ok()?;
    let body = Stored {
        replies: Some(replies),
        read: 0,
    };
    let mut response = Response::new(Box::pin(body) as Boxed);
    *response.status_mut() = http::StatusCode::from_u16(status).ok()?;
    *response.headers_mut() = map(head.fields);
    Some(response)
}

async fn next(replies: &Replies) -> Result<Option<lease_reply::Part>, Status> {
    std::future::poll_fn(|context| poll_next(replies, context)).await
}

/// One reply; none at the end of the call. Held for one poll, never across an await.
fn poll_next(
    replies: &Replies,
    context: &mut Context<'_>,
) -> Poll<Result<Option<lease_reply::Part>, Status>> {
    let mut call = replies.lock().unwrap_or_else(PoisonError::into_inner);
    let reply = ready!(Pin::new(&mut call.replies).poll_next(context)).transpose()?;
    Poll::Ready(Ok(reply.and_then(|reply| reply.part)))
}

fn target(asking: &Asking<'_>) -> wire::Target {
    wire::Target {
        method: asking.parts.method.to_string(),
        url: asking.target.to_string(),
        fields: fields(&asking.fields),
        tenant: tenant(asking.tenant),
        stored_as: asking
            .stored_as
            .as_ref()
            .map_or_else(String::new, |name| name.to_string()),
    }
}

fn tenant(tenant: Option<&HeaderValue>) -> String {
    let tenant = tenant.and_then(|tenant| tenant.to_str().ok());
    tenant.unwrap_or_default().to_owned()
}

fn fields(map: &HeaderMap) -> Vec<wire::Field> {
    let field = |(name, value): (&HeaderName, &HeaderValue)| wire::Field {
        name: name.as_str().to_owned(),
        value: Bytes::copy_from_slice(value.as_bytes()),
    };
    map.iter().map(field).collect()
}

/// What is no field is left out.
fn map(fields: Vec<wire::Field>) -> HeaderMap {
    let mut map = HeaderMap::with_capacity(fields.len().min(1024));
    for field in fields.into_iter().take(1024) {
        let name = HeaderName::try_from(field.name);
        let value = HeaderValue::from_maybe_shared(field.value);
        if let (Ok(name), Ok(value)) = (name, value) {
            map.append(name, value);
        }
    }
    map
}

/// The request's trace goes on in the call.
fn trace(fields: &HeaderMap, metadata: &mut MetadataMap) {
    for name in ["traceparent", "tracestate"] {
        let value = fields.get(name).and_then(|value| value.to_str().ok());
        if let Some(value) = value.and_then(|value| value.parse().ok()) {
            metadata.insert(name, value);
        }
    }
}

fn reason(status: &Status) -> Reason {
    match status.code() {
        Code::ResourceExhausted => Reason::Refused("overloaded".to_owned()),
        Code::PermissionDenied => Reason::Refused("not-permitted".to_owned()),
        Code::InvalidArgument => Reason::Refused("bad-request".to_owned()),
        Code::Unimplemented => Reason::NotKoorde,
        _ => Reason::Unreachable,
    }
}

fn word(failed: &wire::Failed) -> &'static str {
    match failed.kind() {
        wire::failed::Kind::Overloaded => "overloaded",
        wire::failed::Kind::LeaseLost => "lease-lost",
        wire::failed::Kind::Cut | wire::failed::Kind::Unspecified => "cut",
    }
}

impl fmt::Debug for Sidecar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Sidecar")
            .field(&self.leases.endpoint().uri())
            .finish()
    }
}
