//! What the simulator does with one event: feed it to a node, and do what the node says.

use std::cmp::Reverse;
use std::net::SocketAddr;
use std::time::Duration;

use libkoorde::id::KeyId;
use libkoorde::ring::{Event, Input, Member, Message, Output, invariants};

use super::{Answer, Node, Outcome, SETTLING, Sim, address, index_of};
use crate::oracle::Oracle;
use crate::rules::payload;

#[derive(Debug)]
pub(super) struct Due {
    pub(super) at: Duration,
    pub(super) order: u64,
    pub(super) node: usize,
    pub(super) what: What,
}

#[derive(Debug)]
pub(super) enum What {
    Deliver(SocketAddr, Box<Message>),
    Refused(SocketAddr),
    Wake,
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.order) == (other.at, other.order)
    }
}

impl Eq for Due {}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Due {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

impl Sim {
    pub(super) fn step(&mut self, due: Due) {
        self.now = due.at;
        let node = &self.nodes[due.node];
        if node.ring.is_none() {
            if let (What::Deliver(from, _), true) = (&due.what, self.rules.refuse) {
                let delay = self.rules.delay(&mut self.rng);
                self.schedule(delay, index_of(*from), What::Refused(address(due.node)));
            }
            return;
        }
        if node.frozen_until > self.now {
            let thaw = node.frozen_until - self.now;
            self.schedule(thaw, due.node, due.what);
            return;
        }
        match due.what {
            What::Deliver(from, message) => {
                self.feed(
                    due.node,
                    Input::Message {
                        from,
                        message: *message,
                    },
                );
            }
            What::Refused(to) => self.feed(due.node, Input::Unreachable { to }),
            What::Wake if node.wake <= self.now => {
                self.nodes[due.node].wake = Duration::MAX;
                self.feed(due.node, Input::Timeout);
            }
            What::Wake => {}
        }
    }

    /// Feeds one input to a node and does what it says.
    pub(super) fn feed(&mut self, index: usize, input: Input) {
        let now = self.instant();
        self.note(index, &input);
        if self.trace == Some(index) {
            println!("{:?} koorde-{index} <- {input:?}", self.now);
        }
        let Some(ring) = self.nodes[index].ring.as_mut() else {
            return;
        };
        ring.handle(now, input);
        if self.order.is_multiple_of(self.check_every)
            && let Err(broken) = invariants::check(ring)
        {
            panic!(
                "SEED={}: koorde-{index} at {:?}: {broken}",
                self.seed, self.now
            );
        }
        let mut outputs = Vec::new();
        while let Some(output) = ring.poll() {
            outputs.push(output);
        }
        let wake = ring.deadline();
        let wake = wake.map(|at| at.saturating_duration_since(self.epoch));
        for output in outputs {
            if self.trace == Some(index) {
                println!("{:?} koorde-{index} -> {output:?}", self.now);
            }
            match output {
                Output::Send { to, message } => self.send(index, to, message),
                Output::Event(event) => self.on_event(index, event),
            }
        }
        if let Some(wake) = wake
            && self.nodes[index].ring.is_some()
            && self.nodes[index].wake != wake
        {
            self.nodes[index].wake = wake;
            self.schedule(wake.saturating_sub(self.now), index, What::Wake);
        }
    }

    fn send(&mut self, from: usize, to: SocketAddr, message: Message) {
        let node = &mut self.nodes[from];
        node.messages += 1;
        node.bytes += payload(&message) as u64;
        let target = index_of(to);
        if target >= self.nodes.len() || self.nodes[target].side != self.nodes[from].side {
            return;
        }
        let source = address(from);
        for delay in self.rules.on_message(&mut self.rng) {
            self.schedule(
                delay,
                target,
                What::Deliver(source, Box::new(message.clone())),
            );
        }
    }

    fn schedule(&mut self, delay: Duration, node: usize, what: What) {
        self.order += 1;
        self.heap.push(Reverse(Due {
            at: self.now + delay,
            order: self.order,
            node,
            what,
        }));
    }

    fn on_event(&mut self, node: usize, event: Event) {
        match event {
            Event::Found {
                lookup,
                owners,
                hops,
                ..
            } => {
                let Some((key, asked)) = self.searches.remove(&(node, lookup)) else {
                    return;
                };
                let owner = owners[0].id;
                let wrong = !self.is_right(key, &owners[0]);
                let found = Some(Answer { owner, hops });
                self.outcomes.push(Outcome {
                    node,
                    found,
                    took: self.now - asked,
                    wrong,
                });
            }
            Event::NotFound { lookup, .. } => {
                let Some((_, asked)) = self.searches.remove(&(node, lookup)) else {
                    return;
                };
                let took = self.now - asked;
                self.outcomes.push(Outcome {
                    node,
                    found: None,
                    took,
                    wrong: false,
                });
            }
            Event::Left => {
                self.crash(node);
                self.events.push((self.now, node, Event::Left));
            }
            // Every period, of every node.
            Event::Stabilized { .. } => (),
            other => self.events.push((self.now, node, other)),
        }
    }

    /// Whether nobody who has settled should own `key` rather than `owner`.
    fn is_right(&mut self, key: KeyId, owner: &Member) -> bool {
        if self.ideal.is_none() || self.now >= self.ideal_until {
            let settled = |node: &Node| node.started + SETTLING <= self.now;
            let all = Oracle::new(self.members(|_| true), &self.config);
            let old = Oracle::new(self.members(settled), &self.config);
            self.ideal_until = self
                .nodes
                .iter()
                .map(|node| node.started + SETTLING)
                .filter(|&at| at > self.now)
                .min()
                .unwrap_or(Duration::MAX);
            self.ideal = all.map(|all| (old.unwrap_or_else(|| all.clone()), all));
        }
        let Some((old, all)) = &self.ideal else {
            return false;
        };
        let node = &self.nodes[index_of(owner.addr)];
        let new = node.started + SETTLING > self.now;
        let lives = node.ring.is_some() && !node.leaving;
        lives && (new || old.may_own(key, owner.id) || all.may_own(key, owner.id))
    }

    /// Mixes what happens into the fingerprint (FNV-1a over the debug form of the input).
    fn note(&mut self, node: usize, input: &Input) {
        let mut mix = |word: u64| {
            for byte in word.to_le_bytes() {
                self.fingerprint =
                    (self.fingerprint ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
            }
        };
        mix(self.now.as_nanos() as u64);
        mix(node as u64);
        mix(match input {
            Input::Message { from, message } => (index_of(*from) * 4096 + payload(message)) as u64,
            Input::Unreachable { to } => index_of(*to) as u64,
            Input::Command(_) => 1,
            Input::Timeout => 2,
        });
    }
}
