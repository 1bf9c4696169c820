//! Every task of a node, so that stopping it leaves none behind.

use std::{future::Future, time::Duration};

use tokio::time;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::Instrument;

/// Spawns, counts and ends tasks. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tasks {
    tracker: TaskTracker,
    cancel: CancellationToken,
}

impl Tasks {
    /// Runs `task` in the current span until it ends or the node stops.
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place that spawns, so that all are counted"
    )]
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let cancel = self.cancel.clone();
        let task = async move {
            tokio::select! {
                () = cancel.cancelled() => (),
                () = task => (),
            }
        };
        self.tracker.spawn(task.in_current_span());
    }

    /// Tells every task to end, and waits for them, at most `deadline`.
    pub(crate) async fn stop(&self, deadline: Duration) {
        self.cancel.cancel();
        self.tracker.close();
        // Cancelled tasks end at their next wait; the deadline is for one that never waits.
        let _ended_or_not = time::timeout(deadline, self.tracker.wait()).await;
    }
}
