//! What bounds second attempts. Pure.

use std::time::Instant;

use super::bucket::Bucket;

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

#[cfg(test)]
mod tests {
    use std::time::Duration;

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
}
