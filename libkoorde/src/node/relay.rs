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
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use http_body::Frame;
use tokio::time;

use super::request::Interim;
use crate::error::{BodyError, FetchError};

/// Interim responses before one head.
pub(crate) const MAX_INTERIM: usize = 16;

/// Why there is no head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// There is no response.
    Fetch(FetchError),
    /// None of the owners that were to be asked could be reached; the fill is up to this node.
    OwnersUnreachable,
    /// Who was to ask the origin did not: whoever asks again may be the next.
    LeaseLost,
}

impl From<FetchError> for Failure {
    fn from(error: FetchError) -> Self {
        Self::Fetch(error)
    }
}

/// A response with head `H`, written once, read by many.
#[derive(Debug)]
pub(crate) struct Relay<H> {
    state: Mutex<State<H>>,
    /// Bytes that all relays hold; ours are counted in it as long as we hold them.
    held: Arc<AtomicU64>,
}

#[derive(Debug)]
struct State<H> {
    /// Interim responses, in order.
    interim: Vec<Arc<(StatusCode, HeaderMap)>>,
    head: Option<Result<Arc<H>, Failure>>,
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
    /// `held` counts the bytes that all relays of a node hold.
    pub(crate) fn new(held: Arc<AtomicU64>) -> Self {
        Self {
            held,
            state: Mutex::new(State {
                interim: Vec::new(),
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

    /// A reader from the first byte; `None` when the first bytes are gone already, or when it is over
    /// and nothing whole has come of it: whoever comes after that has not been promised it.
    pub(crate) fn read(self: &Arc<Self>) -> Option<Reader<H>> {
        let mut state = self.state();
        if state.first > 0 || state.has_failed() {
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

    /// Publishes an interim response (RFC 9110 §15.2). What comes after the head, or is one of too
    /// many, is dropped.
    pub(crate) fn interim(&self, status: StatusCode, fields: &HeaderMap) {
        self.change(|state| {
            if state.head.is_none() && state.interim.len() < MAX_INTERIM {
                state.interim.push(Arc::new((status, fields.clone())));
            }
            0
        });
    }

    /// Publishes the head, or why there will be none. Only the first call counts.
    pub(crate) fn head(&self, head: Result<Arc<H>, Failure>) {
        self.change(|state| {
            if state.head.is_none() {
                state.head = Some(head);
            }
            0
        });
    }

    /// Publishes the head and ends the body, if at most one reads: it wants no more than the head, and
    /// whoever comes now is promised nothing. Whether that was so.
    pub(crate) fn end_at_head(&self, head: Arc<H>) -> bool {
        let mut is_over = false;
        self.change(|state| {
            if state.readers.len() <= 1 && state.head.is_none() {
                state.head = Some(Ok(head));
                state.end = Some(Err(BodyError::Cut("nobody reads it".to_owned())));
                is_over = true;
            }
            0
        });
        is_over
    }

    /// From now on chunks go when every reader has them.
    pub(crate) fn pass(&self) {
        self.change(|state| {
            state.pass = true;
            state.trim()
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
        loop {
            let first = self.state().first;
            let room = poll_fn(|cx| self.poll_room(cx, window));
            match time::timeout(stall, room).await {
                Ok(()) => break,
                Err(_elapsed) => self.let_stuck_go(first),
            }
        }
        let mut state = self.state();
        if state.pass && state.readers.is_empty() {
            return Err(NoReaders);
        }
        state.buffered += chunk.len();
        self.held.fetch_add(chunk.len() as u64, Ordering::AcqRel);
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
            0
        });
    }

    /// Whether there is no head, or the body is known to be incomplete.
    pub(crate) fn has_failed(&self) -> bool {
        self.state().has_failed()
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

    /// Lets those go that have taken nothing since the oldest chunk was `first`, if others wait for
    /// them. A lone slow reader holds up nobody; its own door decides how long it may take.
    fn let_stuck_go(&self, first: u64) {
        self.change(|state| {
            let is_stuck = |place: &Place| place.next <= first;
            if state.readers.values().all(is_stuck) {
                return 0;
            }
            for place in state.readers.values_mut().filter(|place| is_stuck(place)) {
                place.waker.take().into_iter().for_each(Waker::wake);
            }
            state.readers.retain(|_, place| !is_stuck(place));
            state.trim()
        });
    }

    /// Changes the state, then wakes everybody who waits, after the lock is released: a woken
    /// thread would only run into it.
    /// `change` tells how many bytes it has dropped.
    fn change(&self, change: impl FnOnce(&mut State<H>) -> u64) {
        let mut state = self.state();
        let dropped = change(&mut state);
        self.held.fetch_sub(dropped, Ordering::AcqRel);
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
    fn has_failed(&self) -> bool {
        matches!(self.head, Some(Err(_))) || matches!(self.end, Some(Err(_)))
    }

    /// In pass mode, drops what every reader has; returns how many bytes.
    fn trim(&mut self) -> u64 {
        if !self.pass {
            return 0;
        }
        let end = self.first + self.chunks.len() as u64;
        let slowest = self
            .readers
            .values()
            .map(|place| place.next)
            .min()
            .unwrap_or(end);
        let mut dropped = 0;
        while self.first < slowest
            && let Some(chunk) = self.chunks.pop_front()
        {
            self.first += 1;
            dropped += chunk.len();
        }
        self.buffered -= dropped;
        dropped as u64
    }
}

impl<H> Drop for Relay<H> {
    fn drop(&mut self) {
        let held = self.state().buffered as u64;
        self.held.fetch_sub(held, Ordering::AcqRel);
    }
}

/// One reader of a relay; dropping it is leaving.
#[derive(Debug)]
pub(crate) struct Reader<H> {
    relay: Arc<Relay<H>>,
    id: u64,
}

impl<H> Reader<H> {
    /// The head, once there is one; `interim` is handed what comes before it.
    pub(crate) async fn head(&self, interim: Option<&Interim>) -> Result<Arc<H>, Failure> {
        let mut seen = 0;
        poll_fn(|cx| {
            let mut state = self.relay.state();
            let new: Vec<_> = state.interim.iter().skip(seen).cloned().collect();
            let head = state.head.clone();
            if head.is_none()
                && let Some(place) = state.readers.get_mut(&self.id)
            {
                place.waker = Some(cx.waker().clone());
            }
            drop(state);
            seen += new.len();
            if let Some(interim) = interim {
                new.iter().for_each(|one| interim.send(one.0, &one.1));
            }
            head.map_or(Poll::Pending, Poll::Ready)
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
            let dropped = state.trim();
            self.relay.held.fetch_sub(dropped, Ordering::AcqRel);
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
            state.trim()
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
mod tests;
