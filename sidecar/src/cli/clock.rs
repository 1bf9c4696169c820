//! The clock of the command line, which measures what others do and decides nothing by it.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Now.
#[expect(
    clippy::disallowed_methods,
    reason = "the one place where the command line reads the clock"
)]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Seconds since 1970, for what has a date: certificates.
#[expect(
    clippy::disallowed_methods,
    reason = "the one place where the command line reads the time of day"
)]
pub(crate) fn unix() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
    })
}
