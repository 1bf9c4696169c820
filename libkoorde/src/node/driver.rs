//! The one task that owns the ring: feeds it what happens, does what it asks for.
//!
//! Everyone else reads the [`RingView`] it publishes, and asks it by [`Handle`].

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use tokio::{
    sync::{mpsc, oneshot, watch},
    time,
};
use tracing::{Instrument, debug, field::Empty, info, info_span};

use super::{clock, gate::Gate, handoff::Departed, peers::Peers, spans, wire};
use crate::{
    id::{Id, KeyId},
    metrics::{Metrics, count},
    ring::{
        Command, DownReason, Event, Input, LookupId, Message, NotFoundReason, Output, Phase, Ring,
        RingView,
    },
};

/// Messages that may wait for the ring. It takes microseconds each; beyond it they are lost, as
/// on a network.
const INPUTS: usize = 8192;

/// What a finished look-up tells.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) owners: Vec<crate::ring::Member>,
    pub(crate) path: Vec<Id>,
    hops: u32,
}

enum Ask {
    Input(Input),
    Find {
        key: KeyId,
        timeout: Duration,
        trace: bool,
        reply: oneshot::Sender<Found>,
    },
}

/// How the rest of the node talks to the driver. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Handle {
    asks: mpsc::Sender<Ask>,
    view: Arc<ArcSwap<RingView>>,
    changes: watch::Receiver<u64>,
}

impl Handle {
    /// The ring as it was a moment ago.
    pub(crate) fn view(&self) -> &Arc<ArcSwap<RingView>> {
        &self.view
    }

    /// The number of the view; read before the view it is at most that view's.
    pub(crate) fn version(&self) -> u64 {
        *self.changes.borrow()
    }

    /// Tells of each new view.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.clone()
    }

    /// A message from a peer. Never waits.
    pub(crate) fn message(&self, from: SocketAddr, message: Message) -> bool {
        self.asks
            .try_send(Ask::Input(Input::Message { from, message }))
            .is_ok()
    }

    /// Addresses to meet others at.
    pub(crate) fn seeds(&self, seeds: Vec<SocketAddr>) {
        // Full: discovery comes again in a moment.
        let _ = self
            .asks
            .try_send(Ask::Input(Input::Command(Command::Seeds(seeds))));
    }

    /// The owners of a key in a ring too large to be known whole; `None` if that takes longer
    /// than `timeout`.
    pub(crate) async fn find(&self, key: KeyId, timeout: Duration) -> Option<Found> {
        self.look_up(key, timeout, false).await
    }

    /// The same, and the nodes it went through.
    pub(crate) async fn trace(&self, key: KeyId, timeout: Duration) -> Option<Found> {
        self.look_up(key, timeout, true).await
    }

    async fn look_up(&self, key: KeyId, timeout: Duration, trace: bool) -> Option<Found> {
        let (reply, found) = oneshot::channel();
        self.asks
            .try_send(Ask::Find {
                key,
                timeout,
                trace,
                reply,
            })
            .ok()?;
        let span = spans::within(|| {
            info_span!(
                "koorde.lookup",
                koorde.lookup.hops = Empty,
                otel.status_code = Empty,
                error.type = Empty,
            )
        });
        // The ring answers by the deadline; the margin is for a driver that is behind.
        let found = time::timeout(timeout * 2, found).instrument(span.clone());
        let found = found.await.ok().and_then(Result::ok);
        match &found {
            Some(found) => _ = span.record("koorde.lookup.hops", i64::from(found.hops)),
            None => spans::failed(&span, "timeout"),
        }
        found
    }

    /// Resolves when `member`, now in view, leaves it; never if it is not in view.
    pub(crate) async fn gone(&self, member: Id) {
        let mut changes = self.changes.clone();
        let is_there = || self.view.load().member(member).is_some();
        if is_there() {
            while changes.changed().await.is_ok() {
                if !is_there() {
                    return;
                }
            }
        }
        std::future::pending().await
    }

    /// Announces that this node leaves; returns when it has. From then on it forwards.
    pub(crate) async fn leave(&self) {
        let _closed = self
            .asks
            .send(Ask::Input(Input::Command(Command::Leave)))
            .await;
        let mut changes = self.changes.clone();
        while !matches!(self.view.load().state(), Phase::Leaving | Phase::Left)
            && changes.changed().await.is_ok()
        {}
    }
}

/// The driver, to be spawned once.
pub(crate) struct Driver {
    ring: Ring,
    asks: mpsc::Receiver<Ask>,
    unreachable: mpsc::Receiver<SocketAddr>,
    peers: Arc<Peers>,
    view: Arc<ArcSwap<RingView>>,
    changes: watch::Sender<u64>,
    waiting: HashMap<LookupId, (oneshot::Sender<Found>, Instant)>,
    next_lookup: u64,
    metrics: Arc<Metrics>,
    gate: Arc<Gate>,
    departed: Arc<Departed>,
    published: AtomicU64,
}

impl Driver {
    pub(crate) fn new(
        ring: Ring,
        unreachable: mpsc::Receiver<SocketAddr>,
        peers: Arc<Peers>,
        gate: Arc<Gate>,
        departed: Arc<Departed>,
        metrics: Arc<Metrics>,
    ) -> (Self, Handle) {
        let (sender, asks) = mpsc::channel(INPUTS);
        let (changes, changed) = watch::channel(0);
        let view = Arc::new(ArcSwap::new(ring.view()));
        show(&metrics, &view.load());
        let handle = Handle {
            asks: sender,
            view: Arc::clone(&view),
            changes: changed,
        };
        let driver = Self {
            ring,
            asks,
            unreachable,
            peers,
            view,
            changes,
            waiting: HashMap::new(),
            next_lookup: 0,
            metrics,
            gate,
            departed,
            published: AtomicU64::new(0),
        };
        (driver, handle)
    }

    /// Waits for exactly one thing, then does everything that the ring asks for.
    pub(crate) async fn run(mut self) {
        loop {
            let due = due(self.ring.deadline());
            let input = tokio::select! {
                ask = self.asks.recv() => match ask {
                    Some(Ask::Input(input)) => input,
                    Some(Ask::Find { key, timeout, trace, reply }) => self.find(key, timeout, trace, reply),
                    None => return,
                },
                Some(to) = self.unreachable.recv() => Input::Unreachable { to },
                () = due => Input::Timeout,
            };
            self.ring.handle(clock::now().instant, input);
            while let Some(output) = self.ring.poll() {
                match output {
                    Output::Send { to, message } => {
                        self.peers.deliver(to, wire::envelope(&message))
                    }
                    Output::Event(event) => self.on_event(event),
                }
            }
            self.publish();
        }
    }

    fn find(
        &mut self,
        key: KeyId,
        timeout: Duration,
        trace: bool,
        reply: oneshot::Sender<Found>,
    ) -> Input {
        let lookup = LookupId(self.next_lookup);
        self.next_lookup += 1;
        // Every look-up ends by an event, so the table is no larger than the ring's own bound.
        let now = clock::now().instant;
        self.waiting.insert(lookup, (reply, now));
        let deadline = now + timeout;
        Input::Command(Command::Find {
            lookup,
            key,
            deadline,
            trace,
        })
    }

    /// A look-up has ended; who waits for it, if anybody.
    fn looked_up(&mut self, lookup: LookupId, outcome: &str) -> Option<oneshot::Sender<Found>> {
        let (reply, since) = self.waiting.remove(&lookup)?;
        let took = clock::now().instant - since;
        self.metrics.lookup_seconds.of(&[outcome]).took(took);
        if outcome == "timeout" {
            count(&self.metrics.deadline_exceeded, "look_up");
        }
        Some(reply)
    }

    fn publish(&self) {
        let view = self.ring.view();
        if !Arc::ptr_eq(&view, &self.view.load()) {
            show(&self.metrics, &view);
            self.view.store(view);
            let version = self.published.fetch_add(1, Ordering::Relaxed) + 1;
            self.changes.send_replace(version);
        }
    }

    fn on_event(&mut self, event: Event) {
        let metrics = &self.metrics;
        match event {
            Event::Found {
                lookup,
                owners,
                path,
                hops,
                ..
            } => {
                metrics.lookup_hops.at(0).record(hops.into());
                if let Some(reply) = self.looked_up(lookup, "ok") {
                    // The asker may have gone; then nobody needs it.
                    let _ = reply.send(Found { owners, path, hops });
                }
            }
            Event::NotFound { lookup, reason } => {
                let outcome = match reason {
                    NotFoundReason::Deadline => "timeout",
                    NotFoundReason::Overloaded | NotFoundReason::Left => "error",
                };
                self.looked_up(lookup, outcome);
            }
            Event::Up(member) => {
                count(&metrics.ring_changes, "up");
                // Before the view is published: nobody acts on it without having heard the member.
                self.gate.up(&member, clock::now().instant);
                info!(member = %member.name, address = %member.addr, "Member up.");
            }
            Event::Down { member, reason } => {
                let kind = match reason {
                    DownReason::Left => "left",
                    DownReason::Dead => "down",
                    DownReason::Replaced | DownReason::Distant => "replaced",
                };
                count(&metrics.ring_changes, kind);
                let is_dead = reason == DownReason::Dead;
                let now = clock::now().instant;
                self.gate.down(&member, is_dead, now);
                if reason == DownReason::Left {
                    self.departed.note(&member, now);
                }
                info!(member = %member.name, address = %member.addr, reason = ?reason, "Member down.");
                self.peers.forget(member.addr);
            }
            Event::Joined { members } | Event::Merged { members } => {
                count(&metrics.ring_changes, "merged");
                info!(members, "Met another ring.");
            }
            Event::TakenForDead => {
                count(&metrics.ring_changes, "taken_for_dead");
                // Before the others have us back: what they purged meanwhile was not told to us.
                self.gate.everybody();
                info!("Others took this node for dead.");
            }
            Event::Stabilized { took } => metrics.stabilize_seconds.took(took),
            Event::Confirmed => count(&metrics.suspicions, "confirmed"),
            Event::Refuted => count(&metrics.suspicions, "refuted"),
            Event::Left => debug!("Left the ring."),
            Event::Superseded { by } => {
                tracing::error!(name = %by.name, address = %by.addr, "Another process runs under this node's name; this one has left the ring. Give every node a name of its own.");
            }
        }
    }
}

/// Resolves at this time, or never.
async fn due(at: Option<Instant>) {
    match at {
        Some(at) => time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

/// Shows the ring as it is in this view.
fn show(metrics: &Metrics, view: &RingView) {
    let level = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
    metrics.ring_members.set(level(view.members().len()));
    let (before_us, all) = (view.arc() >> 1, 1 << 63);
    metrics.ring_arc.at(0).set_part(before_us, all);
    metrics.ring_successors.set(level(view.successors().len()));
    metrics.ring_pointers.set(level(view.pointers().len()));
    metrics.ring_state.choose(view.state().as_str());
}
