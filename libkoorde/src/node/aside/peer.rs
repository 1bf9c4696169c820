//! The owner's side of look-aside between nodes: its leases go to peers, and what they put comes in.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::{StreamExt, stream};
use koorde_proto::peer::v1::{Mode, OfferReply, OfferRequest, offer_request::Part};
use tokio::time;
use tonic::{Status, Streaming};

use super::{Asked, Lease, Put, PutBody};
use crate::{
    error::FetchError,
    node::{
        Inner, Request,
        fetch::Hop,
        relay::Failure,
        service::{Replies, replies},
        wire::{self, Offered},
    },
};

impl Inner {
    /// Answers a peer whose client can make the request itself.
    pub(crate) async fn lend_to_peer(
        self: &Arc<Self>,
        request: Request,
        mode: Mode,
        timeout: Duration,
        received: Instant,
    ) -> Result<Replies, Status> {
        let asked = match mode {
            Mode::Renew => self
                .renew_for_peer(request, timeout)
                .await
                .map(Asked::Lease),
            _ => self.look_aside(request, Hop::Forwarded, timeout).await,
        };
        match asked {
            Ok(Asked::Answer(answer, _)) => replies(Ok(answer), received),
            Ok(Asked::Alone(..)) => {
                let lasts = false;
                replies(Err(FetchError::NotShared { lasts }), received)
            }
            Ok(Asked::Lease(lease)) => self.lay_down(lease, received),
            Err(error) => replies(Err(error), received),
        }
    }

    /// A lease for a peer: it lies on the desk until the peer's offer comes, or its call is gone.
    fn lay_down(self: &Arc<Self>, lease: Lease, received: Instant) -> Result<Replies, Status> {
        let full = || replies(Err(FetchError::Overloaded("fetch.max_fills")), received);
        let Some(follower) = lease.follow() else {
            return full();
        };
        let (valid, conditions) = (lease.valid_for(), lease.conditions().clone());
        let Ok(slip) = self.lent.lay(lease) else {
            return full();
        };
        let granted = wire::lent(slip.id(), valid, &conditions);
        let rest = async move {
            // As long as the peer listens.
            let _slip = slip;
            match follower.answer().await {
                Ok(answer) => replies(Ok(answer), received),
                Err(Failure::Fetch(error)) => replies(Err(error), received),
                Err(Failure::LeaseLost | Failure::OwnersUnreachable) => {
                    Ok(Box::pin(stream::iter([Ok(wire::lost())])) as Replies)
                }
            }
        };
        let rest = stream::once(rest)
            .map(|rest| rest.unwrap_or_else(|status| Box::pin(stream::iter([Err(status)]))));
        let first = stream::iter([Ok(granted)]);
        Ok(Box::pin(first.chain(rest.flatten())))
    }

    /// Takes what a peer's client has put under a lease of ours.
    pub(crate) async fn take_offer(
        &self,
        offered: Offered,
        parts: Streaming<OfferRequest>,
    ) -> OfferReply {
        let Some(lease) = self.lent.take(&offered.lease) else {
            return OfferReply { stored: false };
        };
        let Some(head) = offered.head else {
            let _stands_in = lease.fail().await;
            return OfferReply { stored: false };
        };
        let stored = match lease.put(head, offered.lifetime).await {
            Put::Body(body) => self.take_body(body, parts).await,
            // What all have instead goes the way of the call that brought the lease.
            Put::Answer(_) | Put::Unwanted | Put::Lost => false,
        };
        OfferReply { stored }
    }

    async fn take_body(&self, mut body: PutBody, mut parts: Streaming<OfferRequest>) -> bool {
        let idle = self.config.origin.idle_timeout;
        let mut length = 0;
        // Whatever else comes, or nothing: the body is dropped, and so cut.
        while let Ok(Ok(Some(request))) = time::timeout(idle, parts.message()).await {
            match request.part {
                Some(Part::Chunk(chunk)) => {
                    length += chunk.data.len() as u64;
                    if body.write(chunk.data).await.is_err() {
                        return false;
                    }
                }
                Some(Part::End(end)) if end.length == length => return body.end().await,
                _ => return false,
            }
        }
        false
    }
}
