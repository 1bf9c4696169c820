//! Which server of an upstream is asked next, given what is known of each. Pure.

use std::time::{Duration, Instant};

use crate::ring::Rng;

/// Left out for at most this many times `fail_timeout`.
const MAX_FACTOR: u32 = 8;

/// What is known of one server.
#[derive(Clone, Debug, Default)]
struct Server {
    under_way: u32,
    /// Failures in a row.
    failures: u32,
    /// While it is set, one request at a time tries whether the server is back, from then on.
    out_until: Option<Instant>,
    /// For how many times `fail_timeout` it was left out last.
    factor: u32,
    /// Whether such a request is under way.
    on_trial: bool,
    /// What the last background check said.
    sick: bool,
}

/// The servers of one upstream.
#[derive(Clone, Debug)]
pub(super) struct Balance {
    servers: Vec<Server>,
    max_fails: u32,
    fail_timeout: Duration,
    rng: Rng,
}

impl Balance {
    pub(super) fn new(count: usize, max_fails: u32, fail_timeout: Duration, seed: u64) -> Self {
        Self {
            servers: vec![Server::default(); count],
            max_fails,
            fail_timeout,
            rng: Rng::new(seed),
        }
    }

    /// The server to ask, not one of `tried`, and counts the request: one that is due for a trial,
    /// else the less busy of two random healthy ones; if none is healthy, of all.
    pub(super) fn choose(&mut self, now: Instant, tried: &[usize]) -> Option<usize> {
        let untried = |index: &usize| !tried.contains(index);
        let left: Vec<usize> = (0..self.servers.len()).filter(untried).collect();
        let due = left.iter().find(|index| self.servers[**index].is_due(now));
        let chosen = if let Some(due) = due.copied() {
            self.servers[due].on_trial = true;
            due
        } else {
            let is_healthy = |index: &usize| self.servers[*index].is_healthy();
            let healthy: Vec<usize> = left.iter().copied().filter(is_healthy).collect();
            self.less_busy(if healthy.is_empty() { &left } else { &healthy })?
        };
        self.servers[chosen].under_way += 1;
        Some(chosen)
    }

    fn less_busy(&mut self, among: &[usize]) -> Option<usize> {
        let first = self.rng.below(among.len());
        let second = self.rng.below(among.len().saturating_sub(1));
        let second = second + usize::from(second >= first);
        let (one, other) = (*among.get(first)?, among.get(second).copied());
        let busy = |index: usize| self.servers[index].under_way;
        Some(
            other
                .filter(|other| busy(*other) < busy(one))
                .unwrap_or(one),
        )
    }

    /// A request to this server came to its end, or was given up. A trial that was given up leaves
    /// the next one to another request.
    pub(super) fn ended(&mut self, index: usize) {
        let server = &mut self.servers[index];
        server.under_way -= 1;
        server.on_trial &= server.under_way > 0;
    }

    /// The server answered, whatever it said.
    pub(super) fn answered(&mut self, index: usize) {
        let server = &mut self.servers[index];
        server.failures = 0;
        server.out_until = None;
        server.factor = 0;
        server.on_trial = false;
    }

    /// No connection, or no answer. Whether the server is left out from here on.
    pub(super) fn failed(&mut self, index: usize, now: Instant) -> bool {
        let server = &mut self.servers[index];
        server.failures = server.failures.saturating_add(1);
        let was_out = server.out_until.is_some();
        let fails_trial = was_out && std::mem::take(&mut server.on_trial);
        if fails_trial || (!was_out && server.failures >= self.max_fails) {
            server.factor = (server.factor * 2).clamp(1, MAX_FACTOR);
            server.out_until = Some(now + self.fail_timeout * server.factor);
            return true;
        }
        false
    }

    /// What a background check found.
    pub(super) fn checked(&mut self, index: usize, is_well: bool) {
        self.servers[index].sick = !is_well;
        if is_well {
            self.answered(index);
        }
    }
}

impl Server {
    fn is_healthy(&self) -> bool {
        !self.sick && self.out_until.is_none()
    }

    fn is_due(&self, now: Instant) -> bool {
        !self.sick && !self.on_trial && self.out_until.is_some_and(|until| until <= now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUT: Duration = Duration::from_secs(10);

    fn start() -> Instant {
        #[expect(clippy::disallowed_methods, reason = "a test's beginning of time")]
        Instant::now()
    }

    fn chosen(balance: &mut Balance, now: Instant, times: usize) -> Vec<usize> {
        let mut count = vec![0; balance.servers.len()];
        for _ in 0..times {
            let index = balance.choose(now, &[]).expect("there are servers");
            count[index] += 1;
            balance.ended(index);
        }
        count
    }

    #[test]
    fn the_less_busy_of_two_random_servers_is_asked() {
        let (mut balance, now) = (Balance::new(4, 3, OUT, 7), start());
        for _ in 0..400 {
            balance.choose(now, &[]).expect("there are servers");
        }
        let busy: Vec<_> = balance.servers.iter().map(|s| s.under_way).collect();
        let (least, most) = (busy.iter().min(), busy.iter().max());
        assert!(
            most.zip(least)
                .is_some_and(|(most, least)| most - least <= 6),
            "{busy:?}"
        );
    }

    #[test]
    fn failures_in_a_row_leave_a_server_out_longer_each_time() {
        let (mut balance, mut now) = (Balance::new(2, 3, OUT, 7), start());
        assert!(!balance.failed(0, now) && !balance.failed(0, now));
        balance.answered(0);
        assert!(!balance.failed(0, now) && !balance.failed(0, now));
        assert!(balance.failed(0, now), "the third in a row");
        for factor in [1, 2, 4, 8, 8] {
            now += OUT * factor - Duration::from_millis(1);
            assert_eq!(chosen(&mut balance, now, 50), [0, 50], "{factor}");
            now += Duration::from_millis(1);
            assert_eq!(balance.choose(now, &[]), Some(0), "its trial");
            assert_eq!(chosen(&mut balance, now, 50), [0, 50], "one at a time");
            assert!(balance.failed(0, now));
            balance.ended(0);
        }
        now += OUT * 8;
        assert_eq!(balance.choose(now, &[]), Some(0));
        balance.answered(0);
        balance.ended(0);
        let counts = chosen(&mut balance, now, 100);
        assert!(counts[0] > 20 && counts[1] > 20, "{counts:?}");
    }

    #[test]
    fn if_all_are_out_all_are_tried() {
        let (mut balance, now) = (Balance::new(3, 1, OUT, 7), start());
        for index in 0..3 {
            assert!(balance.failed(index, now));
        }
        let mut tried = Vec::new();
        while let Some(index) = balance.choose(now, &tried) {
            tried.push(index);
        }
        tried.sort_unstable();
        assert_eq!(tried, [0, 1, 2]);
    }

    #[test]
    fn a_background_check_takes_a_server_out_and_back() {
        let (mut balance, now) = (Balance::new(2, 1, OUT, 7), start());
        balance.checked(1, false);
        assert_eq!(chosen(&mut balance, now, 50), [50, 0]);
        assert!(balance.failed(0, now));
        balance.checked(0, true);
        balance.checked(1, true);
        let counts = chosen(&mut balance, now, 100);
        assert!(counts[0] > 20 && counts[1] > 20, "{counts:?}");
    }
}
