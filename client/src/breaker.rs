//! Keeps a dead sidecar from costing a connect for each request. Pure: time is an argument.

use std::time::Duration;

use tokio::time::Instant;

/// Failures in a row that open it.
const FAILURES: u32 = 3;
/// How long it is open at first, and at most; doubled by each probe that fails.
const FIRST: Duration = Duration::from_millis(250);
const LONGEST: Duration = Duration::from_secs(10);

/// Whether the sidecar is asked.
#[derive(Debug)]
pub(crate) struct Breaker(State);

#[derive(Debug)]
enum State {
    Closed { failures: u32 },
    Open { until: Instant, wait: Duration },
}

/// The right to ask; hand it back with what came of it. One that is not handed back (the caller went
/// away) says nothing of the sidecar; if it was the probe, the next is allowed as after a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ticket {
    is_probe: bool,
}

/// What an outcome has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Opened,
    Closed,
}

impl Breaker {
    pub(crate) fn new() -> Self {
        Self(State::Closed { failures: 0 })
    }

    /// Whether to ask now. While it is open, one caller each `wait` may: the probe.
    pub(crate) fn ask(&mut self, now: Instant) -> Option<Ticket> {
        match &mut self.0 {
            State::Closed { .. } => Some(Ticket { is_probe: false }),
            State::Open { until, wait } if now >= *until => {
                *until = now + *wait;
                Some(Ticket { is_probe: true })
            }
            State::Open { .. } => None,
        }
    }

    /// The sidecar answered.
    pub(crate) fn succeeded(&mut self, ticket: Ticket) -> Option<Change> {
        match self.0 {
            State::Closed { failures: 0 } => None,
            State::Closed { .. } => {
                self.0 = State::Closed { failures: 0 };
                None
            }
            // An answer to what was asked before it opened is old news.
            State::Open { .. } if !ticket.is_probe => None,
            State::Open { .. } => {
                self.0 = State::Closed { failures: 0 };
                Some(Change::Closed)
            }
        }
    }

    /// The sidecar did not answer, or somebody else did.
    pub(crate) fn failed(&mut self, ticket: Ticket, now: Instant) -> Option<Change> {
        match &mut self.0 {
            State::Closed { failures } if *failures + 1 < FAILURES => *failures += 1,
            State::Closed { .. } => {
                let (until, wait) = (now + FIRST, FIRST);
                self.0 = State::Open { until, wait };
                return Some(Change::Opened);
            }
            // Many that were under way when it opened fail together: only the probe counts.
            State::Open { .. } if !ticket.is_probe => {}
            State::Open { until, wait } => {
                *wait = (*wait * 2).min(LONGEST);
                *until = now + *wait;
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened(now: Instant) -> Breaker {
        let mut breaker = Breaker::new();
        let ticket = breaker.ask(now).unwrap();
        assert_eq!(breaker.failed(ticket, now), None);
        assert_eq!(breaker.failed(ticket, now), None);
        assert_eq!(breaker.failed(ticket, now), Some(Change::Opened));
        breaker
    }

    #[test]
    fn only_failures_in_a_row_open_it() {
        let now = Instant::now();
        let mut breaker = Breaker::new();
        for _ in 0..10 {
            for _ in 1..FAILURES {
                let ticket = breaker.ask(now).unwrap();
                assert_eq!(breaker.failed(ticket, now), None);
            }
            let ticket = breaker.ask(now).unwrap();
            assert_eq!(breaker.succeeded(ticket), None);
        }
        assert!(opened(now).ask(now).is_none());
    }

    #[test]
    fn one_probe_at_a_time_and_each_failure_doubles_the_wait_up_to_its_bound() {
        let mut now = Instant::now();
        let mut breaker = opened(now);
        let mut wait = FIRST;
        for _ in 0..12 {
            assert!(breaker.ask(now + wait - Duration::from_millis(1)).is_none());
            now += wait;
            let probe = breaker.ask(now).expect("a probe is due");
            assert!(breaker.ask(now).is_none(), "a second probe");
            breaker.failed(probe, now);
            wait = (wait * 2).min(LONGEST);
        }
        assert_eq!(wait, LONGEST);
        let probe = breaker.ask(now + wait).unwrap();
        assert_eq!(breaker.succeeded(probe), Some(Change::Closed));
        assert!(breaker.ask(now).is_some());
    }

    #[test]
    fn what_was_under_way_when_it_opened_does_not_move_it() {
        let now = Instant::now();
        let mut breaker = opened(now);
        let old = Ticket { is_probe: false };
        for _ in 0..100 {
            breaker.failed(old, now);
        }
        assert_eq!(breaker.succeeded(old), None);
        assert!(breaker.ask(now).is_none());
        assert!(breaker.ask(now + FIRST).is_some());
    }

    #[test]
    fn a_probe_that_is_given_up_is_followed_by_another() {
        let now = Instant::now();
        let mut breaker = opened(now);
        assert!(breaker.ask(now + FIRST).is_some());
        assert!(breaker.ask(now + FIRST * 2).is_some());
    }
}
