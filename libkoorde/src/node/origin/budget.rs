//! An origin's cluster-wide budget, as one node uses it: whoever sends takes a slot and a token of
//! this node's share, and a task asks the budget's owner for as much as is needed.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::{
    sync::{Notify, Semaphore},
    time,
};

use super::{
    super::clock,
    leases::Leases,
    ledger::VALID,
    share::{Fair, Share},
};
use crate::{config::LimitsConfig, metrics::count};

/// Time until the owner is asked again by who got less than it wants: from, to.
const AGAIN: [Duration; 2] = [Duration::from_millis(5), Duration::from_millis(80)];

/// What is waited for; the index of its line.
#[derive(Clone, Copy, Debug)]
enum Thing {
    Slot = 0,
    Token = 1,
}

/// Takes one thing of a share that has it.
type Take = fn(&mut Share, Instant) -> bool;

/// One origin's budget.
#[derive(Debug)]
pub(super) struct Budget {
    origin: String,
    limits: LimitsConfig,
    leases: Arc<Leases>,
    share: Mutex<Share>,
    lines: [Line; 2],
    /// The share needs tending before its time.
    demand: Notify,
}

/// Those who wait: the first of them for the thing, the others for their turn.
#[derive(Debug)]
struct Line {
    turn: Semaphore,
    there_is_more: Notify,
}

impl Line {
    fn new() -> Self {
        Self {
            turn: Semaphore::new(1),
            there_is_more: Notify::new(),
        }
    }
}

impl Budget {
    /// The budget of `origin`, if it has one.
    pub(super) fn new(
        origin: &str,
        limits: &LimitsConfig,
        leases: &Arc<Leases>,
    ) -> Option<Arc<Self>> {
        let is_limited = limits.cluster_max_concurrent > 0 || limits.cluster_rate > 0;
        is_limited.then(|| {
            Arc::new(Self {
                origin: origin.to_owned(),
                limits: limits.clone(),
                leases: Arc::clone(leases),
                share: Mutex::new(Share::new(clock::now().instant)),
                lines: [Line::new(), Line::new()],
                demand: Notify::new(),
            })
        })
    }

    /// Whether requests at once are counted, and requests a second.
    pub(super) fn counts(&self) -> [bool; 2] {
        let limits = &self.limits;
        [limits.cluster_max_concurrent > 0, limits.cluster_rate > 0]
    }

    /// A slot that is here, if nobody waits for it.
    pub(super) fn slot_at_once(self: &Arc<Self>) -> Option<Slot> {
        let takes = self.at_once(Thing::Slot, Share::start);
        takes.then(|| Slot(Arc::clone(self)))
    }

    /// Waits for a slot.
    pub(super) async fn slot(self: &Arc<Self>) -> Slot {
        self.take(Thing::Slot, Share::start).await;
        Slot(Arc::clone(self))
    }

    /// Takes a token that is here, if nobody waits for it.
    pub(super) fn token_at_once(&self) -> bool {
        self.at_once(Thing::Token, Share::spend)
    }

    /// Waits for a token.
    pub(super) async fn token(self: &Arc<Self>) {
        self.take(Thing::Token, Share::spend).await;
    }

    fn at_once(&self, thing: Thing, take: Take) -> bool {
        let mut share = self.share();
        share.waiting[thing as usize] == 0 && take(&mut share, clock::now().instant)
    }

    async fn take(self: &Arc<Self>, thing: Thing, take: Take) {
        let line = &self.lines[thing as usize];
        let _waiting = Waiting::join(self, thing);
        // A semaphore is first come first served, and is never closed here.
        let _turn = line.turn.acquire().await;
        while !take(&mut self.share(), clock::now().instant) {
            self.tend();
            line.there_is_more.notified().await;
        }
        // The next in line may find one too.
        line.there_is_more.notify_one();
    }

    /// Sees to it that the owner is asked soon.
    fn tend(self: &Arc<Self>) {
        let was_tended = std::mem::replace(&mut self.share().is_tended, true);
        if was_tended {
            self.demand.notify_one();
        } else {
            let budget = Arc::clone(self);
            let tasks = self.leases.tasks();
            tasks.spawn_apart(async move { budget.run().await });
        }
    }

    /// Asks the owner again and again, until nothing is held and nothing is wanted.
    async fn run(&self) {
        let mut pause = AGAIN[0];
        loop {
            self.ask().await;
            let now = clock::now().instant;
            let (wants_more, left) = {
                let mut share = self.share();
                if share.is_idle(now) {
                    share.is_tended = false;
                    return;
                }
                (share.wants_more(), share.left(now))
            };
            let wait = if wants_more {
                pause = (pause * 2).min(AGAIN[1]);
                pause
            } else {
                pause = AGAIN[0];
                (VALID / 3).min(left.max(AGAIN[0]))
            };
            tokio::select! {
                () = self.demand.notified() => time::sleep(AGAIN[0]).await,
                () = time::sleep(wait) => (),
            }
        }
    }

    async fn ask(&self) {
        let ask = self.share().ask(self.leases.number());
        let sent = clock::now().instant;
        let grant = self.leases.ask(&self.origin, ask).await;
        let leases = &self.leases.metrics().origin_leases;
        match grant {
            Some(grant) => {
                count(leases, "granted");
                self.share().granted(grant, sent);
            }
            None => {
                count(leases, "alone");
                let (limit, rate) = (self.limits.cluster_max_concurrent, self.limits.cluster_rate);
                let fair = Fair::of(limit, rate, self.leases.members());
                self.share().alone(fair, clock::now().instant);
            }
        }
        for line in &self.lines {
            line.there_is_more.notify_one();
        }
    }

    fn share(&self) -> MutexGuard<'_, Share> {
        self.share.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a new one would be the same.
    pub(super) fn is_blank(&self) -> bool {
        !self.share().is_tended
    }
}

/// One request of the cluster's, until it is dropped.
#[derive(Debug)]
pub(super) struct Slot(Arc<Budget>);

impl Drop for Slot {
    fn drop(&mut self) {
        let gives_back = self.0.share().end();
        if gives_back {
            self.0.demand.notify_one();
        } else {
            self.0.lines[Thing::Slot as usize]
                .there_is_more
                .notify_one();
        }
    }
}

/// Counts one who waits.
struct Waiting<'a> {
    budget: &'a Budget,
    thing: Thing,
}

impl<'a> Waiting<'a> {
    fn join(budget: &'a Budget, thing: Thing) -> Self {
        budget.share().waiting[thing as usize] += 1;
        Self { budget, thing }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.budget.share().waiting[self.thing as usize] -= 1;
    }
}
