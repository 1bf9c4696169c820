//! Random schedules of everything that can happen. The invariants are checked after each step by the
//! simulator; at the end everybody must know what it ought to.

use std::time::Duration;

use koorde_tests::sim::Sim;
use libkoorde::ring::RingConfig;

use crate::seeds;

#[test]
fn any_schedule_ends_in_one_ordered_ring() {
    for seed in seeds(40) {
        schedule(seed, RingConfig::default(), 12);
    }
}

#[test]
fn any_schedule_ends_in_one_ordered_ring_larger_than_the_view() {
    for seed in seeds(10) {
        schedule(
            seed,
            RingConfig {
                neighbors: 8,
                ..RingConfig::default()
            },
            40,
        );
    }
}

fn schedule(seed: u64, config: RingConfig, n: usize) {
    let small = config.neighbors * 2 >= n;
    let mut sim = Sim::settled(seed, config, n);
    for _ in 0..15 {
        let living = sim.living();
        let one = living[sim.below(living.len())];
        let pause = Duration::from_millis(sim.below(3000) as u64);
        match sim.below(8) {
            0 | 1 if living.len() > n / 2 => sim.crash(one),
            2 if living.len() > n / 2 => sim.leave(one),
            3 => sim.freeze(one, pause),
            4 => sim.rules.loss = if sim.below(2) == 0 { 0.05 } else { 0.005 },
            5 if small => sim.put_on_side(one, 1),
            6 => sim.heal(),
            _ => drop(sim.start()),
        }
        sim.run_with_lookups(pause, 20.0);
    }
    sim.heal();
    sim.rules.loss = 0.005;
    sim.publish_seeds();
    sim.settle(Duration::from_secs(90));
    sim.run_for(Duration::from_secs(3));
    let ended = sim.outcomes.len();
    sim.run_with_lookups(Duration::from_secs(2), 50.0);
    sim.run_for(Duration::from_secs(3));
    for outcome in &sim.outcomes[ended..] {
        assert!(
            outcome.found.is_some() && !outcome.wrong,
            "SEED={seed}: {outcome:?}"
        );
    }
}
