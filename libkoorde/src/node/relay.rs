//! One response on its way to many readers: whoever fills writes, whoever waits reads the same
//! bytes as they arrive.
//!
//! A relay is in one of two modes:
//! - **keep**: every chunk stays until the end, so that the whole can be stored and a late reader
//!   starts at the first byte. Nobody is ever waited for.
//! - **pass**: chunks go as soon as every reader has them, and the writer waits while the slowest
//!   reader is a window behind. A reader that does not read for the stall time is let go, so that
//!   one stuck client can't hold up the others. Memory is bounded by the window.
//!
//! A relay goes from keep to pass (an object that outgrows its bound) and never back.

use std::{
    collections::{BTreeMap, VecDeque},
    future::poll_fn,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use http_body::Frame;
use tokio::time;

use crate::error::{BodyError, FetchError};

/// A response with head `H`, written once, read by many.
#[derive(Debug)]
pub(crate) struct Relay<H> {
    state: Mutex<State<H>>,
}

#[derive(Debug)]
struct State<H> {
    head: Option<Result<Arc<H>, FetchError>>,
    chunks: VecDeque<Bytes>,
    /// Index of `chunks[0]` in the whole body, counted in chunks.
    first: u64,
    /// Bytes in `chunks`.
    buffered: usize,
    pass: bool,
    end: Option<Result<(), BodyError>>,
    /// Ordered, so that who is let go first does not depend on a hash.
    readers: BTreeMap<u64, Place>,
    next_reader: u64,
    writer: Option<Waker>,
}

#[derive(Debug, Default)]
struct Place {
    /// Index of the next chunk to read.
    next: u64,
    waker: Option<Waker>,
}

/// Why a writer has nobody to write for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NoReaders;

impl<H> Relay<H> {
    pub(crate) fn new() -> Self {
        Self {
            state: Mutex::new(State {
                head: None,
                chunks: VecDeque::new(),
                first: 0,
                buffered: 0,
                pass: false,
                end: None,
                readers: BTreeMap::new(),
                next_reader: 0,
                writer: None,
            }),
        }
    }

    /// Held for a few moves each time, never across an `await`.
    fn state(&self) -> MutexGuard<'_, State<H>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A reader from the first byte; `None` when the first bytes are gone already.
    pub(crate) fn read(self: &Arc<Self>) -> Option<Reader<H>> {
        let mut state = self.state();
        if state.first > 0 {
            return None;
        }
        let id = state.next_reader;
        state.next_reader += 1;
        state.readers.insert(id, Place::default());
        Some(Reader {
            relay: Arc::clone(self),
            id,
        })
    }

    /// Publishes the head, or why there will be none. Only the first call counts.
    pub(crate) fn head(&self, head: Result<Arc<H>, FetchError>) {
        self.change(|state| {
            if state.head.is_none() {
                state.head = Some(head);
            }
        });
    }

    /// From now on chunks go when every reader has them.
    pub(crate) fn pass(&self) {
        self.change(|state| {
            state.pass = true;
            state.trim();
        });
    }

    /// Publishes one chunk. In pass mode, waits first while the slowest reader is `window` bytes
    /// behind, and lets readers go that do not move for `stall`.
    pub(crate) async fn write(
        &self,
        chunk: Bytes,
        window: usize,
        stall: Duration,
    ) -> Result<(), NoReaders> {
        while let Err(_elapsed) =
            time::timeout(stall, poll_fn(|cx| self.poll_room(cx, window))).await
        {
            self.let_slowest_go();
        }
        let mut state = self.state();
        if state.pass && state.readers.is_empty() {
            return Err(NoReaders);
        }
        state.buffered += chunk.len();
        state.chunks.push_back(chunk);
        Self::wake(state);
        Ok(())
    }

    /// Ends the body. Only the first call counts.
    pub(crate) fn end(&self, end: Result<(), BodyError>) {
        self.change(|state| {
            if state.end.is_none() {
                state.end = Some(end);
            }
        });
    }

    /// Every chunk so far; whole in keep mode, which is when it is asked for.
    pub(crate) fn chunks(&self) -> Vec<Bytes> {
        self.state().chunks.iter().cloned().collect()
    }

    fn poll_room(&self, cx: &Context<'_>, window: usize) -> Poll<()> {
        let mut state = self.state();
        if !state.pass || state.buffered < window || state.readers.is_empty() {
            return Poll::Ready(());
        }
        state.writer = Some(cx.waker().clone());
        Poll::Pending
    }

    fn let_slowest_go(&self) {
        self.change(|state| {
            let first = state.first;
            state.readers.retain(|_, place| {
                let stays = place.next > first;
                if !stays && let Some(waker) = place.waker.take() {
                    waker.wake();
                }
                stays
            });
            state.trim();
        });
    }

    /// Changes the state, then wakes everybody who waits, after the lock is released: a woken
    /// thread would only run into it.
    fn change(&self, change: impl FnOnce(&mut State<H>)) {
        let mut state = self.state();
        change(&mut state);
        Self::wake(state);
    }

    fn wake(mut state: MutexGuard<'_, State<H>>) {
        let wakers: Vec<Waker> = state
            .readers
            .values_mut()
            .filter_map(|place| place.waker.take())
            .collect();
        let writer = state.writer.take();
        drop(state);
        wakers.into_iter().chain(writer).for_each(Waker::wake);
    }
}

impl<H> State<H> {
    /// In pass mode, drops what every reader has.
    fn trim(&mut self) {
        if !self.pass {
            return;
        }
        let end = self.first + self.chunks.len() as u64;
        let slowest = self
            .readers
            .values()
            .map(|place| place.next)
            .min()
            .unwrap_or(end);
        while self.first < slowest
            && let Some(chunk) = self.chunks.pop_front()
        {
            self.first += 1;
            self.buffered -= chunk.len();
        }
    }
}

/// One reader of a relay; dropping it is leaving.
#[derive(Debug)]
pub(crate) struct Reader<H> {
    relay: Arc<Relay<H>>,
    id: u64,
}

impl<H> Reader<H> {
    /// The head, once there is one.
    pub(crate) async fn head(&self) -> Result<Arc<H>, FetchError> {
        poll_fn(|cx| {
            let mut state = self.relay.state();
            if let Some(head) = &state.head {
                return Poll::Ready(head.clone());
            }
            if let Some(place) = state.readers.get_mut(&self.id) {
                place.waker = Some(cx.waker().clone());
            }
            Poll::Pending
        })
        .await
    }

    fn poll_chunk(&self, cx: &Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        let mut guard = self.relay.state();
        let state = &mut *guard;
        let Some(place) = state.readers.get_mut(&self.id) else {
            return Poll::Ready(Some(Err(BodyError::Lagged)));
        };
        let index = usize::try_from(place.next - state.first).unwrap_or(usize::MAX);
        let Some(chunk) = state.chunks.get(index).cloned() else {
            return match &state.end {
                Some(Ok(())) => Poll::Ready(None),
                Some(Err(error)) => Poll::Ready(Some(Err(error.clone()))),
                None => {
                    place.waker = Some(cx.waker().clone());
                    Poll::Pending
                }
            };
        };
        place.next += 1;
        let writer = if state.pass && index == 0 {
            state.trim();
            state.writer.take()
        } else {
            None
        };
        drop(guard);
        writer.into_iter().for_each(Waker::wake);
        Poll::Ready(Some(Ok(chunk)))
    }
}

impl<H> Drop for Reader<H> {
    fn drop(&mut self) {
        self.relay.change(|state| {
            state.readers.remove(&self.id);
            state.trim();
        });
    }
}

impl<H> http_body::Body for Reader<H> {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.poll_chunk(cx)
            .map(|chunk| chunk.map(|chunk| chunk.map(Frame::data)))
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    const STALL: Duration = Duration::from_secs(10);

    fn relay() -> Arc<Relay<&'static str>> {
        Arc::new(Relay::new())
    }

    async fn chunk(reader: &mut Reader<&'static str>) -> Option<Result<Bytes, BodyError>> {
        reader
            .frame()
            .await
            .map(|frame| frame.map(|frame| frame.into_data().unwrap_or_default()))
    }

    #[tokio::test]
    async fn a_late_reader_of_a_kept_body_gets_it_from_the_first_byte() {
        let relay = relay();
        let mut early = relay.read().expect("nothing is gone");
        relay.head(Ok(Arc::new("head")));
        relay.write("a".into(), 1, STALL).await.expect("kept");
        assert_eq!(chunk(&mut early).await, Some(Ok("a".into())));
        relay.write("b".into(), 1, STALL).await.expect("kept");
        let late = relay.read().expect("nothing is gone");
        relay.end(Ok(()));
        assert_eq!(late.head().await, Ok(Arc::new("head")));
        assert_eq!(late.collect().await.expect("complete").to_bytes(), "ab");
        assert_eq!(relay.chunks().concat(), b"ab");
    }

    #[tokio::test]
    async fn a_kept_body_needs_no_reader() {
        let relay = relay();
        for _ in 0..100 {
            relay.write("x".into(), 1, STALL).await.expect("kept");
        }
        assert_eq!(relay.chunks().len(), 100);
    }

    #[tokio::test]
    async fn a_passing_body_waits_for_its_slowest_reader_within_the_window() {
        let relay = relay();
        let (mut fast, mut slow) = (relay.read().expect("new"), relay.read().expect("new"));
        relay.pass();
        relay
            .write("a".into(), 1, STALL)
            .await
            .expect("two readers");
        let second = relay.write("b".into(), 1, STALL);
        tokio::pin!(second);
        assert!(futures_util::poll!(&mut second).is_pending());
        assert_eq!(chunk(&mut fast).await, Some(Ok("a".into())));
        assert!(
            futures_util::poll!(&mut second).is_pending(),
            "the slow one still has none"
        );
        assert_eq!(chunk(&mut slow).await, Some(Ok("a".into())));
        assert_eq!(second.await, Ok(()));
        assert!(relay.read().is_none(), "the first chunk is gone");
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_does_not_read_is_let_go_and_the_others_get_it_all() {
        let relay = relay();
        let (mut fast, mut stuck) = (relay.read().expect("new"), relay.read().expect("new"));
        relay.pass();
        let writing = async {
            for _ in 0..5 {
                relay
                    .write("x".into(), 1, STALL)
                    .await
                    .expect("one reader stays");
            }
            relay.end(Ok(()));
        };
        let reading = async {
            let mut seen = 0;
            while let Some(chunk) = chunk(&mut fast).await {
                chunk.expect("this one reads");
                seen += 1;
            }
            seen
        };
        let ((), seen) = tokio::join!(writing, reading);
        assert_eq!(seen, 5);
        assert_eq!(chunk(&mut stuck).await, Some(Err(BodyError::Lagged)));
    }

    #[tokio::test]
    async fn a_passing_body_without_readers_stops_its_writer() {
        let relay = relay();
        let reader = relay.read();
        relay.pass();
        drop(reader);
        assert_eq!(relay.write("a".into(), 1, STALL).await, Err(NoReaders));
    }

    #[tokio::test]
    async fn a_cut_body_is_an_error_for_every_reader() {
        let relay = relay();
        let (mut one, mut two) = (relay.read().expect("new"), relay.read().expect("new"));
        relay.write("a".into(), 1, STALL).await.expect("kept");
        relay.end(Err(BodyError::Cut("reset".into())));
        for reader in [&mut one, &mut two] {
            assert_eq!(chunk(reader).await, Some(Ok("a".into())));
            assert_eq!(
                chunk(reader).await,
                Some(Err(BodyError::Cut("reset".into())))
            );
        }
    }
}
