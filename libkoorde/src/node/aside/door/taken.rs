//! What clients bring: responses under their leases, and purges.

use std::time::Duration;

use futures_util::future::join_all;
use koorde_proto::cache::v1::{
    PurgeReply, PurgeRequest, PutReply, PutRequest, purge_request::Kind as PurgeKind,
    put_reply::Result as Outcome, put_request::Part,
};
use tokio::time;
use tonic::{Status, Streaming};

use super::{Door, Held, text};
use crate::{
    Receipt, Scope,
    node::{
        aside::{Put, PutBody},
        wire::cache::{self, Purged},
    },
    policy::Member,
    purge::Kind,
};

/// A put begins with its head.
const HEAD: Duration = Duration::from_secs(10);

impl Door {
    /// Takes a response under a lease.
    pub(super) async fn take(&self, mut parts: Streaming<PutRequest>) -> Result<PutReply, Status> {
        let first = match time::timeout(HEAD, parts.message()).await {
            Ok(first) => first?.and_then(|request| request.part),
            Err(_elapsed) => None,
        };
        let Some(Part::Head(head)) = first else {
            return Err(Status::invalid_argument("a put begins with its head"));
        };
        let put = cache::put(head).map_err(Status::invalid_argument)?;
        let Some(Held(lease, stands_in)) = self.held.take(&put.lease) else {
            return Ok(reply(Outcome::LeaseLost, None));
        };
        let member = lease.member(put.head.as_ref().map(|head| head.status()));
        let reply = |outcome| reply(outcome, Some(&member));
        let Some(head) = put.head else {
            let Some(stored) = lease.fail().await else {
                return Ok(reply(Outcome::LeaseLost));
            };
            // Gone: nobody is left to have it.
            let _gone = stands_in.send(stored);
            return Ok(reply(Outcome::AnswerFollows));
        };
        Ok(match lease.put(head, put.lifetime).await {
            Put::Answer(stored) => {
                let _gone = stands_in.send(stored);
                reply(Outcome::AnswerFollows)
            }
            Put::Unwanted => reply(Outcome::NotStored),
            Put::Lost => reply(Outcome::LeaseLost),
            Put::Body(body) => {
                // Nothing stands in: the call of the lease is over.
                drop(stands_in);
                let stored = self.take_body(body, parts).await;
                reply(if stored {
                    Outcome::Stored
                } else {
                    Outcome::NotStored
                })
            }
        })
    }

    /// Whether all of it came and is stored. Whatever else comes, or nothing for too long, cuts it.
    async fn take_body(&self, mut body: PutBody, mut parts: Streaming<PutRequest>) -> bool {
        let idle = self.node.inner.config.origin.idle_timeout;
        let mut length = 0;
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

    pub(super) async fn purge_all(
        &self,
        asked: PurgeRequest,
        may_purge: bool,
    ) -> Result<PurgeReply, Status> {
        let refuse = Status::invalid_argument;
        let kind = match asked.kind() {
            PurgeKind::Soft => Some(Kind::Soft),
            PurgeKind::Hard => Some(Kind::Hard),
            PurgeKind::Invalidate => None,
        };
        let tenant = asked.tenant.clone();
        let purged = cache::purged(asked.scope, &tenant).map_err(refuse)?;
        if kind.is_some() && !may_purge {
            let message = "a purge needs the token of admin.token_file";
            return Err(Status::unauthenticated(message));
        }
        match (kind, purged) {
            (None, Purged::Urls(targets)) => {
                // Each may be of another origin.
                let all = targets
                    .chunks(1)
                    .map(|one| self.node.invalidate(one, &tenant));
                let done: Result<Vec<()>, String> = join_all(all).await.into_iter().collect();
                done.map_err(refuse)?;
                Ok(PurgeReply::default())
            }
            (None, Purged::Scope(_)) => Err(refuse("INVALIDATE is of urls only".to_owned())),
            (Some(kind), Purged::Urls(targets)) => {
                let scopes: Vec<Scope> = targets.into_iter().map(Scope::Url).collect();
                let all = scopes
                    .iter()
                    .map(|scope| self.node.purge_for(&tenant, scope, kind));
                Ok(told(&join_all(all).await))
            }
            (Some(kind), Purged::Scope(scope)) => {
                Ok(told(&[self.node.purge_for(&tenant, &scope, kind).await]))
            }
        }
    }
}

/// One receipt of several: complete if all are.
fn told(receipts: &[Receipt]) -> PurgeReply {
    let count = |of: fn(&Receipt) -> usize| {
        let counts = receipts.iter().map(of);
        counts.map(|count| u32::try_from(count).unwrap_or(u32::MAX))
    };
    let mut unreachable: Vec<String> = receipts
        .iter()
        .flat_map(|receipt| receipt.unreachable.iter().map(ToString::to_string))
        .collect();
    unreachable.sort();
    unreachable.dedup();
    PurgeReply {
        asked: count(|receipt| receipt.asked.len()).max().unwrap_or(0),
        acknowledged: count(|receipt| receipt.acknowledged.len())
            .min()
            .unwrap_or(0),
        unreachable,
        generation: receipts
            .iter()
            .map(|receipt| receipt.generation)
            .max()
            .unwrap_or(0),
    }
}

fn reply(outcome: Outcome, member: Option<&Member>) -> PutReply {
    let cache_status = member.map(|member| {
        let member = Member {
            stored: outcome == Outcome::Stored,
            ..member.clone()
        };
        text(&member.value())
    });
    PutReply {
        result: outcome.into(),
        cache_status: cache_status.unwrap_or_default(),
    }
}
