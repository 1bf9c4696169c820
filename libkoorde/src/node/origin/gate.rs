//! The gate in front of one origin: how many requests at once, how many a second, who waits, and
//! when nobody goes through. Each origin has its own, so that a stalled one holds up nobody else.

use std::{
    collections::BTreeMap,
    future::Future,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use http::{HeaderMap, StatusCode};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time,
};

use super::{
    super::clock,
    breaker::{Breaker, Change},
    bucket::Bucket,
    budget::{Budget, Slot},
    leases::Leases,
};
use crate::{
    config::{LimitsConfig, OriginConfig},
    error::FetchError,
    metrics::{Metrics, count},
    policy::forwarding,
};

/// Gates that are remembered without need.
const MAX_GATES: usize = 4096;

/// The gates of all origins that are in use, or that something is remembered of.
#[derive(Debug)]
pub(super) struct Gates {
    gates: Mutex<BTreeMap<String, Arc<Gate>>>,
    config: OriginConfig,
    leases: Arc<Leases>,
    metrics: Arc<Metrics>,
}

impl Gates {
    pub(super) fn new(config: &OriginConfig, leases: Arc<Leases>, metrics: Arc<Metrics>) -> Self {
        Self {
            gates: Mutex::default(),
            config: config.clone(),
            leases,
            metrics,
        }
    }

    /// The gate of an authority or an upstream.
    pub(super) fn of(&self, origin: &str) -> Arc<Gate> {
        let mut gates = self.gates.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(gate) = gates.get(origin) {
            return Arc::clone(gate);
        }
        if gates.len() >= MAX_GATES {
            let now = clock::now().instant;
            gates.retain(|_, gate| gate.is_used() || !gate.is_blank(now));
        }
        if gates.len() >= MAX_GATES {
            // What is in use stays, so that no bound is passed; that is as small as the work.
            gates.retain(|_, gate| gate.is_used());
        }
        let limits = self.config.limits.of(&self.config.per_host, origin);
        let budget = Budget::new(origin, &limits, &self.leases);
        let gate = Arc::new(Gate::new(limits, budget, Arc::clone(&self.metrics)));
        gates.insert(origin.to_owned(), Arc::clone(&gate));
        gate
    }
}

/// The gate of one origin.
#[derive(Debug)]
pub(super) struct Gate {
    limits: LimitsConfig,
    slots: Arc<Semaphore>,
    waiting: AtomicUsize,
    state: Mutex<State>,
    budget: Option<Arc<Budget>>,
    metrics: Arc<Metrics>,
}

#[derive(Debug)]
struct State {
    breaker: Breaker,
    bucket: Option<Bucket>,
}

impl Gate {
    fn new(limits: LimitsConfig, budget: Option<Arc<Budget>>, metrics: Arc<Metrics>) -> Self {
        let now = clock::now().instant;
        let bucket = (limits.rate > 0).then(|| Bucket::new(limits.rate, limits.burst, now));
        Self {
            slots: Arc::new(Semaphore::new(limits.max_concurrent)),
            waiting: AtomicUsize::new(0),
            state: Mutex::new(State {
                breaker: Breaker::new(limits.breaker_failures, limits.breaker_open),
                bucket,
            }),
            limits,
            budget,
            metrics,
        }
    }

    /// Goes through, or waits for it, at most until `deadline`. A Retry-After holds back only what
    /// the cache asks by itself (`may_rest`): a client's unsafe request is the client's to pace.
    ///
    /// # Errors
    /// The origin is left alone, too many wait, or it took too long.
    pub(super) async fn enter(
        self: Arc<Self>,
        deadline: Instant,
        may_rest: bool,
    ) -> Result<Permit, FetchError> {
        let now = clock::now().instant;
        self.check(now, may_rest)?;
        let until = deadline.min(now + self.limits.queue_timeout);
        let slot = match Arc::clone(&self.slots).try_acquire_owned() {
            Ok(slot) => slot,
            Err(_all_taken) => {
                let slot = Arc::clone(&self.slots).acquire_owned();
                let slot = self.queue(until, slot).await?;
                slot.expect("the semaphore is never closed")
            }
        };
        let shared = self.shared_slot(until).await?;
        self.pace(until).await?;
        let now = clock::now().instant;
        self.check(now, may_rest)?;
        let probes = self.state().breaker.admit(now);
        let probes = probes.map_err(|wait| self.resting("breaker-open", wait))?;
        if probes {
            count(&self.metrics.origin_breaker, Change::Probed.as_str());
        }
        Ok(Permit {
            gate: self,
            probes,
            _slot: slot,
            _shared: shared,
        })
    }

    /// Whether the origin is left alone.
    fn check(&self, now: Instant, may_rest: bool) -> Result<(), FetchError> {
        let (rest, open) = {
            let breaker = &self.state().breaker;
            (breaker.rests_for(now), breaker.closed_in(now))
        };
        match (rest.filter(|_| may_rest), open) {
            (Some(wait), _) => Err(self.resting("retry-after", wait)),
            (None, Some(wait)) => Err(self.resting("breaker-open", wait)),
            (None, None) => Ok(()),
        }
    }

    fn resting(&self, reason: &'static str, retry_after: Duration) -> FetchError {
        FetchError::Resting {
            reason,
            retry_after,
        }
    }

    /// A slot of the cluster's, if those are counted.
    async fn shared_slot(&self, until: Instant) -> Result<Option<Slot>, FetchError> {
        let budget = self.budget.as_ref().filter(|budget| budget.counts()[0]);
        let Some(budget) = budget else {
            return Ok(None);
        };
        Ok(Some(match budget.slot_at_once() {
            Some(slot) => slot,
            None => self.queue(until, budget.slot()).await?,
        }))
    }

    /// Waits for the times that `rate` and the cluster's rate give.
    async fn pace(&self, until: Instant) -> Result<(), FetchError> {
        let now = clock::now().instant;
        let patience = until.saturating_duration_since(now);
        let reserved = match &mut self.state().bucket {
            Some(bucket) => bucket.reserve(now, patience),
            None => Some(Duration::ZERO),
        };
        let wait = reserved.ok_or_else(|| self.overloaded("origin.limits.rate"))?;
        if !wait.is_zero() {
            self.queue(until, time::sleep(wait)).await?;
        }
        let budget = self.budget.as_ref().filter(|budget| budget.counts()[1]);
        match budget.filter(|budget| !budget.token_at_once()) {
            Some(budget) => self.queue(until, budget.token()).await,
            None => Ok(()),
        }
    }

    /// Waits for something in the queue, which has a bound.
    async fn queue<T>(
        &self,
        until: Instant,
        turn: impl Future<Output = T>,
    ) -> Result<T, FetchError> {
        let place = Place::take(self);
        let place = place.ok_or_else(|| self.overloaded("origin.limits.max_queue"))?;
        let turn = time::timeout_at(until.into(), turn).await;
        drop(place);
        turn.map_err(|_elapsed| self.overloaded("origin.limits.queue_timeout"))
    }

    fn overloaded(&self, bound: &'static str) -> FetchError {
        FetchError::Overloaded(bound)
    }

    fn changed(&self, change: Option<Change>) {
        if let Some(change) = change {
            count(&self.metrics.origin_breaker, change.as_str());
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether somebody is in front of it or behind it.
    fn is_used(self: &Arc<Self>) -> bool {
        Arc::strong_count(self) > 1
    }

    /// Whether a new one would be the same.
    fn is_blank(&self, now: Instant) -> bool {
        let state = self.state();
        let bucket = state.bucket.as_ref().is_none_or(|b| b.is_full(now));
        let budget = self.budget.as_ref().is_none_or(|b| b.is_blank());
        bucket && budget && state.breaker.is_blank(now)
    }
}

/// One of those who wait at a gate.
struct Place<'a>(&'a Gate);

impl<'a> Place<'a> {
    fn take(gate: &'a Gate) -> Option<Self> {
        let before = gate.waiting.fetch_add(1, Ordering::AcqRel);
        gate.metrics.origin_waiting.inc();
        let place = Self(gate);
        (before < gate.limits.max_queue).then_some(place)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::AcqRel);
        self.0.metrics.origin_waiting.dec();
    }
}

/// One of the requests under way to an origin; held until its body ends, because a response is
/// not over at its head.
#[derive(Debug)]
pub(super) struct Permit {
    gate: Arc<Gate>,
    /// Whether this is the probe of a half-open breaker, and nothing is known of it yet.
    probes: bool,
    _slot: OwnedSemaphorePermit,
    _shared: Option<Slot>,
}

impl Permit {
    /// The origin answered; what it said may still mean that it is down, or wants to be left alone.
    pub(super) fn answered(
        &mut self,
        status: StatusCode,
        fields: &HeaderMap,
        now: Instant,
        wall: SystemTime,
    ) {
        self.probes = false;
        let max = self.gate.limits.retry_after_max;
        let mut state = self.gate.state();
        if matches!(status.as_u16(), 429 | 503)
            && let Some(pause) = forwarding::retry_after(fields, wall)
        {
            state.breaker.rest(now, pause.min(max));
        }
        let is_down = matches!(status.as_u16(), 502..=504);
        let change = if is_down {
            state.breaker.failed(now)
        } else {
            state.breaker.succeeded()
        };
        drop(state);
        self.gate.changed(change);
    }

    /// No answer.
    pub(super) fn failed(&mut self, now: Instant) {
        self.probes = false;
        let change = self.gate.state().breaker.failed(now);
        self.gate.changed(change);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.probes {
            self.gate.state().breaker.probe_lost(clock::now().instant);
        }
    }
}
