//! A fill whose key another node owns, lent to a client of this one: the owner lends it to us, we to
//! the client, and what the client puts goes to the owner, from where all who wait have it.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Instant,
};

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use http::StatusCode;
use koorde_proto::peer::v1::{Chunk, End, Mode, OfferRequest, offer_request::Part};
use tokio::{sync::mpsc, time};
use tracing::debug;

use super::{DECIDE, Lender, Offer, RENEW};
use crate::{
    error::FetchError,
    node::{
        clock,
        fill::Fill,
        origin::Piece,
        peers::{PeerAnswer, PeerBody, PeerError},
        relay::Failure,
        wire::{self, PeerGrant},
    },
    ring::protocol::Member,
};

impl Fill {
    /// Asks the owners, best first, for their answer or their lease.
    pub(crate) async fn lease_from_owners(&mut self, lender: Lender) {
        for owner in std::mem::take(&mut self.miss.owners) {
            let left = self.miss.left(clock::now().instant);
            let (mode, left) = if lender.renews {
                (Mode::Renew, left.min(RENEW))
            } else {
                (Mode::Lease, left)
            };
            match self.ask_in(&owner, mode, left).await {
                Ok((PeerAnswer::Granted(grant, body), started)) => {
                    return self.borrow(lender, &owner, grant, body, started).await;
                }
                Ok((PeerAnswer::Response(head, body), started)) => {
                    return self.relay_peer(head, body, started, false).await;
                }
                Err(PeerError::Failed(error)) => return self.relay().head(Err(error.into())),
                Err(why) => debug!(owner = %owner.name, ?why, "No lease; trying the next."),
            }
        }
        self.relay().head(Err(Failure::OwnersUnreachable));
    }

    async fn borrow(
        &mut self,
        lender: Lender,
        owner: &Member,
        grant: PeerGrant,
        body: PeerBody,
        started: Instant,
    ) {
        let lasts = grant.valid.min(self.miss.left(clock::now().instant));
        let Some(offers) = self.grant(lender, grant.conditions, lasts) else {
            return self.lose();
        };
        let node = Arc::clone(&self.node);
        let head = body.head();
        tokio::pin!(head);
        // Dropping the reply gives the lease back to its owner.
        let offered = tokio::select! {
            offered = time::timeout(lasts, offers) => offered.ok().and_then(Result::ok),
            _taken_back = &mut head => None,
            () = node.driver.gone(owner.id) => None,
        };
        let Some(offer) = offered else {
            return self.lose();
        };
        self.is_lent = true;
        let status = offer.as_ref().map(|offer| offer.head.status);
        let flight = Arc::clone(&self.flight);
        let (requests, done) = requests(&node.cluster, grant.lease, offer);
        let sending = async {
            match node.peers.offer(owner.addr, requests).await {
                Ok(reply) if reply.stored => flight.is_stored.store(true, Ordering::Release),
                Ok(_) => {}
                Err(why) => debug!(owner = %owner.name, ?why, "What was put is lost."),
            }
            drop(done);
        };
        let waiting = async {
            match time::timeout(DECIDE, head).await {
                Ok(Ok((head, body))) => self.relay_peer(head, body, started, false).await,
                Ok(Err(PeerError::Failed(error @ FetchError::NotShared { .. }))) => {
                    self.learn(status.unwrap_or(StatusCode::BAD_GATEWAY), None);
                    self.relay().head(Err(error.into()));
                }
                Ok(Err(_)) | Err(_) => self.lose(),
            }
        };
        tokio::join!(sending, waiting);
    }
}

/// What is put, as the owner is sent it, and what is to be dropped when it is there.
fn requests(
    cluster: &str,
    lease: Bytes,
    offer: Option<Box<Offer>>,
) -> (
    impl Stream<Item = OfferRequest> + Send + 'static,
    Option<tokio::sync::oneshot::Sender<()>>,
) {
    let (head, lifetime, body, done) = match offer.map(|offer| *offer) {
        Some(Offer {
            head,
            lifetime,
            body,
            done,
        }) => (Some(head), lifetime, Some(body), Some(done)),
        None => (None, None, None, None),
    };
    let head = wire::offer_head(cluster, lease, head.as_ref(), lifetime);
    let pieces = stream::unfold(body.map(|body| (body, 0)), next);
    let first = stream::iter([Part::Head(head)]);
    let parts = first.chain(pieces);
    (parts.map(|part| OfferRequest { part: Some(part) }), done)
}

type Left = Option<(mpsc::Receiver<Piece>, u64)>;

/// The next part of a body. One that was given up ends without an End, and so is known to be cut.
async fn next(left: Left) -> Option<(Part, Left)> {
    let (mut body, length) = left?;
    match body.recv().await? {
        Piece::Chunk(data) => {
            let length = length + data.len() as u64;
            Some((Part::Chunk(Chunk { data }), Some((body, length))))
        }
        Piece::End => Some((Part::End(End { length }), None)),
    }
}
