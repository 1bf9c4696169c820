//! What a peer answers a fetch with: how it begins, and its body chunk by chunk.

use koorde_proto::peer::v1::{FetchReply, fetch_reply::Part};
use tonic::Streaming;

use super::{PeerError, refused};
use crate::{
    error::BodyError,
    node::wire::{self, PeerGrant, PeerHead},
};

/// How a peer's reply begins.
#[derive(Debug)]
pub(crate) enum PeerAnswer {
    Response(PeerHead, PeerBody),
    /// The request is ours to make; the response's head is behind it ([`PeerBody::head`]).
    Granted(PeerGrant, PeerBody),
}

pub(super) fn begun(first: Option<Part>) -> Result<PeerHead, PeerError> {
    match first {
        Some(Part::Head(head)) => wire::head(head).map_err(PeerError::Refused),
        Some(Part::Failed(failed)) if wire::is_behind(&failed) => Err(PeerError::Behind),
        Some(Part::Failed(failed)) => Err(PeerError::Failed(wire::failed(&failed))),
        _ => Err(PeerError::Unreachable("the answer has no head".to_owned())),
    }
}

/// A peer's body, read chunk by chunk.
#[derive(Debug)]
pub(crate) struct PeerBody {
    parts: Streaming<FetchReply>,
    read: u64,
    ended: bool,
}

impl PeerBody {
    pub(super) fn new(parts: Streaming<FetchReply>) -> Self {
        Self {
            parts,
            read: 0,
            ended: false,
        }
    }

    /// The head that comes behind a grant.
    pub(crate) async fn head(mut self) -> Result<(PeerHead, Self), PeerError> {
        let reply = self.parts.message().await.map_err(refused)?;
        let head = begun(reply.and_then(|reply| reply.part))?;
        Ok((head, self))
    }

    /// The next chunk; `None` after an End that agrees with what was read. A stream that stops
    /// without one was cut off, even though gRPC may call it a success.
    pub(crate) async fn chunk(&mut self) -> Option<Result<bytes::Bytes, BodyError>> {
        if self.ended {
            return None;
        }
        let part = match self.parts.message().await {
            Ok(reply) => reply.and_then(|reply| reply.part),
            Err(status) => return Some(Err(BodyError::Cut(format!("peer: {}", status.message())))),
        };
        let cut = |why: String| Some(Err(BodyError::Cut(why)));
        match part {
            Some(Part::Chunk(chunk)) => {
                self.read += chunk.data.len() as u64;
                Some(Ok(chunk.data))
            }
            Some(Part::End(end)) if end.length == self.read => {
                self.ended = true;
                None
            }
            Some(Part::End(end)) => cut(format!("{} of {} bytes came", self.read, end.length)),
            Some(Part::Failed(failed)) => cut(failed.message),
            Some(Part::Head(_) | Part::Interim(_) | Part::Granted(_)) => {
                cut("a second head".to_owned())
            }
            None => cut("the peer stopped".to_owned()),
        }
    }
}
