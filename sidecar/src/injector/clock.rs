//! The clocks of the injector: certificates and events carry the time of day.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Seconds since 1970.
#[expect(
    clippy::disallowed_methods,
    reason = "the one place where the injector reads the time of day"
)]
pub(super) fn unix() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let since = since.unwrap_or(Duration::ZERO).as_secs();
    i64::try_from(since).unwrap_or(i64::MAX)
}

/// For measuring.
#[expect(
    clippy::disallowed_methods,
    reason = "the one place where the injector measures"
)]
pub(super) fn now() -> Instant {
    Instant::now()
}
