//! Every task of a node, so that stopping it leaves none behind.

use std::{future::Future, time::Duration};

use tokio::{sync::oneshot, time};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::Instrument;

/// Spawns, counts and ends tasks. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tasks {
    tracker: TaskTracker,
    /// Connections of peers: what they are reading is finished first.
    connections: TaskTracker,
    closing: CancellationToken,
    cancel: CancellationToken,
}

impl Tasks {
    /// Runs `task` in the current span until it ends or the node stops.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.spawn_in(&self.tracker, task.in_current_span());
    }

    /// Runs `work` to its end, though whoever waits for it here may go; none if the node stops meanwhile.
    pub(crate) async fn finish<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        let (done, result) = oneshot::channel();
        self.spawn(async move {
            let _gone = done.send(work.await);
        });
        result.await.ok()
    }

    /// The same as [`Tasks::spawn`] outside of every span: for what goes on long after the request that began it.
    pub(crate) fn spawn_apart(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.spawn_in(&self.tracker, task);
    }

    /// The same for a peer's connection, which [`Tasks::drain`] waits for.
    pub(crate) fn spawn_connection(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.spawn_in(&self.connections, task.in_current_span());
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "the one place that spawns, so that all are counted"
    )]
    fn spawn_in(&self, tracker: &TaskTracker, task: impl Future<Output = ()> + Send + 'static) {
        let cancel = self.cancel.clone();
        let task = async move {
            tokio::select! {
                () = cancel.cancelled() => (),
                () = task => (),
            }
        };
        tracker.spawn(task);
    }

    /// Cancelled when nothing new is to be taken on.
    pub(crate) fn closing(&self) -> CancellationToken {
        self.closing.clone()
    }

    /// Takes nothing new on from peers, and waits for what they are reading, at most `deadline`.
    pub(crate) async fn drain(&self, deadline: Duration) {
        self.closing.cancel();
        self.connections.close();
        let _ended_or_not = time::timeout(deadline, self.connections.wait()).await;
    }

    /// Tells every task to end, and waits for them, at most `deadline`.
    pub(crate) async fn stop(&self, deadline: Duration) {
        self.closing.cancel();
        self.cancel.cancel();
        self.tracker.close();
        // Cancelled tasks end at their next wait; the deadline is for one that never waits.
        let _ended_or_not = time::timeout(deadline, self.tracker.wait()).await;
    }
}
