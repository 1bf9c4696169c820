//! A request's body on its way in, within the listener's bounds.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::StatusCode;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use libkoorde::RequestBody;
use tokio::time::{Sleep, sleep};
use tower::BoxError;

use super::respond::Failure;
use crate::settings::HttpSettings;

/// A body that ends in an error when it grows beyond `http.max_body`, or when nothing of it comes
/// for `http.body_timeout` while it is asked for. Trailers are dropped, as those of responses are.
pub(super) struct Upload<B> {
    inner: B,
    left: u64,
    timeout: Duration,
    /// Runs while a frame is waited for.
    silence: Option<Pin<Box<Sleep>>>,
    broken: Broken,
}

/// Tells afterwards which bound an upload broke. The error itself goes to the origin's connection,
/// and comes back as that of an upload, without saying of which bound.
#[derive(Clone, Debug, Default)]
pub(super) struct Broken(Arc<AtomicU8>);

const TOO_LARGE: u8 = 1;
const SILENT: u8 = 2;

#[derive(Debug, thiserror::Error)]
enum UploadError {
    #[error("the request's body is larger than http.max_body")]
    TooLarge,
    #[error("the request's body was silent for http.body_timeout")]
    Silent,
}

impl<B> Upload<B>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    /// The body to fetch with, and who tells what became of it.
    ///
    /// # Errors
    /// It says itself that it is too large.
    pub(super) fn begin(body: B, limits: &HttpSettings) -> Result<(RequestBody, Broken), Failure> {
        let broken = Broken::default();
        if body.size_hint().lower() > limits.max_body.0 {
            return Err(too_large(limits));
        }
        let upload = Self {
            inner: body,
            left: limits.max_body.0,
            timeout: limits.body_timeout,
            silence: None,
            broken: broken.clone(),
        };
        Ok((upload.boxed_unsync(), broken))
    }

    fn end(&self, reason: u8, error: UploadError) -> Option<Result<Frame<Bytes>, BoxError>> {
        self.broken.0.store(reason, Relaxed);
        Some(Err(error.into()))
    }
}

impl Broken {
    /// What the client is told, if a bound was broken.
    pub(super) fn failure(&self, limits: &HttpSettings) -> Option<Failure> {
        match self.0.load(Relaxed) {
            TOO_LARGE => Some(too_large(limits)),
            SILENT => {
                let message = format!(
                    "nothing of the request's body came for {:?} (http.body_timeout)",
                    limits.body_timeout
                );
                let status = StatusCode::REQUEST_TIMEOUT;
                Some(Failure::new(status, "body-timeout", message))
            }
            _ => None,
        }
    }
}

fn too_large(limits: &HttpSettings) -> Failure {
    let message = format!(
        "the request's body is larger than {} (http.max_body)",
        limits.max_body
    );
    Failure::new(StatusCode::PAYLOAD_TOO_LARGE, "body-too-large", message)
}

impl<B> Body for Upload<B>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        loop {
            let Poll::Ready(frame) = Pin::new(&mut self.inner).poll_frame(cx) else {
                let timeout = self.timeout;
                let silence = self.silence.get_or_insert_with(|| Box::pin(sleep(timeout)));
                return silence
                    .as_mut()
                    .poll(cx)
                    .map(|()| self.end(SILENT, UploadError::Silent));
            };
            self.silence = None;
            let data = match frame {
                None => return Poll::Ready(None),
                Some(Err(error)) => return Poll::Ready(Some(Err(error.into()))),
                Some(Ok(frame)) => frame.into_data(),
            };
            let Ok(data) = data else { continue };
            let length = u64::try_from(data.len()).unwrap_or(u64::MAX);
            let Some(left) = self.left.checked_sub(length) else {
                return Poll::Ready(self.end(TOO_LARGE, UploadError::TooLarge));
            };
            self.left = left;
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
