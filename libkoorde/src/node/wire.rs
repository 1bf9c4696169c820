//! Protobuf ↔ ours: with its `ring` half, the only place that names both. What is malformed or out of bounds is
//! refused here, so nothing behind it has to wonder.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use koorde_proto::peer::v1::{self as proto, failed::Kind};

use super::{
    Overrides, Request,
    answer::Answer,
    origin::{Ask, Grant, VALID},
};
use crate::{
    error::{BodyError, FetchError},
    outcome::CacheResult,
    policy::{Carried, Target},
    store::Stored,
};

pub(crate) mod cache;
#[cfg(fuzzing)]
pub mod fuzzing;
mod handoff;
mod offer;
mod purge;
mod ring;
mod stats;
pub(crate) use handoff::{
    HandOffStart, HandedOver, hand_off_start, hand_off_started, handed_chunk, handed_over,
    taken_over,
};
pub(crate) use offer::{Offered, PeerGrant, grant, lent, lost, offer_head, offered, put_head};
pub(crate) use purge::{
    MAX_URLS, answer_sync, behind, invalidate, invalidated, is_behind, sync, sync_reply, synced,
};
pub(crate) use ring::{envelope, hello, message, sender};
pub(crate) use stats::{
    MAX_ASKED, MAX_HOT, MAX_STATS, ToldAndOthers, stats_asked, stats_reply, stats_request, told,
};

/// Version of the protocol and of the rules by which keys are made and hashed.
pub(crate) const VERSION: u32 = 1;

/// Largest message accepted, in bytes. A chunk is what one read of an origin gave, a full exchange
/// of membership some 30 kB.
pub(crate) const MAX_MESSAGE: usize = 4 << 20;

/// Fields of one message, at most: more than the doors' 16 KiB of head can hold.
const MAX_FIELDS: usize = 1024;

/// Bytes of an origin's or a node's name in a lease, at most.
const MAX_NAME: usize = 512;

/// Longest rest of an origin that a peer is believed.
const MAX_REST: Duration = Duration::from_secs(3600);

pub(crate) fn fields(fields: &HeaderMap) -> Vec<proto::Field> {
    fields
        .iter()
        .map(|(name, value)| field(name, value))
        .collect()
}

fn field(name: &HeaderName, value: &HeaderValue) -> proto::Field {
    let value = Bytes::copy_from_slice(value.as_bytes());
    proto::Field {
        name: name.as_str().to_owned(),
        value,
    }
}

pub(crate) fn field_map(fields: Vec<proto::Field>) -> Result<HeaderMap, String> {
    if fields.len() > MAX_FIELDS {
        return Err(format!("{} fields, at most {MAX_FIELDS}", fields.len()));
    }
    let mut map = HeaderMap::with_capacity(fields.len());
    for proto::Field { name, value } in fields {
        let field =
            HeaderName::from_bytes(name.as_bytes()).map_err(|_| format!("field name {name:?}"))?;
        let value =
            HeaderValue::from_maybe_shared(value).map_err(|_| format!("value of field {name}"))?;
        map.append(field, value);
    }
    Ok(map)
}

/// A peer's request, as if its client had asked us.
pub(crate) fn request(asked: proto::FetchRequest) -> Result<Request, String> {
    let target = Target::parse(&asked.target).map_err(|error| format!("target: {error}"))?;
    let method = match asked.method.as_str() {
        "GET" => Method::GET,
        "HEAD" => Method::HEAD,
        other => return Err(format!("method {other:?}: must be GET or HEAD")),
    };
    let mut request = Request::new(method, target, field_map(asked.fields)?);
    request.slice = asked.slice.checked_sub(1);
    let lifetime = Some(asked.lifetime_ms).filter(|ms| *ms > 0);
    let lifetime = lifetime.map(Duration::from_millis);
    let (tenant, stored_as) = (&asked.tenant, &asked.stored_as);
    request.overrides = Overrides::new(&request.target, tenant, stored_as, lifetime)?;
    if asked.http2 {
        request.version = http::Version::HTTP_2;
    }
    Ok(request)
}

/// What an operator asks about.
pub(crate) fn inspected(asked: proto::InspectRequest) -> Result<Request, String> {
    let target = Target::parse(&asked.target).map_err(|error| format!("target: {error}"))?;
    let mut request = Request::new(Method::GET, target, field_map(asked.fields)?);
    request.slice = asked.slice.checked_sub(1);
    let (tenant, stored_as) = (&asked.tenant, &asked.stored_as);
    request.overrides = Overrides::new(&request.target, tenant, stored_as, None)?;
    Ok(request)
}

/// The trace context of a peer's request, as fields.
pub(crate) fn trace(asked: &proto::FetchRequest) -> HeaderMap {
    let mut fields = HeaderMap::new();
    for (name, value) in [
        ("traceparent", &asked.traceparent),
        ("tracestate", &asked.tracestate),
    ] {
        if !value.is_empty()
            && let Ok(value) = HeaderValue::try_from(value)
        {
            fields.insert(name, value);
        }
    }
    fields
}

/// An interim response that passes through a peer.
pub(crate) fn interim(one: proto::Interim) -> Result<(StatusCode, HeaderMap), String> {
    let status = u16::try_from(one.status)
        .ok()
        .and_then(|status| StatusCode::from_u16(status).ok())
        .filter(StatusCode::is_informational);
    let status = status.ok_or_else(|| format!("interim status {}", one.status))?;
    Ok((status, field_map(one.fields)?))
}

pub(crate) fn interim_part(status: StatusCode, fields: &HeaderMap) -> proto::FetchReply {
    let one = proto::Interim {
        status: status.as_u16().into(),
        fields: self::fields(fields),
    };
    proto::FetchReply {
        part: Some(proto::fetch_reply::Part::Interim(one)),
    }
}

/// The head of a peer's answer.
#[derive(Debug)]
pub(crate) struct PeerHead {
    pub(crate) status: StatusCode,
    pub(crate) fields: HeaderMap,
    pub(crate) cache_status: Vec<HeaderValue>,
    pub(crate) carried: Option<Carried>,
    /// What the peer needed itself; counted in the carried age already.
    pub(crate) spent: Duration,
    pub(crate) result: CacheResult,
}

pub(crate) fn head(head: proto::Head) -> Result<PeerHead, String> {
    let status = u16::try_from(head.status)
        .ok()
        .and_then(|status| StatusCode::from_u16(status).ok());
    let spent = head.shared.map_or(0, |shared| shared.spent_ms);
    let carried = head.shared.map(|shared| Carried {
        age: Duration::from_millis(shared.age_ms),
        lifetime: Duration::from_millis(shared.lifetime_ms),
    });
    let cache_status = head
        .cache_status
        .into_iter()
        .map(HeaderValue::try_from)
        .collect::<Result<_, _>>();
    Ok(PeerHead {
        status: status.ok_or_else(|| format!("status {}", head.status))?,
        fields: field_map(head.fields)?,
        cache_status: cache_status.map_err(|_| "a member of Cache-Status".to_owned())?,
        carried,
        spent: Duration::from_millis(spent),
        // A newer peer may know more words; what it did is only told on, never acted on.
        result: CacheResult::parse(&head.outcome).unwrap_or(CacheResult::Miss),
    })
}

pub(crate) fn answer_head(
    answer: &Answer,
    carried: Option<Carried>,
    spent: Duration,
) -> proto::Head {
    let member = |value: &HeaderValue| value.to_str().unwrap_or_default().to_owned();
    proto::Head {
        status: answer.status.as_u16().into(),
        fields: fields(&answer.fields),
        cache_status: answer.cache_status.iter().map(member).collect(),
        shared: carried.map(|carried| proto::Shared {
            age_ms: millis(carried.age),
            lifetime_ms: millis(carried.lifetime),
            spent_ms: millis(spent),
        }),
        outcome: answer.outcome.result.as_str().to_owned(),
    }
}

pub(crate) fn variant(stored: &Stored, now: Instant) -> proto::Variant {
    let head = &stored.head;
    let selecting = head.selecting.pairs().map(|(name, value)| proto::Field {
        name: name.as_str().to_owned(),
        value: Bytes::copy_from_slice(value.unwrap_or_default()),
    });
    proto::Variant {
        status: head.status.as_u16().into(),
        fields: fields(&head.fields),
        selecting: selecting.collect(),
        length: stored.length,
        age_ms: millis(head.current_age(now)),
        lifetime_ms: millis(head.lifetime),
        content_range: head.part.map_or_else(String::new, |part| {
            part.content_range().to_str().unwrap_or_default().to_owned()
        }),
        purged: stored.purged,
    }
}

pub(crate) fn failure(error: &FetchError) -> proto::Failed {
    let kind = match error {
        FetchError::Denied { .. } => Kind::Denied,
        // A body goes to the origin past all peers: none hears that it broke off.
        FetchError::Origin(_) | FetchError::Upload(_) => Kind::Origin,
        FetchError::OriginTimeout(_) => Kind::OriginTimeout,
        FetchError::NotValidated(_) => Kind::NotValidated,
        FetchError::NotSliced => Kind::NotSliced,
        FetchError::Overloaded(_) | FetchError::Stopping => Kind::Overloaded,
        FetchError::NotStored => Kind::NotStored,
        FetchError::NotShared { .. } => Kind::NotShared,
        FetchError::Loop | FetchError::MaxForwards => Kind::Loop,
        FetchError::Resting { .. } => Kind::Resting,
    };
    let (message, milliseconds) = match error {
        FetchError::Denied { reason, target } => (format!("{reason} {target}"), 0),
        FetchError::Origin(why) | FetchError::NotValidated(why) | FetchError::Upload(why) => {
            (why.clone(), 0)
        }
        FetchError::OriginTimeout(ms) => (String::new(), *ms),
        FetchError::NotShared { lasts } => (error.to_string(), u64::from(*lasts)),
        FetchError::Resting {
            reason,
            retry_after,
        } => ((*reason).to_owned(), millis(*retry_after)),
        FetchError::Overloaded(_)
        | FetchError::Stopping
        | FetchError::NotStored
        | FetchError::NotSliced
        | FetchError::Loop
        | FetchError::MaxForwards => (error.to_string(), 0),
    };
    proto::Failed {
        kind: kind.into(),
        message,
        milliseconds,
    }
}

pub(crate) fn failed(failed: &proto::Failed) -> FetchError {
    match failed.kind() {
        Kind::OriginTimeout => FetchError::OriginTimeout(failed.milliseconds),
        Kind::Denied => {
            let (reason, target) = failed
                .message
                .split_once(' ')
                .unwrap_or(("", &failed.message));
            FetchError::Denied {
                reason: super::egress::reason(reason),
                target: target.to_owned(),
            }
        }
        Kind::Overloaded => FetchError::Overloaded("the owner's fills"),
        Kind::NotStored | Kind::Behind => FetchError::NotStored,
        Kind::NotShared => FetchError::NotShared {
            lasts: failed.milliseconds > 0,
        },
        Kind::NotSliced => FetchError::NotSliced,
        Kind::NotValidated => FetchError::NotValidated(failed.message.clone()),
        Kind::Loop => FetchError::Loop,
        Kind::Resting => FetchError::Resting {
            reason: match failed.message.as_str() {
                "retry-after" => "retry-after",
                _ => "breaker-open",
            },
            retry_after: Duration::from_millis(failed.milliseconds).min(MAX_REST),
        },
        // Behind a grant only, where it is one of all that end it.
        Kind::Origin | Kind::LeaseLost | Kind::Unspecified => {
            FetchError::Origin(failed.message.clone())
        }
    }
}

/// An ask for a part of a budget.
pub(crate) fn lease(cluster: &str, origin: &str, node: &str, ask: &Ask) -> proto::LeaseRequest {
    proto::LeaseRequest {
        version: VERSION,
        cluster: cluster.to_owned(),
        origin: origin.to_owned(),
        node: node.to_owned(),
        in_use: ask.in_use,
        want_slots: ask.wants,
        want_tokens: ask.tokens,
        number: ask.number,
    }
}

pub(crate) fn asked(request: &proto::LeaseRequest) -> Result<Ask, String> {
    for (name, text) in [("origin", &request.origin), ("node", &request.node)] {
        if text.is_empty() || text.len() > MAX_NAME {
            return Err(format!("{name}: {} bytes, 1 to {MAX_NAME}", text.len()));
        }
    }
    Ok(Ask {
        in_use: request.in_use,
        wants: request.want_slots,
        tokens: request.want_tokens,
        number: request.number,
    })
}

pub(crate) fn leased(grant: Grant) -> proto::LeaseReply {
    proto::LeaseReply {
        slots: grant.slots,
        tokens: grant.tokens,
        valid_ms: u32::try_from(VALID.as_millis()).unwrap_or(u32::MAX),
        contended: grant.contended,
    }
}

/// What was granted. An owner whose leases are shorter than ours is not understood.
pub(crate) fn granted(reply: proto::LeaseReply) -> Result<Grant, String> {
    if u128::from(reply.valid_ms) < VALID.as_millis() {
        return Err(format!("a lease of {} ms", reply.valid_ms));
    }
    Ok(Grant {
        slots: reply.slots,
        tokens: reply.tokens,
        contended: reply.contended,
    })
}

pub(crate) fn cut(error: &BodyError) -> proto::Failed {
    proto::Failed {
        kind: Kind::Origin.into(),
        message: error.to_string(),
        milliseconds: 0,
    }
}

/// The URL that a request is stored as, if that is not its own.
pub(crate) fn stored_as(request: &Request) -> String {
    let stored_as = request.overrides.stored_as();
    stored_as.map_or_else(String::new, |target| target.to_string())
}

pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
