//! News of members: who is alive at which incarnation, who is gone, and how everybody hears of it.
//!
//! Of two statements about one member the higher incarnation wins; at the same one "gone" wins, and
//! only the member itself may answer with a higher one (SWIM, Das et al. 2002). News is pushed
//! directly to everybody known by whoever detects it: at our sizes cheaper and quicker than gossip.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::Ring;
use super::neighbors::Inserted;
use super::protocol::{
    Change, DownReason, Event, Gone, Member, Message, NotFoundReason, Phase, Role,
};
use super::timers::Timer;
use crate::id::Id;

/// How long a change stays among the recent ones.
const RECENT: Duration = Duration::from_secs(3);
/// Most recent changes kept.
const MAX_RECENT: usize = 64;
/// How often a dead member is told so.
const TELL_AGAIN: Duration = Duration::from_millis(500);

impl Ring {
    /// Takes in that `member` is alive. Returns whether it is new to us.
    pub(super) fn learn(&mut self, now: Instant, member: Member) -> bool {
        if member.id == self.me.id {
            self.on_own_name(now, member);
            return false;
        }
        if member.role == Role::Edge || self.tombstones.covers(member.id, member.incarnation) {
            return false;
        }
        if self
            .neighbors
            .get(member.id)
            .is_some_and(|old| old.member.incarnation >= member.incarnation)
        {
            return false;
        }
        match self.neighbors.insert(member.clone(), now) {
            Inserted::New => self.on_new(now, member),
            Inserted::Updated(old) => {
                self.dirty = true;
                if let Some(old) = old.filter(|old| old.addr != member.addr) {
                    self.emit(Event::Down {
                        member: old,
                        reason: DownReason::Replaced,
                    });
                    self.emit(Event::Up(member.clone()));
                }
                self.remember(now, Change::Alive(member));
                false
            }
            Inserted::Distant => false,
        }
    }

    /// Takes in that a member is gone. Returns whether that was news.
    pub(super) fn lose(&mut self, now: Instant, gone: Gone) -> bool {
        let id = gone.member.id;
        if id == self.me.id {
            return false;
        }
        let known = self.neighbors.get(id).map(|entry| entry.member.incarnation);
        if self.tombstones.covers(id, gone.member.incarnation)
            || known.is_some_and(|known| known > gone.member.incarnation)
        {
            return false;
        }
        self.tombstones.insert(gone.clone(), now);
        self.remember(now, Change::Gone(gone.clone()));
        self.forget(id);
        let Some(entry) = self.neighbors.remove(id) else {
            return true;
        };
        self.dirty = true;
        self.emit(Event::Down {
            member: entry.member,
            reason: gone.reason,
        });
        if self.stabilizing.is_some_and(|(asked, _)| asked == id) {
            self.stabilizing = None;
            self.timers.cancel(Timer::Stabilized);
            // Whoever comes next may be dead as well: ask at once rather than a period later.
            self.timers.hurry(Timer::Stabilize, now);
        }
        self.alone_if_nobody_is_left(now);
        true
    }

    pub(super) fn alone_if_nobody_is_left(&mut self, now: Instant) {
        if !self.neighbors.is_empty() {
            return;
        }
        self.timers.hurry(Timer::Seeds, now);
        if matches!(self.phase, Phase::Joining | Phase::Active) {
            self.phase = Phase::Alone;
            self.dirty = true;
        }
    }

    /// Tells everybody known.
    pub(super) fn push(&mut self, change: &Change) {
        let everybody: Vec<SocketAddr> = self
            .neighbors
            .iter()
            .map(|entry| entry.member.addr)
            .collect();
        for to in everybody {
            self.send(to, Message::Changes(vec![change.clone()]));
        }
    }

    pub(super) fn on_changes(&mut self, now: Instant, from: SocketAddr, changes: Vec<Change>) {
        let mut news = Vec::new();
        for change in changes.into_iter().take(Message::MAX_CHANGES) {
            match &change {
                Change::Alive(member) => {
                    self.tell_if_dead(now, member);
                    if self.learn(now, member.clone()) {
                        news.push(change);
                    }
                }
                Change::Gone(gone) if gone.member.id == self.me.id => {
                    self.on_dead_notice(now, from, gone.member.incarnation);
                }
                Change::Gone(gone) => {
                    let was_known = self.neighbors.get(gone.member.id).is_some();
                    if self.lose(now, gone.clone()) && was_known {
                        news.push(change);
                    }
                }
            }
        }
        self.trim();
        self.pass_along(from, news);
    }

    /// In a ring too large to know, a member that a whole run of nodes has missed is mended at the
    /// ends of the run: what a neighbour teaches us goes on to the other neighbour, until it is no
    /// news. Otherwise the mending would take a period for each of up to R nodes.
    fn pass_along(&mut self, from: SocketAddr, news: Vec<Change>) {
        if news.is_empty() || self.neighbors.is_complete() {
            return;
        }
        let successor = self.neighbors.successor().map(|entry| entry.member.addr);
        let predecessor = self.neighbors.predecessor().map(|entry| entry.member.addr);
        let on = if successor == Some(from) {
            predecessor
        } else if predecessor == Some(from) {
            successor
        } else {
            None
        };
        if let Some(to) = on {
            self.send(to, Message::Changes(news));
        }
    }

    /// Somebody holds a tombstone for us: outbid it.
    pub(super) fn on_dead_notice(&mut self, now: Instant, from: SocketAddr, incarnation: u64) {
        if matches!(self.phase, Phase::Leaving | Phase::Left) || self.me.role == Role::Edge {
            return;
        }
        let stranger = self.neighbors.at_addr(from).is_none();
        let mut everybody = false;
        if incarnation >= self.me.incarnation {
            self.me.incarnation = incarnation + 1;
            self.dirty = true;
            everybody = true;
            self.emit(Event::TakenForDead);
        }
        let alive = Change::Alive(self.me.clone());
        if everybody {
            self.push(&alive);
        }
        if stranger || !everybody {
            self.send(from, Message::Changes(vec![alive]));
        }
        if stranger {
            // Most likely the other side of a healed partition: meet it now, not a period later.
            self.join_through(now, from);
        }
    }

    pub(super) fn leave(&mut self, now: Instant) {
        if matches!(self.phase, Phase::Leaving | Phase::Left) {
            return;
        }
        self.phase = Phase::Leaving;
        self.dirty = true;
        if self.me.role == Role::Member {
            let gone = Gone {
                member: self.me.clone(),
                reason: DownReason::Left,
            };
            self.push(&Change::Gone(gone));
        }
        for timer in [
            Timer::Stabilize,
            Timer::Stabilized,
            Timer::Seeds,
            Timer::Spread,
        ] {
            self.timers.cancel(timer);
        }
        self.timers.set(Timer::Leave, now + self.config.leave_grace);
    }

    pub(super) fn left(&mut self) {
        self.phase = Phase::Left;
        self.dirty = true;
        self.timers.clear();
        self.checks.clear();
        for lookup in self.lookups.clear() {
            self.emit(Event::NotFound {
                lookup,
                reason: NotFoundReason::Left,
            });
        }
        self.emit(Event::Left);
    }

    /// The changes of the last seconds, newest first.
    pub(super) fn recent_changes(&mut self, now: Instant) -> Vec<Change> {
        while self
            .recent
            .front()
            .is_some_and(|(at, _)| now.saturating_duration_since(*at) > RECENT)
        {
            self.recent.pop_front();
        }
        let newest = self.recent.iter().rev().take(Message::MAX_RECENT);
        newest.map(|(_, change)| change.clone()).collect()
    }

    /// How many members have gone in the last seconds.
    pub(super) fn recent_ends(&self, now: Instant) -> usize {
        let is_recent = |(at, change): &&(Instant, Change)| {
            now.saturating_duration_since(*at) <= RECENT && matches!(change, Change::Gone(_))
        };
        self.recent.iter().filter(is_recent).count()
    }

    /// Tells a member that speaks or is spoken of as alive that we hold a tombstone for it.
    pub(super) fn tell_if_dead(&mut self, now: Instant, member: &Member) {
        let Some(stone) = self.tombstones.get_mut(member.id) else {
            return;
        };
        let told_lately = stone
            .told
            .is_some_and(|told| now.saturating_duration_since(told) < TELL_AGAIN);
        if stone.gone.member.incarnation < member.incarnation || told_lately {
            return;
        }
        stone.told = Some(now);
        let incarnation = stone.gone.member.incarnation;
        self.send(member.addr, Message::Dead { incarnation });
    }

    /// Drops whom the table has no room for.
    pub(super) fn trim(&mut self) {
        for member in self.neighbors.prune() {
            self.drop_distant(member);
        }
    }

    /// Takes in that a member is out of the table, alive as far as we know.
    pub(super) fn drop_distant(&mut self, member: Member) {
        self.dirty = true;
        self.cancel_check(member.id);
        self.emit(Event::Down {
            member,
            reason: DownReason::Distant,
        });
    }

    pub(super) fn on_new(&mut self, now: Instant, member: Member) -> bool {
        self.dirty = true;
        self.tombstones.remove(member.id);
        self.remember(now, Change::Alive(member.clone()));
        if self.phase == Phase::Alone {
            self.phase = Phase::Joining;
        }
        let is_successor = self
            .neighbors
            .successor()
            .is_some_and(|s| s.member.id == member.id);
        if is_successor {
            // Hearsay becomes knowledge only when it answers: ask at once (Zave's condition).
            self.timers
                .hurry(Timer::Stabilize, now + self.config.probe_timeout / 4);
        }
        self.emit(Event::Up(member));
        true
    }

    /// Somebody else goes by our name.
    fn on_own_name(&mut self, now: Instant, other: Member) {
        if other.incarnation <= self.me.incarnation {
            return;
        }
        if other.addr == self.me.addr {
            // We ourselves, before a restart with a clock that ran back.
            self.on_dead_notice(now, other.addr, other.incarnation);
        } else {
            self.emit(Event::Superseded { by: other });
            self.left();
        }
    }

    /// Forgets a gone member wherever routing could still find it.
    fn forget(&mut self, id: Id) {
        self.cancel_check(id);
        self.suspects.remove(&id);
        self.learned.forget(id);
        self.pointers.forget(id);
    }

    fn remember(&mut self, now: Instant, change: Change) {
        if self.recent.len() >= MAX_RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back((now, change));
    }
}
