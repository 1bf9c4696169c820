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

/// The date, in UTC, to the second: for lines that somebody reads later.
#[expect(
    clippy::disallowed_methods,
    reason = "the one place where the command line reads the clock"
)]
pub(crate) fn date() -> String {
    let now = std::time::SystemTime::now();
    humantime_serde::re::humantime::format_rfc3339_seconds(now).to_string()
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
