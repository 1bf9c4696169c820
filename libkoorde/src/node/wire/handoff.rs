//! Stored responses on their way from a node that leaves.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use koorde_proto::peer::v1::{self as proto, hand_off_request::Part};

use super::{VERSION, field, field_map, millis, variant};
use crate::{
    id::Id,
    policy::{CacheKey, Carried},
    store::Stored,
};

/// Who hands over.
#[derive(Debug)]
pub(crate) struct HandOffStart {
    pub(crate) node: Id,
    pub(crate) purges: u64,
}

/// What is handed over, but for its body.
#[derive(Debug)]
pub(crate) struct HandedOver {
    pub(crate) key: CacheKey,
    pub(crate) status: StatusCode,
    pub(crate) fields: HeaderMap,
    pub(crate) selecting: HeaderMap,
    pub(crate) length: u64,
    pub(crate) carried: Carried,
    /// From the start of the call until it was written.
    pub(crate) elapsed: Duration,
}

pub(crate) fn hand_off_start(cluster: &str, node: Id, purges: u64) -> proto::HandOffRequest {
    request(Part::Start(proto::HandOffStart {
        version: VERSION,
        cluster: cluster.to_owned(),
        node: node.0,
        purges,
    }))
}

pub(crate) fn handed_over(
    key: &CacheKey,
    stored: &Stored,
    now: Instant,
    elapsed: Duration,
) -> proto::HandOffRequest {
    let mut variant = variant(stored, now);
    // A request that had no such field is another than one whose field was empty.
    let selecting = stored.head.selecting.pairs();
    variant.selecting = selecting
        .filter_map(|(name, value)| {
            let value = HeaderValue::from_bytes(value?).ok()?;
            Some(field(name, &value))
        })
        .collect();
    request(Part::Response(proto::HandedOver {
        key: Bytes::copy_from_slice(key.as_bytes()),
        variant: Some(variant),
        elapsed_ms: millis(elapsed),
    }))
}

pub(crate) fn handed_chunk(data: &Bytes) -> proto::HandOffRequest {
    request(Part::Chunk(proto::Chunk { data: data.clone() }))
}

fn request(part: Part) -> proto::HandOffRequest {
    proto::HandOffRequest { part: Some(part) }
}

pub(crate) fn hand_off_started(start: &proto::HandOffStart) -> HandOffStart {
    HandOffStart {
        node: Id(start.node),
        purges: start.purges,
    }
}

/// A part comes as the 206 that it was; what a purge has taken does not come.
pub(crate) fn taken_over(handed: proto::HandedOver) -> Result<HandedOver, String> {
    let key = CacheKey::from_bytes(&handed.key).map_err(|error| format!("key: {error}"))?;
    let variant = handed.variant.ok_or("there is no response")?;
    let status = u16::try_from(variant.status)
        .ok()
        .and_then(|status| StatusCode::from_u16(status).ok());
    let mut status = status.ok_or_else(|| format!("status {}", variant.status))?;
    let mut fields = field_map(variant.fields)?;
    if !variant.content_range.is_empty() {
        let range = HeaderValue::try_from(variant.content_range);
        fields.insert(header::CONTENT_RANGE, range.map_err(|_| "a content range")?);
        status = StatusCode::PARTIAL_CONTENT;
    }
    let lifetime = if variant.purged {
        0
    } else {
        variant.lifetime_ms
    };
    Ok(HandedOver {
        key,
        status,
        fields,
        selecting: field_map(variant.selecting)?,
        length: variant.length,
        carried: Carried {
            age: Duration::from_millis(variant.age_ms),
            lifetime: Duration::from_millis(lifetime),
        },
        elapsed: Duration::from_millis(handed.elapsed_ms),
    })
}
