//! The clock of the command line, which measures what others do and decides nothing by it.

use std::time::Instant;

/// Now.
#[expect(
    clippy::disallowed_methods,
    reason = "the one place where the command line reads the clock"
)]
pub(crate) fn now() -> Instant {
    Instant::now()
}
