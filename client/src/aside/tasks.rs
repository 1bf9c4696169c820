//! What goes on behind the app's back: bounded, and nowhere else.

use std::{future::Future, sync::Arc};

use tokio::{runtime::Handle, sync::Semaphore};

/// Puts, renewals and bodies read to their end under way at once, of one layer.
const AT_ONCE: usize = 1024;

/// Starts tasks, as long as there is room.
#[derive(Clone, Debug)]
pub(crate) struct Tasks(Arc<Semaphore>);

impl Default for Tasks {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(AT_ONCE)))
    }
}

impl Tasks {
    /// Runs `task`, or drops it: without room, or outside of a runtime. Whether it runs.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> bool {
        let Ok(place) = Arc::clone(&self.0).try_acquire_owned() else {
            return false;
        };
        let Ok(runtime) = Handle::try_current() else {
            return false;
        };
        runtime.spawn(async move {
            task.await;
            drop(place);
        });
        true
    }
}
