//! A body that stands still: whether the sidecar that sends it is alive.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep};

use crate::{Reason, resume::Exclusive};

/// The question whether a sidecar is alive; why not, if not.
pub(crate) type Alive = Pin<Box<dyn Future<Output = Result<(), Reason>> + Send>>;

/// Asks whether the sidecar is alive each time that nothing has come for as long as the layer is
/// patient, and at most twice that. An origin that is slow is waited for.
///
/// One timer that runs through, noting what came meanwhile: one set anew at each piece would cost
/// more than the piece.
pub(crate) struct Watch {
    ask: Exclusive<Box<dyn FnMut() -> Alive + Send>>,
    patience: Duration,
    state: State,
}

enum State {
    /// Nobody has had to wait yet.
    Idle,
    Waiting {
        until: Pin<Box<Sleep>>,
        moved: bool,
    },
    Asking(Exclusive<Alive>),
}

impl Watch {
    pub(crate) fn new(patience: Duration, ask: impl FnMut() -> Alive + Send + 'static) -> Self {
        Self {
            ask: Exclusive::new(Box::new(ask)),
            patience,
            state: State::Idle,
        }
    }

    /// Something came.
    pub(crate) fn moved(&mut self) {
        match &mut self.state {
            State::Idle => {}
            State::Waiting { moved, .. } => *moved = true,
            State::Asking(_) => self.state = State::Idle,
        }
    }

    /// Ready when the sidecar is known to be dead.
    pub(crate) fn poll_dead(&mut self, context: &mut Context<'_>) -> Poll<Reason> {
        loop {
            match &mut self.state {
                State::Idle => self.wait(),
                State::Waiting { until, moved } => {
                    ready!(until.as_mut().poll(context));
                    if *moved {
                        *moved = false;
                        until.as_mut().reset(Instant::now() + self.patience);
                    } else {
                        self.state = State::Asking(Exclusive::new(self.ask.get_mut()()));
                    }
                }
                State::Asking(alive) => match ready!(alive.get_mut().as_mut().poll(context)) {
                    // A client without room says nothing of the sidecar.
                    Ok(()) | Err(Reason::Busy) => self.wait(),
                    Err(why) => {
                        self.state = State::Idle;
                        return Poll::Ready(why);
                    }
                },
            }
        }
    }

    fn wait(&mut self) {
        self.state = State::Waiting {
            until: Box::pin(sleep(self.patience)),
            moved: false,
        };
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, sync::Arc, sync::Mutex};

    use tokio::time::{advance, timeout};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(1);

    /// Answers in this order, the last for ever; and how often it was asked.
    fn watch(answers: &'static [Result<(), Reason>]) -> (Watch, Arc<Mutex<usize>>) {
        let asked = Arc::new(Mutex::new(0));
        let count = Arc::clone(&asked);
        let watch = Watch::new(PATIENCE, move || {
            let mut count = count.lock().unwrap();
            let answer = answers[(*count).min(answers.len() - 1)].clone();
            *count += 1;
            Box::pin(async move { answer })
        });
        (watch, asked)
    }

    #[tokio::test(start_paused = true)]
    async fn a_dead_sidecar_is_told_after_the_layers_patience() {
        let (mut watch, asked) = watch(&[Err(Reason::Unresponsive)]);
        let start = Instant::now();
        let why = poll_fn(|context| watch.poll_dead(context)).await;
        assert_eq!((why, *asked.lock().unwrap()), (Reason::Unresponsive, 1));
        assert!((PATIENCE..PATIENCE * 2).contains(&start.elapsed()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_sidecar_that_is_alive_or_cannot_be_asked_is_waited_for() {
        let (mut watch, asked) =
            watch(&[Ok(()), Err(Reason::Busy), Ok(()), Err(Reason::NotKoorde)]);
        let why = poll_fn(|context| watch.poll_dead(context)).await;
        assert_eq!((why, *asked.lock().unwrap()), (Reason::NotKoorde, 4));
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_is_asked_while_something_comes() {
        let (mut watch, asked) = watch(&[Err(Reason::Unresponsive)]);
        for _ in 0..100 {
            let dead = poll_fn(|context| watch.poll_dead(context));
            assert!(timeout(Duration::ZERO, dead).await.is_err());
            watch.moved();
            advance(PATIENCE / 3).await;
        }
        assert_eq!(*asked.lock().unwrap(), 0);
    }
}
