//! From a missed answer to a verdict: pings, an indirect ping, then the news to everybody.

use std::net::SocketAddr;
use std::time::Instant;

use super::Ring;
use super::protocol::{Change, DownReason, Event, Gone, Member, Message};
use super::timers::Timer;
use crate::id::Id;

/// A member we doubt.
#[derive(Clone, Debug)]
pub(super) struct Check {
    nonce: u64,
    sent: Instant,
    attempts: u32,
    /// The transport refused it once already.
    refused: bool,
    /// Whether a verdict is news to everybody (false: we only verify what others say).
    pub(super) publish: bool,
    /// Whom we ping on whose behalf, and with which nonce; at most 4.
    on_behalf: Vec<(SocketAddr, u64)>,
}

/// How many members are asked to ping in our place.
const HELPERS: usize = 2;
/// Most members for whom one check answers.
const MAX_ON_BEHALF: usize = 4;

impl Ring {
    /// Starts to verify that `id` is there, unless we do already.
    pub(super) fn start_check(&mut self, now: Instant, id: Id, publish: bool) {
        if let Some(check) = self.checks.get_mut(&id) {
            check.publish |= publish;
            return;
        }
        let Some(member) = self.neighbors.get(id).map(|entry| entry.member.clone()) else {
            return;
        };
        // Beyond the bound nothing is lost: the next period doubts it again.
        if self.checks.len() >= self.config.max_checks {
            return;
        }
        let check = Check {
            nonce: self.next_nonce(),
            sent: now,
            attempts: 0,
            refused: false,
            publish,
            on_behalf: Vec::new(),
        };
        self.checks.insert(id, check);
        self.ping(now, &member);
    }

    /// Counts a probe that was made otherwise (a `Stabilize` without answer) as the first ping.
    pub(super) fn count_as_attempt(&mut self, id: Id) {
        if let Some(check) = self.checks.get_mut(&id)
            && check.attempts == 1
        {
            check.attempts = 2;
        }
    }

    pub(super) fn on_check_overdue(&mut self, now: Instant, id: Id) {
        let Some(check) = self.checks.get(&id) else {
            return;
        };
        let Some(member) = self.neighbors.get(id).map(|entry| entry.member.clone()) else {
            self.cancel_check(id);
            return;
        };
        if check.attempts < self.config.probe_attempts {
            // From the second ping on others try too: the path may be broken rather than the pod.
            self.ask_helpers(&member);
            self.ping(now, &member);
            if self
                .neighbors
                .successor()
                .is_some_and(|next| next.member.id == id)
            {
                self.look_ahead(now);
            }
            return;
        }
        let publish = check.publish;
        self.cancel_check(id);
        self.declare_dead(now, member, publish);
    }

    pub(super) fn on_unreachable(&mut self, now: Instant, to: SocketAddr) {
        let Some(id) = self.neighbors.at_addr(to) else {
            return;
        };
        self.suspect(now, id);
        self.start_check(now, id, true);
        let attempts = self.config.probe_attempts;
        let Some(check) = self.checks.get_mut(&id) else {
            return;
        };
        // The first refusal may be a stale connection: the ping dials anew, and helpers try. The
        // second counts for all tries that are left; the verdict still waits for the helpers.
        let first = !std::mem::replace(&mut check.refused, true);
        if !first {
            check.attempts = attempts;
        }
        if let Some(member) = self.neighbors.get(id).map(|entry| entry.member.clone())
            && first
        {
            self.ask_helpers(&member);
        }
    }

    pub(super) fn on_pong(&mut self, now: Instant, from: SocketAddr, nonce: u64) {
        let Some((&id, check)) = self.checks.iter().find(|(_, check)| check.nonce == nonce) else {
            return;
        };
        let on_behalf = check.on_behalf.clone();
        let (sent, attempts) = (check.sent, check.attempts);
        // From a helper it clears as well: a member others can reach is not dead.
        self.cancel_check(id);
        if attempts > 1 {
            self.emit(Event::Refuted);
        }
        if self.neighbors.at_addr(from) == Some(id) {
            self.note_rtt(id, now.saturating_duration_since(sent));
        }
        for (asker, nonce) in on_behalf {
            self.send(asker, Message::Pong { nonce });
        }
    }

    pub(super) fn on_ping_for(
        &mut self,
        now: Instant,
        from: SocketAddr,
        target: SocketAddr,
        nonce: u64,
    ) {
        let Some(id) = self.neighbors.at_addr(target) else {
            return;
        };
        self.start_check(now, id, false);
        if let Some(check) = self.checks.get_mut(&id)
            && check.on_behalf.len() < MAX_ON_BEHALF
            && !check.on_behalf.contains(&(from, nonce))
        {
            check.on_behalf.push((from, nonce));
        }
    }

    /// Somebody's request found a member of our neighbourhood silent.
    pub(super) fn on_suspect(&mut self, now: Instant, id: Id, incarnation: u64) {
        let known = self
            .neighbors
            .get(id)
            .is_some_and(|entry| entry.member.incarnation == incarnation);
        if known {
            self.start_check(now, id, true);
        }
    }

    /// `from` has spoken, so it is there.
    pub(super) fn heard(&mut self, now: Instant, from: SocketAddr) {
        let Some(id) = self.neighbors.at_addr(from) else {
            return;
        };
        if let Some(entry) = self.neighbors.get_mut(id) {
            entry.heard = now;
        }
        self.suspects.remove(&id);
        if let Some(check) = self.checks.get(&id) {
            // Its Pong carries our answer to whoever asked us to ping; anything else says as much.
            let on_behalf = check.on_behalf.clone();
            let (sent, attempts) = (check.sent, check.attempts);
            self.cancel_check(id);
            if attempts > 1 {
                self.emit(Event::Refuted);
            }
            self.note_rtt(id, now.saturating_duration_since(sent));
            for (asker, nonce) in on_behalf {
                self.send(asker, Message::Pong { nonce });
            }
        }
    }

    /// Lets routing avoid `id` for a while.
    pub(super) fn suspect(&mut self, now: Instant, id: Id) {
        if self.suspects.len() >= self.config.max_checks {
            self.suspects.pop_first();
        }
        self.suspects.insert(id, now + self.config.suspicion);
    }

    /// A request found `id` silent: its neighbours decide, not every asker in the cluster.
    pub(super) fn report(&mut self, now: Instant, id: Id) {
        self.suspect(now, id);
        let Some(at) = self
            .neighbors
            .iter()
            .position(|entry| entry.member.id == id)
        else {
            return;
        };
        let incarnation = self.neighbors.nth(at).member.incarnation;
        let n = self.neighbors.len();
        let is_neighbor = at == 0 || at == n - 1;
        if is_neighbor || n < 3 {
            self.start_check(now, id, true);
            return;
        }
        for neighbor in [at - 1, at + 1] {
            let member = &self.neighbors.nth(neighbor).member;
            if !self.suspects.contains_key(&member.id) {
                let to = member.addr;
                self.send(to, Message::Suspect { id, incarnation });
            }
        }
    }

    pub(super) fn cancel_check(&mut self, id: Id) {
        if self.checks.remove(&id).is_some() {
            self.timers.cancel(Timer::Check(id));
        }
    }

    pub(super) fn note_rtt(&mut self, id: Id, sample: std::time::Duration) {
        if let Some(entry) = self.neighbors.get_mut(id) {
            entry.rtt = Some(entry.rtt.map_or(sample, |old| (old * 7 + sample) / 8));
        }
    }

    fn ping(&mut self, now: Instant, member: &Member) {
        let Some(check) = self.checks.get_mut(&member.id) else {
            return;
        };
        check.attempts += 1;
        check.sent = now;
        let nonce = check.nonce;
        self.timers
            .set(Timer::Check(member.id), now + self.config.probe_timeout);
        self.send(member.addr, Message::Ping { nonce });
    }

    fn ask_helpers(&mut self, member: &Member) {
        let Some(nonce) = self.checks.get(&member.id).map(|check| check.nonce) else {
            return;
        };
        let fit = |entry: &&super::neighbors::Neighbor| {
            let id = entry.member.id;
            id != member.id && !self.checks.contains_key(&id) && !self.suspects.contains_key(&id)
        };
        let helpers: Vec<SocketAddr> = self
            .neighbors
            .iter()
            .filter(fit)
            .take(HELPERS)
            .map(|entry| entry.member.addr)
            .collect();
        for helper in helpers {
            self.send(
                helper,
                Message::PingFor {
                    target: member.addr,
                    nonce,
                },
            );
        }
    }

    fn declare_dead(&mut self, now: Instant, member: Member, publish: bool) {
        let addr = member.addr;
        let incarnation = member.incarnation;
        let gone = Gone {
            member,
            reason: DownReason::Dead,
        };
        if self.lose(now, gone.clone()) {
            self.emit(Event::Confirmed);
            if publish {
                self.push(&Change::Gone(gone));
            }
        }
        // Tell the corpse: if it was only slow, it refutes at once.
        self.send(addr, Message::Dead { incarnation });
    }
}
