//! An origin's body on its way in.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body::Body;
use hyper::body::Incoming;
use tokio::time;

use super::{chain, gate::Permit, upstream::Turn};
use crate::error::BodyError;

/// An origin's body. Trailers are dropped: a cache need not keep them (RFC 9110 §6.5.1).
#[derive(Debug)]
pub(crate) struct OriginBody {
    pub(super) body: Incoming,
    pub(super) idle: Duration,
    /// Runs while a frame is waited for.
    pub(super) silence: Option<Pin<Box<time::Sleep>>>,
    pub(super) _permit: Permit,
    pub(super) _turn: Option<Turn>,
}

impl OriginBody {
    /// The next chunk; `None` at the announced end.
    pub(crate) async fn chunk(&mut self) -> Option<Result<Bytes, BodyError>> {
        poll_fn(|cx| self.poll_chunk(cx)).await
    }

    pub(crate) fn poll_chunk(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, BodyError>>> {
        loop {
            let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) else {
                let idle = self.idle;
                let silence = self
                    .silence
                    .get_or_insert_with(|| Box::pin(time::sleep(idle)));
                ready!(silence.as_mut().poll(cx));
                return Poll::Ready(Some(Err(BodyError::Cut(format!("silent for {idle:?}")))));
            };
            self.silence = None;
            match frame {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data()
                        && !data.is_empty()
                    {
                        return Poll::Ready(Some(Ok(data)));
                    }
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(BodyError::Cut(chain(&error))))),
                None => return Poll::Ready(None),
            }
        }
    }

    /// What is known of its length.
    pub(crate) fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}
