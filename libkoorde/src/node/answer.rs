//! An answer on its way out: what a fetch ends in, before a door (HTTP or a peer) words it.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Version, header};
use http_body::{Frame, SizeHint};

use super::{Request, origin::OriginBody, relay::Reader};
use crate::{
    error::BodyError,
    outcome::{CacheResult, Outcome, Tier},
    policy::{
        Carried, Forward, Hop, Member, Now, StoredHead, forwarding, precondition, range,
        range::Satisfy,
    },
    store::Stored,
};

/// The head of a fill, as its readers see it.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) status: StatusCode,
    /// Without Age and without our members of Cache-Status.
    pub(crate) fields: HeaderMap,
    /// Set when other requests may have it too.
    pub(crate) shared: Option<StoredHead>,
    /// The body, when it was in the store all along (validated, or stale on error).
    pub(crate) stored: Option<Arc<Stored>>,
    pub(crate) result: CacheResult,
    pub(crate) tier: Tier,
    pub(crate) fwd_status: Option<StatusCode>,
    /// Whether it goes into the store of this node.
    pub(crate) kept: bool,
    /// Members of Cache-Status of the nodes behind this one, origin side first.
    pub(crate) via: Vec<HeaderValue>,
    /// What went wrong on the way, although there is an answer.
    pub(crate) detail: Option<&'static str>,
}

/// What a fetch ends in.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) fields: HeaderMap,
    pub(crate) body: Body,
    pub(crate) outcome: Outcome,
    /// Age and lifetime now, when the answer may be shared further.
    pub(crate) carried: Option<Carried>,
    /// Members of Cache-Status, origin side first, this node's last.
    pub(crate) cache_status: Vec<HeaderValue>,
}

impl Answer {
    /// From the store, applying the request's conditions and range (RFC 9110 §13.2, §14.2).
    pub(crate) fn from_stored(
        request: &Request,
        stored: &Arc<Stored>,
        outcome: Outcome,
        mut cache_status: Vec<HeaderValue>,
        member: &Member,
        now: Now,
    ) -> Self {
        cache_status.push(member.value());
        let head = &stored.head;
        let part = |status, fields, body| Self {
            status,
            fields,
            body,
            outcome,
            carried: None,
            cache_status: cache_status.clone(),
        };
        if let Some(fields) = precondition::evaluate(&request.method, &request.fields, head, now) {
            return part(StatusCode::NOT_MODIFIED, fields, Body::empty());
        }
        let mut fields = head.fields.clone();
        fields.insert(header::AGE, head.age_field(now.instant));
        match range::decide(&request.method, &request.fields, head, stored.length) {
            Satisfy::Part { start, end } => {
                range::forget_content(&mut fields);
                fields.insert(
                    header::CONTENT_RANGE,
                    range::content_range(start, end, Some(stored.length)),
                );
                fields.insert(header::CONTENT_LENGTH, HeaderValue::from(end - start));
                part(
                    StatusCode::PARTIAL_CONTENT,
                    fields,
                    Body::part(stored, start, end),
                )
            }
            Satisfy::Unsatisfiable => {
                fields.insert(
                    header::CONTENT_RANGE,
                    range::unsatisfied_range(stored.length),
                );
                fields.insert(header::CONTENT_LENGTH, HeaderValue::from(0));
                part(StatusCode::RANGE_NOT_SATISFIABLE, fields, Body::empty())
            }
            Satisfy::Whole | Satisfy::Parts(_) => {
                if may_have_body(head.status) {
                    fields.insert(header::CONTENT_LENGTH, HeaderValue::from(stored.length));
                }
                let is_get = request.method == Method::GET;
                let body = if is_get {
                    Body::part(stored, 0, stored.length)
                } else {
                    Body::empty()
                };
                // A 304 may have brought `private`: then it is this client's alone.
                let may_travel = is_get && head.refused().is_none();
                let carried = may_travel.then(|| head.carried(now.instant));
                Self {
                    status: head.status,
                    fields,
                    body,
                    outcome,
                    carried,
                    cache_status,
                }
            }
        }
    }

    /// From a fill, to one of its readers.
    pub(crate) fn from_fill(
        request: &Request,
        head: &Head,
        reader: Reader<Head>,
        forward: Forward,
        collapsed: bool,
        name: &NodeName,
        now: Now,
    ) -> Self {
        let outcome = Outcome {
            result: head.result,
            tier: head.tier,
            collapsed,
        };
        let member = Member {
            fwd_status: head.fwd_status,
            ttl: head.shared.as_ref().map(|shared| shared.ttl(now.instant)),
            stored: head.kept,
            collapsed,
            detail: Some(name.detail(head.detail)),
            ..Member::forwarded(name.cache.as_str(), forward)
        };
        if let Some(stored) = &head.stored {
            return Self::from_stored(request, stored, outcome, head.via.clone(), &member, now);
        }
        let mut cache_status = head.via.clone();
        cache_status.push(member.value());
        let Some(shared) = &head.shared else {
            let (fields, body) = (head.fields.clone(), Body::relay(reader));
            return Self {
                status: head.status,
                fields,
                body,
                outcome,
                carried: None,
                cache_status,
            };
        };
        if let Some(fields) = precondition::evaluate(&request.method, &request.fields, shared, now)
        {
            let (status, body) = (StatusCode::NOT_MODIFIED, Body::empty());
            return Self {
                status,
                fields,
                body,
                outcome,
                carried: None,
                cache_status,
            };
        }
        // What `private="…"` and `no-cache="…"` name is for the one who asked first.
        let own = if collapsed {
            &shared.fields
        } else {
            &head.fields
        };
        let mut fields = own.clone();
        fields.remove(header::AGE);
        // An Age of 0 on the origin's own answer would only say that a cache was asked.
        if shared.current_age(now.instant).as_secs() > 0 {
            fields.insert(header::AGE, shared.age_field(now.instant));
        }
        let carried = Some(shared.carried(now.instant));
        Self {
            status: head.status,
            fields,
            body: Body::relay(reader),
            outcome,
            carried,
            cache_status,
        }
    }

    /// As an HTTP response; [`Outcome`] is an extension of it.
    pub(crate) fn into_response(self, hop: &Hop) -> Response<Body> {
        let mut response = Response::new(self.body);
        *response.status_mut() = self.status;
        *response.headers_mut() = self.fields;
        for member in self.cache_status {
            response.headers_mut().append(header::CACHE_STATUS, member);
        }
        // In which version it came to whoever fetched it is not kept: the one that caches speak.
        forwarding::response(response.headers_mut(), hop, Version::HTTP_11);
        response.extensions_mut().insert(self.outcome);
        response
    }
}

/// RFC 9110 §6.4.1: these end at their head.
fn may_have_body(status: StatusCode) -> bool {
    !(status.is_informational()
        || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED))
}

/// How this node signs what it did.
#[derive(Clone, Debug)]
pub(crate) struct NodeName {
    /// The cache's name in Cache-Status: the same on all nodes.
    pub(crate) cache: String,
    /// The node's, in its detail.
    pub(crate) node: Arc<str>,
}

impl NodeName {
    pub(crate) fn detail(&self, more: Option<&str>) -> String {
        match more {
            Some(more) => format!("{}/{more}", self.node),
            None => self.node.to_string(),
        }
    }

    /// A hit at this node.
    pub(crate) fn hit(&self, head: &StoredHead, now: Now) -> Member {
        Member {
            detail: Some(self.detail(None)),
            ..Member::hit(self.cache.as_str(), head.ttl(now.instant))
        }
    }
}

/// A response's body: nothing, a part of what is stored, or a fill's as it arrives.
#[derive(Debug)]
pub struct Body(Kind);

#[derive(Debug)]
enum Kind {
    Empty,
    Part {
        stored: Arc<Stored>,
        /// Index of the next chunk, and bytes to skip in it.
        chunk: usize,
        skip: u64,
        left: u64,
    },
    Relay(Reader<Head>),
    Origin(Box<OriginBody>),
}

impl Body {
    /// No body.
    #[must_use]
    pub const fn empty() -> Self {
        Self(Kind::Empty)
    }

    fn relay(reader: Reader<Head>) -> Self {
        Self(Kind::Relay(reader))
    }

    /// Straight from the origin, for one request alone.
    pub(crate) fn origin(body: OriginBody) -> Self {
        Self(Kind::Origin(Box::new(body)))
    }

    /// Bytes `start..end` of a stored body.
    fn part(stored: &Arc<Stored>, start: u64, end: u64) -> Self {
        let (mut chunk, mut skip) = (0, start);
        while let Some(bytes) = stored.chunks.get(chunk)
            && skip >= bytes.len() as u64
        {
            skip -= bytes.len() as u64;
            chunk += 1;
        }
        Self(Kind::Part {
            stored: Arc::clone(stored),
            chunk,
            skip,
            left: end.saturating_sub(start),
        })
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut self.get_mut().0 {
            Kind::Empty => Poll::Ready(None),
            Kind::Relay(reader) => Pin::new(reader).poll_frame(cx),
            Kind::Origin(body) => body
                .poll_chunk(cx)
                .map(|chunk| chunk.map(|chunk| chunk.map(Frame::data))),
            Kind::Part {
                stored,
                chunk,
                skip,
                left,
            } => {
                let Some(bytes) = stored.chunks.get(*chunk).filter(|_| *left > 0) else {
                    return Poll::Ready(None);
                };
                // Both fit: a chunk is in memory, and `skip` is less than its length.
                let start = *skip as usize;
                let end = bytes
                    .len()
                    .min(start + usize::try_from(*left).unwrap_or(usize::MAX - start));
                (*chunk, *skip) = (*chunk + 1, 0);
                *left -= (end - start) as u64;
                Poll::Ready(Some(Ok(Frame::data(bytes.slice(start..end)))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(&self.0, Kind::Empty | Kind::Part { left: 0, .. })
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Empty => SizeHint::with_exact(0),
            Kind::Part { left, .. } => SizeHint::with_exact(*left),
            Kind::Relay(_) => SizeHint::default(),
            Kind::Origin(body) => body.size_hint(),
        }
    }
}
