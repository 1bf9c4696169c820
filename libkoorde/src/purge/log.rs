//! Which purges of the cluster this node knows, and the newest of them one by one.
//!
//! Every purge has an issuer (one life of one node) and a number in that life: 1, 2, … Known are, of
//! each issuer, all up to some number: a vector, which only grows. Two nodes with equal vectors know
//! the same; its sum is the generation, its hash the digest that travels with every forwarded
//! request. Merging is taking the greater of each, so it may happen in any order and again.

use std::collections::{BTreeMap, VecDeque};

use super::scope::{Class, ScopeKey};

/// Issuers in the vector, at most. Beyond it the older half is forgotten behind the horizon.
const MAX_ISSUERS: usize = 1024;
/// States of our own that are remembered: whoever is in one of them knows nothing that we do not.
const HISTORY: usize = 1024;
/// Entries told at once.
pub(crate) const PAGE: usize = 1024;
/// Low bits of an issuer's number that are its node's; above them its start in milliseconds.
const NODE_BITS: u32 = 22;

/// One purge, as it is kept and passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) issuer: u64,
    pub(crate) n: u64,
    pub(crate) scope: ScopeKey,
    pub(crate) hard: bool,
}

impl Entry {
    /// Stands for all purges of an issuer up to `n`, which are not known one by one any more.
    pub(crate) fn folded(issuer: u64, n: u64, hard: bool) -> Self {
        let scope = ScopeKey {
            class: Class::Folded,
            tenant: false,
            length: 0,
            digest: 0,
        };
        Self {
            issuer,
            n,
            scope,
            hard,
        }
    }
}

/// Issuers that nobody counts any more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Horizon {
    /// The greatest of them.
    pub(crate) issuer: u64,
    /// Their purges together.
    pub(crate) purges: u64,
    /// Whether one was hard.
    pub(crate) hard: bool,
}

/// What a node tells of its knowledge.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Known {
    /// Issuer and number of its newest purge.
    pub(crate) vector: Vec<(u64, u64)>,
    pub(crate) horizon: Horizon,
}

#[derive(Clone, Copy, Debug, Default)]
struct Issued {
    /// All up to this are known.
    n: u64,
    /// All up to this are no longer there one by one.
    pruned: u64,
    /// The newest hard one of these.
    pruned_hard: u64,
    /// Whether any was hard.
    hard: bool,
}

/// The vector and the newest entries, at most `max`.
#[derive(Debug)]
pub(crate) struct Log {
    /// This life of ours, once it has issued something.
    me: u64,
    issuers: BTreeMap<u64, Issued>,
    entries: BTreeMap<(u64, u64), Entry>,
    order: VecDeque<(u64, u64)>,
    horizon: Horizon,
    digest: u64,
    history: VecDeque<u64>,
    max: usize,
}

impl Log {
    pub(crate) fn new(max: usize) -> Self {
        Self {
            me: 0,
            issuers: BTreeMap::new(),
            entries: BTreeMap::new(),
            order: VecDeque::new(),
            horizon: Horizon::default(),
            digest: 0,
            history: VecDeque::new(),
            max,
        }
    }

    /// A new purge of ours. `started` (milliseconds, whatever clock) and `node` name a new life
    /// where none is named yet or the last is forgotten.
    pub(crate) fn issue(&mut self, scope: ScopeKey, hard: bool, started: u64, node: u64) -> Entry {
        if self.me <= self.horizon.issuer {
            let started = started.max((self.horizon.issuer >> NODE_BITS) + 1);
            let low = node & ((1 << NODE_BITS) - 1);
            self.me = (started << NODE_BITS | low).max(1);
        }
        let issuer = self.me;
        let n = self.issuers.get(&issuer).map_or(0, |known| known.n) + 1;
        Entry {
            issuer,
            n,
            scope,
            hard,
        }
    }

    /// Takes an entry in; whether it is news. One behind a gap is none: what is between comes first.
    pub(crate) fn add(&mut self, entry: Entry) -> bool {
        let known = self.issuers.get(&entry.issuer).copied();
        let mut issued = known.unwrap_or_default();
        let folded = entry.scope.class == Class::Folded;
        let is_next = entry.n == issued.n.saturating_add(1) || folded && entry.n > issued.n;
        if entry.issuer <= self.horizon.issuer || !is_next {
            return false;
        }
        issued.n = entry.n;
        issued.hard |= entry.hard;
        let place = (entry.issuer, entry.n);
        if folded {
            issued.pruned = entry.n;
            if entry.hard {
                issued.pruned_hard = entry.n;
            }
        } else {
            self.entries.insert(place, entry);
            self.order.push_back(place);
        }
        self.issuers.insert(entry.issuer, issued);
        while self.entries.len() > self.max {
            self.prune();
        }
        self.changed();
        true
    }

    /// Forgets the oldest entry, though not that it was.
    fn prune(&mut self) {
        let Some(place) = self.order.pop_front() else {
            return;
        };
        let Some(entry) = self.entries.remove(&place) else {
            return;
        };
        if let Some(issued) = self.issuers.get_mut(&entry.issuer) {
            issued.pruned = issued.pruned.max(entry.n);
            if entry.hard {
                issued.pruned_hard = issued.pruned_hard.max(entry.n);
            }
        }
    }

    /// The horizon to raise if there are too many issuers: behind it the older half of them.
    pub(crate) fn overflow(&self) -> Option<Horizon> {
        if self.issuers.len() <= MAX_ISSUERS {
            return None;
        }
        let half = || self.issuers.iter().take(MAX_ISSUERS / 2);
        Some(Horizon {
            issuer: half().next_back().map_or(0, |(issuer, _)| *issuer),
            purges: sum(self.horizon.purges, half().map(|(_, issued)| issued)),
            hard: self.horizon.hard || half().any(|(_, issued)| issued.hard),
        })
    }

    /// Forgets the issuers behind a horizon later than ours; whether it is one. Then purges may have
    /// been missed, and everything has to be purged.
    pub(crate) fn raise(&mut self, horizon: Horizon) -> bool {
        if horizon.issuer <= self.horizon.issuer {
            return false;
        }
        let kept = self.issuers.split_off(&(horizon.issuer + 1));
        let behind = std::mem::replace(&mut self.issuers, kept);
        self.entries = self.entries.split_off(&(horizon.issuer + 1, 0));
        self.order.retain(|(issuer, _)| *issuer > horizon.issuer);
        let known = sum(self.horizon.purges, behind.values());
        self.horizon = Horizon {
            purges: horizon.purges.max(known),
            ..horizon
        };
        self.changed();
        true
    }

    fn changed(&mut self) {
        if self.history.len() == HISTORY {
            self.history.pop_front();
        }
        self.history.push_back(self.digest);
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.horizon.issuer.to_le_bytes());
        for (issuer, issued) in &self.issuers {
            hasher.update(&issuer.to_le_bytes());
            hasher.update(&issued.n.to_le_bytes());
        }
        let hash = hasher.finalize();
        let (eighth, _) = hash
            .as_bytes()
            .split_first_chunk()
            .expect("a hash has 32 bytes");
        // 0 is the digest of knowing nothing.
        self.digest = u64::from_le_bytes(*eighth).max(1);
    }

    /// Hash of all that is known; 0 for nothing.
    pub(crate) fn digest(&self) -> u64 {
        self.digest
    }

    /// Purges known: a number that only grows, equal on nodes that know the same.
    pub(crate) fn generation(&self) -> u64 {
        sum(self.horizon.purges, self.issuers.values())
    }

    /// Whether we know all that a node with this digest knows, as far as digests tell.
    pub(crate) fn covers(&self, digest: u64) -> bool {
        digest == self.digest || digest == 0 || self.history.contains(&digest)
    }

    pub(crate) fn known(&self) -> Known {
        let number = |(issuer, issued): (&u64, &Issued)| (*issuer, issued.n);
        Known {
            vector: self.issuers.iter().map(number).collect(),
            horizon: self.horizon,
        }
    }

    /// Whether we know all that another node knows.
    pub(crate) fn covers_all(&self, other: &Known) -> bool {
        let has = |(issuer, n): &(u64, u64)| {
            *issuer <= self.horizon.issuer
                || self.issuers.get(issuer).is_some_and(|known| known.n >= *n)
        };
        other.horizon.issuer <= self.horizon.issuer && other.vector.iter().all(has)
    }

    /// Whether another node knows all that we know.
    pub(crate) fn is_covered_by(&self, other: &Known) -> bool {
        other.horizon.issuer >= self.horizon.issuer && self.missing(other).is_empty()
    }

    /// What another node lacks, at most [`PAGE`] entries, of each issuer in order.
    pub(crate) fn missing(&self, other: &Known) -> Vec<Entry> {
        let theirs: BTreeMap<u64, u64> = other.vector.iter().copied().collect();
        let behind = other.horizon.issuer;
        let mut entries = Vec::new();
        for (&issuer, issued) in self.issuers.range(behind + 1..) {
            let mut from = theirs.get(&issuer).copied().unwrap_or(0);
            if entries.len() < PAGE && from < issued.pruned {
                let hard = issued.pruned_hard > from;
                entries.push(Entry::folded(issuer, issued.pruned, hard));
                from = issued.pruned;
            }
            if from < issued.n {
                let left = PAGE - entries.len();
                let rest = self.entries.range((issuer, from + 1)..=(issuer, issued.n));
                entries.extend(rest.take(left).map(|(_, entry)| *entry));
            }
        }
        entries
    }
}

/// Purges of issuers, and more. What peers say of their numbers is not ours to overflow by.
fn sum<'a>(more: u64, issuers: impl Iterator<Item = &'a Issued>) -> u64 {
    issuers.fold(more, |sum, issued| sum.saturating_add(issued.n))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_that_a_peer_makes_up_do_not_overflow_when_they_are_forgotten() {
        let mut log = Log::new(16);
        for issuer in 1..=MAX_ISSUERS as u64 + 1 {
            assert!(log.add(Entry::folded(issuer, u64::MAX, false)));
        }
        assert_eq!(log.generation(), u64::MAX);
        let horizon = log.overflow().expect("one too many");
        assert_eq!(horizon.purges, u64::MAX);
        // One that says less of what it has forgotten than we know.
        assert!(log.raise(Horizon {
            purges: 1,
            ..horizon
        }));
        assert_eq!(log.known().horizon.purges, u64::MAX);
        assert!(log.raise(Horizon {
            issuer: MAX_ISSUERS as u64,
            ..horizon
        }));
        assert_eq!(log.generation(), u64::MAX);
    }
}
