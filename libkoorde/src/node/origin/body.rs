//! An origin's body on its way in: from its connection, or from who asked it under a lease.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body::Body;
use hyper::body::Incoming;
use tokio::{sync::mpsc, time};

use super::{chain, gate::Permit, upstream::Turn};
use crate::error::BodyError;

/// An origin's body. Trailers are dropped: a cache need not keep them (RFC 9110 §6.5.1).
#[derive(Debug)]
pub(crate) struct OriginBody {
    source: Source,
    idle: Duration,
    /// Runs while a frame is waited for.
    silence: Option<Pin<Box<time::Sleep>>>,
}

#[derive(Debug)]
enum Source {
    Wire {
        body: Incoming,
        _permit: Permit,
        _turn: Option<Turn>,
    },
    /// None behind its end.
    Offered(Option<mpsc::Receiver<Piece>>),
}

/// A part of a body that somebody else brings.
#[derive(Debug)]
pub(crate) enum Piece {
    Chunk(Bytes),
    /// Without it, the body was cut off.
    End,
}

impl OriginBody {
    /// A body as it comes from its origin; `idle` is its longest silence.
    pub(super) fn new(body: Incoming, idle: Duration, permit: Permit, turn: Option<Turn>) -> Self {
        let source = Source::Wire {
            body,
            _permit: permit,
            _turn: turn,
        };
        Self::of(source, idle)
    }

    /// A body as the holder of a lease brings it.
    pub(crate) fn offered(pieces: mpsc::Receiver<Piece>, idle: Duration) -> Self {
        Self::of(Source::Offered(Some(pieces)), idle)
    }

    fn of(source: Source, idle: Duration) -> Self {
        Self {
            source,
            idle,
            silence: None,
        }
    }

    /// The next chunk; `None` at the announced end.
    pub(crate) async fn chunk(&mut self) -> Option<Result<Bytes, BodyError>> {
        poll_fn(|cx| self.poll_chunk(cx)).await
    }

    pub(crate) fn poll_chunk(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, BodyError>>> {
        loop {
            let Poll::Ready(chunk) = self.source.poll_chunk(cx) else {
                let idle = self.idle;
                let silence = self
                    .silence
                    .get_or_insert_with(|| Box::pin(time::sleep(idle)));
                ready!(silence.as_mut().poll(cx));
                return Poll::Ready(Some(Err(BodyError::Cut(format!("silent for {idle:?}")))));
            };
            self.silence = None;
            if !matches!(&chunk, Some(Ok(data)) if data.is_empty()) {
                return Poll::Ready(chunk);
            }
        }
    }

    /// What is known of its length.
    pub(crate) fn size_hint(&self) -> http_body::SizeHint {
        match &self.source {
            Source::Wire { body, .. } => body.size_hint(),
            Source::Offered(_) => http_body::SizeHint::default(),
        }
    }
}

impl Source {
    /// The next chunk; an empty one for what is no data.
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        match self {
            Self::Wire { body, .. } => {
                let frame = ready!(Pin::new(body).poll_frame(cx));
                Poll::Ready(frame.map(|frame| match frame {
                    Ok(frame) => Ok(frame.into_data().unwrap_or_default()),
                    Err(error) => Err(BodyError::Cut(chain(&error))),
                }))
            }
            Self::Offered(pieces) => {
                let Some(open) = pieces else {
                    return Poll::Ready(None);
                };
                let cut = || BodyError::Cut("its lease was given up".to_owned());
                Poll::Ready(match ready!(open.poll_recv(cx)) {
                    Some(Piece::Chunk(data)) => Some(Ok(data)),
                    Some(Piece::End) => {
                        *pieces = None;
                        None
                    }
                    None => Some(Err(cut())),
                })
            }
        }
    }
}
