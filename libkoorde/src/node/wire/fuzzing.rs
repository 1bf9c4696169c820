//! What peers say and whom they may reach, for the fuzz targets in `tests/fuzz` and for nobody else:
//! built only where cargo-fuzz builds. Each function reads a message as the node does; those that
//! return a message write again what was read.

use std::net::SocketAddr;

use http::{HeaderMap, StatusCode};
use koorde_proto::{cache::v1 as cache, peer::v1 as peer, ring::v1 as ring};

use super::MAX_NAME;
use crate::{
    node::{Request, egress::Guard},
    purge::{Bounds, Purges},
    ring::Message,
};

/// Reads a [`peer::FetchRequest`]: the request and its slice.
///
/// # Errors
/// It is refused, and why.
pub fn fetch_request(asked: peer::FetchRequest) -> Result<(Request, Option<u64>), String> {
    let trace = super::trace(&asked);
    assert!(trace.len() <= 2, "{trace:?}");
    let request = super::request(asked)?;
    let slice = request.slice;
    Ok((request, slice))
}

/// Reads a [`peer::InspectRequest`].
///
/// # Errors
/// It is refused, and why.
pub fn inspect_request(asked: peer::InspectRequest) -> Result<Request, String> {
    super::inspected(asked)
}

/// Reads the head of an answer: its status, fields and members of Cache-Status.
///
/// # Errors
/// It is refused, and why.
pub fn head(head: peer::Head) -> Result<(StatusCode, HeaderMap, usize), String> {
    let read = super::head(head)?;
    Ok((read.status, read.fields, read.cache_status.len()))
}

/// Reads an interim response and writes it again.
///
/// # Errors
/// It is refused, and why.
pub fn interim(one: peer::Interim) -> Result<peer::FetchReply, String> {
    let (status, fields) = super::interim(one)?;
    Ok(super::interim_part(status, &fields))
}

/// Reads a failure and writes it again.
#[must_use]
pub fn failed(failed: &peer::Failed) -> peer::Failed {
    super::failure(&super::failed(failed))
}

/// Reads what a node asks of a budget, and writes it again.
///
/// # Errors
/// It is refused, and why.
pub fn lease_request(asked: &peer::LeaseRequest) -> Result<peer::LeaseRequest, String> {
    let ask = super::asked(asked)?;
    assert!(asked.origin.len() <= MAX_NAME && asked.node.len() <= MAX_NAME);
    Ok(super::lease(
        &asked.cluster,
        &asked.origin,
        &asked.node,
        &ask,
    ))
}

/// Reads what an owner grants, and writes it again.
///
/// # Errors
/// It is refused, and why.
pub fn lease_reply(reply: peer::LeaseReply) -> Result<peer::LeaseReply, String> {
    super::granted(reply).map(super::leased)
}

/// Reads a lease of a fill, and writes it again.
///
/// # Errors
/// It is refused, and why.
pub fn granted(granted: peer::Granted) -> Result<peer::FetchReply, String> {
    let grant = super::grant(granted)?;
    Ok(super::lent(&grant.lease, grant.valid, &grant.conditions))
}

/// Reads the head of an offer, and writes it again.
///
/// # Errors
/// It is refused, and why.
pub fn offer_head(head: peer::OfferHead) -> Result<peer::OfferHead, String> {
    let cluster = head.cluster.clone();
    let offered = super::offered(head)?;
    let head = offered.head.map(|head| head.into_parts().0);
    Ok(super::offer_head(
        &cluster,
        offered.lease,
        head.as_ref(),
        offered.lifetime,
    ))
}

/// Reads what a node that leaves hands over: the key's bytes, and how many fields there are.
///
/// # Errors
/// It is refused, and why.
pub fn handed_over(handed: peer::HandedOver) -> Result<(Vec<u8>, usize), String> {
    let read = super::taken_over(handed)?;
    Ok((read.key.as_bytes().to_vec(), read.fields.len()))
}

/// Reads what a member tells of itself.
///
/// # Errors
/// It is refused, and why.
pub fn stats_reply(reply: peer::StatsReply) -> Result<peer::StatsReply, String> {
    let (told, others) = super::told(reply)?;
    Ok(super::stats_reply(&told, &others))
}

/// Reads what a client looks aside for.
///
/// # Errors
/// It is refused, and why.
pub fn cache_target(target: cache::Target) -> Result<Request, String> {
    super::cache::request(Some(target))
}

/// Reads the head of what a client puts: its status, 0 for no response, and its fields.
///
/// # Errors
/// It is refused, and why.
pub fn cache_put(head: cache::PutHead) -> Result<(u16, usize), String> {
    let put = super::cache::put(head)?;
    let read = put
        .head
        .map(|head| (head.status().as_u16(), head.headers().len()));
    Ok(read.unwrap_or((0, 0)))
}

/// Reads what a client purges.
///
/// # Errors
/// It is refused, and why.
pub fn cache_purge(asked: cache::PurgeRequest) -> Result<String, String> {
    super::cache::purged(asked.scope, &asked.tenant).map(|purged| format!("{purged:?}"))
}

/// Reads a deadline as gRPC writes it.
#[must_use]
pub fn deadline(value: &str) -> Option<std::time::Duration> {
    super::cache::timeout(value)
}

/// Reads what a node knows of purges, and writes it again.
///
/// # Errors
/// It is refused, and why.
pub fn purge_sync(cluster: &str, asked: peer::PurgeSync) -> Result<peer::PurgeSync, String> {
    super::synced(asked).map(|sync| super::sync(cluster, &sync))
}

/// Reads the answer to that, and writes it again.
///
/// # Errors
/// It is refused, and why.
pub fn purge_sync_reply(reply: peer::PurgeSyncReply) -> Result<peer::PurgeSyncReply, String> {
    super::sync_reply(reply).map(super::answer_sync)
}

/// Lets a node that keeps little hear all these, one after the other: how many purges it would
/// tell back each time.
#[must_use]
pub fn merged(heard: Vec<peer::PurgeSync>) -> Vec<usize> {
    let node = Purges::new(Bounds { scopes: 8, log: 8 });
    let read = heard.into_iter().flat_map(super::synced);
    read.map(|sync| {
        let before = node.version();
        let known = sync.known.unwrap_or_default();
        // What stands before its predecessor is taken when it is heard again.
        let rounds = 0..=sync.entries.len();
        let applied = rounds.map(|_| node.merge(&sync.entries, known.horizon).applied);
        assert!(applied.into_iter().any(|news| news == 0), "it ends");
        assert!(node.version() >= before, "purges are not forgotten");
        let (digest, version) = (node.digest(), node.version());
        node.merge(&sync.entries, known.horizon);
        assert_eq!(node.digest(), digest, "what is known is no news");
        assert_eq!(node.version(), version, "what is known is no news");
        node.missing(&known).len()
    })
    .collect()
}

/// Reads what an unsafe request made stale, and writes it again.
///
/// # Errors
/// It is refused, and why.
pub fn invalidate(asked: peer::InvalidateRequest) -> Result<peer::InvalidateRequest, String> {
    let cluster = asked.cluster.clone();
    super::invalidated(asked).map(|stale| super::invalidate(&cluster, &stale))
}

/// Reads a message of the ring.
///
/// # Errors
/// It is refused, and why.
pub fn message(envelope: ring::Envelope) -> Result<Message, String> {
    super::message(envelope)
}

/// Writes a message of the ring.
#[must_use]
pub fn envelope(message: &Message) -> ring::Envelope {
    super::envelope(message)
}

/// Reads who opens a stream of the ring's messages.
///
/// # Errors
/// It is refused, and why.
pub fn sender(hello: ring::Envelope) -> Result<SocketAddr, String> {
    super::sender(hello)
}

/// What the guard with this allow-list says of a host that resolved to these addresses.
///
/// # Errors
/// An entry that cannot be read, in the outer one; the refusal, in the inner one.
pub fn egress(
    allow: &[String],
    host: &str,
    addresses: &[SocketAddr],
) -> Result<Result<(), String>, String> {
    let guard = Guard::new(allow)?;
    let checked = guard.check(host, addresses);
    Ok(checked.map_err(|denied| denied.to_string()))
}
