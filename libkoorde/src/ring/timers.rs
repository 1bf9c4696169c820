//! When to wake up, and for what (after quinn's timer table).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use super::protocol::LookupId;
use crate::id::Id;

/// Everything that can be due. The order breaks ties between equal instants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// The period of stabilisation.
    Stabilize,
    /// The successor has not answered `Stabilize`.
    Stabilized,
    /// Contact a random seed.
    Seeds,
    /// Pass on what a full exchange taught us.
    Spread,
    /// Fetch the de Bruijn pointers anew.
    Pointers,
    /// A ping of the check of this member is overdue.
    Check(Id),
    /// A hop has not been acknowledged.
    Hop(u64),
    /// One of our look-ups must start anew or end.
    Search(LookupId),
    /// We have forwarded long enough.
    Leave,
}

/// The set timers. Bounded by the tables the timers belong to: at most one for each entry.
#[derive(Clone, Debug, Default)]
pub(super) struct Timers {
    due: BTreeSet<(Instant, Timer)>,
    at: BTreeMap<Timer, Instant>,
}

impl Timers {
    /// Sets `timer`, or moves it.
    pub(super) fn set(&mut self, timer: Timer, at: Instant) {
        if let Some(old) = self.at.insert(timer, at) {
            self.due.remove(&(old, timer));
        }
        self.due.insert((at, timer));
    }

    /// Moves `timer` forward to `at`, if it is not set to ring earlier.
    pub(super) fn hurry(&mut self, timer: Timer, at: Instant) {
        if self.at.get(&timer).is_none_or(|&old| old > at) {
            self.set(timer, at);
        }
    }

    pub(super) fn cancel(&mut self, timer: Timer) {
        if let Some(old) = self.at.remove(&timer) {
            self.due.remove(&(old, timer));
        }
    }

    pub(super) fn is_set(&self, timer: Timer) -> bool {
        self.at.contains_key(&timer)
    }

    /// Takes the earliest timer that is due.
    pub(super) fn pop(&mut self, now: Instant) -> Option<Timer> {
        let &(at, timer) = self.due.first()?;
        if at > now {
            return None;
        }
        self.cancel(timer);
        Some(timer)
    }

    pub(super) fn next(&self) -> Option<Instant> {
        self.due.first().map(|&(at, _)| at)
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    pub(super) fn len(&self) -> usize {
        self.at.len()
    }
}
