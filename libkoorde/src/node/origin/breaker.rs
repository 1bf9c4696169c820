//! When an origin is left alone: it asked for it (Retry-After, RFC 9110 §10.2.3), or it failed so
//! often in a row that asking only adds to its trouble. Pure.

use std::time::{Duration, Instant};

/// A change that an operator should see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Opened,
    Probed,
    Closed,
}

impl Change {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Opened => "opened",
            Self::Probed => "probed",
            Self::Closed => "closed",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Closed { failures: u32 },
    Open { until: Instant },
    HalfOpen,
}

/// The circuit breaker of one origin.
#[derive(Clone, Debug)]
pub(super) struct Breaker {
    /// Failures in a row that open it; 0: never.
    threshold: u32,
    open_for: Duration,
    state: State,
    rests_until: Option<Instant>,
}

impl Breaker {
    pub(super) const fn new(threshold: u32, open_for: Duration) -> Self {
        Self {
            threshold,
            open_for,
            state: State::Closed { failures: 0 },
            rests_until: None,
        }
    }

    /// How long the breaker lets nothing through; `None` if a request may go, maybe as the probe.
    pub(super) fn closed_in(&self, now: Instant) -> Option<Duration> {
        match self.state {
            State::Open { until } if now < until => Some(until - now),
            // As long as a probe is under way, nobody knows; it ends within a deadline.
            State::HalfOpen => Some(self.open_for),
            State::Closed { .. } | State::Open { .. } => None,
        }
    }

    /// Claims the right to send one request: whether it is the probe of a half-open breaker.
    ///
    /// # Errors
    /// How long nothing goes through.
    pub(super) fn admit(&mut self, now: Instant) -> Result<bool, Duration> {
        if let Some(wait) = self.closed_in(now) {
            return Err(wait);
        }
        let probes = matches!(self.state, State::Open { .. });
        if probes {
            self.state = State::HalfOpen;
        }
        Ok(probes)
    }

    /// An answer came.
    pub(super) fn succeeded(&mut self) -> Option<Change> {
        let was = std::mem::replace(&mut self.state, State::Closed { failures: 0 });
        (!matches!(was, State::Closed { .. })).then_some(Change::Closed)
    }

    /// None came, or one that says that the origin is down.
    pub(super) fn failed(&mut self, now: Instant) -> Option<Change> {
        let opens = match &mut self.state {
            State::Closed { failures } => {
                *failures = failures.saturating_add(1);
                self.threshold > 0 && *failures >= self.threshold
            }
            State::HalfOpen => true,
            // One that was sent before it opened.
            State::Open { .. } => false,
        };
        opens.then(|| {
            self.state = State::Open {
                until: now + self.open_for,
            };
            Change::Opened
        })
    }

    /// The probe ended without a verdict: the next request is one.
    pub(super) fn probe_lost(&mut self, now: Instant) {
        if self.state == State::HalfOpen {
            self.state = State::Open { until: now };
        }
    }

    /// The origin asks to be left alone for so long.
    pub(super) fn rest(&mut self, now: Instant, pause: Duration) {
        let until = now + pause;
        self.rests_until = Some(self.rests_until.map_or(until, |was| was.max(until)));
    }

    /// How long the origin wants to be left alone.
    pub(super) fn rests_for(&self, now: Instant) -> Option<Duration> {
        let left = self.rests_until?.saturating_duration_since(now);
        (!left.is_zero()).then_some(left)
    }

    /// Whether it remembers nothing that matters.
    pub(super) fn is_blank(&self, now: Instant) -> bool {
        self.state == (State::Closed { failures: 0 }) && self.rests_for(now).is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPEN: Duration = Duration::from_secs(5);

    fn start() -> Instant {
        #[expect(clippy::disallowed_methods, reason = "a test's beginning of time")]
        Instant::now()
    }

    #[test]
    fn only_failures_in_a_row_open_it() {
        let (mut breaker, now) = (Breaker::new(3, OPEN), start());
        for _ in 0..9 {
            assert_eq!((breaker.failed(now), breaker.failed(now)), (None, None));
            assert_eq!(breaker.succeeded(), None);
        }
        breaker.failed(now);
        breaker.failed(now);
        assert_eq!(breaker.failed(now), Some(Change::Opened));
        assert_eq!(breaker.admit(now), Err(OPEN));
    }

    #[test]
    fn a_half_open_breaker_lets_one_probe_through_at_a_time() {
        let (mut breaker, now) = (Breaker::new(1, OPEN), start());
        breaker.failed(now);
        let later = now + OPEN;
        assert_eq!(breaker.admit(later), Ok(true));
        assert_eq!(breaker.admit(later), Err(OPEN), "one is under way");
        assert_eq!(breaker.failed(later), Some(Change::Opened));
        assert_eq!(breaker.admit(later), Err(OPEN), "open again");
        assert_eq!(breaker.admit(later + OPEN), Ok(true));
        assert_eq!(breaker.succeeded(), Some(Change::Closed));
        assert_eq!(breaker.admit(later + OPEN), Ok(false));
        assert!(breaker.is_blank(later));
    }

    #[test]
    fn a_probe_without_a_verdict_makes_the_next_request_one() {
        let (mut breaker, now) = (Breaker::new(1, OPEN), start());
        breaker.failed(now);
        assert_eq!(breaker.admit(now + OPEN), Ok(true));
        breaker.probe_lost(now + OPEN);
        assert_eq!(breaker.admit(now + OPEN), Ok(true));
    }

    #[test]
    fn without_a_threshold_it_never_opens() {
        let (mut breaker, now) = (Breaker::new(0, OPEN), start());
        for _ in 0..1000 {
            assert_eq!(breaker.failed(now), None);
        }
        assert_eq!(breaker.admit(now), Ok(false));
    }

    #[test]
    fn the_longest_rest_counts_and_ends() {
        let (mut breaker, now) = (Breaker::new(1, OPEN), start());
        let seconds = Duration::from_secs;
        breaker.rest(now, seconds(9));
        breaker.rest(now, seconds(2));
        assert_eq!(breaker.rests_for(now + seconds(3)), Some(seconds(6)));
        assert_eq!(breaker.rests_for(now + seconds(9)), None);
    }
}
