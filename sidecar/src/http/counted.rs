//! A response's body whose bytes are counted, and whose request is under way until its end.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use libkoorde::{metrics::Counters, outcome::CacheResult};

use super::metrics::Open;

/// Counts what passes.
pub(super) struct Counted<B> {
    inner: B,
    bytes: Counters,
    result: CacheResult,
    _inflight: Open,
}

impl<B> Counted<B> {
    pub(super) const fn new(
        inner: B,
        bytes: Counters,
        result: CacheResult,
        inflight: Open,
    ) -> Self {
        Self {
            inner,
            bytes,
            result,
            _inflight: inflight,
        }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Counted<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(cx));
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
        {
            let bytes = self.bytes.at(self.result as usize);
            bytes.inc_by(data.len() as u64);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
