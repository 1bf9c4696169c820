//! Intervals whose home we have learned from answers: used only where we do not know everybody.

use std::collections::BTreeMap;

use super::protocol::Member;
use crate::id::Id;

/// Keys in (before.id, home.id] have this home, as far as we know. Both ends are long links, too.
#[derive(Clone, Debug)]
pub(super) struct Interval {
    pub(super) before: Member,
    pub(super) home: Member,
    used: u64,
}

/// A bounded table, least recently used first out. By the home's id.
#[derive(Clone, Debug)]
pub(super) struct Learned {
    limit: usize,
    clock: u64,
    intervals: BTreeMap<Id, Interval>,
    by_use: BTreeMap<u64, Id>,
}

impl Learned {
    pub(super) const fn new(limit: usize) -> Self {
        Self {
            limit,
            clock: 0,
            intervals: BTreeMap::new(),
            by_use: BTreeMap::new(),
        }
    }

    pub(super) fn insert(&mut self, before: Member, home: Member) {
        if self.limit == 0 {
            return;
        }
        if let Some(old) = self.intervals.remove(&home.id) {
            self.by_use.remove(&old.used);
        }
        if self.intervals.len() >= self.limit
            && let Some((_, oldest)) = self.by_use.pop_first()
        {
            self.intervals.remove(&oldest);
        }
        self.clock += 1;
        self.by_use.insert(self.clock, home.id);
        self.intervals.insert(
            home.id,
            Interval {
                before,
                used: self.clock,
                home,
            },
        );
    }

    /// Counts a use of the interval that `place` falls into, if there is one.
    pub(super) fn touch(&mut self, place: Id) {
        let Some(id) = self
            .intervals
            .range(place..)
            .chain(&self.intervals)
            .next()
            .map(|(id, _)| *id)
        else {
            return;
        };
        self.clock += 1;
        if let Some(interval) = self.intervals.get_mut(&id)
            && place.is_within(interval.before.id, id)
        {
            self.by_use.remove(&interval.used);
            self.by_use.insert(self.clock, id);
            interval.used = self.clock;
        }
    }

    /// The member with this id, at either end of an interval.
    pub(super) fn get(&self, id: Id) -> Option<&Member> {
        if let Some(interval) = self.intervals.get(&id) {
            return Some(&interval.home);
        }
        let (_, next) = self.intervals.range(id..).chain(&self.intervals).next()?;
        (next.before.id == id).then_some(&next.before)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Interval> {
        self.intervals.values()
    }

    pub(super) fn forget(&mut self, id: Id) {
        if let Some(old) = self.intervals.remove(&id) {
            self.by_use.remove(&old.used);
        }
        let next = self.intervals.range(id..).chain(&self.intervals).next();
        if let Some((&home, next)) = next
            && next.before.id == id
        {
            self.by_use.remove(&next.used);
            self.intervals.remove(&home);
        }
    }

    pub(super) fn clear(&mut self) {
        self.intervals.clear();
        self.by_use.clear();
    }

    pub(super) fn len(&self) -> usize {
        self.intervals.len()
    }
}
