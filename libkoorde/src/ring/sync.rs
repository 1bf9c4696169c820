//! Full exchanges: all that one node knows, to mend what a lost push left open and to make one ring
//! of two. Rare: each costs some 50 bytes a member.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::protocol::{Change, DownReason, Event, Gone, Member, Message, Sync};
use super::timers::Timer;
use super::{Ring, RingView};
use crate::id::Id;

/// Most tombstones in a full exchange.
const MAX_GONE: usize = 128;
/// How old they may be: whoever was cut off for longer learns of older ones by asking.
const GONE_AGE: Duration = Duration::from_secs(30);

impl Ring {
    pub(super) fn on_sync(&mut self, now: Instant, from: SocketAddr, sync: Sync) {
        let knew = self.neighbors.len() + 1;
        let was_alone = self.neighbors.is_empty();
        let bound = 2 * self.config.neighbors + 1;
        let members: Vec<Member> = sync.members.into_iter().take(bound).collect();
        if !sync.complete && !self.fit_into(&members) {
            return;
        }
        if sync.answer {
            self.answer_sync(from, &members, &sync.gone);
        }
        for gone in sync.gone.into_iter().take(MAX_GONE) {
            self.on_hearsay_of_end(now, from, gone);
        }
        let mut learned = Vec::new();
        for member in &members {
            self.tell_if_dead(now, member);
            if self.learn(now, member.clone()) {
                learned.push(member.clone());
            }
        }
        let new = learned.len();
        if !sync.complete {
            self.extend_along(now, &members);
        }
        self.trim();
        // The arc may have dropped all whom we knew, and named none but the dead.
        self.alone_if_nobody_is_left(now);
        if new >= knew {
            // We have come to a ring at least as big as ours: say so to everybody in it.
            self.push(&Change::Alive(self.me.clone()));
            self.joined_at = Some(now);
            self.dirty = true;
            let members = self.neighbors.len() + 1;
            self.emit(if was_alone {
                Event::Joined { members }
            } else {
                Event::Merged { members }
            });
        }
        if !was_alone && new > knew / 8 {
            self.schedule_spread(now);
        } else if !was_alone {
            // One or two that everybody this side of us has missed: else we had not.
            for member in learned {
                self.push(&Change::Alive(member));
            }
        }
    }

    /// Passes on what a full exchange taught us: to both neighbours and two at random. Whoever
    /// learns from it does the same; whoever does not stays silent, so it ends by itself.
    pub(super) fn spread(&mut self, now: Instant) {
        let n = self.neighbors.len();
        if n == 0 {
            return;
        }
        let mut picks = vec![0, n - 1, self.rng.below(n), self.rng.below(n)];
        picks.sort_unstable();
        picks.dedup();
        for pick in picks {
            let to = self.neighbors.nth(pick).member.addr;
            self.send_sync(now, to, false);
        }
    }

    pub(super) fn send_sync(&mut self, now: Instant, to: SocketAddr, answer: bool) {
        let mine = std::iter::once(&self.me).filter(|me| RingView::may_own(me, self.phase));
        let before = self
            .neighbors
            .predecessors()
            .iter()
            .map(|entry| &entry.member);
        let after = self
            .neighbors
            .successors()
            .iter()
            .map(|entry| &entry.member);
        let complete = self.neighbors.is_complete();
        let members: Vec<Member> = if complete {
            mine.chain(after).cloned().collect()
        } else {
            before.chain(mine).chain(after).cloned().collect()
        };
        let gone = self.tombstones.newest(now, GONE_AGE, MAX_GONE);
        self.send(
            to,
            Message::Sync(Box::new(Sync {
                members,
                gone,
                complete,
                answer,
            })),
        );
    }

    /// A tombstone from a full exchange: unlike a pushed verdict it may be as old as a partition.
    /// A member we take for alive is asked, and told to refute, before we believe it.
    fn on_hearsay_of_end(&mut self, now: Instant, from: SocketAddr, gone: Gone) {
        let incarnation = gone.member.incarnation;
        if gone.member.id == self.me.id {
            self.on_dead_notice(now, from, incarnation);
            return;
        }
        let doubted = self
            .neighbors
            .get(gone.member.id)
            .filter(|entry| {
                entry.member.incarnation <= incarnation && gone.reason == DownReason::Dead
            })
            .map(|entry| (entry.member.id, entry.member.addr));
        match doubted {
            Some((id, addr)) => {
                self.send(addr, Message::Dead { incarnation });
                self.start_check(now, id, false);
            }
            None => {
                self.lose(now, gone);
            }
        }
    }

    /// Sends back what the sender of a full exchange lacks.
    fn answer_sync(&mut self, from: SocketAddr, members: &[Member], gone: &[Gone]) {
        let lacks = |mine: &Member| {
            !members
                .iter()
                .any(|theirs| theirs.id == mine.id && theirs.incarnation >= mine.incarnation)
        };
        let mine = std::iter::once(&self.me).filter(|me| RingView::may_own(me, self.phase));
        let known = self.neighbors.iter().map(|entry| &entry.member);
        let alive = mine
            .chain(known)
            .filter(|mine| lacks(mine))
            .cloned()
            .map(Change::Alive);
        let ends = self
            .tombstones
            .iter()
            .map(|stone| &stone.gone)
            .filter(|mine| {
                let same = |theirs: &&Gone| theirs.member.id == mine.member.id;
                gone.iter()
                    .find(same)
                    .is_none_or(|g| g.member.incarnation < mine.member.incarnation)
                    && members
                        .iter()
                        .any(|m| m.id == mine.member.id && m.incarnation <= mine.member.incarnation)
            });
        let changes: Vec<Change> = alive.chain(ends.cloned().map(Change::Gone)).collect();
        for part in changes.chunks(Message::MAX_CHANGES) {
            self.send(from, Message::Changes(part.to_vec()));
        }
    }

    /// Before taking in an arc of a ring larger than we knew: forget whom we know outside it.
    /// Returns whether the arc concerns us at all.
    fn fit_into(&mut self, arc: &[Member]) -> bool {
        let (Some(first), Some(last)) = (arc.first(), arc.last()) else {
            return false;
        };
        let (first, last) = (first.id, last.id);
        // At the end of an arc we would have neighbours on one side only: the home of our own id
        // has a better one.
        if first == last || last == self.me.id || !self.me.id.is_within(first, last) {
            return false;
        }
        for member in self.neighbors.narrow(first, last) {
            self.drop_distant(member);
        }
        true
    }

    /// Where a neighbour's arc reaches farther than ours and overlaps it, ours grows.
    fn extend_along(&mut self, now: Instant, arc: &[Member]) {
        let find = |id: Id| arc.iter().position(|member| member.id == id);
        let last = self
            .neighbors
            .successors()
            .last()
            .map_or(self.me.id, |e| e.member.id);
        if let Some(at) = find(last) {
            self.extend(now, true, &arc[at + 1..]);
        }
        let first = self
            .neighbors
            .predecessors()
            .first()
            .map_or(self.me.id, |e| e.member.id);
        if let Some(at) = find(first) {
            let before: Vec<Member> = arc[..at].iter().rev().cloned().collect();
            self.extend(now, false, &before);
        }
    }

    fn schedule_spread(&mut self, now: Instant) {
        let half = self.config.spread / 2;
        let wait = half + half.mul_f64(self.rng.below(2000) as f64 / 1000.0);
        if !self.timers.is_set(Timer::Spread) {
            self.timers.set(Timer::Spread, now + wait);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::ring::{
        RingConfig, invariants,
        protocol::{Input, Phase, Role},
    };

    fn member(place: u64) -> Member {
        Member {
            id: Id(place),
            name: format!("node-{place}").into(),
            addr: (Ipv4Addr::LOCALHOST, u16::try_from(place).expect("a port")).into(),
            incarnation: 1,
            weight: 100,
            role: Role::Member,
        }
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a test's beginning of time")]
    fn a_node_is_alone_when_an_arc_drops_all_whom_it_knew_and_names_only_the_dead() {
        let mut now = Instant::now();
        let mut ring = Ring::new(RingConfig::default(), member(500), 7, now);
        let mut hear = |members: &[u64], gone: &[u64], complete| {
            let sync = Sync {
                members: members.iter().map(|place| member(*place)).collect(),
                gone: gone
                    .iter()
                    .map(|place| Gone {
                        member: member(*place),
                        reason: DownReason::Dead,
                    })
                    .collect(),
                complete,
                answer: false,
            };
            now += Duration::from_secs(1);
            let message = Message::Sync(Box::new(sync));
            let from = member(900).addr;
            ring.handle(now, Input::Message { from, message });
            while ring.poll().is_some() {}
            assert_eq!(invariants::check(&ring), Ok(()));
            ring.view().state()
        };
        assert_eq!(hear(&[900], &[400, 600], true), Phase::Joining);
        assert_eq!(hear(&[400, 500, 600], &[], false), Phase::Alone);
        assert_eq!(hear(&[900], &[], true), Phase::Joining);
    }
}
