//! The budget of one origin for the whole cluster, as the member that owns it keeps it. Pure.
//!
//! A holder says what it runs and what it wants, and is told what it has from here on. Each ask
//! is the whole truth about its holder, so a lost answer does no harm; one that comes late is
//! known by its number. Whoever says nothing for [`VALID`] has nothing any more.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use super::bucket::Bucket;

/// How long what was granted may be used without asking again.
pub(crate) const VALID: Duration = Duration::from_secs(2);
/// Members that may hold parts of one budget. One more is refused and takes its fair share.
const MAX_HOLDERS: usize = 4096;
/// How long who got less than it wanted keeps its place without asking again.
const PLACE: Duration = Duration::from_millis(500);

/// What one holder says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ask {
    /// Requests under way, which nobody can take back.
    pub(crate) in_use: u32,
    /// Slots it could use, those under way among them.
    pub(crate) wants: u32,
    /// Tokens it could use at once.
    pub(crate) tokens: u32,
    /// Grows with each ask of a holder.
    pub(crate) number: u64,
}

/// What a holder has from here on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Grant {
    pub(crate) slots: u32,
    pub(crate) tokens: u32,
    /// Others wait: a slot that becomes free is to be given back, not used again.
    pub(crate) contended: bool,
}

#[derive(Clone, Debug)]
struct Holder {
    slots: u32,
    number: u64,
    until: Instant,
    /// Since when it waits for more, and until when it keeps its place.
    waits: Option<(Instant, Instant)>,
}

/// Who holds how much of one origin's budget.
#[derive(Clone, Debug)]
pub(crate) struct Ledger {
    /// Slots, all holders together; 0: no limit.
    limit: u32,
    bucket: Option<Bucket>,
    holders: BTreeMap<String, Holder>,
}

impl Ledger {
    /// `limit` requests at once and `rate` a second, 0 for no limit.
    pub(crate) fn new(limit: u32, rate: u32, burst: u32, now: Instant) -> Self {
        Self {
            limit,
            bucket: (rate > 0).then(|| Bucket::new(rate, burst, now)),
            holders: BTreeMap::new(),
        }
    }

    /// Answers one ask; `None` if it is older than one answered before, or there is no room.
    pub(crate) fn grant(&mut self, name: &str, ask: &Ask, now: Instant) -> Option<Grant> {
        self.holders.retain(|_, holder| holder.until > now);
        let before = self.holders.remove(name);
        if before.as_ref().is_some_and(|b| b.number >= ask.number) || self.is_full() {
            self.holders.extend(before.map(|b| (name.to_owned(), b)));
            return None;
        }
        let (slots, contended) = self.share(before.as_ref(), ask, now);
        let since = before.and_then(|b| b.waits).map_or(now, |(since, _)| since);
        // Who gets something begins to wait anew, behind all who got nothing.
        let since = if slots > ask.in_use { now } else { since };
        let waits = (slots < ask.wants).then_some((since, now + PLACE));
        let holder = Holder {
            slots,
            number: ask.number,
            until: now + VALID,
            waits,
        };
        self.holders.insert(name.to_owned(), holder);
        let tokens = self.bucket.as_mut();
        let tokens = tokens.map_or(ask.tokens, |bucket| bucket.take(ask.tokens, now));
        Some(Grant {
            slots,
            tokens,
            contended,
        })
    }

    /// Slots for one holder, who is not in the table now, and whether others wait for them.
    fn share(&self, before: Option<&Holder>, ask: &Ask, now: Instant) -> (u32, bool) {
        if self.limit == 0 {
            return (ask.wants, false);
        }
        let held: u32 = self.holders.values().map(|holder| holder.slots).sum();
        let free = self.limit.saturating_sub(held);
        let since = before.and_then(|b| b.waits).map_or(now, |(since, _)| since);
        let waiting = || self.holders.values().filter_map(|holder| holder.waits);
        let waiting = || waiting().filter(|(_, until)| *until > now);
        let before_us = waiting().filter(|(theirs, _)| *theirs < since).count();
        let before_us = u32::try_from(before_us).unwrap_or(u32::MAX);
        let others_wait = waiting().next().is_some();
        let shares = |holder: &&Holder| holder.slots > 0 || holder.waits.is_some();
        let sharers = self.holders.values().filter(shares).count() + 1;
        let sharers = u32::try_from(sharers).unwrap_or(u32::MAX);
        let fair = (self.limit / sharers).max(1);
        // What is under way stays, as far as it was ever granted.
        let keeps = ask.in_use.min(free);
        let room = keeps + (free - keeps).saturating_sub(before_us);
        let may_have = if others_wait { fair } else { ask.wants };
        let slots = ask.wants.min(may_have).min(room).max(keeps);
        let contended = others_wait && (slots > fair || sharers > self.limit);
        (slots, contended)
    }

    fn is_full(&self) -> bool {
        self.holders.len() >= MAX_HOLDERS
    }

    /// Slots that are granted now, all holders together.
    #[cfg(test)]
    fn granted(&self, now: Instant) -> u32 {
        let valid = self.holders.values().filter(|holder| holder.until > now);
        valid.map(|holder| holder.slots).sum()
    }

    /// Whether a new one would be the same.
    pub(crate) fn is_blank(&self, now: Instant) -> bool {
        let bucket_is_full = self.bucket.as_ref().is_none_or(|b| b.is_full(now));
        bucket_is_full && self.holders.values().all(|holder| holder.until <= now)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn start() -> Instant {
        #[expect(clippy::disallowed_methods, reason = "a test's beginning of time")]
        Instant::now()
    }

    /// Asks with ever higher numbers.
    struct Asking {
        ledger: Ledger,
        number: u64,
    }

    impl Asking {
        fn new(limit: u32, rate: u32) -> Self {
            Self {
                ledger: Ledger::new(limit, rate, 1, start()),
                number: 0,
            }
        }

        fn ask(&mut self, name: &str, in_use: u32, wants: u32, now: Instant) -> Grant {
            self.number += 1;
            let ask = Ask {
                in_use,
                wants,
                tokens: 100,
                number: self.number,
            };
            let grant = self.ledger.grant(name, &ask, now);
            grant.expect("a newer number and room")
        }
    }

    #[test]
    fn a_budget_is_shared_and_what_is_given_back_goes_to_who_waits_longest() {
        let (mut asking, now) = (Asking::new(4, 0), start());
        assert_eq!(asking.ask("a", 0, 9, now).slots, 4);
        assert_eq!(asking.ask("b", 0, 9, now).slots, 0);
        let later = now + Duration::from_millis(1);
        assert_eq!(asking.ask("c", 0, 9, later).slots, 0);
        let a = asking.ask("a", 4, 9, later);
        assert_eq!((a.slots, a.contended), (4, true), "under way is under way");
        assert_eq!(asking.ask("a", 3, 9, later).slots, 3);
        assert_eq!(asking.ask("c", 0, 9, later).slots, 0, "b was there before");
        assert_eq!(asking.ask("b", 0, 9, later).slots, 1);
    }

    #[test]
    fn with_more_members_than_slots_all_get_a_turn() {
        let mut asking = Asking::new(2, 0);
        let mut now = start();
        let mut turns = [0; 5];
        let mut running = [0u32; 5];
        for round in 0..500 {
            now += Duration::from_millis(1);
            let member = round % 5;
            // What ran is done by its next turn, and is given back if others wait.
            turns[member] += running[member];
            let grant = asking.ask(&format!("{member}"), 0, 9, now);
            running[member] = grant.slots;
        }
        assert!(turns.iter().all(|turns| *turns >= 20), "{turns:?}");
    }

    #[test]
    fn the_slots_of_a_dead_holder_come_back() {
        let (mut asking, now) = (Asking::new(4, 0), start());
        assert_eq!(asking.ask("dead", 0, 4, now).slots, 4);
        let almost = now + VALID - Duration::from_millis(1);
        assert_eq!(asking.ask("b", 0, 4, almost).slots, 0);
        assert_eq!(asking.ask("b", 0, 4, now + VALID).slots, 4);
    }

    #[test]
    fn an_ask_that_comes_late_changes_nothing() {
        let (mut ledger, now) = (Ledger::new(4, 0, 1, start()), start());
        let ask = |wants, number| Ask {
            in_use: 0,
            wants,
            tokens: 0,
            number,
        };
        assert!(ledger.grant("a", &ask(4, 2), now).is_some());
        assert_eq!(ledger.grant("a", &ask(1, 1), now), None);
        assert_eq!(ledger.granted(now), 4);
    }

    #[test]
    fn tokens_come_at_the_rate_whoever_asks() {
        let (mut asking, now) = (Asking::new(0, 10), start());
        let mut tokens = 0;
        for ms in 0..2000 {
            let now = now + Duration::from_millis(ms);
            tokens += asking.ask(&format!("{}", ms % 7), 0, 1, now).tokens;
        }
        assert_eq!(tokens, 20);
    }

    proptest! {
        /// Holders that keep to what they are told, in any order, with answers lost and holders
        /// dying, never have more under way than the limit.
        #[test]
        fn no_interleaving_exceeds_the_limit(
            limit in 1u32..12,
            steps in prop::collection::vec((0usize..6, 0u32..8, 0u64..900, 0u8..10), 1..300),
        ) {
            let mut now = start();
            let mut ledger = Ledger::new(limit, 0, 1, now);
            // What each holder runs, what it may run, and until when.
            let mut held = vec![(0u32, 0u32, now); 6];
            for (number, (index, wants, gap, luck)) in steps.into_iter().enumerate() {
                now += Duration::from_millis(gap);
                for (runs, may, until) in &mut held {
                    if *until <= now {
                        // Nobody may run longer than its lease without renewing it.
                        (*runs, *may) = (0, 0);
                    }
                }
                let (runs, may, until) = &mut held[index];
                // Some of it ends, and nothing new starts before the answer.
                *runs -= (*runs).min(u32::from(luck % 3));
                *may = *runs;
                let ask = Ask { in_use: *runs, wants: wants.max(*runs), tokens: 0, number: number as u64 + 1 };
                let grant = ledger.grant(&format!("{index}"), &ask, now);
                if luck > 0 && let Some(grant) = grant {
                    *may = grant.slots;
                    *runs = (*runs).max(grant.slots);
                    *until = now + VALID;
                }
                prop_assert!(ledger.granted(now) <= limit);
                let running: u32 = held.iter().map(|(runs, ..)| runs).sum();
                prop_assert!(running <= limit, "{running} of {limit}");
            }
        }
    }
}
