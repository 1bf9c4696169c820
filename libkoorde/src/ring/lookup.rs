//! Look-ups in flight: recursive, one-way, with a hop budget and a deadline.
//!
//! Every node that sends a look-up on keeps it until the next one acknowledges, and else sends it
//! elsewhere from the state *before* its step (rule R), so that a dead node costs one hop timeout.
//! The asker starts anew if nothing at all comes back. No call is held open along the path.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Instant;

use super::protocol::{
    Event, Found, Imaginary, Lookup, LookupId, Member, Message, NotFoundReason, Purpose,
};
use super::route::{self, Known, Step};
use super::timers::Timer;
use super::{Ring, RingView};
use crate::id::{Id, KeyId};

/// Owners in an answer: the owner and two replicas.
const OWNERS: usize = 3;
/// Nodes tried for one hop on the way before it is left to the asker to start anew.
const MAX_TRIED: usize = 4;
/// How many owners may pass a request on because they think themselves not to be it. After that
/// whoever has it serves it: two nodes of different belief must not play ball.
const MAX_REDIRECTS: u8 = 2;

#[derive(Clone, Debug, Default)]
pub(super) struct Lookups {
    searches: BTreeMap<LookupId, Search>,
    hops: BTreeMap<u64, Hop>,
}

/// A look-up of our own.
#[derive(Clone, Debug)]
struct Search {
    key: KeyId,
    deadline: Instant,
    trace: bool,
    /// The first hop, while it is not acknowledged.
    hop: Option<u64>,
}

/// A look-up sent on and not yet acknowledged.
#[derive(Clone, Debug)]
struct Hop {
    /// As it came to us, at `at`: a retry starts from here.
    received: Lookup,
    at: Instant,
    /// As we sent it.
    sent: Lookup,
    to: Id,
    addr: SocketAddr,
    tries: u32,
    /// To its home or owner: silence is told of, not just routed around.
    last: bool,
    tried: Vec<Id>,
}

/// Where a look-up goes from here.
enum Next {
    Here(Vec<Member>),
    On {
        to: Member,
        direct: bool,
        last: bool,
        imaginary: Option<Imaginary>,
    },
    Nowhere,
}

impl Lookups {
    pub(super) fn clear(&mut self) -> Vec<LookupId> {
        self.hops.clear();
        std::mem::take(&mut self.searches).into_keys().collect()
    }

    pub(super) fn len(&self) -> (usize, usize) {
        (self.searches.len(), self.hops.len())
    }
}

impl Ring {
    pub(super) fn find(
        &mut self,
        now: Instant,
        id: LookupId,
        key: KeyId,
        deadline: Instant,
        trace: bool,
    ) {
        let full = self.lookups.searches.len() >= self.config.max_lookups;
        if full || self.lookups.searches.contains_key(&id) {
            self.emit(Event::NotFound {
                lookup: id,
                reason: NotFoundReason::Overloaded,
            });
            return;
        }
        self.lookups.searches.insert(
            id,
            Search {
                key,
                deadline,
                trace,
                hop: None,
            },
        );
        self.on_search_due(now, id);
    }

    /// Starts a look-up of ours, starts it anew, or ends it.
    pub(super) fn on_search_due(&mut self, now: Instant, id: LookupId) {
        let Some(search) = self.lookups.searches.get(&id) else {
            return;
        };
        if now >= search.deadline {
            self.end_search(id);
            self.emit(Event::NotFound {
                lookup: id,
                reason: NotFoundReason::Deadline,
            });
            return;
        }
        let place = search.key.place();
        let wake = search.deadline.min(now + self.config.lookup_retry);
        self.timers.set(Timer::Search(id), wake);
        // The first hop has its own, shorter timer and its own retries.
        if search
            .hop
            .is_some_and(|hop| self.lookups.hops.contains_key(&hop))
        {
            return;
        }
        let lookup = Lookup {
            id,
            asker: self.me.addr,
            purpose: Purpose::Find,
            key: search.key,
            imaginary: None,
            direct: false,
            redirects: 0,
            ttl: self.config.ttl,
            hops: 0,
            hop: 0,
            remaining: search.deadline.saturating_duration_since(now),
            avoid: Vec::new(),
            path: search.trace.then(Vec::new),
        };
        self.learned.touch(place);
        self.forward(now, lookup, Vec::new());
    }

    pub(super) fn on_lookup(&mut self, now: Instant, from: SocketAddr, mut lookup: Lookup) {
        lookup.avoid.truncate(Lookup::MAX_AVOID);
        if lookup.hop != 0 {
            self.send(from, Message::Ack { hop: lookup.hop });
        }
        if let Some(path) = &mut lookup.path {
            path.truncate(usize::from(u8::MAX));
            path.push(self.me.id);
        }
        self.forward(now, lookup, Vec::new());
    }

    pub(super) fn on_ack(&mut self, hop: u64) {
        if self.lookups.hops.remove(&hop).is_some() {
            self.timers.cancel(Timer::Hop(hop));
        }
    }

    pub(super) fn on_found(&mut self, mut found: Found) {
        let Some(search) = self.lookups.searches.get(&found.id) else {
            return;
        };
        let place = search.key.place();
        self.end_search(found.id);
        found.owners.truncate(OWNERS + 1);
        // (a, a] would be the whole circle: an owner that did not know the home says so like this.
        let knows_home = found.predecessor.id != found.home.id;
        if !self.neighbors.is_complete()
            && knows_home
            && place.is_within(found.predecessor.id, found.home.id)
        {
            self.learned.insert(found.predecessor, found.home.clone());
        }
        self.emit(Event::Found {
            lookup: found.id,
            owners: found.owners,
            home: found.home,
            hops: u32::from(found.hops),
            path: found.path,
        });
    }

    /// A hop was not acknowledged in time.
    pub(super) fn on_hop_overdue(&mut self, now: Instant, hop: u64) {
        let Some(mut pending) = self.lookups.hops.remove(&hop) else {
            return;
        };
        if now.saturating_duration_since(pending.at) >= pending.received.remaining {
            return;
        }
        if pending.tries > 1 {
            pending.tries -= 1;
            let (to, sent) = (pending.addr, pending.sent.clone());
            self.timers
                .set(Timer::Hop(hop), now + self.config.hop_timeout);
            self.lookups.hops.insert(hop, pending);
            self.send(to, Message::Lookup(Box::new(sent)));
            return;
        }
        let mut lookup = pending.received;
        lookup.remaining -= now.saturating_duration_since(pending.at);
        if pending.last {
            self.report(now, pending.to);
            if lookup.avoid.len() < Lookup::MAX_AVOID {
                lookup.avoid.push(pending.to);
            }
        }
        // Nobody tells us of the death of a node so far away: the next list will know.
        self.pointers.forget(pending.to);
        self.learned.forget(pending.to);
        pending.tried.push(pending.to);
        if pending.sent.direct || pending.tried.len() <= MAX_TRIED {
            self.forward(now, lookup, pending.tried);
        }
    }

    /// Sends a look-up where it goes from here, or answers it.
    pub(super) fn forward(&mut self, now: Instant, mut lookup: Lookup, tried: Vec<Id>) {
        match self.next(&mut lookup, &tried) {
            Next::Here(owners) => self.answer(now, lookup, owners),
            Next::On {
                to,
                direct,
                last,
                imaginary,
            } => {
                // A hop budget that is spent ends even the strangest path.
                if lookup.ttl == 0 {
                    return;
                }
                let mut sent = lookup.clone();
                sent.redirects += u8::from(lookup.direct);
                sent.ttl -= 1;
                sent.hops = sent.hops.saturating_add(1);
                (sent.direct, sent.imaginary) = (direct, imaginary);
                sent.hop = if self.lookups.hops.len() < self.config.max_hops {
                    self.next_nonce()
                } else {
                    0
                };
                let tries = if last { self.config.hop_attempts } else { 1 };
                let (id, addr, hop) = (lookup.id, to.addr, sent.hop);
                if hop != 0 {
                    if lookup.asker == self.me.addr
                        && lookup.purpose == Purpose::Find
                        && let Some(search) = self.lookups.searches.get_mut(&id)
                    {
                        search.hop = Some(hop);
                    }
                    self.timers
                        .set(Timer::Hop(hop), now + self.config.hop_timeout);
                    let (received, sent, to) = (lookup, sent.clone(), to.id);
                    let pending = Hop {
                        received,
                        at: now,
                        sent,
                        to,
                        addr,
                        tries,
                        last,
                        tried,
                    };
                    self.lookups.hops.insert(hop, pending);
                }
                self.send(addr, Message::Lookup(Box::new(sent)));
            }
            Next::Nowhere => {}
        }
    }

    fn next(&self, lookup: &mut Lookup, tried: &[Id]) -> Next {
        if matches!(lookup.purpose, Purpose::Find) {
            if let Some(next) = self.next_owner(lookup, false) {
                return next;
            }
            // We were chosen by somebody who knows this arc better than we do just now. Ask the
            // home; if we are chosen again, believe it.
            if lookup.direct && lookup.redirects > 0 && RingView::may_own(&self.me, self.phase) {
                return Next::Here(vec![self.me.clone()]);
            }
        } else if self.neighbors.is_complete() {
            return Next::Here(Vec::new());
        }
        let (step, known) = self.step(lookup, tried);
        match step {
            Step::Home if matches!(lookup.purpose, Purpose::Find) => {
                self.next_owner(lookup, true).unwrap_or(Next::Nowhere)
            }
            Step::Home => Next::Here(Vec::new()),
            Step::Last(_) => on(known, true, lookup.imaginary),
            Step::Via(_, imaginary) => on(known, false, imaginary),
            Step::Stuck => Next::Nowhere,
        }
    }

    /// Straight to the owner, wherever we can tell who that is; `at_home`: even if our list is
    /// short of candidates just now.
    fn next_owner(&self, lookup: &mut Lookup, at_home: bool) -> Option<Next> {
        let view = self.view();
        let may_serve = RingView::may_own(&self.me, self.phase);
        let owners = if at_home {
            view.owners_at_home(lookup.key, OWNERS + Lookup::MAX_AVOID, &lookup.avoid)
        } else {
            view.owners_without(lookup.key, OWNERS + Lookup::MAX_AVOID, &lookup.avoid)?
        };
        // Whom we suspect is passed over, and the next owner is told so: else it would send the
        // request back to where it cannot go.
        let passed = owners
            .iter()
            .take_while(|owner| self.suspects.contains_key(&owner.id))
            .count();
        let passed = if passed == owners.len() { 0 } else { passed };
        for owner in &owners[..passed] {
            if lookup.avoid.len() < Lookup::MAX_AVOID {
                lookup.avoid.push(owner.id);
            }
        }
        let owners = &owners[passed..];
        let clone = |owners: &[&Member]| {
            owners
                .iter()
                .take(OWNERS)
                .map(|owner| (*owner).clone())
                .collect()
        };
        let Some(first) = owners.first() else {
            return may_serve.then(|| Next::Here(vec![self.me.clone()]));
        };
        if first.id == self.me.id {
            return Some(Next::Here(clone(owners)));
        }
        if lookup.direct && lookup.redirects >= MAX_REDIRECTS && may_serve {
            let mut answer: Vec<Member> = clone(owners);
            answer.retain(|owner| owner.id != self.me.id);
            answer.insert(0, self.me.clone());
            return Some(Next::Here(answer));
        }
        let to = (*first).clone();
        Some(Next::On {
            to,
            direct: true,
            last: true,
            imaginary: None,
        })
    }

    /// The Koorde step, and the member it leads to.
    fn step(&self, lookup: &Lookup, tried: &[Id]) -> (Step, Option<&Member>) {
        let place = lookup.key.place();
        let usable = |id: Id| {
            !tried.contains(&id) && !lookup.avoid.contains(&id) && !self.suspects.contains_key(&id)
        };
        let ids = |members: &[super::neighbors::Neighbor]| -> Vec<Id> {
            members
                .iter()
                .map(|entry| entry.member.id)
                .filter(|id| usable(*id))
                .collect()
        };
        let mut arc = ids(self.neighbors.predecessors());
        if RingView::may_own(&self.me, self.phase) {
            arc.push(self.me.id);
        }
        arc.extend(ids(self.neighbors.successors()));
        let pointers: Vec<Id> = self
            .pointers
            .members()
            .iter()
            .map(|member| member.id)
            .filter(|id| usable(*id))
            .collect();
        let learned: Vec<(Id, Id)> = self
            .learned
            .iter()
            .map(|interval| (interval.before.id, interval.home.id))
            .filter(|(before, home)| usable(*before) && usable(*home))
            .collect();
        let known = Known {
            me: self.me.id,
            digit_bits: self.config.digit_bits(),
            arc: &arc,
            pointers: &pointers,
            dense: self.pointers.is_dense(),
            learned: &learned,
        };
        let step = route::next_step(&known, place, lookup.imaginary);
        let to = match step {
            Step::Last(id) | Step::Via(id, _) => self.known(id),
            Step::Home | Step::Stuck => None,
        };
        (step, to)
    }

    fn known(&self, id: Id) -> Option<&Member> {
        let neighbor = self.neighbors.get(id).map(|entry| &entry.member);
        neighbor
            .or_else(|| self.pointers.get(id))
            .or_else(|| self.learned.get(id))
    }

    fn answer(&mut self, now: Instant, lookup: Lookup, owners: Vec<Member>) {
        match lookup.purpose {
            Purpose::Join { me, digest } => {
                // Our own question come back: one ring, and we are in it.
                if me.addr != self.me.addr {
                    self.answer_join(now, me, digest);
                }
            }
            Purpose::Pointers { through } => {
                self.answer_pointers(lookup.asker, lookup.id, lookup.key.place(), through);
            }
            Purpose::Find => {
                let view = self.view();
                let Some(home) = view.home(lookup.key).or_else(|| owners.first()) else {
                    return;
                };
                let before = view
                    .home(lookup.key)
                    .and_then(|home| view.predecessor_of(home.id));
                let found = Found {
                    id: lookup.id,
                    home: home.clone(),
                    predecessor: before.unwrap_or(home).clone(),
                    owners,
                    hops: lookup.hops,
                    path: lookup.path.unwrap_or_default(),
                };
                if lookup.asker == self.me.addr {
                    self.on_found(found);
                } else {
                    self.send(lookup.asker, Message::Found(Box::new(found)));
                }
            }
        }
    }

    fn end_search(&mut self, id: LookupId) {
        self.timers.cancel(Timer::Search(id));
        if let Some(Search { hop: Some(hop), .. }) = self.lookups.searches.remove(&id) {
            self.on_ack(hop);
        }
    }
}

fn on(to: Option<&Member>, last: bool, imaginary: Option<Imaginary>) -> Next {
    match to {
        Some(to) => Next::On {
            to: to.clone(),
            direct: false,
            last,
            imaginary,
        },
        None => Next::Nowhere,
    }
}
