//! The questions the acceptance goals ask, each as one run of the simulator.

use std::time::Duration;

use libkoorde::ring::{DownReason, Event, RingConfig};

use super::Sim;
use crate::oracle::Oracle;

/// Counts over the look-ups of one or more runs.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Look-ups that ended.
    pub asked: usize,
    /// Of those, not found within 2 s.
    pub failed: usize,
    /// Of those, an owner that should not have been.
    pub wrong: usize,
    /// All hops.
    pub hops: u64,
    /// The longest path.
    pub max_hops: u32,
    /// Times from question to answer.
    pub took: Vec<Duration>,
}

impl Tally {
    /// Takes the outcomes out of `sim`.
    pub fn take(&mut self, sim: &mut Sim) {
        for outcome in sim.outcomes.drain(..) {
            self.asked += 1;
            self.wrong += usize::from(outcome.wrong);
            match outcome.found {
                Some(answer) => {
                    self.hops += u64::from(answer.hops);
                    self.max_hops = self.max_hops.max(answer.hops);
                    self.took.push(outcome.took);
                }
                None => self.failed += 1,
            }
        }
    }

    /// Adds another run.
    pub fn add(&mut self, other: &Self) {
        self.asked += other.asked;
        self.failed += other.failed;
        self.wrong += other.wrong;
        self.hops += other.hops;
        self.max_hops = self.max_hops.max(other.max_hops);
        self.took.extend(&other.took);
    }

    /// Mean hops.
    #[must_use]
    pub fn mean_hops(&self) -> f64 {
        self.hops as f64 / (self.asked - self.failed).max(1) as f64
    }

    /// `part` in parts per million of the look-ups.
    #[must_use]
    pub fn ppm(&self, part: usize) -> f64 {
        part as f64 * 1e6 / self.asked.max(1) as f64
    }

    /// Quantile of the time to answer.
    pub fn quantile(&self, q: f64) -> Duration {
        let mut took = self.took.clone();
        took.sort_unstable();
        let last = took.len().saturating_sub(1);
        took.get((last as f64 * q) as usize)
            .copied()
            .unwrap_or_default()
    }
}

/// Look-ups in a ring where nothing happens.
#[must_use]
pub fn quiet(seed: u64, config: RingConfig, n: usize, lookups: usize) -> Tally {
    let mut sim = Sim::settled(seed, config, n);
    sim.run_with_lookups(Duration::from_secs(10), lookups as f64 / 10.0);
    sim.run_for(Duration::from_secs(3));
    let mut tally = Tally::default();
    tally.take(&mut sim);
    tally
}

/// How members come and go in [`churn`].
#[derive(Clone, Copy, Debug)]
pub struct Churn {
    /// After this time half of the members have gone (and as many have come).
    pub half_life: Duration,
    /// Share of the departures that say good-bye; the rest crash silently.
    pub graceful: f64,
    /// How long.
    pub time: Duration,
    /// Look-ups a second.
    pub rate: f64,
}

/// What [`churn`] saw.
#[derive(Clone, Debug, Default)]
pub struct Churned {
    /// The look-ups.
    pub tally: Tally,
    /// Members that went.
    pub departures: usize,
    /// Payload bytes sent, without those of look-ups' own share: all of it.
    pub bytes: u64,
    /// Messages sent.
    pub messages: u64,
    /// Node seconds.
    pub node_seconds: f64,
    /// How long it took afterwards until all was right.
    pub repair: Repair,
}

/// Poisson departures and as many arrivals, under look-ups.
#[must_use]
pub fn churn(seed: u64, config: RingConfig, n: usize, churn: Churn) -> Churned {
    let mut sim = Sim::settled(seed, config, n);
    sim.check_every = if n > 100 { 997 } else { 7 };
    let mut churned = Churned::default();
    let pause = churn
        .half_life
        .mul_f64(1.0 / (std::f64::consts::LN_2 * n as f64));
    let end = sim.now() + churn.time;
    while sim.now() < end {
        let wait = sim.exponential(pause);
        let wait = wait.min(end - sim.now());
        if churn.rate > 0.0 {
            sim.run_with_lookups(wait, churn.rate);
        } else {
            sim.run_for(wait);
        }
        if sim.now() >= end {
            break;
        }
        let living = sim.living();
        let victim = living[sim.below(living.len())];
        if (sim.below(1000) as f64) < churn.graceful * 1000.0 {
            sim.leave(victim);
        } else {
            sim.crash(victim);
        }
        churned.departures += 1;
        sim.start();
        churned.tally.take(&mut sim);
    }
    (churned.messages, churned.bytes) = sim.traffic();
    churned.node_seconds = churn.time.as_secs_f64() * n as f64;
    sim.run_for(Duration::from_secs(3));
    churned.tally.take(&mut sim);
    churned.repair = settle_with_lookups(&mut sim, 0.0, Duration::from_secs(30));
    churned
}

/// What [`crash_many`] and the like saw.
#[derive(Clone, Debug, Default)]
pub struct Repair {
    /// Until every list was right, or until nobody waited any longer.
    pub took: Duration,
    /// What was still wrong then, for the first node found: `None` if all was right.
    pub open: Option<String>,
    /// Look-ups meanwhile.
    pub tally: Tally,
}

/// A share of the members crashes at once, silently.
#[must_use]
pub fn crash_many(seed: u64, config: RingConfig, n: usize, share: f64, rate: f64) -> Repair {
    let mut sim = Sim::settled(seed, config, n);
    sim.check_every = if n > 100 { 997 } else { 1 };
    let mut living = sim.living();
    for _ in 0..(n as f64 * share) as usize {
        let victim = living.swap_remove(sim.below(living.len()));
        sim.crash(victim);
    }
    settle_with_lookups(&mut sim, rate, Duration::from_secs(30))
}

/// Two halves cannot hear each other for `time`; from the healing on it is measured.
#[must_use]
pub fn partition(
    seed: u64,
    config: RingConfig,
    n: usize,
    time: Duration,
    rate: f64,
) -> (Tally, Repair) {
    let mut sim = Sim::settled(seed, config, n);
    for node in sim.living() {
        let side = sim.below(2) as u32;
        sim.put_on_side(node, side);
    }
    sim.run_for(Duration::from_secs(5).min(time / 2));
    sim.outcomes.clear();
    sim.run_with_lookups(time - Duration::from_secs(5).min(time / 2), rate);
    let mut during = Tally::default();
    during.take(&mut sim);
    sim.heal();
    (
        during,
        settle_with_lookups(&mut sim, rate, Duration::from_secs(60)),
    )
}

/// `n` members start at random moments within 2 s; measured from the first one.
#[must_use]
pub fn cold_start(seed: u64, config: RingConfig, n: usize) -> Repair {
    let mut sim = Sim::new(seed, config);
    let mut starts: Vec<u64> = (0..n).map(|_| sim.below(2000) as u64).collect();
    starts.sort_unstable();
    let first = Duration::from_millis(starts[0]);
    for start in starts {
        sim.run_until(Duration::from_millis(start));
        sim.start();
        sim.publish_seeds();
    }
    sim.settle(Duration::from_secs(60));
    Repair {
        took: sim.now() - first,
        ..Repair::default()
    }
}

/// What came of a member's freeze.
#[derive(Clone, Debug)]
pub struct Frozen {
    /// Members that took it for dead.
    pub deaths: usize,
    /// Whether it has learnt that it was taken for dead.
    pub refuted: bool,
    /// From the thaw until all is right.
    pub repair: Repair,
}

/// One member freezes and thaws.
#[must_use]
pub fn freeze(seed: u64, config: RingConfig, n: usize, time: Duration) -> Frozen {
    let mut sim = Sim::settled(seed, config, n);
    let living = sim.living();
    let victim = living[sim.below(n)];
    sim.freeze(victim, time);
    sim.run_with_lookups(time, 200.0);
    let repair = settle_with_lookups(&mut sim, 200.0, Duration::from_secs(60));
    let is_death = |event: &Event| {
        matches!(
            event,
            Event::Down {
                reason: DownReason::Dead,
                ..
            }
        )
    };
    let all = || sim.events.iter();
    Frozen {
        deaths: all().filter(|(_, _, event)| is_death(event)).count(),
        refuted: all()
            .any(|(_, node, event)| *node == victim && matches!(event, Event::TakenForDead)),
        repair,
    }
}

/// Every member is replaced, one by one: the new one starts, the old one leaves.
#[must_use]
pub fn rollout(seed: u64, config: RingConfig, n: usize, rate: f64) -> Churned {
    let mut sim = Sim::settled(seed, config, n);
    let mut churned = Churned::default();
    for old in sim.living() {
        sim.start();
        sim.run_with_lookups(Duration::from_secs(3), rate);
        sim.leave(old);
        sim.run_with_lookups(Duration::from_secs(1), rate);
        churned.departures += 1;
        churned.tally.take(&mut sim);
    }
    sim.run_for(Duration::from_secs(3));
    churned.tally.take(&mut sim);
    churned
}

/// Runs with look-ups until everybody knows what it ought to.
fn settle_with_lookups(sim: &mut Sim, rate: f64, limit: Duration) -> Repair {
    let start = sim.now();
    let look = |sim: &mut Sim, time| match rate {
        0.0 => sim.run_for(time),
        rate => sim.run_with_lookups(time, rate),
    };
    let mut repair = Repair::default();
    loop {
        repair.open = sim.check().err();
        if repair.open.is_none() || sim.now() - start > limit {
            break;
        }
        look(sim, Duration::from_millis(50));
    }
    repair.took = sim.now() - start;
    look(sim, Duration::from_secs(1));
    sim.run_for(Duration::from_secs(3));
    repair.tally.take(sim);
    repair
}

/// Shares of `keys` random keys among the members of the ideal ring: max / mean.
#[must_use]
pub fn balance(seed: u64, n: usize, keys: usize, candidates: usize, crashed: usize) -> f64 {
    let mut sim = Sim::new(
        seed,
        RingConfig {
            candidates,
            ..RingConfig::default()
        },
    );
    for _ in 0..n {
        sim.start();
    }
    for victim in 0..crashed {
        sim.crash(victim);
    }
    let members: Vec<_> = sim
        .living()
        .iter()
        .map(|&node| sim.member(node).clone())
        .collect();
    let oracle = Oracle::new(members, &sim.config).expect("somebody lives");
    let mut counts = std::collections::BTreeMap::new();
    for _ in 0..keys {
        *counts
            .entry(oracle.owner(sim.random_key()))
            .or_insert(0_usize) += 1;
    }
    let most = counts.values().max().copied().unwrap_or(0);
    most as f64 * (n - crashed) as f64 / keys as f64
}

/// Keys that change owner when a member joins, relative to the ideal 1 / (n + 1).
#[must_use]
pub fn moved_on_join(seed: u64, n: usize, keys: usize, candidates: usize) -> f64 {
    let mut sim = Sim::new(
        seed,
        RingConfig {
            candidates,
            ..RingConfig::default()
        },
    );
    for _ in 0..=n {
        sim.start();
    }
    let members: Vec<_> = sim
        .living()
        .iter()
        .map(|&node| sim.member(node).clone())
        .collect();
    let before = Oracle::new(members[..n].to_vec(), &sim.config).expect("somebody lives");
    let after = Oracle::new(members, &sim.config).expect("somebody lives");
    let moves = |_: &usize| {
        let key = sim.random_key();
        before.owner(key) != after.owner(key)
    };
    let moved = (0..keys).filter(moves).count();
    moved as f64 * (n + 1) as f64 / keys as f64
}
