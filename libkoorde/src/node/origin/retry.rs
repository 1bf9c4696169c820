//! What bounds second attempts: a retry budget, and Retry-After. Pure.

use std::time::{Duration, Instant, SystemTime};

use http::{HeaderMap, header};

use super::bucket::Bucket;
use crate::policy::fields::date::HttpDate;

/// Retries a second that are there without any request.
const RESERVE: u32 = 10;
/// Retries that may be saved up, at most.
const SAVED: u32 = 100;

/// How many requests may be sent again: a part of all requests, and a few a second, so that a
/// server's death does not double the load of the others.
#[derive(Clone, Debug)]
pub(super) struct RetryBudget {
    percent: u32,
    /// Hundredths of a retry.
    saved: u32,
    reserve: Bucket,
}

impl RetryBudget {
    pub(super) fn new(percent: u8, now: Instant) -> Self {
        Self {
            percent: percent.into(),
            saved: 0,
            reserve: Bucket::new(RESERVE, RESERVE, now),
        }
    }

    /// A request is sent for the first time.
    pub(super) fn sent(&mut self) {
        self.saved = (self.saved + self.percent).min(SAVED * 100);
    }

    /// Whether one more may be sent again; it counts.
    pub(super) fn retry(&mut self, now: Instant) -> bool {
        if self.saved >= 100 {
            self.saved -= 100;
            return true;
        }
        self.reserve.take(1, now) == 1
    }
}

/// The pause that a response asks for (RFC 9110 §10.2.3): seconds, or a date on the wall clock.
pub(super) fn retry_after(fields: &HeaderMap, wall: SystemTime) -> Option<Duration> {
    let value = fields.get(header::RETRY_AFTER)?.as_bytes();
    if !value.is_empty() && value.iter().all(u8::is_ascii_digit) {
        // More digits than fit are more seconds than anybody waits.
        let seconds = str::from_utf8(value).ok()?.parse().unwrap_or(u64::MAX);
        return Some(Duration::from_secs(seconds));
    }
    let pause = HttpDate::parse(value, wall)?.since(HttpDate::from(wall));
    (!pause.is_zero()).then_some(pause)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retries_are_a_part_of_the_requests_and_a_few_a_second() {
        #[expect(clippy::disallowed_methods, reason = "a test's beginning of time")]
        let now = Instant::now();
        let mut budget = RetryBudget::new(20, now);
        for _ in 0..100 {
            budget.sent();
        }
        let retried = (0..1000).filter(|_| budget.retry(now)).count();
        assert_eq!(retried, 20 + 10);
        assert!(!budget.retry(now));
        let later = now + Duration::from_secs(1);
        assert_eq!((0..1000).filter(|_| budget.retry(later)).count(), 10);
    }

    #[test]
    fn what_is_saved_up_has_a_bound() {
        #[expect(clippy::disallowed_methods, reason = "a test's beginning of time")]
        let now = Instant::now();
        let mut budget = RetryBudget::new(100, now);
        for _ in 0..100_000 {
            budget.sent();
        }
        assert_eq!((0..1000).filter(|_| budget.retry(now)).count(), 110);
    }

    #[test]
    fn retry_after_is_read_as_seconds_or_as_a_date() {
        let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_770);
        for (value, pause) in [
            ("120", Some(120)),
            ("0", Some(0)),
            ("99999999999999999999999", Some(u64::MAX)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(7)),
            ("Sun, 06 Nov 1994 08:49:00 GMT", None),
            ("-1", None),
            ("1.5", None),
            ("", None),
            ("soon", None),
        ] {
            let mut fields = HeaderMap::new();
            fields.insert(header::RETRY_AFTER, value.parse().expect("a field value"));
            let expected = pause.map(Duration::from_secs);
            assert_eq!(retry_after(&fields, wall), expected, "{value:?}");
        }
    }
}
