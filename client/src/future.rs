//! What [`Koorde::call`](crate::Koorde) returns.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::Response;
use pin_project_lite::pin_project;

use crate::Body;

pin_project! {
    /// The response to come. Dropping it ends everything that was begun for it, except what look-aside
    /// promises to others.
    pub struct ResponseFuture<F, R, E> {
        #[pin]
        kind: Kind<F, R, E>,
    }
}

type Boxed<R, E> = Pin<Box<dyn Future<Output = Result<Response<Body<R>>, E>> + Send>>;

pin_project! {
    #[project = KindProjection]
    enum Kind<F, R, E> {
        // The inner service's own future: nothing is allocated.
        Bypass { #[pin] future: F },
        Koorde { future: Boxed<R, E> },
        // It is here already; none once it was taken.
        Ready { response: Option<Response<Body<R>>> },
    }
}

impl<F, R, E> ResponseFuture<F, R, E> {
    pub(crate) fn bypass(future: F) -> Self {
        let kind = Kind::Bypass { future };
        Self { kind }
    }

    pub(crate) fn koorde(
        future: impl Future<Output = Result<Response<Body<R>>, E>> + Send + 'static,
    ) -> Self {
        let kind = Kind::Koorde {
            future: Box::pin(future),
        };
        Self { kind }
    }
}

#[cfg(feature = "embedded")]
impl<F, R, E> ResponseFuture<F, R, E> {
    pub(crate) fn ready(response: Response<Body<R>>) -> Self {
        let kind = Kind::Ready {
            response: Some(response),
        };
        Self { kind }
    }
}

impl<F, R, E> Future for ResponseFuture<F, R, E>
where
    F: Future<Output = Result<Response<R>, E>>,
{
    type Output = Result<Response<Body<R>>, E>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().kind.project() {
            KindProjection::Bypass { future } => {
                let response = ready!(future.poll(context))?;
                Poll::Ready(Ok(response.map(Body::plain)))
            }
            KindProjection::Koorde { future } => future.as_mut().poll(context),
            KindProjection::Ready { response } => {
                Poll::Ready(Ok(response.take().expect("polled after it was ready")))
            }
        }
    }
}

impl<F, R, E> fmt::Debug for ResponseFuture<F, R, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
