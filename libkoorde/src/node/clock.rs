//! The only reader of clocks in this crate: everywhere else time is an argument.

use std::time::SystemTime;

use tokio::time::Instant;

use crate::policy::Now;

/// Both clocks. The monotonic one is tokio's, so that tests can pause it.
#[expect(
    clippy::disallowed_methods,
    reason = "the one file that may read a clock"
)]
pub(crate) fn now() -> Now {
    Now {
        wall: SystemTime::now(),
        instant: Instant::now().into_std(),
    }
}
