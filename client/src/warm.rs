//! Filling the cache ahead of its use.

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body::Body as _;
use tower_service::Service;

use crate::{BodyError, CacheResult, CacheStatus, Koorde, inner};

/// Requests of one `warm` under way at once.
const AT_ONCE: usize = 8;

/// What [`Koorde::warm`] has brought about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Warmed {
    /// URLs that koorde has answered, whole and without an error status. What HTTP does not let it
    /// store is among them.
    pub answered: usize,
    /// URLs for which it could not be used, or whose origin failed.
    pub failed: Vec<Uri>,
}

impl<S> Koorde<S> {
    /// Asks for these URLs, eight at a time, and drops what comes: who asks next finds it stored.
    /// Dropping the future ends it. It never fails: what could not be had is in [`Warmed::failed`].
    pub async fn warm<B, R>(&self, urls: impl IntoIterator<Item = Uri>) -> Warmed
    where
        S: Service<Request<B>, Response = Response<R>> + Clone + Send + 'static,
        S::Future: Send + 'static,
        S::Error: Send + 'static,
        B: http_body::Body + Default + Send + 'static,
        R: http_body::Body<Data = Bytes> + Send + 'static,
        R::Error: Into<BodyError>,
    {
        let mut warmed = Warmed::default();
        let tasks = urls.into_iter().map(|url| {
            let service = self.clone();
            Box::pin(async move {
                let is_warm = one::<S, B, R>(service, url.clone()).await;
                (url, is_warm)
            })
        });
        let done = |(url, is_warm)| match is_warm {
            true => warmed.answered += 1,
            false => warmed.failed.push(url),
        };
        bounded(tasks, done).await;
        warmed
    }
}

/// Whether koorde has answered for a URL.
async fn one<S, B, R>(mut service: Koorde<S>, url: Uri) -> bool
where
    S: Service<Request<B>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
    B: http_body::Body + Default + Send + 'static,
    R: http_body::Body<Data = Bytes> + Send + 'static,
    R::Error: Into<BodyError>,
{
    let mut request = Request::new(B::default());
    *request.uri_mut() = url;
    let Ok(response) = inner::ask(&mut service, request).await else {
        return false;
    };
    let status = response.extensions().get::<CacheStatus>();
    let is_koordes = status.is_some_and(|status| status.result != CacheResult::FailOpen);
    let is_error = response.status().is_client_error() || response.status().is_server_error();
    let mut body = pin!(response.into_body());
    // Read to its end even if it is an error: the connection stays of use.
    while let Some(frame) = poll_fn(|context| body.as_mut().poll_frame(context)).await {
        if frame.is_err() {
            return false;
        }
    }
    is_koordes && !is_error
}

/// Runs futures, a few at a time, and tells `done` what each has come to.
async fn bounded<F: Future + Unpin>(
    mut waiting: impl Iterator<Item = F>,
    mut done: impl FnMut(F::Output),
) {
    let mut running: Vec<F> = Vec::with_capacity(AT_ONCE);
    poll_fn(|context: &mut Context<'_>| {
        loop {
            running.extend(waiting.by_ref().take(AT_ONCE - running.len()));
            let before = running.len();
            running.retain_mut(|future| match Pin::new(future).poll(context) {
                Poll::Ready(output) => {
                    done(output);
                    false
                }
                Poll::Pending => true,
            });
            match running.len() {
                0 if before == 0 => return Poll::Ready(()),
                after if after == before => return Poll::Pending,
                // There is room again.
                _ => {}
            }
        }
    })
    .await;
}
