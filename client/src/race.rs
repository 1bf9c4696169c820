//! Two futures at once.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    task::Poll,
};

/// Waits for the first of two: `Ok` of the one, `Err` of the other. The first is preferred.
pub(crate) async fn race<A: Future, B: Future>(
    mut one: Pin<&mut A>,
    mut other: Pin<&mut B>,
) -> Result<A::Output, B::Output> {
    poll_fn(|context| {
        if let Poll::Ready(output) = one.as_mut().poll(context) {
            return Poll::Ready(Ok(output));
        }
        other.as_mut().poll(context).map(Err)
    })
    .await
}
