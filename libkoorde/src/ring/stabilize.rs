//! The period: stabilize, notify, rectify (Chord with Zave's corrections, arXiv 1610.01140), and
//! contact with seeds, which joins a node to a ring and split rings to each other.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::Ring;
use super::protocol::{
    Change, Digest, Event, Lookup, LookupId, Member, Message, Phase, Purpose, Role,
};
use super::timers::Timer;
use crate::id::KeyId;

/// How long a node counts as young: it contacts seeds more often.
const YOUNG: Duration = Duration::from_secs(10);
/// How many members after a silent successor are pinged at the same time, so that a run of dead
/// ones costs one timeout, not one each.
const LOOK_AHEAD: usize = 4;

impl Ring {
    pub(super) fn stabilize(&mut self, now: Instant) {
        let period = self.jittered(self.config.stabilize);
        self.timers.set(Timer::Stabilize, now + period);
        self.tombstones.expire(now, self.config.tombstone);
        self.suspects.retain(|_, until| *until > now);
        let Some(successor) = self.neighbors.successor() else {
            return;
        };
        let (id, addr) = (successor.member.id, successor.member.addr);
        self.stabilizing = Some((id, now));
        self.timers
            .set(Timer::Stabilized, now + self.config.probe_timeout);
        let digest = self.neighbors.digest(&self.me);
        self.send(
            addr,
            Message::Stabilize {
                me: self.me.clone(),
                digest,
            },
        );
        // The predecessor stabilises with us: its silence says as much as a missed ping.
        if let Some(before) = self.neighbors.predecessor()
            && now.saturating_duration_since(before.heard) > self.config.stabilize.mul_f64(2.5)
        {
            let id = before.member.id;
            self.start_check(now, id, true);
        }
    }

    pub(super) fn on_silent_successor(&mut self, now: Instant) {
        let Some((id, _)) = self.stabilizing.take() else {
            return;
        };
        self.start_check(now, id, true);
        self.count_as_attempt(id);
    }

    /// Doubts those after a successor that has missed two probes. Not after one: that is loss, and
    /// would cost a tenth of all traffic.
    pub(super) fn look_ahead(&mut self, now: Instant) {
        let quiet = now.checked_sub(self.config.stabilize);
        let next: Vec<_> = self
            .neighbors
            .successors()
            .iter()
            .skip(1)
            .take(LOOK_AHEAD)
            .filter(|entry| quiet.is_none_or(|quiet| entry.heard < quiet))
            .map(|entry| entry.member.id)
            .collect();
        for id in next {
            self.start_check(now, id, true);
        }
    }

    /// A node that takes us for its successor: notify and rectify.
    pub(super) fn on_stabilize(
        &mut self,
        now: Instant,
        from: SocketAddr,
        asker: Member,
        digest: Digest,
    ) {
        let is_member = asker.role == Role::Member;
        if is_member {
            self.tell_if_dead(now, &asker);
            if self.tombstones.covers(asker.id, asker.incarnation) {
                return;
            }
            if self.learn(now, asker.clone()) {
                self.heard(now, from);
            }
            self.trim();
        }
        let agree = self.agrees(digest);
        if digest.after == digest.through && !self.neighbors.is_complete() {
            // It would believe itself to be home to half the circle until it next meets a seed.
            self.send_sync(now, from, false);
        }
        let between = self.between(&asker);
        let changes = if agree {
            Vec::new()
        } else {
            self.recent_changes(now)
        };
        // Rectify: whoever takes us for its successor does not know those between us, or takes them
        // for dead. Never drop them on its word: ask.
        if is_member {
            let quiet = self.config.stabilize.mul_f64(1.5);
            let doubted: Vec<_> = between
                .iter()
                .filter_map(|member| self.neighbors.get(member.id))
                .filter(|entry| now.saturating_duration_since(entry.heard) > quiet)
                .map(|entry| entry.member.id)
                .collect();
            for id in doubted {
                self.start_check(now, id, true);
            }
        }
        self.send(
            from,
            Message::Stabilized {
                agree,
                between,
                changes,
            },
        );
    }

    pub(super) fn on_stabilized(
        &mut self,
        now: Instant,
        from: SocketAddr,
        agree: bool,
        between: Vec<Member>,
        changes: Vec<Change>,
    ) {
        let Some((id, asked)) = self.stabilizing else {
            return;
        };
        if self.neighbors.at_addr(from) != Some(id) {
            return;
        }
        self.stabilizing = None;
        self.timers.cancel(Timer::Stabilized);
        let took = now.saturating_duration_since(asked);
        self.note_rtt(id, took);
        self.emit(Event::Stabilized { took });
        for member in between.into_iter().take(2) {
            self.tell_if_dead(now, &member);
            self.learn(now, member);
        }
        self.trim();
        let settled =
            agree || now.saturating_duration_since(self.started) > 2 * self.config.stabilize;
        if self.phase == Phase::Joining && settled {
            self.phase = Phase::Active;
            self.dirty = true;
        }
        if agree {
            self.disagreements = 0;
            return;
        }
        self.disagreements += 1;
        let mine = self.recent_changes(now);
        self.on_changes(now, from, changes);
        if !mine.is_empty() {
            self.send(from, Message::Changes(mine));
        }
        // Once may be news on its way. Twice in a row, something was lost: exchange everything. In a
        // large ring that is a lot, and the lists are seldom the same for long: be more patient.
        let patience = if self.neighbors.is_complete() { 2 } else { 4 };
        let spaced = self
            .last_sync
            .is_none_or(|at| now.saturating_duration_since(at) >= self.config.sync);
        if self.disagreements >= patience && spaced {
            self.last_sync = Some(now);
            self.send_sync(now, from, true);
        }
    }

    /// Asks one seed at random who is home to our own id (rule 8 of the merge).
    pub(super) fn contact_seed(&mut self, now: Instant) {
        let pause = self.seed_pause(now);
        let pause = self.jittered(pause);
        self.timers.set(Timer::Seeds, now + pause);
        // A seed we know is in our ring already; a dead member may have been cut off rather than
        // dead. So strangers come first, and a partition heals even if discovery tells nothing new.
        let strangers: Vec<SocketAddr> = self
            .seeds
            .iter()
            .chain(self.tombstones.dead().map(|gone| &gone.member.addr))
            .filter(|addr| **addr != self.me.addr && self.neighbors.at_addr(**addr).is_none())
            .copied()
            .collect();
        let pool = if strangers.is_empty() || self.rng.below(4) == 0 {
            &self.seeds
        } else {
            &strangers
        };
        let pool = if pool.is_empty() { &strangers } else { pool };
        if pool.is_empty() {
            return;
        }
        let to = pool[self.rng.below(pool.len())];
        self.join_through(now, to);
    }

    pub(super) fn join_through(&mut self, _now: Instant, to: SocketAddr) {
        let lookup = Lookup {
            id: LookupId(self.next_nonce()),
            asker: self.me.addr,
            purpose: Purpose::Join {
                me: self.me.clone(),
                digest: self.neighbors.digest(&self.me),
            },
            key: KeyId::at(self.me.id),
            imaginary: None,
            direct: false,
            redirects: 0,
            ttl: self.config.ttl.saturating_mul(4),
            hops: 1,
            hop: 0,
            remaining: self.config.seed_young,
            avoid: Vec::new(),
            path: None,
        };
        self.send(to, Message::Lookup(Box::new(lookup)));
    }

    /// How long until the next contact with a seed.
    pub(super) fn seed_pause(&self, now: Instant) -> Duration {
        let config = &self.config;
        let dead = self.tombstones.dead().count();
        if self.neighbors.is_empty() {
            config.seed_alone
        } else if now.saturating_duration_since(self.started) < YOUNG {
            config.seed_young
        } else if dead * 2 > self.neighbors.len() {
            // In any partition at least one side sees this.
            config.seed_broken
        } else {
            config.seed
        }
    }

    /// A node asks for the home of its own id; this one is, or knows everybody.
    pub(super) fn answer_join(&mut self, now: Instant, asker: Member, digest: Digest) {
        let to = asker.addr;
        if asker.role == Role::Member {
            self.tell_if_dead(now, &asker);
            if self.tombstones.covers(asker.id, asker.incarnation) {
                return;
            }
            self.learn(now, asker);
            self.trim();
        }
        if !self.agrees(digest) {
            self.send_sync(now, to, false);
        }
    }

    /// Whether we believe the same, as far as we can tell.
    ///
    /// If our own lists are short, deaths have just shortened them and they are being filled. If
    /// they are full and still do not reach as far as the asker's, the asker's have a hole. And
    /// whoever takes the few it has met for a whole ring, which is larger than we can know, is wrong.
    fn agrees(&self, digest: Digest) -> bool {
        let Digest {
            after,
            through,
            sum,
        } = digest;
        if after == through && !self.neighbors.is_complete() {
            return false;
        }
        if self.neighbors.covers(after, through) {
            return self.neighbors.digest_of(&self.me, after, through).sum == sum;
        }
        let (before, after) = (self.neighbors.predecessors(), self.neighbors.successors());
        before.len().min(after.len()) < self.config.neighbors
    }

    /// The members between `asker` and us, nearest to us first; at most 2.
    fn between(&self, asker: &Member) -> Vec<Member> {
        self.neighbors
            .predecessors()
            .iter()
            .rev()
            .map(|entry| &entry.member)
            .take_while(|member| member.id != asker.id && member.id.is_within(asker.id, self.me.id))
            .take(2)
            .cloned()
            .collect()
    }
}
