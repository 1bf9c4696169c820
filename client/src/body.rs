//! The body of a response that came through a layer.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

#[cfg(not(feature = "embedded"))]
use std::convert::Infallible;

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use pin_project_lite::pin_project;

use crate::{
    BodyError,
    resume::{Attempt, Exclusive, Guard, Replay, Replayed},
};

pin_project! {
    /// The body of a response: the inner service's `R`, or koorde's. Of koorde's, one that breaks off
    /// before its end, or stands still because the sidecar does, goes on from the origin if that sends the same bytes again; else its error is
    /// the reader's.
    pub struct Body<R> {
        #[pin]
        kind: Kind<R>,
    }
}

pin_project! {
    #[project = KindProjection]
    enum Kind<R> {
        // As it comes.
        Plain { #[pin] body: Source<R> },
        // Noted while it is read, so that it can go on.
        Guarded { #[pin] body: Source<R>, guard: Option<Box<Guard<R>>> },
        // Broken off; asking again.
        Asking { attempt: Exclusive<Attempt<R>>, replay: Option<Box<Replay>>, error: Option<BodyError> },
        // The second body, compared with the first as far as that was read.
        Replayed { #[pin] body: R, replay: Option<Box<Replay>>, error: Option<BodyError> },
        Empty,
    }
}

pin_project! {
    #[project = SourceProjection]
    enum Source<R> {
        Inner { #[pin] body: R },
        Koorde { body: Exclusive<Boxed> },
        Stored { body: Stored },
    }
}

/// A body of koorde's, or one that is put while it is read.
pub(crate) type Boxed = Pin<Box<dyn HttpBody<Data = Bytes, Error = BodyError> + Send>>;

/// A body of the node in this process, whole and in memory.
#[cfg(feature = "embedded")]
pub(crate) type Stored = libkoorde::StoredBody;
#[cfg(not(feature = "embedded"))]
type Stored = Never;

#[cfg(feature = "embedded")]
impl<R> Body<R> {
    pub(crate) fn stored(body: Stored) -> Self {
        let body = Source::Stored { body };
        let kind = Kind::Plain { body };
        Self { kind }
    }
}

impl<R> Body<R> {
    pub(crate) fn plain(body: R) -> Self {
        let body = Source::Inner { body };
        let kind = Kind::Plain { body };
        Self { kind }
    }

    pub(crate) fn guarded(body: R, guard: Option<Box<Guard<R>>>) -> Self {
        let body = Source::Inner { body };
        let kind = Kind::Guarded { body, guard };
        Self { kind }
    }

    #[cfg(feature = "look-aside")]
    pub(crate) fn boxed(body: Boxed) -> Self {
        let kind = Kind::Plain {
            body: Source::of(body),
        };
        Self { kind }
    }

    #[cfg(feature = "look-aside")]
    pub(crate) fn boxed_guarded(body: Boxed, guard: Option<Box<Guard<R>>>) -> Self {
        let body = Source::of(body);
        let kind = Kind::Guarded { body, guard };
        Self { kind }
    }

    pub(crate) fn empty() -> Self {
        Self { kind: Kind::Empty }
    }
}

type Next = Option<Result<Frame<Bytes>, BodyError>>;

impl<R> HttpBody for Body<R>
where
    R: HttpBody<Data = Bytes>,
    R::Error: Into<BodyError>,
{
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Next> {
        let mut kind = self.project().kind;
        loop {
            let next = match kind.as_mut().project() {
                KindProjection::Empty => return Poll::Ready(None),
                KindProjection::Plain { body } => return body.poll_frame(context),
                KindProjection::Guarded { body, guard } => {
                    let frame = match body.poll_frame(context) {
                        Poll::Ready(frame) => frame,
                        Poll::Pending => ready!(dead(guard, context)),
                    };
                    match guarded(frame, guard) {
                        Ok(next) => return Poll::Ready(next),
                        Err(asking) => asking,
                    }
                }
                KindProjection::Asking {
                    attempt,
                    replay,
                    error,
                } => {
                    let response = ready!(attempt.get_mut().as_mut().poll(context));
                    let fits = |response: &_| replay.as_ref().is_some_and(|r| r.fits(response));
                    let Some(response) = response.filter(fits) else {
                        let error = error.take();
                        kind.set(Kind::Empty);
                        return Poll::Ready(error.map(Err));
                    };
                    Kind::Replayed {
                        body: response.into_body(),
                        replay: replay.take(),
                        error: error.take(),
                    }
                }
                KindProjection::Replayed {
                    body,
                    replay,
                    error,
                } => match replayed(ready!(body.poll_frame(context)), replay, error) {
                    Step::Again => continue,
                    Step::Next(next) => return Poll::Ready(next),
                    Step::Failed(next) => {
                        kind.set(Kind::Empty);
                        return Poll::Ready(next);
                    }
                },
            };
            kind.set(next);
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Plain { body } | Kind::Guarded { body, .. } => body.is_end_stream(),
            Kind::Replayed { body, replay, .. } => replay.is_none() && body.is_end_stream(),
            Kind::Asking { .. } => false,
            Kind::Empty => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Plain { body } | Kind::Guarded { body, .. } => body.size_hint(),
            Kind::Replayed { body, replay, .. } if replay.is_none() => body.size_hint(),
            Kind::Replayed { .. } | Kind::Asking { .. } => SizeHint::default(),
            Kind::Empty => SizeHint::with_exact(0),
        }
    }
}

/// Ready with the error that a body which stands still ends with, once nothing more is to come.
fn dead<R>(guard: &mut Option<Box<Guard<R>>>, context: &mut Context<'_>) -> Poll<Next> {
    match guard {
        Some(guard) => guard.poll_dead(context).map(|error| Some(Err(error))),
        None => Poll::Pending,
    }
}

/// What a guarded body's frame is to the reader; or, if it broke off, what comes next.
fn guarded<R>(frame: Next, guard: &mut Option<Box<Guard<R>>>) -> Result<Next, Kind<R>> {
    match frame {
        Some(Ok(frame)) => {
            match (frame.data_ref(), guard.as_mut()) {
                (Some(data), Some(guard)) => guard.read(data),
                // Behind trailers there is nothing to go on with.
                (None, _) => *guard = None,
                (Some(_), None) => {}
            }
            Ok(Some(Ok(frame)))
        }
        Some(Err(error)) => match guard.take().filter(|guard| guard.may_begin()) {
            None => Ok(Some(Err(error))),
            Some(guard) => {
                let (attempt, replay) = guard.begin();
                Err(Kind::Asking {
                    attempt: Exclusive::new(attempt),
                    replay: Some(Box::new(replay)),
                    error: Some(error),
                })
            }
        },
        None => Ok(None),
    }
}

enum Step {
    Again,
    Next(Next),
    Failed(Next),
}

/// What a frame of the second body is to the reader.
fn replayed<E: Into<BodyError>>(
    frame: Option<Result<Frame<Bytes>, E>>,
    replay: &mut Option<Box<Replay>>,
    error: &mut Option<BodyError>,
) -> Step {
    let Some(comparing) = replay else {
        return Step::Next(frame.map(|frame| frame.map_err(Into::into)));
    };
    let data = match frame.and_then(Result::ok).map(Frame::into_data) {
        Some(Ok(data)) => data,
        // It ended, broke off or went on to trailers: nothing is missing only if nothing was read.
        Some(Err(trailers)) if comparing.is_at_start() => {
            *replay = None;
            return Step::Next(Some(Ok(trailers)));
        }
        _ => return Step::Failed(error.take().map(Err)),
    };
    match comparing.compare(data) {
        Replayed::Known => Step::Again,
        Replayed::Different => Step::Failed(error.take().map(Err)),
        Replayed::New(rest) => {
            *replay = None;
            if rest.is_empty() {
                Step::Again
            } else {
                Step::Next(Some(Ok(Frame::data(rest))))
            }
        }
    }
}

#[cfg(feature = "look-aside")]
impl<R> Source<R> {
    fn of(body: Boxed) -> Self {
        let body = Exclusive::new(body);
        Self::Koorde { body }
    }
}

impl<R> HttpBody for Source<R>
where
    R: HttpBody<Data = Bytes>,
    R::Error: Into<BodyError>,
{
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Next> {
        match self.project() {
            SourceProjection::Inner { body } => {
                let frame = ready!(body.poll_frame(context));
                Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
            }
            SourceProjection::Koorde { body } => body.get_mut().as_mut().poll_frame(context),
            SourceProjection::Stored { body } => {
                let frame = ready!(Pin::new(body).poll_frame(context));
                Poll::Ready(frame.map(|frame| frame.map_err(|never| match never {})))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Inner { body } => body.is_end_stream(),
            // Shared, it can't be asked; its end comes with a poll.
            Self::Koorde { .. } => false,
            Self::Stored { body } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Inner { body } => body.size_hint(),
            Self::Koorde { .. } => SizeHint::default(),
            Self::Stored { body } => body.size_hint(),
        }
    }
}

/// Without a node in this process there is no such body.
#[cfg(not(feature = "embedded"))]
enum Never {}

#[cfg(not(feature = "embedded"))]
impl HttpBody for Never {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match *self {}
    }
}

impl<R> fmt::Debug for Body<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Body").finish_non_exhaustive()
    }
}
