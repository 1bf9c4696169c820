//! De Bruijn pointers: the nodes that stand for the image of (me, successor] under one shift.
//!
//! The image is [k·me, k·successor + k − 1] and holds 1 + k × (own gap / mean gap) nodes: Poisson,
//! not k. A list of k nodes, as in the paper, is too short for 37 % of all nodes, and the rest is
//! then walked; so we keep all of them up to 4k, and every j-th beyond (a neighbour list repairs
//! that with one more hop). In a complete ring all this follows from the view and costs nothing.

use std::net::SocketAddr;
use std::time::Instant;

use super::Ring;
use super::protocol::{Lookup, LookupId, Member, Message, Purpose};
use super::timers::Timer;
use crate::id::{Id, KeyId};

/// Pointers kept, as a multiple of the degree.
const CAP: usize = 4;
/// Lists fetched for one cover. The longest at 10^6 nodes needs two; short lists need more.
const MAX_LISTS: u32 = 8;
/// Lists asked for at a time: pointers, successors, predecessors.
const MAX_ASKED: usize = 6;
/// How far from the end of a list a second node is asked what lies beyond it.
const SECOND: usize = 3;
/// So many ends of members in three seconds: what a list says may be dead as well.
const MANY_ENDS: usize = 4;

#[derive(Clone, Debug, Default)]
pub(super) struct Pointers {
    members: Vec<Member>,
    sparse: bool,
    /// Lists asked for, by nonce.
    asked: Vec<(u64, Asked)>,
    gathering: Vec<Member>,
    lists: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    /// For the cover, which may end at this id.
    Cover { through: Id },
    /// For what lies beyond our farthest neighbours; this one is or was among them.
    Beyond { of: Id, forward: bool },
}

impl Pointers {
    pub(super) fn members(&self) -> &[Member] {
        &self.members
    }

    pub(super) const fn is_dense(&self) -> bool {
        !self.sparse
    }

    pub(super) fn get(&self, id: Id) -> Option<&Member> {
        self.members.iter().find(|member| member.id == id)
    }

    pub(super) fn forget(&mut self, id: Id) {
        self.members.retain(|member| member.id != id);
    }

    fn ask(&mut self, nonce: u64, what: Asked) {
        if self.asked.len() < MAX_ASKED {
            self.asked.push((nonce, what));
        }
    }

    fn asked(&mut self, nonce: u64) -> Option<Asked> {
        let at = self.asked.iter().position(|(asked, _)| *asked == nonce)?;
        Some(self.asked.swap_remove(at).1)
    }
}

/// Where the image of (`me`, `successor`] under one shift begins and ends; the whole circle if the
/// interval is longer than 1/k of it.
#[must_use]
pub const fn cover_of(me: Id, successor: Id, digit_bits: u32) -> (Id, Id) {
    let first = me.shift(digit_bits, 0);
    let gap = me.distance(successor);
    if gap == 0 || gap >> (Id::BITS - digit_bits) != 0 {
        return (first, Id(first.0.wrapping_sub(1)));
    }
    (first, successor.shift(digit_bits, (1 << digit_bits) - 1))
}

/// Cuts a cover to 4 × `degree` nodes by keeping every j-th, the first two and the last. Returns
/// whether it still is without gaps.
pub fn thin<T>(cover: &mut Vec<T>, degree: u32) -> bool {
    let cap = CAP * degree as usize;
    let len = cover.len();
    if len <= cap {
        return true;
    }
    let stride = len.div_ceil(cap);
    let mut at = 0;
    cover.retain(|_| {
        let keep = at < 2 || at % stride == 0 || at == len - 1;
        at += 1;
        keep
    });
    false
}

impl Ring {
    pub(super) fn fix_pointers(&mut self, now: Instant) {
        // Without pointers routing walks, and short lists decide owners wrongly: hurry.
        let limit = self.config.neighbors;
        let short = self
            .neighbors
            .successors()
            .len()
            .min(self.neighbors.predecessors().len());
        let hurry =
            !self.neighbors.is_complete() && (self.pointers.members.is_empty() || short < limit);
        let period = if hurry {
            self.config.stabilize / 4
        } else {
            2 * self.config.stabilize
        };
        let period = self.jittered(period);
        self.timers.set(Timer::Pointers, now + period);
        let mut silent = false;
        for (_, asked) in std::mem::take(&mut self.pointers.asked) {
            // The farthest neighbours are the ones nobody near us watches for us: if such a one has
            // died unnoticed, our list would stay short for ever.
            if let Asked::Beyond { of, .. } = asked {
                silent = true;
                self.start_check(now, of, false);
            }
        }
        if self.neighbors.is_complete() {
            self.pointers = Pointers::default();
            self.learned.clear();
            return;
        }
        self.fill_neighbors(silent);
        self.watch_ends(now);
        let Some(successor) = self.neighbors.successor() else {
            return;
        };
        let (first, through) = cover_of(self.me.id, successor.member.id, self.config.digit_bits());
        let nonce = self.next_nonce();
        self.pointers.ask(nonce, Asked::Cover { through });
        self.pointers.gathering.clear();
        self.pointers.lists = 0;
        let lookup = Lookup {
            id: LookupId(nonce),
            asker: self.me.addr,
            purpose: Purpose::Pointers { through },
            key: KeyId::at(first),
            imaginary: None,
            direct: false,
            redirects: 0,
            ttl: self.config.ttl.saturating_mul(4),
            hops: 0,
            hop: 0,
            remaining: self.config.stabilize,
            avoid: Vec::new(),
            path: None,
        };
        self.forward(now, lookup, Vec::new());
    }

    /// Pings the farthest neighbours now and then: only their own neighbours watch them, and if the
    /// news of their end was lost nobody's digest would show it.
    fn watch_ends(&mut self, now: Instant) {
        let quiet = 20 * self.config.stabilize;
        for forward in [true, false] {
            if let Some(end) = self.neighbors.end(forward)
                && let Some(entry) = self.neighbors.get(end)
                && now.saturating_duration_since(entry.heard) > quiet
            {
                self.start_check(now, end, false);
            }
        }
    }

    /// Where deaths have left our lists short, asks the farthest neighbour for what lies beyond;
    /// if the last one asked was `silent`, one nearer to us as well.
    fn fill_neighbors(&mut self, silent: bool) {
        for forward in [true, false] {
            let side = if forward {
                self.neighbors.successors()
            } else {
                self.neighbors.predecessors()
            };
            let lacking = self.config.neighbors.saturating_sub(side.len());
            if lacking == 0 {
                continue;
            }
            let depths: &[usize] = if silent { &[0, SECOND] } else { &[0] };
            let ends: Vec<(usize, Id, SocketAddr)> = depths
                .iter()
                .filter(|&&depth| depth < side.len())
                .map(|&depth| {
                    let at = if forward {
                        side.len() - 1 - depth
                    } else {
                        depth
                    };
                    (depth, side[at].member.id, side[at].member.addr)
                })
                .collect();
            for (depth, of, to) in ends {
                let nonce = self.next_nonce();
                self.pointers.ask(nonce, Asked::Beyond { of, forward });
                let count = lacking + depth;
                self.send(
                    to,
                    Message::List {
                        nonce,
                        forward,
                        count,
                    },
                );
            }
        }
    }

    pub(super) fn on_list(&mut self, from: SocketAddr, nonce: u64, forward: bool, count: usize) {
        let (after, before) = (self.neighbors.successors(), self.neighbors.predecessors());
        let limit = Message::MAX_LISTED.min(count);
        let members: Vec<Member> = if forward {
            after
                .iter()
                .take(limit)
                .map(|entry| entry.member.clone())
                .collect()
        } else {
            before
                .iter()
                .rev()
                .take(limit)
                .map(|entry| entry.member.clone())
                .collect()
        };
        self.send(from, Message::Listed { nonce, members });
    }

    pub(super) fn on_listed(
        &mut self,
        now: Instant,
        from: SocketAddr,
        nonce: u64,
        mut members: Vec<Member>,
    ) {
        members.truncate(Message::MAX_LISTED);
        match self.pointers.asked(nonce) {
            Some(Asked::Beyond { of, forward }) if self.neighbors.at_addr(from) == Some(of) => {
                self.on_beyond(now, of, forward, &members);
            }
            Some(Asked::Cover { through }) => self.gather(members, through),
            Some(Asked::Beyond { .. }) | None => {}
        }
    }

    /// The list of `of`, one of our farthest neighbours: what follows the farthest of all in it is
    /// taken, for there it knows that nothing lies between.
    fn on_beyond(&mut self, now: Instant, of: Id, forward: bool, list: &[Member]) {
        let Some(end) = self.neighbors.end(forward) else {
            return;
        };
        let from = match list.iter().position(|member| member.id == end) {
            _ if end == of => 0,
            Some(at) => at + 1,
            None => {
                // It does not know our end, which so may be dead.
                self.start_check(now, end, false);
                return;
            }
        };
        self.extend(now, forward, &list[from..]);
        self.trim();
    }

    /// Appends `beyond` to our farthest neighbour, nearest first, until the list is full.
    pub(super) fn extend(&mut self, now: Instant, forward: bool, beyond: &[Member]) {
        let doubtful = self.recent_ends(now) >= MANY_ENDS;
        for member in beyond {
            let side = if forward {
                self.neighbors.successors()
            } else {
                self.neighbors.predecessors()
            };
            if self.neighbors.is_complete() || side.len() >= self.config.neighbors {
                return;
            }
            if self.tombstones.covers(member.id, member.incarnation) {
                continue;
            }
            if self.neighbors.extend(member.clone(), forward, now) {
                self.on_new(now, member.clone());
                // Whoever found it dead did not know us: nobody would tell us but itself.
                if doubtful {
                    self.start_check(now, member.id, false);
                }
            } else {
                self.dirty = true;
                // Either the ends have met, or our other end should not be there.
                if let Some(other) = self.neighbors.end(!forward) {
                    self.start_check(now, other, false);
                }
                return;
            }
        }
    }

    /// Puts a cover together from one or more lists.
    fn gather(&mut self, members: Vec<Member>, through: Id) {
        let mut done = members.is_empty();
        for member in members {
            let gathered = &self.pointers.gathering;
            let (first, last) = (gathered.first(), gathered.last());
            // Past its start again: the cover is the whole ring. Out of order: a list of another
            // moment, of no use.
            if let (Some(first), Some(last)) = (first, last)
                && first.id.distance(member.id) <= first.id.distance(last.id)
            {
                done = true;
                break;
            }
            self.pointers.gathering.push(member);
        }
        let gathered = &self.pointers.gathering;
        let (Some(first), Some(last)) = (gathered.first(), gathered.last()) else {
            return;
        };
        self.pointers.lists += 1;
        done |= first.id.distance(last.id) >= first.id.distance(through);
        if !done && self.pointers.lists < MAX_LISTS && last.id != self.me.id {
            let to = last.addr;
            let nonce = self.next_nonce();
            self.pointers.ask(nonce, Asked::Cover { through });
            self.send(
                to,
                Message::List {
                    nonce,
                    forward: true,
                    count: Message::MAX_LISTED,
                },
            );
            return;
        }
        let mut cover = std::mem::take(&mut self.pointers.gathering);
        cover.retain(|member| !self.tombstones.covers(member.id, member.incarnation));
        let dense = thin(&mut cover, self.config.degree);
        if cover != self.pointers.members {
            self.dirty = true;
        }
        self.pointers.members = cover;
        self.pointers.sparse = !dense;
    }

    /// The answer to a look-up for pointers, at the home of `place`: from the predecessor of its
    /// predecessor (rule P) to one beyond `through`.
    pub(super) fn answer_pointers(
        &mut self,
        asker: SocketAddr,
        nonce: LookupId,
        place: Id,
        through: Id,
    ) {
        let view = self.view();
        let Some(home) = view.home_index(KeyId::at(place)) else {
            return;
        };
        let all = view.members();
        let n = all.len();
        let (start, most) = if view.is_complete() {
            (home + n - 2_usize.min(n - 1), n)
        } else {
            let start = home.saturating_sub(2);
            (start, n - start)
        };
        let first = all[start % n].id;
        let mut members = Vec::new();
        for at in start..start + most.min(Message::MAX_LISTED) {
            let member = &all[at % n];
            members.push(member.clone());
            let is_beyond = first.distance(member.id) >= first.distance(through);
            if is_beyond && first.distance(through) >= first.distance(place) {
                break;
            }
        }
        self.send(
            asker,
            Message::Listed {
                nonce: nonce.0,
                members,
            },
        );
    }
}
