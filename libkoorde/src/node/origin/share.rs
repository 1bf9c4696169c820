//! This node's part of an origin's cluster-wide budget. Pure.

use std::time::{Duration, Instant};

use super::{
    bucket::Bucket,
    ledger::{Ask, Grant, VALID},
};

/// Tokens asked for at once, at most: unused ones are lost to the others.
const BATCH: u32 = 64;

/// How long the owner's silence is put down to a busy moment.
const SILENCE: Duration = Duration::from_secs(1);

/// What this node holds, uses and wants of one budget.
#[derive(Debug)]
pub(super) struct Share {
    slots: u32,
    in_use: u32,
    /// Most that were in use since the last ask: idle slots are kept for a moment.
    peak: u32,
    contended: bool,
    /// An ask is out. What it says must stay true until the answer, so nothing starts.
    asking: bool,
    until: Instant,
    tokens: u32,
    tokens_until: Instant,
    /// Tokens while the budget's owner can't be reached.
    alone: Option<Bucket>,
    /// Since when the owner has not answered.
    silent: Option<Instant>,
    /// Requests that wait for a slot, and for a token.
    pub(super) waiting: [u32; 2],
    /// Whether somebody asks for this node.
    pub(super) is_tended: bool,
}

/// What this node may use while the budget's owner can't be reached.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fair {
    pub(super) slots: u32,
    pub(super) rate: u32,
}

impl Fair {
    /// One member's part of a budget; at least one of each, so that nobody stops.
    pub(super) fn of(limit: u32, rate: u32, members: usize) -> Self {
        let members = u32::try_from(members).unwrap_or(u32::MAX).max(1);
        Self {
            slots: (limit / members).max(1),
            rate: (rate / members).max(1),
        }
    }
}

impl Share {
    pub(super) const fn new(now: Instant) -> Self {
        Self {
            slots: 0,
            in_use: 0,
            peak: 0,
            contended: false,
            asking: false,
            until: now,
            tokens: 0,
            tokens_until: now,
            alone: None,
            silent: None,
            waiting: [0, 0],
            is_tended: false,
        }
    }

    /// Takes a slot for a request that starts now.
    pub(super) fn start(&mut self, now: Instant) -> bool {
        let starts = !self.asking && now < self.until && self.in_use < self.slots;
        if starts {
            self.in_use += 1;
            self.peak = self.peak.max(self.in_use);
        }
        starts
    }

    /// A request ended. Whether its slot is to be given back now.
    pub(super) fn end(&mut self) -> bool {
        self.in_use -= 1;
        if self.contended {
            self.slots = self.slots.saturating_sub(1);
        }
        self.contended
    }

    /// Takes a token for a request that is sent now.
    pub(super) fn spend(&mut self, now: Instant) -> bool {
        if now < self.tokens_until && self.tokens > 0 {
            self.tokens -= 1;
            return true;
        }
        self.alone
            .as_mut()
            .is_some_and(|bucket| bucket.take(1, now) == 1)
    }

    /// The next ask. Nothing starts until [`Share::granted`] or [`Share::alone`].
    pub(super) fn ask(&mut self, number: u64) -> Ask {
        self.asking = true;
        let [slots, tokens] = self.waiting;
        let wants = self.in_use.saturating_add(slots).max(self.peak);
        self.peak = self.in_use;
        Ask {
            in_use: self.in_use,
            wants,
            tokens: tokens.min(BATCH),
            number,
        }
    }

    /// The answer to an ask that was sent at `sent`: what it grants is valid from then.
    pub(super) fn granted(&mut self, grant: Grant, sent: Instant) {
        self.asking = false;
        self.slots = grant.slots;
        self.contended = grant.contended;
        self.until = sent + VALID;
        self.tokens = grant.tokens;
        self.tokens_until = sent + VALID;
        self.alone = None;
        self.silent = None;
    }

    /// No answer: what was granted is valid for as long as was said; then, if none has come for a
    /// while, the fair share.
    pub(super) fn alone(&mut self, fair: Fair, now: Instant) {
        self.asking = false;
        if *self.silent.get_or_insert(now) + SILENCE > now {
            return;
        }
        if now >= self.until {
            self.contended = false;
            self.slots = fair.slots;
            self.until = now + VALID;
        }
        self.alone
            .get_or_insert_with(|| Bucket::new(fair.rate, 1, now));
    }

    /// Whether somebody waits.
    pub(super) fn wants_more(&self) -> bool {
        self.waiting != [0, 0]
    }

    /// Whether there is nothing to ask for and nothing to give back.
    pub(super) fn is_idle(&self, now: Instant) -> bool {
        let holds = now < self.until && self.slots > 0;
        self.in_use == 0 && !self.wants_more() && !holds
    }

    /// How long what is held may be used.
    pub(super) fn left(&self, now: Instant) -> Duration {
        self.until.saturating_duration_since(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start() -> Instant {
        #[expect(clippy::disallowed_methods, reason = "a test's beginning of time")]
        Instant::now()
    }

    const fn slots(slots: u32, contended: bool) -> Grant {
        Grant {
            slots,
            tokens: 0,
            contended,
        }
    }

    #[test]
    fn nothing_starts_while_an_ask_is_out_or_the_lease_is_over() {
        let now = start();
        let mut share = Share::new(now);
        assert!(!share.start(now));
        share.waiting = [2, 0];
        assert_eq!(share.ask(1).wants, 2);
        share.granted(slots(2, false), now);
        assert!(share.start(now));
        assert_eq!(share.ask(2).in_use, 1);
        assert!(!share.start(now), "the owner was told that one is in use");
        share.granted(slots(2, false), now);
        assert!(!share.start(now + VALID));
        assert!(share.start(now));
    }

    #[test]
    fn a_slot_that_others_wait_for_is_given_back() {
        let now = start();
        let mut share = Share::new(now);
        share.granted(slots(1, true), now);
        assert!(share.start(now));
        assert!(share.end());
        assert!(!share.start(now));
    }

    #[test]
    fn without_an_owner_the_lease_holds_and_then_the_fair_share() {
        let now = start();
        let fair = Fair::of(10, 4, 4);
        assert_eq!((fair.slots, fair.rate), (2, 1));
        let mut share = Share::new(now);
        share.granted(slots(5, false), now);
        share.alone(fair, now);
        assert!(!share.spend(now), "it may be busy");
        assert_eq!((0..9).filter(|_| share.start(now)).count(), 5);
        for _ in 0..5 {
            share.end();
        }
        let later = now + VALID;
        share.alone(fair, later);
        assert!(share.start(later));
        share.end();
        assert_eq!((0..9).filter(|_| share.start(later)).count(), 2);
        assert_eq!((0..9).filter(|_| share.spend(later)).count(), 1);
        assert!(share.spend(later + Duration::from_secs(1)));
    }
}
