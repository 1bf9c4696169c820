//! The simulator: virtual time, one seeded source of chance, and the same `Ring` that runs in pods.
//!
//! An event heap feeds [`Input`]s to nodes; [`Rules`] decide what the network does. Every step is
//! checked against `ring::invariants`. The same seed gives the same run, byte for byte
//! ([`Sim::fingerprint`]).

mod engine;
pub mod experiments;
pub mod fixed;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use libkoorde::id::{Hasher, Id, KeyId};
use libkoorde::ring::{Command, Event, Input, LookupId, Member, Ring, RingConfig, RingView, Role};

use self::engine::Due;
use crate::oracle::Oracle;
use crate::rules::{Rng, Rules};

/// How long after its start a node may still be unknown to others without anybody being wrong.
pub const SETTLING: Duration = Duration::from_secs(1);

/// A cluster in virtual time.
pub struct Sim {
    /// What the network does; may be changed at any time.
    pub rules: Rules,
    /// What new nodes start with.
    pub config: RingConfig,
    /// Check the invariants after each step of one node in this many; 1: always.
    pub check_every: u64,
    /// Print everything this node hears and says: for a seed that fails.
    pub trace: Option<usize>,
    /// Ended look-ups, in order; taken by the caller.
    pub outcomes: Vec<Outcome>,
    /// Everything else the nodes said: when, who, what.
    pub events: Vec<(Duration, usize, Event)>,
    seed: u64,
    rng: Rng,
    hasher: Hasher,
    epoch: Instant,
    now: Duration,
    order: u64,
    heap: BinaryHeap<Reverse<Due>>,
    nodes: Vec<Node>,
    searches: BTreeMap<(usize, LookupId), (KeyId, Duration)>,
    next_lookup: u64,
    ideal: Option<(Oracle, Oracle)>,
    ideal_until: Duration,
    fingerprint: u64,
}

/// One simulated process.
struct Node {
    me: Member,
    ring: Option<Ring>,
    started: Duration,
    leaving: bool,
    frozen_until: Duration,
    side: u32,
    wake: Duration,
    messages: u64,
    bytes: u64,
}

/// How a look-up ended.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The asker.
    pub node: usize,
    /// Owner, hops and path; `None`: not found in time.
    pub found: Option<Answer>,
    /// From the question to the answer.
    pub took: Duration,
    /// Whether a settled living member should have owned the key instead.
    pub wrong: bool,
}

/// A found owner.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The owner.
    pub owner: Id,
    /// Messages until the request was there.
    pub hops: u32,
}

impl Sim {
    /// An empty cluster.
    #[must_use]
    #[allow(
        clippy::disallowed_methods,
        reason = "only differences to this instant are ever used"
    )]
    pub fn new(seed: u64, config: RingConfig) -> Self {
        Self {
            rules: Rules::default(),
            config,
            check_every: 1,
            trace: None,
            outcomes: Vec::new(),
            events: Vec::new(),
            seed,
            rng: Rng::new(seed),
            hasher: Hasher::new(&seed.to_be_bytes()),
            epoch: Instant::now(),
            now: Duration::ZERO,
            order: 0,
            heap: BinaryHeap::new(),
            nodes: Vec::new(),
            searches: BTreeMap::new(),
            next_lookup: 0,
            ideal: None,
            ideal_until: Duration::ZERO,
            fingerprint: 0xcbf2_9ce4_8422_2325,
        }
    }

    /// A cluster of `n` members that have found each other.
    ///
    /// # Panics
    /// With the seed, if they have not within a minute.
    #[must_use]
    pub fn settled(seed: u64, config: RingConfig, n: usize) -> Self {
        let mut sim = Self::new(seed, config);
        if n > 200 {
            // A check costs what the node knows; here n nodes each hear n times of a new one.
            sim.check_every = 997;
        }
        for _ in 0..n {
            sim.start();
            sim.run_for(Duration::from_millis(if n > 200 { 5 } else { 20 }));
        }
        sim.settle(Duration::from_secs(60));
        sim.run_for(Duration::from_secs(12));
        sim.check_every = 1;
        sim.forget();
        sim
    }

    /// Starts a member; its seeds are all that live, as headless DNS would give them.
    pub fn start(&mut self) -> usize {
        self.start_as(Role::Member, 100)
    }

    /// Starts a participant of this role and weight.
    pub fn start_as(&mut self, role: Role, weight: u16) -> usize {
        let index = self.nodes.len();
        let name = format!("koorde-{index}");
        let me = Member {
            id: self.hasher.node_id(&name),
            name: name.into(),
            addr: address(index),
            incarnation: 1,
            weight,
            role,
        };
        self.nodes.push(Node {
            me,
            ring: None,
            started: self.now,
            leaving: false,
            frozen_until: Duration::ZERO,
            side: 0,
            wake: Duration::MAX,
            messages: 0,
            bytes: 0,
        });
        self.boot(index);
        index
    }

    /// Starts a crashed or departed node again, under its old name and a higher incarnation.
    pub fn restart(&mut self, node: usize) {
        self.nodes[node].me.incarnation += 1000;
        self.boot(node);
    }

    fn boot(&mut self, index: usize) {
        let seeds = self.living().iter().map(|&node| address(node)).collect();
        let (now, seed) = (self.instant(), self.rng.next());
        let ring = Ring::new(self.config.clone(), self.nodes[index].me.clone(), seed, now);
        let node = &mut self.nodes[index];
        node.ring = Some(ring);
        node.started = self.now;
        node.leaving = false;
        self.ideal = None;
        self.feed(index, Input::Command(Command::Seeds(seeds)));
    }

    /// Gives every node the addresses of all that live, as discovery would.
    pub fn publish_seeds(&mut self) {
        let seeds: Vec<SocketAddr> = self.living().iter().map(|&node| address(node)).collect();
        for node in self.living() {
            self.feed(node, Input::Command(Command::Seeds(seeds.clone())));
        }
    }

    /// Gives one node these seeds.
    pub fn seed_with(&mut self, node: usize, seeds: &[usize]) {
        let seeds = seeds.iter().map(|&seed| address(seed)).collect();
        self.feed(node, Input::Command(Command::Seeds(seeds)));
    }

    /// Kills a node without a word.
    pub fn crash(&mut self, node: usize) {
        self.nodes[node].ring = None;
        self.nodes[node].wake = Duration::MAX;
        self.ideal = None;
        self.searches.retain(|(asker, _), _| *asker != node);
    }

    /// Lets a node leave gracefully; it stops by itself.
    pub fn leave(&mut self, node: usize) {
        self.nodes[node].leaving = true;
        self.ideal = None;
        self.feed(node, Input::Command(Command::Leave));
    }

    /// Freezes a node: it neither hears nor acts, then everything at once.
    pub fn freeze(&mut self, node: usize, time: Duration) {
        self.nodes[node].frozen_until = self.now + time;
    }

    /// Puts a node on one side of a partition; nothing passes between sides. All start on side 0.
    pub fn put_on_side(&mut self, node: usize, side: u32) {
        self.nodes[node].side = side;
    }

    /// Ends the partition.
    pub fn heal(&mut self) {
        for node in &mut self.nodes {
            node.side = 0;
        }
    }

    /// Looks `key` up at `node` with a deadline of 2 s; ends in [`Sim::outcomes`].
    pub fn find(&mut self, node: usize, key: KeyId) {
        self.next_lookup += 1;
        let lookup = LookupId(self.next_lookup);
        self.searches.insert((node, lookup), (key, self.now));
        let deadline = self.instant() + Duration::from_secs(2);
        self.feed(
            node,
            Input::Command(Command::Find {
                lookup,
                key,
                deadline,
                trace: false,
            }),
        );
    }

    /// Looks up a random key at a random living node that is not frozen: a frozen one asks nothing.
    pub fn find_any(&mut self) {
        let mut living = self.living();
        living.retain(|&node| self.nodes[node].frozen_until <= self.now);
        if living.is_empty() {
            return;
        }
        let node = living[self.rng.below(living.len())];
        let key = self.random_key();
        self.find(node, key);
    }

    /// Runs for `time`, with `rate` random look-ups a second spread over it.
    pub fn run_with_lookups(&mut self, time: Duration, rate: f64) {
        let end = self.now + time;
        loop {
            let wait = self.rng.exponential(Duration::from_secs_f64(1.0 / rate));
            if self.now + wait >= end {
                break;
            }
            self.run_for(wait);
            self.find_any();
        }
        self.run_until(end);
    }

    /// Runs for `time`.
    pub fn run_for(&mut self, time: Duration) {
        self.run_until(self.now + time);
    }

    /// Runs until `end`, which must not be past.
    pub fn run_until(&mut self, end: Duration) {
        while self.heap.peek().is_some_and(|Reverse(due)| due.at <= end) {
            let Some(Reverse(due)) = self.heap.pop() else {
                break;
            };
            self.step(due);
        }
        self.now = end;
    }

    /// Runs until everybody knows what it ought to; returns how long that took.
    ///
    /// # Panics
    /// With seed and difference, if that takes longer than `limit`.
    pub fn settle(&mut self, limit: Duration) -> Duration {
        let start = self.now;
        loop {
            match self.check() {
                Ok(()) => return self.now - start,
                Err(difference) if self.now - start > limit => {
                    panic!(
                        "SEED={}: not settled after {limit:?}: {difference}",
                        self.seed
                    )
                }
                Err(_) => self.run_for(Duration::from_millis(20)),
            }
        }
    }

    /// Compares every living member with the ideal ring.
    ///
    /// # Errors
    /// The first difference.
    pub fn check(&self) -> Result<(), String> {
        let Some(oracle) = Oracle::new(self.members(|_| true), &self.config) else {
            return Ok(());
        };
        self.members(|_| true).iter().try_for_each(|member| {
            let node = index_of(member.addr);
            self.view(node).map_or(Ok(()), |view| oracle.check(&view))
        })
    }

    /// Living nodes, edges included, leaving ones not.
    #[must_use]
    pub fn living(&self) -> Vec<usize> {
        let lives = |node: &Node| node.ring.is_some() && !node.leaving;
        (0..self.nodes.len())
            .filter(|&node| lives(&self.nodes[node]))
            .collect()
    }

    /// What a node knows; `None` if it does not live.
    #[must_use]
    pub fn view(&self, node: usize) -> Option<std::sync::Arc<RingView>> {
        self.nodes[node].ring.as_ref().map(Ring::view)
    }

    /// The member as it started.
    #[must_use]
    pub fn member(&self, node: usize) -> &Member {
        &self.nodes[node].me
    }

    /// A random key.
    pub fn random_key(&mut self) -> KeyId {
        KeyId((u128::from(self.rng.next()) << 64) | u128::from(self.rng.next()))
    }

    /// A random number below `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        self.rng.below(bound)
    }

    /// Time to the next event of a Poisson process.
    pub fn exponential(&mut self, mean: Duration) -> Duration {
        self.rng.exponential(mean)
    }

    /// Virtual time since the start.
    #[must_use]
    pub const fn now(&self) -> Duration {
        self.now
    }

    /// A hash of everything that has happened.
    #[must_use]
    pub const fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    /// Messages and payload bytes sent so far, by all nodes.
    #[must_use]
    pub fn traffic(&self) -> (u64, u64) {
        self.nodes.iter().fold((0, 0), |sum, node| {
            (sum.0 + node.messages, sum.1 + node.bytes)
        })
    }

    /// Forgets what was recorded and counted so far.
    pub fn forget(&mut self) {
        self.outcomes.clear();
        self.events.clear();
        for node in &mut self.nodes {
            (node.messages, node.bytes) = (0, 0);
        }
    }

    fn instant(&self) -> Instant {
        self.epoch + self.now
    }

    fn members(&self, fit: impl Fn(&Node) -> bool) -> Vec<Member> {
        self.nodes
            .iter()
            .filter(|node| node.ring.is_some() && !node.leaving && node.me.role == Role::Member)
            .filter(|node| fit(node))
            .map(|node| node.me.clone())
            .collect()
    }
}

/// The address of node `index`.
#[must_use]
pub fn address(index: usize) -> SocketAddr {
    let index = u32::try_from(index).expect("fewer than 2^24 nodes are simulated");
    SocketAddr::new(IpAddr::V4(Ipv4Addr::from((10 << 24) | index)), 7420)
}

/// The node at `addr`.
#[must_use]
pub fn index_of(addr: SocketAddr) -> usize {
    match addr.ip() {
        IpAddr::V4(ip) => (u32::from(ip) & 0x00ff_ffff) as usize,
        IpAddr::V6(_) => usize::MAX,
    }
}
