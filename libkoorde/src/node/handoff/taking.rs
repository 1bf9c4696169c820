//! The other side: what is handed over is stored here.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use bytes::Bytes;
use koorde_proto::peer::v1::{HandOffReply, HandOffRequest, hand_off_request::Part};
use tokio::time;
use tonic::{Status, Streaming};

use crate::{
    metrics::{count, count_by},
    node::{
        Inner, clock,
        wire::{self, HandOffStart, HandedOver},
    },
    policy::{Carried, Selecting, StoredHead, vary},
    ring::Phase,
    store::Stored,
};

/// Between two messages.
const IDLE: Duration = Duration::from_secs(5);
/// How far down the list of owners this node may be: those before it may be leaving, too.
const OWNERS: usize = 8;

impl Inner {
    /// Stores what comes, until no more does, or this node leaves itself.
    pub(crate) async fn take_over(
        &self,
        start: HandOffStart,
        mut parts: Streaming<HandOffRequest>,
    ) -> Result<HandOffReply, Status> {
        let began = clock::now().instant;
        let mut reply = HandOffReply::default();
        if self.leaves() {
            reply.leaving = true;
            return Ok(reply);
        }
        let not_yet = Status::failed_precondition;
        // Who has left knew the purges until then, and is judged by what came later.
        let departed = self.departed.born(start.node);
        let born = departed.unwrap_or_else(|| self.purges.version());
        // From here on the sender knows all purges that are older than what it brings.
        if self.purges.digest() != start.purges {
            return Err(not_yet("other purges are known here"));
        }
        let _place = self
            .taking
            .try_acquire()
            .map_err(|_| not_yet("others are handing over"))?;
        let _giving = self.departed.giving(start.node);
        while let Some(part) = next(&mut parts).await? {
            let Part::Response(response) = part else {
                return Err(Status::invalid_argument("a chunk of nothing"));
            };
            let response = wire::taken_over(response).map_err(Status::invalid_argument)?;
            // Waiting in queues; the journey of the first message is not in it.
            let here = clock::now().instant.saturating_duration_since(began);
            let on_its_way = here.saturating_sub(response.elapsed);
            let body = self.read_body(&mut parts, response.length).await?;
            if self.leaves() {
                reply.leaving = true;
                return Ok(reply);
            }
            let age = response.carried.age.saturating_add(on_its_way);
            let may_be_old = self.may_be_from_before(&response.key, age);
            let is_stored = match body.filter(|_| !may_be_old) {
                Some(body) => self.store_handed_over(response, &body, on_its_way, born),
                None => false,
            };
            if !is_stored {
                self.metrics.handed_over_refused.inc();
            }
            reply.taken += 1;
        }
        Ok(reply)
    }

    fn leaves(&self) -> bool {
        matches!(self.view.load().state(), Phase::Leaving | Phase::Left)
    }

    /// A body of this length; none if there is no room for it.
    async fn read_body(
        &self,
        parts: &mut Streaming<HandOffRequest>,
        length: u64,
    ) -> Result<Option<Vec<Bytes>>, Status> {
        let unfinished = self.unfinished.fetch_add(length, Ordering::AcqRel) + length;
        let _counted = Counted(self, length);
        let is_kept =
            length <= self.store.ceiling() && unfinished <= self.config.fetch.max_unfinished.0;
        let (mut chunks, mut left) = (Vec::new(), length);
        while left > 0 {
            let Some(Part::Chunk(chunk)) = next(parts).await? else {
                return Err(Status::invalid_argument("a body was cut off"));
            };
            left = left
                .checked_sub(chunk.data.len() as u64)
                .ok_or_else(|| Status::invalid_argument("a body is longer than announced"))?;
            if is_kept {
                chunks.push(chunk.data);
            }
        }
        Ok(is_kept.then_some(chunks))
    }

    /// Whether it is kept.
    fn store_handed_over(
        &self,
        response: HandedOver,
        body: &[Bytes],
        on_its_way: Duration,
        born: u64,
    ) -> bool {
        let HandedOver { key, length, .. } = response;
        let now = clock::now().instant;
        let view = self.view.load();
        let owners = view.owners(self.hasher.key_id(key.as_bytes()), OWNERS);
        let is_ours = owners.iter().any(|owner| owner.id == view.me().id) && !self.is_own(&key);
        let Some(names) = vary::names(&response.fields).filter(|_| is_ours) else {
            return false;
        };
        let route = self.routes.find(&key.target());
        let carried = Carried {
            age: response.carried.age.saturating_add(on_its_way),
            ..response.carried
        };
        let head = StoredHead::from_peer(
            response.status,
            response.fields,
            Selecting::new(names, &response.selecting),
            carried,
            now,
            &route.policy,
        );
        let is_sound = head.part.is_none_or(|part| part.length() == length);
        if head.refused().is_some() || !head.is_fresh(now) || !is_sound {
            return false;
        }
        self.memo.learn_vary(&key, head.selecting.names());
        let stored = Arc::new(Stored::compact(head, body, born));
        let is_stored = self.store.put(&key, stored, &route.policy) == Ok(true);
        if is_stored {
            self.metrics.stores.inc();
            count(&self.metrics.handed_over, "received");
            count_by(&self.metrics.handed_over_bytes, "received", length);
        }
        is_stored
    }
}

/// Bytes that are being read, until they are stored or dropped.
struct Counted<'a>(&'a Inner, u64);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.unfinished.fetch_sub(self.1, Ordering::AcqRel);
    }
}

async fn next(parts: &mut Streaming<HandOffRequest>) -> Result<Option<Part>, Status> {
    let message = time::timeout(IDLE, parts.message()).await;
    let message = message.map_err(|_elapsed| Status::deadline_exceeded("nothing came"))??;
    Ok(message.and_then(|request| request.part))
}
