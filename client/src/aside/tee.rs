//! A body that is put while the app reads it, at the app's pace and never at koorde's.

use std::{
    future::poll_fn,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::{sync::mpsc, time::timeout};

use super::tasks::Tasks;
use crate::BodyError;

/// How long a body that the app has dropped is read on, and how much of it: others may wait for it.
pub(crate) const LONGEST: Duration = Duration::from_secs(30);
const MOST: u64 = 16 << 20;

/// Bytes of bodies that wait to be put, all together, unless the app says otherwise.
const BUFFER: usize = 64 << 20;
/// What a piece costs beside its bytes.
const OVERHEAD: usize = 64;
/// The longest piece.
const PIECE: usize = 256 << 10;

/// A part of a body.
#[derive(Debug)]
pub(crate) enum Piece {
    Chunk(Bytes),
    /// It was whole.
    End,
}

/// Room for pieces that wait, shared by all puts of a layer.
#[derive(Clone, Debug)]
pub(crate) struct Budget(Arc<AtomicUsize>);

impl Default for Budget {
    fn default() -> Self {
        Self::new(BUFFER)
    }
}

impl Budget {
    pub(crate) fn new(bytes: usize) -> Self {
        Self(Arc::new(AtomicUsize::new(bytes)))
    }

    fn take(&self, bytes: usize) -> bool {
        let take = |left: usize| left.checked_sub(bytes);
        self.0
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, take)
            .is_ok()
    }

    fn give(&self, bytes: usize) {
        self.0.fetch_add(bytes, Ordering::AcqRel);
    }
}

/// A body on its way; bounded by the budget.
pub(crate) fn channel(budget: &Budget) -> (Sink, Pieces) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let sink = Sink {
        pieces: sender,
        budget: budget.clone(),
    };
    let pieces = Pieces {
        pieces: receiver,
        budget: budget.clone(),
    };
    (sink, pieces)
}

/// The near end. Dropped without an end, the body was incomplete.
#[derive(Debug)]
pub(crate) struct Sink {
    pieces: mpsc::UnboundedSender<Piece>,
    budget: Budget,
}

/// The far end. Dropped: nobody needs the rest.
#[derive(Debug)]
pub(crate) struct Pieces {
    pieces: mpsc::UnboundedReceiver<Piece>,
    budget: Budget,
}

impl Sink {
    /// Whether it was taken; if not, the put is given up.
    fn chunk(&self, mut data: Bytes) -> bool {
        while !data.is_empty() {
            let piece = data.split_to(data.len().min(PIECE));
            let cost = piece.len() + OVERHEAD;
            if !self.budget.take(cost) {
                return false;
            }
            if self.pieces.send(Piece::Chunk(piece)).is_err() {
                self.budget.give(cost);
                return false;
            }
        }
        true
    }

    fn end(self) {
        let _nobody_waits = self.pieces.send(Piece::End);
    }
}

impl Pieces {
    pub(crate) fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Piece>> {
        let piece = ready!(self.pieces.poll_recv(context));
        if let Some(Piece::Chunk(data)) = &piece {
            self.budget.give(data.len() + OVERHEAD);
        }
        Poll::Ready(piece)
    }
}

impl Drop for Pieces {
    fn drop(&mut self) {
        self.pieces.close();
        while let Ok(piece) = self.pieces.try_recv() {
            if let Piece::Chunk(data) = piece {
                self.budget.give(data.len() + OVERHEAD);
            }
        }
    }
}

/// A body that is read by the app and put at once. Dropped early it is read to its end, within
/// bounds: who waits for it elsewhere is not cut off because somebody here lost interest.
pub(crate) struct Tee<R>
where
    R: Body<Data = Bytes, Error: Into<BodyError>> + Send + 'static,
{
    body: Option<Pin<Box<R>>>,
    sink: Option<Sink>,
    tasks: Tasks,
}

impl<R> Tee<R>
where
    R: Body<Data = Bytes, Error: Into<BodyError>> + Send + 'static,
{
    pub(crate) fn new(body: R, sink: Sink, tasks: Tasks) -> Self {
        let mut tee = Self {
            body: Some(Box::pin(body)),
            sink: Some(sink),
            tasks,
        };
        tee.end_if_over();
        tee
    }

    /// Some readers stop at the last byte and never ask for what is behind it.
    fn end_if_over(&mut self) {
        if self.body.as_ref().is_some_and(|body| body.is_end_stream()) {
            self.end();
        }
    }

    fn end(&mut self) {
        if let Some(sink) = self.sink.take() {
            sink.end();
        }
    }
}

impl<R> Body for Tee<R>
where
    R: Body<Data = Bytes, Error: Into<BodyError>> + Send + 'static,
{
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        let Some(body) = &mut this.body else {
            return Poll::Ready(None);
        };
        let frame = ready!(body.as_mut().poll_frame(context));
        match &frame {
            Some(Ok(frame)) => match (frame.data_ref(), &this.sink) {
                (Some(data), Some(sink)) if !sink.chunk(data.clone()) => this.sink = None,
                (Some(_), _) => this.end_if_over(),
                (None, _) => this.end(),
            },
            Some(Err(_)) => this.sink = None,
            None => this.end(),
        }
        Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(|body| body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        let hint = self.body.as_ref().map(|body| body.size_hint());
        hint.unwrap_or_else(|| SizeHint::with_exact(0))
    }
}

impl<R> Drop for Tee<R>
where
    R: Body<Data = Bytes, Error: Into<BodyError>> + Send + 'static,
{
    fn drop(&mut self) {
        let (Some(body), Some(sink)) = (self.body.take(), self.sink.take()) else {
            return;
        };
        if body.size_hint().lower() <= MOST {
            self.tasks.spawn(finish(body, sink));
        }
    }
}

/// Reads a body to its end, for those who wait for it elsewhere.
async fn finish<R>(mut body: Pin<Box<R>>, sink: Sink)
where
    R: Body<Data = Bytes, Error: Into<BodyError>> + Send + 'static,
{
    let rest = async {
        let mut read = 0;
        while let Some(frame) = poll_fn(|context| body.as_mut().poll_frame(context)).await {
            match frame.ok()?.into_data() {
                Ok(data) => {
                    read += data.len() as u64;
                    (read <= MOST && sink.chunk(data)).then_some(())?;
                }
                Err(_trailers) => break,
            }
        }
        Some(())
    };
    if let Ok(Some(())) = timeout(LONGEST, rest).await {
        sink.end();
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt, Full};

    use super::*;

    async fn drain(mut pieces: Pieces) -> (Vec<u8>, bool) {
        let mut all = Vec::new();
        while let Some(piece) = poll_fn(|context| pieces.poll(context)).await {
            match piece {
                Piece::Chunk(data) => all.extend_from_slice(&data),
                Piece::End => return (all, true),
            }
        }
        (all, false)
    }

    #[tokio::test]
    async fn what_the_app_reads_is_put_whole() {
        let budget = Budget::new(1 << 20);
        let (sink, pieces) = channel(&budget);
        let body = Bytes::from(vec![7; 600 << 10]);
        let tee = Tee::new(Full::new(body.clone()), sink, Tasks::default());
        assert_eq!(tee.collect().await.unwrap().to_bytes(), body);
        let (put, whole) = drain(pieces).await;
        assert!(whole && put == body);
        assert!(budget.take(1 << 20), "all room was given back");
    }

    #[tokio::test]
    async fn a_body_that_the_app_drops_is_read_to_its_end() {
        let (sink, pieces) = channel(&Budget::default());
        drop(Tee::new(
            Full::new(Bytes::from("abc")),
            sink,
            Tasks::default(),
        ));
        assert_eq!(drain(pieces).await, (b"abc".to_vec(), true));
    }

    #[tokio::test]
    async fn a_body_that_is_too_long_to_read_on_is_cut() {
        let (sink, pieces) = channel(&Budget::default());
        let long = Full::new(Bytes::from(vec![0; MOST as usize + 1]));
        drop(Tee::new(long, sink, Tasks::default()));
        assert_eq!(drain(pieces).await, (Vec::new(), false));
    }

    #[tokio::test]
    async fn a_put_that_cannot_keep_up_is_given_up_and_the_app_reads_on() {
        let budget = Budget::new(1000);
        let (sink, pieces) = channel(&budget);
        let body = Bytes::from(vec![7; 5000]);
        let tee = Tee::new(Full::new(body.clone()), sink, Tasks::default());
        assert_eq!(tee.collect().await.unwrap().to_bytes(), body);
        assert!(!drain(pieces).await.1);
        assert!(budget.take(1000), "all room was given back");
    }
}
