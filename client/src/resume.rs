//! A body that broke off goes on from the origin, if the origin sends the same.

use std::{
    future::Future,
    hash::{BuildHasher, DefaultHasher, Hasher, RandomState},
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header,
    request::Parts, response,
};

use crate::{
    BodyError, Event,
    error::Stalled,
    event::Events,
    inner::{self, Inner},
    layer::Shared,
    watch::Watch,
};

/// The second response; none if there is none that could be the same.
pub(crate) type Attempt<R> = Pin<Box<dyn Future<Output = Option<Response<R>>> + Send>>;
type Begin<R> = Box<dyn FnOnce() -> Attempt<R> + Send>;

/// What is needed to go on, kept while a body is read.
pub(crate) struct Guard<R> {
    begin: Exclusive<Begin<R>>,
    /// None where the connection itself tells: gRPC's pings.
    watch: Option<Watch>,
    replay: Replay,
}

/// What was read of the broken body, and what the second has to begin with.
pub(crate) struct Replay {
    expected: Expected,
    seen: Seen,
    again: Seen,
    events: Events,
}

impl<R> Guard<R> {
    /// For the response `head` to `parts`, which the service is asked again if need be. None for what
    /// is no GET.
    pub(crate) fn new<S, B>(
        head: &response::Parts,
        mut service: S,
        shared: Arc<Shared>,
        parts: Parts,
    ) -> Option<Box<Self>>
    where
        S: Inner<B, R>,
        S::Future: 'static,
        B: http_body::Body + Default + Send + 'static,
        R: http_body::Body<Data = Bytes, Error: Into<BodyError>> + Send + 'static,
    {
        let expected = Expected::of(head.status, &head.headers);
        if parts.method != Method::GET {
            return None;
        }
        let events = shared.events.clone();
        let begin: Begin<R> = Box::new(move || {
            Box::pin(async move {
                let request = Request::from_parts(parts, B::default());
                inner::ask(&mut service, request).await.ok()
            })
        });
        let hasher = RandomState::new().build_hasher();
        let seen = Seen { length: 0, hasher };
        let replay = Replay {
            expected,
            seen: seen.clone(),
            again: seen,
            events,
        };
        Some(Box::new(Self {
            begin: Exclusive::new(begin),
            watch: None,
            replay,
        }))
    }

    /// Breaks a body off that stands still, too, if it can go on from the origin.
    pub(crate) fn watched(mut self: Box<Self>, watch: Watch) -> Box<Self> {
        self.watch = Some(watch);
        self
    }

    /// Takes note of what is handed to the reader.
    pub(crate) fn read(&mut self, data: &[u8]) {
        self.replay.seen.read(data);
        if let Some(watch) = &mut self.watch {
            watch.moved();
        }
    }

    /// Ready when no more is to be expected of the body; never where there is nothing to go on with:
    /// then the reader has timers of its own.
    pub(crate) fn poll_dead(&mut self, context: &mut Context<'_>) -> Poll<BodyError> {
        let may_begin = self.may_begin();
        match self.watch.as_mut().filter(|_| may_begin) {
            Some(watch) => watch.poll_dead(context).map(|why| Stalled(why).into()),
            None => Poll::Pending,
        }
    }

    /// Whether a second response could be told to be the same: that needs a strong ETag (RFC 9110
    /// §8.8.1), unless nothing of the first was read.
    pub(crate) fn may_begin(&self) -> bool {
        self.replay.is_at_start() || self.replay.expected.tells_apart()
    }

    /// Asks again.
    pub(crate) fn begin(self) -> (Attempt<R>, Replay) {
        (self.begin.into_inner()(), self.replay)
    }
}

/// What became of a piece of the second body.
pub(crate) enum Replayed {
    /// The reader has it already.
    Known,
    /// The reader has what is before this; from here on all is new.
    New(Bytes),
    /// It is another body.
    Different,
}

impl Replay {
    /// Whether the second response may be the same as the first.
    pub(crate) fn fits<R>(&self, response: &Response<R>) -> bool {
        self.expected == Expected::of(response.status(), response.headers())
    }

    /// Whether nothing has been read before.
    pub(crate) fn is_at_start(&self) -> bool {
        self.seen.length == 0
    }

    /// Compares a piece of the second body with what was read of the first.
    pub(crate) fn compare(&mut self, mut data: Bytes) -> Replayed {
        let missing = self.seen.length - self.again.length;
        let length = usize::try_from(missing).map_or(data.len(), |missing| missing.min(data.len()));
        let known = data.split_to(length);
        self.again.read(&known);
        if self.again.length < self.seen.length {
            return Replayed::Known;
        }
        if self.again.hasher.finish() != self.seen.hasher.finish() {
            return Replayed::Different;
        }
        let at = self.seen.length;
        self.events.tell(&Event::Resumed { at });
        Replayed::New(data)
    }
}

/// A sum over bytes as they come.
#[derive(Clone)]
struct Seen {
    length: u64,
    hasher: DefaultHasher,
}

impl Seen {
    fn read(&mut self, data: &[u8]) {
        self.length += data.len() as u64;
        self.hasher.write(data);
    }
}

/// What two responses have to agree in to have the same body.
#[derive(PartialEq, Eq)]
struct Expected {
    status: StatusCode,
    fields: [Option<HeaderValue>; 5],
}

impl Expected {
    fn of(status: StatusCode, fields: &HeaderMap) -> Self {
        let field = |name: HeaderName| fields.get(name).cloned();
        let is_strong = |tag: &HeaderValue| !tag.as_bytes().starts_with(b"W/");
        Self {
            status,
            fields: [
                field(header::ETAG).filter(is_strong),
                field(header::LAST_MODIFIED),
                field(header::CONTENT_LENGTH),
                field(header::CONTENT_RANGE),
                field(header::CONTENT_ENCODING),
            ],
        }
    }

    /// Whether another version of the same page would show: else a page could begin as one and end as
    /// another. A length or a date is the same for many versions.
    fn tells_apart(&self) -> bool {
        self.fields[0].is_some()
    }
}

/// What only its owner touches may be shared: makes `Sync` what is only `Send`. Never locked.
pub(crate) struct Exclusive<T>(Mutex<T>);

impl<T> Exclusive<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(Mutex::new(value))
    }

    pub(crate) fn get_mut(&mut self) -> &mut T {
        self.0.get_mut().unwrap_or_else(PoisonError::into_inner)
    }

    fn into_inner(self) -> T {
        self.0.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replay(read: &[u8]) -> Replay {
        let mut seen = Seen {
            length: 0,
            hasher: RandomState::new().build_hasher(),
        };
        let again = seen.clone();
        // Pieces as uneven as the network's.
        for (n, byte) in read.iter().enumerate() {
            if n % 3 == 0 {
                seen.read(&read[n..(n + 3).min(read.len())]);
            }
            let _ = byte;
        }
        let expected = Expected::of(StatusCode::OK, &HeaderMap::new());
        let events = Events::default();
        Replay {
            expected,
            seen,
            again,
            events,
        }
    }

    #[test]
    fn how_a_body_is_cut_into_pieces_does_not_matter() {
        let text = b"The quick brown fox jumps over the lazy dog, twice.";
        for read in 0..text.len() {
            for piece in 1..=text.len() {
                let mut replay = replay(&text[..read]);
                let (mut new, mut is_new) = (Vec::new(), false);
                for data in text.chunks(piece) {
                    if is_new {
                        new.extend_from_slice(data);
                        continue;
                    }
                    match replay.compare(Bytes::copy_from_slice(data)) {
                        Replayed::Known => {}
                        Replayed::New(rest) => {
                            is_new = true;
                            new.extend_from_slice(&rest);
                        }
                        Replayed::Different => panic!("read {read}, pieces of {piece}"),
                    }
                }
                assert_eq!(new, &text[read..], "read {read}, pieces of {piece}");
            }
        }
    }

    #[test]
    fn one_other_byte_before_the_cut_is_another_body() {
        let mut replay = replay(b"abcdef");
        assert!(matches!(
            replay.compare("abXdefgh".into()),
            Replayed::Different
        ));
    }

    #[test]
    fn heads_that_differ_in_what_tells_bodies_apart_do_not_fit() {
        let head = |status: u16, fields: &[(&str, &str)]| {
            let mut response = Response::builder().status(status);
            for (name, value) in fields {
                response = response.header(*name, *value);
            }
            response.body(()).unwrap()
        };
        let first = head(200, &[("etag", "\"a\""), ("content-length", "9")]);
        let mut replay = replay(b"");
        replay.expected = Expected::of(first.status(), first.headers());
        for (second, fits) in [
            (
                head(
                    200,
                    &[("etag", "\"a\""), ("content-length", "9"), ("age", "3")],
                ),
                true,
            ),
            (
                head(200, &[("etag", "\"b\""), ("content-length", "9")]),
                false,
            ),
            (
                head(200, &[("etag", "\"a\""), ("content-length", "8")]),
                false,
            ),
            (
                head(500, &[("etag", "\"a\""), ("content-length", "9")]),
                false,
            ),
            (head(200, &[("etag", "\"a\"")]), false),
        ] {
            assert_eq!(replay.fits(&second), fits, "{second:?}");
        }
    }
}
