//! The snapshot of the ring that everyone but its one task reads.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::protocol::{Member, Phase, Role};
use super::rendezvous::Draw;
use crate::id::{Id, KeyId};

/// What a node knew of the ring at one instant: immutable, and cheap to share.
///
/// It may be wrong at any instant. A wrong owner costs one more fetch, never a wrong answer.
#[derive(Clone, Debug)]
pub struct RingView {
    pub(super) me: Member,
    pub(super) phase: Phase,
    pub(super) complete: bool,
    pub(super) joined_at: Option<Instant>,
    /// R: how many successors of a key compete for it.
    pub(super) candidates: usize,
    /// Those that may own keys, clockwise and without a gap.
    pub(super) members: Arc<[Member]>,
    /// In the order of `members`, apart from them so that one decision reads few cache lines.
    pub(super) draws: Vec<Draw>,
    /// Whether all weigh the same, so that no logarithm is needed.
    pub(super) uniform: bool,
    pub(super) successors: Vec<Member>,
    pub(super) predecessor: Option<Member>,
    pub(super) pointers: Vec<Member>,
    pub(super) rtts: Vec<(Id, Duration)>,
}

impl RingView {
    /// Orders `members` (clockwise) into a snapshot; a lone helper so that all fields agree.
    pub(super) fn assemble(
        me: Member,
        phase: Phase,
        complete: bool,
        joined_at: Option<Instant>,
        candidates: usize,
        members: Vec<Member>,
    ) -> Self {
        let draws: Vec<Draw> = members.iter().map(Draw::of).collect();
        let uniform = draws.windows(2).all(|pair| pair[0].weighs_as(pair[1]));
        Self {
            me,
            phase,
            complete,
            joined_at,
            candidates,
            members: members.into(),
            draws,
            uniform,
            successors: Vec::new(),
            predecessor: None,
            pointers: Vec::new(),
            rtts: Vec::new(),
        }
    }

    /// A view of a ring whose members are all known: for tests, benches and the simulator's oracle.
    ///
    /// `members` in any order, without edges; `candidates` is
    /// [`RingConfig::owner_candidates`](super::RingConfig::owner_candidates).
    #[must_use]
    pub fn ideal(me: Member, mut members: Vec<Member>, candidates: usize) -> Self {
        members.sort_by_key(|member| member.id);
        members.dedup_by_key(|member| member.id);
        Self::assemble(me, Phase::Active, true, None, candidates, members)
    }

    /// Ourselves.
    #[must_use]
    pub const fn me(&self) -> &Member {
        &self.me
    }

    /// Everyone known who may own keys, ourselves included; clockwise, from an arbitrary start.
    /// An edge is not among them, nor is a node that is leaving.
    #[must_use]
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// The member with this id, if known.
    #[must_use]
    pub fn member(&self, id: Id) -> Option<&Member> {
        self.members.iter().find(|member| member.id == id)
    }

    /// Whether this is the whole ring as far as we know (always so up to R + 1 members, in fact up
    /// to 2R + 1): then [`Self::owners`] needs no look-up.
    #[must_use]
    pub const fn is_complete(&self) -> bool {
        self.complete
    }

    /// The owner of `key`: the best rendezvous score among the R successors of the key.
    ///
    /// `None` if nobody may own keys, or if the key lies where we do not know its candidates: then
    /// [`Command::Find`](super::Command::Find) it.
    #[must_use]
    pub fn owner(&self, key: KeyId) -> Option<&Member> {
        let (first, count) = self.window(key)?;
        let low = key.low();
        let (head, tail) = self.halves(first, count);
        let (at, _) = if self.uniform {
            let mut best = (first, 0);
            for (at, draw) in head.chain(tail) {
                let plain = draw.plain(low);
                if plain > best.1 {
                    best = (at, plain);
                }
            }
            best
        } else {
            let mut best = (first, u64::MAX);
            for (at, draw) in head.chain(tail) {
                let cost = draw.cost(low);
                if cost < best.1 {
                    best = (at, cost);
                }
            }
            best
        };
        Some(&self.members[at])
    }

    /// The owner and its replicas in order, at most `count`; empty where [`Self::owner`] is `None`.
    #[must_use]
    pub fn owners(&self, key: KeyId, count: usize) -> Vec<&Member> {
        self.window(key)
            .map_or_else(Vec::new, |window| self.ranked(key, window, count, &[]))
    }

    /// Whether `member` would come before us among the owners of `key`, if it were there.
    #[must_use]
    pub fn precedes_us(&self, member: &Member, key: KeyId) -> bool {
        let cost = |member| Draw::of(member).cost(key.low());
        cost(member) < cost(&self.me)
    }

    /// The owners if those in `avoid` were not there.
    pub(super) fn owners_without(
        &self,
        key: KeyId,
        count: usize,
        avoid: &[Id],
    ) -> Option<Vec<&Member>> {
        self.window(key)
            .map(|window| self.ranked(key, window, count, avoid))
    }

    /// The owners as the home of `key` sees them, however short its list is just now.
    pub(super) fn owners_at_home(&self, key: KeyId, count: usize, avoid: &[Id]) -> Vec<&Member> {
        let Some(first) = self.home_index(key) else {
            return Vec::new();
        };
        let rest = if self.complete {
            self.members.len()
        } else {
            self.members.len() - first
        };
        self.ranked(key, (first, rest.min(self.candidates)), count, avoid)
    }

    /// The home of `key`: its successor on the ring; `None` where we do not know it.
    #[must_use]
    pub fn home(&self, key: KeyId) -> Option<&Member> {
        self.home_index(key).map(|at| &self.members[at])
    }

    /// Whether we own `key`, as far as we know.
    #[must_use]
    pub fn owns(&self, key: KeyId) -> bool {
        self.owner(key).is_some_and(|owner| owner.id == self.me.id)
    }

    /// The share of all keys that the member with this id is expected to own, 0 to 1.
    ///
    /// Exact in a complete view; else counts only the arcs we know the candidates of, scaled up.
    /// Costs n × R steps: for operators, not for requests.
    #[must_use]
    pub fn share(&self, id: Id) -> f64 {
        let weight = |at: usize| f64::from(self.members[at].weight.clamp(1, Member::MAX_WEIGHT));
        let n = self.members.len();
        if n == 1 {
            return if self.members[0].id == id { 1.0 } else { 0.0 };
        }
        let (mut won, mut known) = (0.0, 0.0);
        for home in 0..n {
            if home == 0 && !self.complete {
                continue;
            }
            let arc = self.members[(home + n - 1) % n]
                .id
                .distance(self.members[home].id) as f64;
            let Some(count) = self.candidates_from(home) else {
                continue;
            };
            let window = (home..home + count).map(|at| at % n);
            let total: f64 = window.clone().map(weight).sum();
            let own: f64 = window
                .filter(|&at| self.members[at].id == id)
                .map(weight)
                .sum();
            won += arc * own / total;
            known += arc;
        }
        if known == 0.0 { 0.0 } else { won / known }
    }

    /// The points of the circle between our predecessor and us, of 2^64: all of them while we know
    /// nobody else, none while we are not in a ring. In one ring they are one circle together.
    #[must_use]
    pub fn arc(&self) -> u64 {
        if !Self::may_own(&self.me, self.phase) {
            return 0;
        }
        match &self.predecessor {
            _ if self.members.len() == 1 => u64::MAX,
            Some(before) => before.id.distance(self.me.id),
            None => 0,
        }
    }

    /// Where this node stands in its life.
    #[must_use]
    pub const fn state(&self) -> Phase {
        self.phase
    }

    /// The successor list, nearest first; at most R. In a complete ring: everybody else.
    #[must_use]
    pub fn successors(&self) -> &[Member] {
        &self.successors
    }

    /// The member before us.
    #[must_use]
    pub const fn predecessor(&self) -> Option<&Member> {
        self.predecessor.as_ref()
    }

    /// The de Bruijn pointers. Empty while the ring is complete: then they say nothing new.
    #[must_use]
    pub fn pointers(&self) -> &[Member] {
        &self.pointers
    }

    /// The smoothed round trip to a member; known for the neighbours we stabilise with or ping, as
    /// of the last change of this view.
    #[must_use]
    pub fn rtt(&self, id: Id) -> Option<Duration> {
        self.rtts
            .iter()
            .find(|(known, _)| *known == id)
            .map(|&(_, rtt)| rtt)
    }

    /// When this node last met a ring at least as big as its own: its stores may now be asked for
    /// keys whose responses are still with the previous owner (warm join).
    #[must_use]
    pub const fn joined_at(&self) -> Option<Instant> {
        self.joined_at
    }

    pub(super) fn home_index(&self, key: KeyId) -> Option<usize> {
        let first = self.members.first()?.id;
        let distance = first.distance(key.place());
        let at = self
            .members
            .partition_point(|member| first.distance(member.id) < distance);
        match (self.complete, at) {
            (true, at) => Some(if at == self.members.len() { 0 } else { at }),
            (false, 0) => None,
            (false, at) => (at < self.members.len()).then_some(at),
        }
    }

    /// The candidates of `key`: where they start, and how many.
    fn window(&self, key: KeyId) -> Option<(usize, usize)> {
        // All compete for every key: where they start does not matter.
        if self.complete && self.members.len() <= self.candidates && !self.members.is_empty() {
            return Some((0, self.members.len()));
        }
        let first = self.home_index(key)?;
        Some((first, self.candidates_from(first)?))
    }

    fn candidates_from(&self, first: usize) -> Option<usize> {
        if self.complete {
            return Some(self.members.len().min(self.candidates));
        }
        (first + self.candidates <= self.members.len()).then_some(self.candidates)
    }

    /// The draws of `count` members from `first` on, past the end from the start.
    fn halves(
        &self,
        first: usize,
        count: usize,
    ) -> (
        impl Iterator<Item = (usize, &Draw)>,
        impl Iterator<Item = (usize, &Draw)>,
    ) {
        let end = (first + count).min(self.draws.len());
        let rest = first + count - end;
        (
            (first..).zip(&self.draws[first..end]),
            (0..).zip(&self.draws[..rest]),
        )
    }

    fn ranked(
        &self,
        key: KeyId,
        window: (usize, usize),
        count: usize,
        avoid: &[Id],
    ) -> Vec<&Member> {
        let (first, len) = window;
        let (head, tail) = self.halves(first, len);
        let low = key.low();
        let mut best: Vec<(u64, usize)> = Vec::with_capacity(count + 1);
        for (at, draw) in head.chain(tail) {
            let cost = if self.uniform {
                !draw.plain(low)
            } else {
                draw.cost(low)
            };
            let is_worse = best.len() == count && best.last().is_none_or(|worst| cost >= worst.0);
            if is_worse || avoid.contains(&self.members[at].id) {
                continue;
            }
            let to = best.partition_point(|better| better.0 <= cost);
            best.insert(to, (cost, at));
            best.truncate(count);
        }
        best.into_iter().map(|(_, at)| &self.members[at]).collect()
    }

    /// Who comes before `id`, if we know.
    pub(super) fn predecessor_of(&self, id: Id) -> Option<&Member> {
        let at = self.members.iter().position(|member| member.id == id)?;
        let before = match at.checked_sub(1) {
            Some(before) => Some(before),
            None if self.complete => Some(self.members.len() - 1),
            None => None,
        };
        before.map(|before| &self.members[before])
    }

    /// Whether this node may own keys at all.
    pub(super) const fn may_own(me: &Member, phase: Phase) -> bool {
        matches!(me.role, Role::Member) && !matches!(phase, Phase::Leaving | Phase::Left)
    }
}
