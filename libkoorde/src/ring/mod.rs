//! The ring: who is there, who owns a key, how to get there. A sans-I/O state machine.
//!
//! It knows no sockets, no clock, no tasks and no HTTP: feed it [`Input`]s with the time, drain
//! [`Output`]s, come back at [`Ring::deadline`]. The same code runs under the node's driver task and
//! in a simulator with virtual time. Same seed and inputs, same outputs, byte for byte.
//!
//! | file | holds |
//! |---|---|
//! | `protocol` | the vocabulary: inputs, outputs, messages. Read first |
//! | `config` | timers and bounds |
//! | `view` | [`RingView`], what readers see; `rendezvous`: how an owner is drawn |
//! | `neighbors` | the members known: R each way, the whole ring if it is small |
//! | `membership` | news of members: incarnations, tombstones, refutation, leaving; `sync`: full exchanges |
//! | `stabilize` | the period: stabilize, notify, rectify; contact with seeds (joins and merges) |
//! | `detector` | from a missed answer to a verdict |
//! | `route` | the Koorde step, pure; `pointers`, `learned`: what it knows besides neighbours |
//! | `lookup` | look-ups in flight: hops, retries, deadlines |
//! | `invariants` | what must hold after every input |

#![deny(clippy::disallowed_types)]

mod config;
mod detector;
pub mod invariants;
mod learned;
mod lookup;
mod membership;
mod neighbors;
mod pointers;
pub mod protocol;
mod rendezvous;
mod rng;
pub mod route;
mod stabilize;
mod sync;
mod timers;
mod tombstones;
mod view;

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

pub use config::RingConfig;
pub use pointers::{cover_of, thin};
pub use protocol::{
    Change, Command, Digest, DownReason, Event, Found, Gone, Imaginary, Input, Lookup, LookupId,
    Member, Message, NotFoundReason, Output, Phase, Purpose, Role, Sync,
};
pub use view::RingView;

use self::detector::Check;
use self::learned::Learned;
use self::lookup::Lookups;
use self::neighbors::Neighbors;
use self::pointers::Pointers;
pub(crate) use self::rng::Rng;
use self::timers::{Timer, Timers};
use self::tombstones::Tombstones;
use crate::id::Id;

/// One participant's part of the ring.
///
/// Lives in one task. After every [`Ring::handle`], drain [`Ring::poll`] and publish
/// [`Ring::view`].
#[derive(Debug)]
pub struct Ring {
    config: RingConfig,
    me: Member,
    phase: Phase,
    rng: Rng,
    started: Instant,
    joined_at: Option<Instant>,
    seeds: Vec<SocketAddr>,
    neighbors: Neighbors,
    tombstones: Tombstones,
    /// Changes of the last seconds, oldest first, for neighbours that missed the push.
    recent: VecDeque<(Instant, Change)>,
    checks: BTreeMap<Id, Check>,
    /// Whom routing avoids, and until when.
    suspects: BTreeMap<Id, Instant>,
    /// Whom we asked `Stabilize`, and when.
    stabilizing: Option<(Id, Instant)>,
    /// Periods in a row in which our digest and the successor's differed.
    disagreements: u32,
    last_sync: Option<Instant>,
    pointers: Pointers,
    learned: Learned,
    lookups: Lookups,
    nonce: u64,
    timers: Timers,
    outputs: VecDeque<Output>,
    /// Made when somebody asks: a burst of news costs one view, not one for each of its messages.
    view: OnceLock<Arc<RingView>>,
    /// Whether `view`, if there is one, is out of date.
    dirty: bool,
}

impl Ring {
    /// A ring of one, serving at once. `seed` feeds jitter and random choice; give every node
    /// another one. `config` should have passed [`RingConfig::check`].
    #[must_use]
    pub fn new(config: RingConfig, me: Member, seed: u64, now: Instant) -> Self {
        let mut ring = Self {
            neighbors: Neighbors::new(me.id, config.neighbors),
            tombstones: Tombstones::new(config.max_tombstones),
            learned: Learned::new(config.max_learned),
            config,
            me,
            phase: Phase::Alone,
            rng: Rng::new(seed),
            started: now,
            joined_at: None,
            seeds: Vec::new(),
            recent: VecDeque::new(),
            checks: BTreeMap::new(),
            suspects: BTreeMap::new(),
            stabilizing: None,
            disagreements: 0,
            last_sync: None,
            pointers: Pointers::default(),
            lookups: Lookups::default(),
            nonce: 0,
            timers: Timers::default(),
            outputs: VecDeque::new(),
            view: OnceLock::new(),
            dirty: false,
        };
        let jitter = ring.jittered(ring.config.stabilize);
        ring.timers.set(Timer::Stabilize, now + jitter);
        ring.timers.set(Timer::Pointers, now + 2 * jitter);
        ring
    }

    /// Feeds one input. Drain [`Ring::poll`] before the next one.
    ///
    /// `now` must not run backwards; a little does no harm.
    pub fn handle(&mut self, now: Instant, input: Input) {
        if self.phase == Phase::Left {
            if let Input::Command(Command::Find { lookup, .. }) = input {
                self.emit(Event::NotFound {
                    lookup,
                    reason: NotFoundReason::Left,
                });
            }
            return;
        }
        match input {
            Input::Message { from, message } => {
                self.heard(now, from);
                self.on_message(now, from, message);
            }
            Input::Unreachable { to } => self.on_unreachable(now, to),
            Input::Command(command) => self.on_command(now, command),
            Input::Timeout => {
                while let Some(timer) = self.timers.pop(now) {
                    self.on_timer(now, timer);
                }
            }
        }
        if self.phase == Phase::Left {
            // The rest of what made us leave may have set some; nothing is due ever again.
            self.timers.clear();
        }
        if std::mem::take(&mut self.dirty) {
            self.view.take();
        }
    }

    /// The next thing to do; `None` when all is done.
    pub fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to feed [`Input::Timeout`] at the latest; never, once this node has left.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.timers.next()
    }

    /// What we know now. Cheap; a new `Arc` only when something has changed.
    #[must_use]
    pub fn view(&self) -> Arc<RingView> {
        Arc::clone(self.view.get_or_init(|| Arc::new(self.make_view())))
    }

    fn on_command(&mut self, now: Instant, command: Command) {
        match command {
            Command::Seeds(mut seeds) => {
                seeds.retain(|seed| *seed != self.me.addr);
                seeds.truncate(self.config.max_seeds);
                let any = !seeds.is_empty();
                self.seeds = seeds;
                if any {
                    let soon = if self.neighbors.is_empty() {
                        Duration::ZERO
                    } else {
                        self.seed_pause(now)
                    };
                    self.timers.hurry(Timer::Seeds, now + soon);
                }
            }
            Command::Find {
                lookup,
                key,
                deadline,
                trace,
            } => {
                self.find(now, lookup, key, deadline, trace);
            }
            Command::Leave => self.leave(now),
        }
    }

    fn on_message(&mut self, now: Instant, from: SocketAddr, message: Message) {
        match message {
            Message::Lookup(lookup) => self.on_lookup(now, from, *lookup),
            Message::Ack { hop } => self.on_ack(hop),
            Message::Found(found) => self.on_found(*found),
            Message::Stabilize { me, digest } => self.on_stabilize(now, from, me, digest),
            Message::Stabilized {
                agree,
                between,
                changes,
            } => {
                self.on_stabilized(now, from, agree, between, changes);
            }
            Message::Changes(changes) => self.on_changes(now, from, changes),
            Message::Sync(sync) => self.on_sync(now, from, *sync),
            Message::Ping { nonce } => self.send(from, Message::Pong { nonce }),
            Message::Pong { nonce } => self.on_pong(now, from, nonce),
            Message::PingFor { target, nonce } => self.on_ping_for(now, from, target, nonce),
            Message::Suspect { id, incarnation } => self.on_suspect(now, id, incarnation),
            Message::Dead { incarnation } => self.on_dead_notice(now, from, incarnation),
            Message::List {
                nonce,
                forward,
                count,
            } => self.on_list(from, nonce, forward, count),
            Message::Listed { nonce, members } => self.on_listed(now, from, nonce, members),
        }
    }

    fn on_timer(&mut self, now: Instant, timer: Timer) {
        match timer {
            Timer::Stabilize => self.stabilize(now),
            Timer::Stabilized => self.on_silent_successor(now),
            Timer::Seeds => self.contact_seed(now),
            Timer::Spread => self.spread(now),
            Timer::Pointers => self.fix_pointers(now),
            Timer::Check(id) => self.on_check_overdue(now, id),
            Timer::Hop(hop) => self.on_hop_overdue(now, hop),
            Timer::Search(lookup) => self.on_search_due(now, lookup),
            Timer::Leave => self.left(),
        }
    }

    fn send(&mut self, to: SocketAddr, message: Message) {
        // A full queue means nobody polls: what more we say is lost, as on any network.
        if self.outputs.len() < self.config.max_outputs {
            self.outputs.push_back(Output::Send { to, message });
        }
    }

    /// Events are never dropped: each ends a look-up or a member, and both tables are bounded.
    fn emit(&mut self, event: Event) {
        self.outputs.push_back(Output::Event(event));
    }

    /// A number no message of ours in flight carries; never 0.
    fn next_nonce(&mut self) -> u64 {
        self.nonce += 1;
        self.nonce
    }

    /// `period` ± 10 %, so that nodes started together do not stay in step.
    fn jittered(&mut self, period: Duration) -> Duration {
        period.mul_f64(0.9 + 0.2 * (self.rng.below(1000) as f64 / 1000.0))
    }

    fn make_view(&self) -> RingView {
        let complete = self.neighbors.is_complete();
        let (before, after) = (self.neighbors.predecessors(), self.neighbors.successors());
        let mut members = Vec::with_capacity(self.neighbors.len() + 1);
        if !complete {
            members.extend(before.iter().map(|entry| entry.member.clone()));
        }
        if RingView::may_own(&self.me, self.phase) {
            members.push(self.me.clone());
        }
        members.extend(after.iter().map(|entry| entry.member.clone()));
        let mut view = RingView::assemble(
            self.me.clone(),
            self.phase,
            complete,
            self.joined_at,
            self.config.owner_candidates(),
            members,
        );
        view.predecessor = before.last().map(|entry| entry.member.clone());
        view.successors = after
            .iter()
            .take(self.config.neighbors)
            .map(|entry| entry.member.clone())
            .collect();
        view.pointers = if complete {
            Vec::new()
        } else {
            self.pointers.members().to_vec()
        };
        view.rtts = self
            .neighbors
            .iter()
            .filter_map(|e| Some((e.member.id, e.rtt?)))
            .collect();
        view
    }
}
