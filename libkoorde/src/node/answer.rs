//! An answer on its way out: what a fetch ends in, before a door (HTTP or a peer) words it.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Version, header};

use super::{Request, body::Body, relay::Reader};
use crate::{
    outcome::{CacheResult, Outcome, Tier},
    policy::{
        Carried, Forward, Hop, Member, Multipart, Now, StoredHead, cache_status::HitMember,
        fields::age, forwarding, precondition, range, range::Satisfy,
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
    /// From the store, applying a request's conditions and range (RFC 9110 §13.2, §14.2).
    pub(crate) fn from_stored(
        (method, asked): (&Method, &HeaderMap),
        stored: &Arc<Stored>,
        outcome: Outcome,
        cache_status: Vec<HeaderValue>,
        now: Now,
    ) -> Self {
        let head = &stored.head;
        let carried = head.carried(now.instant);
        let answer = |status, fields, body| Self {
            status,
            fields,
            body,
            outcome,
            // A 304 may have brought `private`: then it is this client's alone.
            carried: (head.refused().is_none() && *method == Method::GET).then_some(carried),
            cache_status,
        };
        if let Some(fields) = precondition::evaluate(method, asked, head, now) {
            return Self {
                carried: None,
                ..answer(StatusCode::NOT_MODIFIED, fields, Body::empty())
            };
        }
        let mut fields = with_room(&head.fields);
        fields.insert(header::AGE, age::write(carried.age));
        let partial = StatusCode::PARTIAL_CONTENT;
        let complete = head.part.map_or(Some(stored.length), |part| part.complete);
        match range::decide(method, asked, head, stored.length) {
            Satisfy::Part { start, end } => {
                range::forget_content(&mut fields);
                let range = range::content_range(start, end, complete);
                fields.insert(header::CONTENT_RANGE, range);
                fields.insert(header::CONTENT_LENGTH, HeaderValue::from(end - start));
                answer(partial, fields, Body::part(stored, start, end))
            }
            Satisfy::Parts(ranges) if let Some(words) = words(stored, &ranges, complete) => {
                range::forget_content(&mut fields);
                fields.insert(header::CONTENT_TYPE, words.content_type());
                let length = HeaderValue::from(words.content_length());
                fields.insert(header::CONTENT_LENGTH, length);
                Self {
                    carried: None,
                    ..answer(partial, fields, Body::multipart(stored, &words))
                }
            }
            Satisfy::Unsatisfiable => {
                range::forget_content(&mut fields);
                let complete = complete.unwrap_or(stored.length);
                fields.insert(header::CONTENT_RANGE, range::unsatisfied_range(complete));
                fields.insert(header::CONTENT_LENGTH, HeaderValue::from(0));
                Self {
                    carried: None,
                    ..answer(StatusCode::RANGE_NOT_SATISFIABLE, fields, Body::empty())
                }
            }
            Satisfy::Whole | Satisfy::Parts(_) => {
                let length = complete.unwrap_or(stored.length);
                if may_have_body(head.status) {
                    fields.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
                }
                let body = if *method == Method::GET && head.part.is_none() {
                    Body::stored(stored)
                } else {
                    Body::empty()
                };
                answer(head.status, fields, body)
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
        let mut cache_status = head.via.clone();
        cache_status.push(member.value());
        if let Some(stored) = &head.stored {
            let asked = (&request.method, &request.fields);
            return Self::from_stored(asked, stored, outcome, cache_status, now);
        }
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
        // What is stored of a 206 no longer says which bytes it has.
        for name in [header::CONTENT_RANGE, header::CONTENT_LENGTH] {
            if let Some(value) = head.fields.get(&name) {
                fields.insert(name, value.clone());
            }
        }
        // An Age of 0 on the origin's own answer would only say that a cache was asked; on what a
        // cache had stored it is a MUST (RFC 9111 §4).
        let is_reused = head.result != CacheResult::Miss;
        if is_reused || shared.current_age(now.instant).as_secs() > 0 {
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

/// A copy of what is stored, with room for what is said beside it: Age, Content-Length, Cache-Status
/// and Via. Where a plain copy would have to grow, its fields would be put into a table twice.
fn with_room(fields: &HeaderMap) -> HeaderMap {
    let length = fields.len() + 4;
    if fields.capacity() >= length {
        return fields.clone();
    }
    let mut copy = HeaderMap::with_capacity(length);
    for (name, value) in fields {
        copy.append(name.clone(), value.clone());
    }
    copy
}

/// How several ranges of it are worded. The boundary is a hash of what is sent and when it came:
/// a body that holds it would have had to know it.
fn words(stored: &Stored, ranges: &[(u64, u64)], complete: Option<u64>) -> Option<Multipart> {
    let mut hasher = blake3::Hasher::new();
    hasher.update(format!("{:?} {ranges:?}", stored.head.received).as_bytes());
    stored
        .chunks
        .first()
        .map(|chunk| hasher.update(&chunk[..chunk.len().min(1024)]));
    let boundary = &hasher.finalize().to_hex()[..32];
    let kind = stored.head.fields.get(header::CONTENT_TYPE);
    Multipart::new(kind, ranges, complete?, boundary)
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
    hit: HitMember,
}

impl NodeName {
    pub(crate) fn new(cache: &str, node: &str) -> Self {
        Self {
            cache: cache.to_owned(),
            node: node.into(),
            hit: HitMember::new(cache, node),
        }
    }

    pub(crate) fn detail(&self, more: Option<&str>) -> String {
        match more {
            Some(more) => format!("{}/{more}", self.node),
            None => self.node.to_string(),
        }
    }

    /// The member of Cache-Status for a hit at this node that is fresh for so many seconds.
    pub(crate) fn hit(&self, ttl: i64) -> HeaderValue {
        self.hit.value(ttl)
    }
}
