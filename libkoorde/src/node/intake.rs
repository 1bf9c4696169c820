//! A body on its way in: from the origin or a peer, to the relay, within bounds.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, header};

use super::{answer::Head, fill::Fill, origin::OriginBody, peers::PeerBody, relay::Relay};
use crate::error::BodyError;

/// Where a body comes from.
pub(crate) enum Source {
    Origin(OriginBody),
    Peer(PeerBody),
}

impl Source {
    async fn chunk(&mut self) -> Option<Result<Bytes, BodyError>> {
        match self {
            Self::Origin(body) => body.chunk().await,
            Self::Peer(body) => body.chunk().await,
        }
    }
}

/// Takes a body in, chunk by chunk, within the bounds of what may be kept unfinished.
pub(crate) struct Intake {
    relay: Arc<Relay<Head>>,
    keeps: bool,
    limit: u64,
    taken: u64,
    /// Bytes that all relays of the node hold.
    unfinished: Arc<AtomicU64>,
    max_unfinished: u64,
    window: usize,
    stall: Duration,
}

impl Intake {
    /// Keeps the body while it is at most `limit` bytes, if it `keeps` at all.
    pub(crate) fn new(fill: &Fill, keeps: bool, limit: u64) -> Self {
        let config = &fill.node.config.fetch;
        Self {
            relay: Arc::clone(&fill.flight.relay),
            keeps,
            limit,
            taken: 0,
            unfinished: Arc::clone(&fill.node.unfinished),
            max_unfinished: config.max_unfinished.0,
            window: config.window.len(),
            stall: config.stall_timeout,
        }
    }

    /// Passes a whole body on. How it ended, and whether all of it is in the relay.
    pub(crate) async fn pour(mut self, mut source: Source) -> (Result<(), BodyError>, bool) {
        let ended = loop {
            match source.chunk().await {
                Some(Ok(chunk)) => {
                    if let Err(ended) = self.take(chunk).await {
                        break Err(ended);
                    }
                }
                Some(Err(error)) => break Err(error),
                None => break Ok(()),
            }
        };
        (ended, self.keeps)
    }

    /// Passes one chunk on; an error when nobody reads a body that is not kept.
    async fn take(&mut self, chunk: Bytes) -> Result<(), BodyError> {
        let length = chunk.len() as u64;
        if self.keeps {
            self.taken += length;
            let unfinished = self.unfinished.load(Ordering::Acquire) + length;
            if self.taken > self.limit || unfinished > self.max_unfinished {
                // It outgrew its bound: from here on it passes through, for every waiter.
                self.keeps = false;
                self.relay.pass();
            }
        }
        let written = self.relay.write(chunk, self.window, self.stall).await;
        written.map_err(|_| BodyError::Cut("nobody reads it any more".to_owned()))
    }
}

/// The length that a head announces.
pub(crate) fn content_length(fields: &HeaderMap) -> Option<u64> {
    fields
        .get(header::CONTENT_LENGTH)?
        .to_str()
        .ok()?
        .parse()
        .ok()
}
