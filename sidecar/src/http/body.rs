//! A response's body that keeps its request counted until its end.
//!
//! A permit that ends with the response's head (as tower's do) counts nothing that matters here:
//! what costs is the body that somebody does not read.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::activity::Exchange;

/// Bytes that an HTTP/2 stream is given at a time, so that a slow reader comes back for more before
/// it is taken for one that does not read at all.
const PIECE: usize = 64 << 10;

/// A body that notes when its writer has room for more, and when it has not.
pub(super) struct Tracked<B> {
    inner: B,
    left: Bytes,
    exchange: Arc<Exchange>,
}

impl<B> Tracked<B> {
    pub(super) fn new(inner: B, exchange: Arc<Exchange>) -> Self {
        Self {
            inner,
            left: Bytes::new(),
            exchange,
        }
    }

    fn cut(&mut self, frame: Frame<Bytes>) -> Frame<Bytes> {
        let frame = match frame.into_data() {
            Ok(mut data) if self.exchange.is_http2() && data.len() > PIECE => {
                let piece = data.split_to(PIECE);
                self.left = data;
                Frame::data(piece)
            }
            Ok(data) => Frame::data(data),
            Err(trailers) => trailers,
        };
        self.exchange.handed();
        frame
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Tracked<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        self.exchange.asked();
        let next = if self.left.is_empty() {
            ready!(Pin::new(&mut self.inner).poll_frame(cx))
        } else {
            Some(Ok(Frame::data(std::mem::take(&mut self.left))))
        };
        Poll::Ready(next.map(|frame| frame.map(|frame| self.cut(frame))))
    }

    fn is_end_stream(&self) -> bool {
        self.left.is_empty() && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        // What is left is only there once frames were asked for; nobody asks for a size then.
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt, Full};

    use super::{super::activity::Activity, *};

    #[tokio::test]
    async fn a_large_frame_reaches_an_http2_stream_in_pieces_and_whole() {
        let bytes: Bytes = (0..200_000_u32).map(|n| (n % 251) as u8).collect();
        for (http2, frames) in [(true, 4), (false, 1)] {
            let exchange = Activity::new().begin(http2);
            let mut body = Tracked::new(Full::new(bytes.clone()), exchange);
            let (mut count, mut all) = (0, Vec::new());
            while let Some(frame) = body.frame().await {
                let frame = frame.expect("a Full body does not fail");
                all.extend_from_slice(frame.data_ref().expect("a Full body has no trailers"));
                count += 1;
            }
            assert_eq!((count, all == bytes), (frames, true));
        }
    }
}
