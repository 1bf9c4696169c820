//! Who is gone, so that an old rumour does not bring them back.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::protocol::{DownReason, Gone};
use crate::id::Id;

#[derive(Clone, Debug)]
pub(super) struct Tombstone {
    pub(super) gone: Gone,
    pub(super) since: Instant,
    /// When we last told it that it is taken for dead.
    pub(super) told: Option<Instant>,
}

/// Bounded; beyond, the oldest goes.
#[derive(Clone, Debug)]
pub(super) struct Tombstones {
    limit: usize,
    stones: BTreeMap<Id, Tombstone>,
}

impl Tombstones {
    pub(super) const fn new(limit: usize) -> Self {
        Self {
            limit,
            stones: BTreeMap::new(),
        }
    }

    pub(super) fn insert(&mut self, gone: Gone, now: Instant) {
        if self.stones.len() >= self.limit
            && !self.stones.contains_key(&gone.member.id)
            && let Some(oldest) = self
                .stones
                .iter()
                .min_by_key(|(_, stone)| stone.since)
                .map(|(id, _)| *id)
        {
            self.stones.remove(&oldest);
        }
        self.stones.insert(
            gone.member.id,
            Tombstone {
                gone,
                since: now,
                told: None,
            },
        );
    }

    /// Whether the member is gone at `incarnation`.
    pub(super) fn covers(&self, id: Id, incarnation: u64) -> bool {
        self.incarnation(id).is_some_and(|gone| gone >= incarnation)
    }

    pub(super) fn incarnation(&self, id: Id) -> Option<u64> {
        self.stones
            .get(&id)
            .map(|stone| stone.gone.member.incarnation)
    }

    pub(super) fn get_mut(&mut self, id: Id) -> Option<&mut Tombstone> {
        self.stones.get_mut(&id)
    }

    pub(super) fn remove(&mut self, id: Id) {
        self.stones.remove(&id);
    }

    pub(super) fn expire(&mut self, now: Instant, after: Duration) {
        self.stones
            .retain(|_, stone| now.saturating_duration_since(stone.since) < after);
    }

    /// The newest `count` that are not older than `age`, newest first.
    pub(super) fn newest(&self, now: Instant, age: Duration, count: usize) -> Vec<Gone> {
        let is_new = |stone: &&Tombstone| now.saturating_duration_since(stone.since) <= age;
        let mut stones: Vec<&Tombstone> = self.stones.values().filter(is_new).collect();
        stones.sort_by_key(|stone| std::cmp::Reverse((stone.since, stone.gone.member.id)));
        stones
            .into_iter()
            .take(count)
            .map(|stone| stone.gone.clone())
            .collect()
    }

    /// Those that did not say good-bye: dead, or cut off from us.
    pub(super) fn dead(&self) -> impl Iterator<Item = &Gone> {
        self.stones
            .values()
            .map(|stone| &stone.gone)
            .filter(|gone| gone.reason == DownReason::Dead)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Tombstone> {
        self.stones.values()
    }

    pub(super) fn len(&self) -> usize {
        self.stones.len()
    }
}
