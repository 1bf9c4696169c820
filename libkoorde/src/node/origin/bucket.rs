//! A token bucket that hands out times instead of tokens: who comes too early is told how long to
//! wait, so waiting is first come first served without a queue (GCRA, ITU-T I.371). Pure.

use std::time::{Duration, Instant};

/// So many a second, and so many at once after a quiet time.
#[derive(Clone, Debug)]
pub(super) struct Bucket {
    interval: Duration,
    /// What may come ahead of its time.
    tolerance: Duration,
    /// When the next would come if all came evenly.
    next: Instant,
}

impl Bucket {
    /// `rate` a second, at least 1, `burst` at once, at least 1; full at `now`.
    pub(super) fn new(rate: u32, burst: u32, now: Instant) -> Self {
        let interval = Duration::from_secs(1) / rate.max(1);
        Self {
            interval,
            tolerance: interval * (burst.max(1) - 1),
            next: now,
        }
    }

    /// Takes a place: how long to wait for it. `None`, and nothing taken, if that is longer than
    /// `patience`. A place that is not used is lost, so the rate is never exceeded.
    pub(super) fn reserve(&mut self, now: Instant, patience: Duration) -> Option<Duration> {
        let next = self.next.max(now);
        let wait = (next - now).saturating_sub(self.tolerance);
        if wait > patience {
            return None;
        }
        self.next = next + self.interval;
        Some(wait)
    }

    /// Takes up to `wanted` that may go now.
    pub(super) fn take(&mut self, wanted: u32, now: Instant) -> u32 {
        let free = |_: &u32| self.reserve(now, Duration::ZERO).is_some();
        let taken = (0..wanted).take_while(free).count();
        u32::try_from(taken).unwrap_or(wanted)
    }

    /// Whether a new one would be the same.
    pub(super) fn is_full(&self, now: Instant) -> bool {
        self.next <= now
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_burst_goes_at_once_and_the_rest_at_the_rate() {
        #[expect(clippy::disallowed_methods, reason = "a test's beginning of time")]
        let start = Instant::now();
        let mut bucket = Bucket::new(10, 3, start);
        let waits: Vec<_> = (0..6)
            .filter_map(|_| bucket.reserve(start, Duration::from_secs(9)))
            .map(|wait| wait.as_millis())
            .collect();
        assert_eq!(waits, [0, 0, 0, 100, 200, 300]);
        assert_eq!(bucket.reserve(start, Duration::from_millis(399)), None);
        let refused_took_nothing = bucket.reserve(start, Duration::from_millis(400));
        assert_eq!(refused_took_nothing, Some(Duration::from_millis(400)));
        assert!(bucket.is_full(start + Duration::from_secs(1)));
    }

    proptest! {
        #[test]
        fn no_window_sees_more_than_the_rate_and_one_burst(
            rate in 1u32..500, burst in 1u32..50,
            gaps in prop::collection::vec(0u64..200, 1..200),
        ) {
            #[expect(clippy::disallowed_methods, reason = "a test's beginning of time")]
            let start = Instant::now();
            let mut bucket = Bucket::new(rate, burst, start);
            let mut now = start;
            let mut sent = Vec::new();
            for gap in gaps {
                now += Duration::from_millis(gap);
                if let Some(wait) = bucket.reserve(now, Duration::from_millis(500)) {
                    sent.push(now + wait);
                }
            }
            sent.sort();
            for (first, from) in sent.iter().enumerate() {
                for (last, to) in sent.iter().enumerate().skip(first) {
                    let allowed = (*to - *from).as_secs_f64() * f64::from(rate) + f64::from(burst);
                    prop_assert!((last - first + 1) as f64 <= allowed + 1e-3);
                }
            }
        }
    }
}
