//! A request's body on its way out: taken at most once, with its progress to be seen.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::sync::watch;
use tower::BoxError;

use super::{
    super::request::{RequestBody, no_body},
    chain,
};

/// How far a body has come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Progress {
    frames: u64,
    /// Nothing more comes.
    pub(super) is_over: bool,
    /// The origin would take more than has come from whoever sends it.
    pub(super) is_awaited: bool,
    /// What was said by whoever sends it, and has broken it off.
    pub(super) broken: Option<String>,
}

/// Where a body waits until somebody begins to send it. What was begun is never sent again.
#[derive(Clone, Debug)]
pub(super) struct Unsent {
    body: Arc<Mutex<Option<RequestBody>>>,
    /// Nothing can be sent as often as needed.
    is_empty: bool,
}

impl Unsent {
    pub(super) fn new(body: RequestBody) -> Self {
        Self {
            is_empty: body.is_end_stream(),
            body: Arc::new(Mutex::new(Some(body))),
        }
    }

    /// The body for one attempt, and its progress; `None` if it was begun before.
    pub(super) fn attempt(&self) -> Option<(Upload, watch::Receiver<Progress>)> {
        let body = if self.is_empty {
            no_body()
        } else {
            self.slot(Option::take)?
        };
        let (progress, watched) = watch::channel(Progress {
            is_over: self.is_empty,
            ..Progress::default()
        });
        let upload = Upload {
            body,
            is_begun: self.is_empty,
            progress,
            back: self.clone(),
        };
        Some((upload, watched))
    }

    fn slot<T>(&self, with: impl FnOnce(&mut Option<RequestBody>) -> T) -> T {
        with(&mut self.body.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A body that is being sent.
#[derive(Debug)]
pub(super) struct Upload {
    body: RequestBody,
    is_begun: bool,
    progress: watch::Sender<Progress>,
    back: Unsent,
}

impl Body for Upload {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.is_begun = true;
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        let Poll::Ready(frame) = frame else {
            self.progress.send_if_modified(|progress| {
                let was_awaited = std::mem::replace(&mut progress.is_awaited, true);
                !was_awaited
            });
            return Poll::Pending;
        };
        let is_over = !matches!(frame, Some(Ok(_))) || self.body.is_end_stream();
        self.progress.send_modify(|progress| {
            progress.frames += 1;
            progress.is_awaited = false;
            progress.is_over |= is_over;
            if let Some(Err(error)) = &frame {
                progress.broken = Some(chain(&**error));
            }
        });
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if !self.is_begun {
            let body = std::mem::replace(&mut self.body, no_body());
            self.back.slot(|slot| *slot = Some(body));
        }
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt, Full};

    use super::*;

    fn body(text: &'static str) -> RequestBody {
        Full::from(text)
            .map_err(|never| match never {})
            .boxed_unsync()
    }

    #[tokio::test]
    async fn a_body_that_was_begun_is_never_sent_again() {
        let unsent = Unsent::new(body("text"));
        let (upload, _) = unsent.attempt().expect("it waits");
        assert!(unsent.attempt().is_none(), "it is out");
        drop(upload);
        let (mut upload, progress) = unsent.attempt().expect("it came back untouched");
        assert!(!progress.borrow().is_over);
        upload.frame().await.expect("a frame").expect("no error");
        assert!(progress.borrow().is_over);
        drop(upload);
        assert!(unsent.attempt().is_none());
    }

    #[tokio::test]
    async fn nothing_can_be_sent_again() {
        let unsent = Unsent::new(no_body());
        for _ in 0..3 {
            let (upload, progress) = unsent.attempt().expect("it comes back");
            assert!(progress.borrow().is_over && upload.is_end_stream());
            assert!(
                upload
                    .collect()
                    .await
                    .expect("nothing")
                    .to_bytes()
                    .is_empty()
            );
        }
    }
}
