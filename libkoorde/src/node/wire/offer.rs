//! Leases of fills, and what is put under them, between nodes.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode, response};
use koorde_proto::peer::v1::{self as proto, failed::Kind};

use super::{VERSION, field_map, fields, millis};

/// Bytes of a lease's id, at most.
const MAX_LEASE: usize = 64;

/// A lease that a peer has given us.
#[derive(Debug)]
pub(crate) struct PeerGrant {
    pub(crate) lease: Bytes,
    pub(crate) valid: Duration,
    pub(crate) conditions: HeaderMap,
}

pub(crate) fn grant(granted: proto::Granted) -> Result<PeerGrant, String> {
    Ok(PeerGrant {
        lease: lease_id(granted.lease)?,
        valid: Duration::from_millis(granted.valid_ms),
        conditions: field_map(granted.conditions)?,
    })
}

pub(crate) fn lent(lease: &[u8], valid: Duration, conditions: &HeaderMap) -> proto::FetchReply {
    let granted = proto::Granted {
        lease: Bytes::copy_from_slice(lease),
        valid_ms: millis(valid),
        conditions: fields(conditions),
    };
    proto::FetchReply {
        part: Some(proto::fetch_reply::Part::Granted(granted)),
    }
}

/// A lease is over, and nothing came of it.
pub(crate) fn lost() -> proto::FetchReply {
    let failed = proto::Failed {
        kind: Kind::LeaseLost.into(),
        message: "the lease was lost".to_owned(),
        milliseconds: 0,
    };
    proto::FetchReply {
        part: Some(proto::fetch_reply::Part::Failed(failed)),
    }
}

/// What is put under a lease.
#[derive(Debug)]
pub(crate) struct Offered {
    pub(crate) lease: Bytes,
    /// None: no response came.
    pub(crate) head: Option<Response<()>>,
    pub(crate) lifetime: Option<Duration>,
}

pub(crate) fn offered(head: proto::OfferHead) -> Result<Offered, String> {
    let lifetime = Some(head.lifetime_ms).filter(|ms| *ms > 0);
    Ok(Offered {
        lease: lease_id(head.lease)?,
        head: put_head(head.status, field_map(head.fields)?)?,
        lifetime: lifetime.map(Duration::from_millis),
    })
}

/// None for a status of 0: no response came.
pub(crate) fn put_head(status: u32, fields: HeaderMap) -> Result<Option<Response<()>>, String> {
    if status == 0 {
        return Ok(None);
    }
    let known = u16::try_from(status)
        .ok()
        .and_then(|status| StatusCode::from_u16(status).ok())
        .filter(|status| !status.is_informational());
    let mut head = Response::new(());
    *head.status_mut() = known.ok_or_else(|| format!("status {status}"))?;
    *head.headers_mut() = fields;
    Ok(Some(head))
}

pub(crate) fn offer_head(
    cluster: &str,
    lease: Bytes,
    head: Option<&response::Parts>,
    lifetime: Option<Duration>,
) -> proto::OfferHead {
    proto::OfferHead {
        version: VERSION,
        cluster: cluster.to_owned(),
        lease,
        status: head.map_or(0, |head| head.status.as_u16().into()),
        fields: head.map_or_else(Vec::new, |head| fields(&head.headers)),
        lifetime_ms: lifetime.map_or(0, millis),
    }
}

fn lease_id(id: Bytes) -> Result<Bytes, String> {
    if id.len() > MAX_LEASE {
        return Err(format!(
            "a lease of {} bytes, at most {MAX_LEASE}",
            id.len()
        ));
    }
    Ok(id)
}
