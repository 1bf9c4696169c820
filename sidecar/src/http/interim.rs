//! Interim responses (1xx, RFC 9110 §15.2) to HTTP/1.1 clients, and an end that loses no answer.
//!
//! hyper's server can send neither 102 nor 103. So the stream below it does: what the origin says in
//! between waits in a [`Slot`] and is written where hyper has written all it had, which is between
//! two responses. Over HTTP/2 hyper has no way at all to send them, and they are dropped; so they are
//! for HTTP/1.0 clients, who may not be sent any.

use std::{
    future::Future,
    io::{self, IoSlice, Write},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use bytes::{Buf, BytesMut};
use http::{HeaderMap, StatusCode, Version, header};
use libkoorde::policy::fields::connection;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};

/// Interim responses to one request, at most.
const MAX_COUNT: usize = 16;
/// Bytes of all interim responses to one request, at most.
const MAX_BYTES: usize = 16 << 10;

/// Longest time that the rest of a request is read to be thrown away, and most bytes of it.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: usize = 16 << 20;

/// What one connection has to say before its next response.
#[derive(Debug, Default)]
pub(super) struct Slot(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// Which request of the connection is under way.
    generation: u64,
    /// It has no final response yet.
    open: bool,
    /// hyper has handed over bytes and has not said since that these were all.
    mid_response: bool,
    /// It speaks no HTTP any more.
    is_tunnel: bool,
    waiting: BytesMut,
    count: usize,
    bytes: usize,
    connection: Option<Waker>,
}

/// Takes interim responses to one request. What comes when its final response has begun is dropped.
#[derive(Clone, Debug)]
pub(super) struct Sink {
    slot: Arc<Slot>,
    generation: u64,
}

impl Slot {
    /// For a request that begins; none if its client cannot be sent any.
    pub(super) fn open(self: &Arc<Self>, version: Version) -> Option<Sink> {
        if version != Version::HTTP_11 {
            return None;
        }
        let mut state = self.state();
        state.generation += 1;
        state.open = true;
        state.waiting.clear();
        (state.count, state.bytes) = (0, 0);
        Some(Sink {
            slot: Arc::clone(self),
            generation: state.generation,
        })
    }

    /// From now on the connection is a tunnel: what comes behind its end is the other side's.
    pub(super) fn becomes_tunnel(&self) {
        self.state().is_tunnel = true;
    }

    /// What waits to be written.
    #[cfg(fuzzing)]
    pub(super) fn waiting(&self) -> Vec<u8> {
        self.state().waiting.to_vec()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sink {
    /// Sends one at once. Beyond the bounds, and with a status that is no interim response or
    /// changes the protocol, it is dropped.
    pub(super) fn send(&self, status: StatusCode, fields: &HeaderMap) {
        if !status.is_informational() || status == StatusCode::SWITCHING_PROTOCOLS {
            return;
        }
        let head = head(status, fields);
        let mut state = self.slot.state();
        let is_ours = state.open && state.generation == self.generation;
        if !is_ours || state.count >= MAX_COUNT || state.bytes + head.len() > MAX_BYTES {
            return;
        }
        state.count += 1;
        state.bytes += head.len();
        state.waiting.extend_from_slice(&head);
        let connection = state.connection.take();
        drop(state);
        if let Some(connection) = connection {
            connection.wake();
        }
    }

    /// The final response begins. What has not been sent may still go before it.
    pub(super) fn close(&self) {
        let mut state = self.slot.state();
        if state.generation == self.generation {
            state.open = false;
        }
    }
}

fn head(status: StatusCode, fields: &HeaderMap) -> Vec<u8> {
    let mut fields = fields.clone();
    connection::strip_response(&mut fields);
    // There is no content that it could tell the length of.
    fields.remove(header::CONTENT_LENGTH);
    let mut head = Vec::with_capacity(256);
    let reason = status.canonical_reason().unwrap_or("Interim");
    // A vector takes all that is written to it.
    let _ = write!(head, "HTTP/1.1 {} {reason}\r\n", status.as_u16());
    for (name, value) in &fields {
        for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
            head.extend_from_slice(part);
        }
    }
    head.extend_from_slice(b"\r\n");
    head
}

/// Wraps a connection's stream.
pub(super) struct Interims<IO> {
    inner: IO,
    slot: Arc<Slot>,
    /// Begun, so that nothing may come between.
    writing: BytesMut,
    linger: Linger,
}

/// The end of a connection whose client may still be sending.
enum Linger {
    No,
    Shutdown,
    Reading(Pin<Box<Sleep>>, usize),
}

impl<IO> Interims<IO> {
    pub(super) fn new(inner: IO, slot: Arc<Slot>) -> Self {
        Self {
            inner,
            slot,
            writing: BytesMut::new(),
            linger: Linger::No,
        }
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Interims<IO> {
    /// hyper hands bytes over. If they are the first since it had none left, they begin a message,
    /// and what waits comes before it.
    fn before_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.slot.state();
        if !std::mem::replace(&mut state.mid_response, true) {
            self.writing.unsplit(state.waiting.split());
        }
        drop(state);
        self.write_begun(cx)
    }

    /// hyper has nothing left to write.
    fn at_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.slot.state();
        state.mid_response = false;
        if state.open {
            self.writing.unsplit(state.waiting.split());
        } else {
            // The final response was among what it has just written.
            state.waiting.clear();
        }
        if !state
            .connection
            .as_ref()
            .is_some_and(|waker| waker.will_wake(cx.waker()))
        {
            state.connection = Some(cx.waker().clone());
        }
        drop(state);
        self.write_begun(cx)
    }

    fn write_begun(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.writing.is_empty() {
            let written = ready!(Pin::new(&mut self.inner).poll_write(cx, &self.writing))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.writing.advance(written);
        }
        Poll::Ready(Ok(()))
    }

    /// Reads what is left and throws it away, for a while: a socket closed on unread bytes resets the
    /// connection, and the client may lose the answer it has not read yet (RFC 9112 §9.6).
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut buffer = [0; 8 << 10];
        loop {
            let mut read = ReadBuf::new(&mut buffer);
            match Pin::new(&mut self.inner).poll_read(cx, &mut read) {
                Poll::Ready(Ok(())) if !read.filled().is_empty() => {
                    let count = read.filled().len();
                    if let Linger::Shutdown = self.linger {
                        self.linger = Linger::Reading(Box::pin(sleep(LINGER)), 0);
                    }
                    if let Linger::Reading(_, bytes) = &mut self.linger {
                        *bytes += count;
                        if *bytes > LINGER_BYTES {
                            return Poll::Ready(Ok(()));
                        }
                    }
                }
                Poll::Ready(_) => return Poll::Ready(Ok(())),
                Poll::Pending => match &mut self.linger {
                    Linger::Reading(end, _) => return end.as_mut().poll(cx).map(Ok),
                    // Nothing was on its way.
                    Linger::No | Linger::Shutdown => return Poll::Ready(Ok(())),
                },
            }
        }
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Interims<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buffer)
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Interims<IO> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.before_write(cx))?;
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.before_write(cx))?;
        Pin::new(&mut self.inner).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.at_flush(cx))?;
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.slot.state().is_tunnel {
            return Pin::new(&mut self.inner).poll_shutdown(cx);
        }
        if let Linger::No = self.linger {
            ready!(Pin::new(&mut self.inner).poll_shutdown(cx))?;
            self.linger = Linger::Shutdown;
        }
        self.poll_linger(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    use super::*;

    const HINT: &str = "HTTP/1.1 103 Early Hints\r\n\r\n";

    fn stream() -> (Arc<Slot>, Interims<DuplexStream>, DuplexStream) {
        let (near, far) = duplex(1 << 20);
        let slot = Arc::new(Slot::default());
        (Arc::clone(&slot), Interims::new(near, slot), far)
    }

    fn open(slot: &Arc<Slot>) -> Sink {
        slot.open(Version::HTTP_11).expect("it is HTTP/1.1")
    }

    fn hint(sink: &Sink) {
        sink.send(StatusCode::EARLY_HINTS, &HeaderMap::new());
    }

    async fn written(stream: Interims<DuplexStream>, mut far: DuplexStream) -> String {
        drop(stream);
        let mut text = String::new();
        far.read_to_string(&mut text).await.expect("it is text");
        text
    }

    #[tokio::test]
    async fn what_comes_in_the_middle_of_a_response_waits_for_its_end() {
        let (slot, mut stream, far) = stream();
        open(&slot).close();
        stream.write_all(b"one, ").await.expect("there is room");
        // The next request of a pipeline has begun, but the answer to the first is not out yet.
        hint(&open(&slot));
        stream
            .write_all(b"to the end;")
            .await
            .expect("there is room");
        stream.flush().await.expect("it is open");
        stream.write_all(b"two").await.expect("there is room");
        assert_eq!(
            written(stream, far).await,
            format!("one, to the end;{HINT}two")
        );
    }

    #[tokio::test]
    async fn what_comes_just_before_a_response_is_written_before_it() {
        let (slot, mut stream, far) = stream();
        let sink = open(&slot);
        hint(&sink);
        sink.close();
        stream.write_all(b"one").await.expect("there is room");
        assert_eq!(written(stream, far).await, format!("{HINT}one"));
    }

    #[tokio::test]
    async fn what_comes_too_late_is_dropped() {
        let (slot, mut stream, far) = stream();
        let first = open(&slot);
        stream.write_all(b"one").await.expect("there is room");
        hint(&first);
        // hyper has not flushed since: the final response may be among what it writes next.
        first.close();
        hint(&first);
        stream.flush().await.expect("it is open");
        let second = open(&slot);
        hint(&first);
        stream.flush().await.expect("it is open");
        hint(&second);
        stream.flush().await.expect("it is open");
        assert_eq!(written(stream, far).await, format!("one{HINT}"));
    }
}
