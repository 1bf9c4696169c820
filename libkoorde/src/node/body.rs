//! A response's body: nothing, parts of what is stored, a fill's as it arrives, slices one after
//! the other, or straight from the origin.

use std::{
    collections::VecDeque,
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Frame, SizeHint};

use super::{answer::Head, origin::OriginBody, relay::Reader, slices::Slices};
use crate::{error::BodyError, policy::Multipart, store::Stored};

/// A response's body.
#[derive(Debug)]
pub struct Body(Kind);

#[derive(Debug)]
enum Kind {
    Empty,
    Stored(StoredBody),
    Parts(Box<Parts>),
    Relay(Reader<Head>),
    Slices(Box<Slices>),
    Origin(Box<OriginBody>),
}

impl Body {
    /// A body of nothing.
    #[must_use]
    pub const fn empty() -> Self {
        Self(Kind::Empty)
    }

    pub(super) fn relay(reader: Reader<Head>) -> Self {
        Self(Kind::Relay(reader))
    }

    /// Straight from the origin, for one request alone.
    pub(super) fn origin(body: OriginBody) -> Self {
        Self(Kind::Origin(Box::new(body)))
    }

    pub(super) fn slices(slices: Slices) -> Self {
        Self(Kind::Slices(Box::new(slices)))
    }

    /// The whole of a stored body.
    pub(super) fn stored(stored: &Arc<Stored>) -> Self {
        Self(Kind::Stored(StoredBody::of(stored)))
    }

    /// Bytes `start..end` of a stored body, counted in the whole representation.
    pub(super) fn part(stored: &Arc<Stored>, start: u64, end: u64) -> Self {
        let parts = [(Bytes::new(), start, end)].into();
        Self(Kind::Parts(Parts::new(stored, parts, Bytes::new())))
    }

    /// Several ranges of a stored body.
    pub(super) fn multipart(stored: &Arc<Stored>, words: &Multipart) -> Self {
        let part =
            |part: &crate::policy::multipart::BodyPart| (part.before.clone(), part.start, part.end);
        let parts = words.parts().iter().map(part).collect();
        Self(Kind::Parts(Parts::new(stored, parts, words.closing())))
    }
}

impl From<StoredBody> for Body {
    fn from(body: StoredBody) -> Self {
        Self(Kind::Stored(body))
    }
}

/// The whole of a stored response's body, or nothing. It is in memory: it can't break off.
#[derive(Debug, Default)]
pub struct StoredBody {
    stored: Option<Arc<Stored>>,
    /// Index of the chunk that is next.
    next: usize,
    /// Bytes left.
    left: u64,
}

impl StoredBody {
    pub(super) fn of(stored: &Arc<Stored>) -> Self {
        Self {
            left: stored.length,
            next: 0,
            stored: Some(Arc::clone(stored)),
        }
    }

    fn next(&mut self) -> Option<Bytes> {
        let chunk = self.stored.as_ref()?.chunks.get(self.next)?.clone();
        self.next += 1;
        self.left = self.left.saturating_sub(chunk.len() as u64);
        Some(chunk)
    }
}

impl http_body::Body for StoredBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.get_mut().next().map(|chunk| Ok(Frame::data(chunk))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

/// Parts of a stored body, each behind some words.
#[derive(Debug)]
struct Parts {
    stored: Arc<Stored>,
    /// What comes before a part, and which bytes of the whole representation it has.
    parts: VecDeque<(Bytes, u64, u64)>,
    closing: Bytes,
    /// Where the part under way goes on: index of the chunk, bytes to skip in it, bytes left.
    chunk: usize,
    skip: u64,
    left: u64,
    /// Bytes left of all.
    total: u64,
}

impl Parts {
    fn new(stored: &Arc<Stored>, parts: VecDeque<(Bytes, u64, u64)>, closing: Bytes) -> Box<Self> {
        let length = |(before, start, end): &(Bytes, u64, u64)| {
            before.len() as u64 + end.saturating_sub(*start)
        };
        let total = parts.iter().map(length).sum::<u64>() + closing.len() as u64;
        Box::new(Self {
            stored: Arc::clone(stored),
            parts,
            closing,
            chunk: 0,
            skip: 0,
            left: 0,
            total,
        })
    }

    fn next(&mut self) -> Option<Bytes> {
        let bytes = loop {
            if self.left > 0 {
                break self.of_part()?;
            }
            let Some((before, start, end)) = self.parts.pop_front() else {
                break std::mem::take(&mut self.closing);
            };
            self.seek(start, end);
            if !before.is_empty() {
                break before;
            }
            if self.left == 0 && self.parts.is_empty() {
                break std::mem::take(&mut self.closing);
            }
        };
        self.total = self.total.saturating_sub(bytes.len() as u64);
        (!bytes.is_empty()).then_some(bytes)
    }

    fn seek(&mut self, start: u64, end: u64) {
        let first = self.stored.head.part.map_or(0, |part| part.start);
        (self.chunk, self.skip) = (0, start.saturating_sub(first));
        while let Some(bytes) = self.stored.chunks.get(self.chunk)
            && self.skip >= bytes.len() as u64
        {
            self.skip -= bytes.len() as u64;
            self.chunk += 1;
        }
        self.left = end.saturating_sub(start);
    }

    fn of_part(&mut self) -> Option<Bytes> {
        let bytes = self.stored.chunks.get(self.chunk)?;
        // Both fit: a chunk is in memory, and `skip` is less than its length.
        let start = self.skip as usize;
        let end = bytes
            .len()
            .min(start + usize::try_from(self.left).unwrap_or(usize::MAX - start));
        (self.chunk, self.skip) = (self.chunk + 1, 0);
        self.left -= (end - start) as u64;
        Some(bytes.slice(start..end))
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = |chunk: Option<Result<Bytes, BodyError>>| chunk.map(|c| c.map(Frame::data));
        match &mut self.get_mut().0 {
            Kind::Empty => Poll::Ready(None),
            Kind::Stored(body) => Poll::Ready(frame(body.next().map(Ok))),
            Kind::Parts(parts) => Poll::Ready(frame(parts.next().map(Ok))),
            Kind::Relay(reader) => Pin::new(reader).poll_frame(cx),
            Kind::Slices(slices) => slices.poll_chunk(cx).map(frame),
            Kind::Origin(body) => body.poll_chunk(cx).map(frame),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Empty => true,
            Kind::Stored(body) => body.left == 0,
            Kind::Parts(parts) => parts.total == 0,
            _ => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Empty => SizeHint::with_exact(0),
            Kind::Stored(body) => SizeHint::with_exact(body.left),
            Kind::Parts(parts) => SizeHint::with_exact(parts.total),
            Kind::Relay(_) => SizeHint::default(),
            Kind::Slices(slices) => SizeHint::with_exact(slices.left()),
            Kind::Origin(body) => body.size_hint(),
        }
    }
}
