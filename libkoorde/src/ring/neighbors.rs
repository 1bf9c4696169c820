//! The members a node knows: its R nearest each way.
//!
//! Sorted clockwise from ourselves, so the front is the successor list and the back the
//! predecessors. In a ring of up to 2R + 1 members the two meet and the table is the whole ring
//! (*complete*). Beyond, there is a gap between the farthest successor and the farthest
//! predecessor, of which we know nothing: what falls into it is not taken, for an arc with a hole
//! in it would make us believe wrong homes.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::protocol::{Digest, Member};
use super::rng::mix;
use crate::id::Id;

/// One known member.
#[derive(Clone, Debug)]
pub(super) struct Neighbor {
    pub(super) member: Member,
    /// When it last spoke to us itself; first set when we learned of it, as a grace.
    pub(super) heard: Instant,
    /// Smoothed round trip, from stabilisation and pings: only near members have one.
    pub(super) rtt: Option<Duration>,
}

/// What [`Neighbors::insert`] did.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Inserted {
    New,
    /// Known already; the old entry, if anything changed.
    Updated(Option<Member>),
    /// Too far away to keep.
    Distant,
}

#[derive(Clone, Debug)]
pub(super) struct Neighbors {
    me: Id,
    limit: usize,
    entries: Vec<Neighbor>,
    /// How many entries are successors, the rest being predecessors; `None`: the table is complete.
    split: Option<usize>,
    by_addr: BTreeMap<SocketAddr, Id>,
}

impl Neighbors {
    pub(super) fn new(me: Id, limit: usize) -> Self {
        Self {
            me,
            limit,
            entries: Vec::new(),
            split: None,
            by_addr: BTreeMap::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn is_complete(&self) -> bool {
        self.split.is_none()
    }

    /// All, clockwise from our successor.
    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = &Neighbor> + ExactSizeIterator {
        self.entries.iter()
    }

    /// The successors, nearest first; in a complete table, everybody.
    pub(super) fn successors(&self) -> &[Neighbor] {
        &self.entries[..self.split.unwrap_or(self.entries.len())]
    }

    /// The predecessors, farthest first; in a complete table, everybody.
    pub(super) fn predecessors(&self) -> &[Neighbor] {
        &self.entries[self.split.unwrap_or(0)..]
    }

    pub(super) fn successor(&self) -> Option<&Neighbor> {
        self.successors().first()
    }

    pub(super) fn predecessor(&self) -> Option<&Neighbor> {
        self.predecessors().last()
    }

    /// The farthest successor or predecessor.
    pub(super) fn end(&self, forward: bool) -> Option<Id> {
        let end = if forward {
            self.successors().last()
        } else {
            self.predecessors().first()
        };
        end.map(|entry| entry.member.id)
    }

    pub(super) fn get(&self, id: Id) -> Option<&Neighbor> {
        self.find(id).ok().map(|at| &self.entries[at])
    }

    pub(super) fn get_mut(&mut self, id: Id) -> Option<&mut Neighbor> {
        let at = self.find(id).ok()?;
        Some(&mut self.entries[at])
    }

    pub(super) fn at_addr(&self, addr: SocketAddr) -> Option<Id> {
        self.by_addr.get(&addr).copied()
    }

    pub(super) fn nth(&self, index: usize) -> &Neighbor {
        &self.entries[index]
    }

    /// Takes `member` in, if it is near enough. Does not prune: see [`Self::prune`].
    pub(super) fn insert(&mut self, member: Member, now: Instant) -> Inserted {
        match self.find(member.id) {
            Ok(at) => {
                let entry = &mut self.entries[at];
                if entry.member == member {
                    return Inserted::Updated(None);
                }
                self.by_addr.remove(&entry.member.addr);
                self.by_addr.insert(member.addr, member.id);
                entry.heard = now;
                Inserted::Updated(Some(std::mem::replace(&mut entry.member, member)))
            }
            Err(at) => {
                if let Some(split) = self.split {
                    if at == split {
                        return Inserted::Distant;
                    }
                    if at < split {
                        self.split = Some(split + 1);
                    }
                }
                self.put(at, member, now);
                Inserted::New
            }
        }
    }

    /// Appends the member that follows our farthest successor (or precedes our farthest
    /// predecessor): only from the list of that very member, which knows that nothing lies between.
    ///
    /// Returns whether it was new. If it is the one on the far side of the gap, the two ends have met
    /// and the table is complete.
    pub(super) fn extend(&mut self, member: Member, forward: bool, now: Instant) -> bool {
        let Some(split) = self.split else {
            return false;
        };
        if self.entries.is_empty() || member.id == self.me {
            return false;
        }
        match self.find(member.id) {
            // The other side of the gap and nothing else: the ends have met. A late list may name
            // others we know.
            Ok(at)
                if at
                    == (if forward {
                        split
                    } else {
                        split.wrapping_sub(1)
                    }) =>
            {
                self.split = None;
                return false;
            }
            Err(at) if at == split => {}
            _ => return false,
        }
        self.put(split, member, now);
        self.split = Some(split + usize::from(forward));
        true
    }

    /// Cuts the table to R each way; returns whom it dropped.
    pub(super) fn prune(&mut self) -> Vec<Member> {
        let mut split = match self.split {
            None if self.entries.len() <= 2 * self.limit => return Vec::new(),
            None => self.entries.len() - self.limit,
            Some(split) => split,
        };
        let last = self.entries.len() - (self.entries.len() - split).min(self.limit);
        let first = split.min(self.limit);
        let dropped: Vec<Member> = self
            .entries
            .drain(first..last)
            .map(|gone| gone.member)
            .collect();
        split = first;
        self.split = Some(split);
        for member in &dropped {
            self.forget_addr(member);
        }
        dropped
    }

    /// Falls back from "everybody" to the arc (first, last] that a node of a larger ring has told us
    /// about; returns those we knew outside it.
    pub(super) fn narrow(&mut self, first: Id, last: Id) -> Vec<Member> {
        if self.split.is_some() {
            return Vec::new();
        }
        let (before, after) = (self.me.distance(first), self.me.distance(last));
        let from = self
            .entries
            .partition_point(|e| self.me.distance(e.member.id) <= after);
        let to = self
            .entries
            .partition_point(|e| self.me.distance(e.member.id) < before);
        let dropped: Vec<Member> = self
            .entries
            .drain(from..to.max(from))
            .map(|gone| gone.member)
            .collect();
        self.split = Some(from);
        self.keep_both_sides();
        for member in &dropped {
            self.forget_addr(member);
        }
        dropped
    }

    pub(super) fn remove(&mut self, id: Id) -> Option<Neighbor> {
        let at = self.find(id).ok()?;
        let gone = self.entries.remove(at);
        if let Some(split) = self.split {
            self.split = Some(split - usize::from(at < split));
        }
        self.keep_both_sides();
        self.forget_addr(&gone.member);
        Some(gone)
    }

    /// With one side lost we are lost ourselves: nobody to stabilise with. Better to take those we
    /// still know for the whole ring; they will set us right.
    fn keep_both_sides(&mut self) {
        if self.split == Some(0) || self.split == Some(self.entries.len()) {
            self.split = None;
        }
    }

    /// Whether we know everybody in (after, through].
    pub(super) fn covers(&self, after: Id, through: Id) -> bool {
        if self.is_complete() {
            return true;
        }
        let first = self.predecessors().first().map_or(self.me, |e| e.member.id);
        let last = self.successors().last().map_or(self.me, |e| e.member.id);
        let outside = Id(first.0.wrapping_sub(1));
        let reach = outside.distance(last);
        after != through
            && outside.distance(through) <= reach
            && outside.distance(after) < outside.distance(through)
    }

    /// What we believe about what our successor knows as well: everything if the table is complete
    /// (0 to 0, which costs nothing on the wire), else all but our farthest predecessor. That one
    /// is compared when our predecessor stabilises with us.
    pub(super) fn digest(&self, me: &Member) -> Digest {
        if self.is_complete() {
            return self.digest_of(me, Id(0), Id(0));
        }
        let (before, after) = (self.predecessors(), self.successors());
        let first = before
            .get(1)
            .or(before.first())
            .map_or(self.me, |e| e.member.id);
        let last = after.last().map_or(self.me, |e| e.member.id);
        self.digest_of(me, Id(first.0.wrapping_sub(1)), last)
    }

    /// What we believe about the members in (after, through]; `me` counts only as a member.
    pub(super) fn digest_of(&self, me: &Member, after: Id, through: Id) -> Digest {
        let own = std::iter::once(me).filter(|me| me.role == super::protocol::Role::Member);
        let sum = self
            .entries
            .iter()
            .map(|entry| &entry.member)
            .chain(own)
            .filter(|member| member.id.is_within(after, through))
            .fold(0, |sum, member| {
                sum ^ mix(member.id.0 ^ mix(member.incarnation))
            });
        Digest {
            after,
            through,
            sum,
        }
    }

    fn put(&mut self, at: usize, member: Member, now: Instant) {
        self.by_addr.insert(member.addr, member.id);
        self.entries.insert(
            at,
            Neighbor {
                member,
                heard: now,
                rtt: None,
            },
        );
    }

    /// Two members may have had one address in turn: forget it only if it is still this one's.
    fn forget_addr(&mut self, member: &Member) {
        if self.by_addr.get(&member.addr) == Some(&member.id) {
            self.by_addr.remove(&member.addr);
        }
    }

    fn find(&self, id: Id) -> Result<usize, usize> {
        let distance = self.me.distance(id);
        self.entries
            .binary_search_by_key(&distance, |entry| self.me.distance(entry.member.id))
    }
}
