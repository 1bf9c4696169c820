use std::time::Duration;

use koorde_tests::sim::Sim;
use koorde_tests::sim::experiments::{Churn, churn};
use libkoorde::ring::RingConfig;

use crate::seeds;

#[test]
fn half_of_all_pods_crash_every_minute_and_no_look_up_fails() {
    for seed in seeds(5) {
        let how = Churn {
            half_life: Duration::from_secs(60),
            graceful: 0.0,
            time: Duration::from_secs(60),
            rate: 400.0,
        };
        let churned = churn(seed, RingConfig::default(), 50, how);
        assert_eq!(churned.tally.failed, 0, "SEED={seed}");
        assert_eq!(churned.repair.open, None, "SEED={seed}");
        let wrong = churned.tally.ppm(churned.tally.wrong);
        assert!(
            wrong <= 200.0,
            "SEED={seed}: {wrong} ppm wrong in one short run"
        );
    }
}

#[test]
fn rings_larger_than_the_view_survive_churn() {
    for seed in seeds(3) {
        let how = Churn {
            half_life: Duration::from_secs(120),
            graceful: 0.5,
            time: Duration::from_secs(30),
            rate: 100.0,
        };
        let config = RingConfig {
            neighbors: 16,
            ..RingConfig::default()
        };
        let churned = churn(seed, config, 100, how);
        let failed = churned.tally.ppm(churned.tally.failed);
        assert!(failed <= 1000.0, "SEED={seed}: {failed} ppm failed");
        assert_eq!(churned.repair.open, None, "SEED={seed}");
    }
}

#[test]
fn rings_of_one_to_five_converge_whatever_happens() {
    for seed in seeds(100) {
        let n = 1 + (seed % 5) as usize;
        let mut sim = Sim::new(seed, RingConfig::default());
        for _ in 0..n {
            sim.start();
        }
        for _ in 0..6 {
            sim.run_for(Duration::from_secs(4));
            let living = sim.living();
            let victim = living[sim.below(living.len())];
            match sim.below(4) {
                0 if living.len() > 1 => sim.crash(victim),
                1 if living.len() > 1 => sim.leave(victim),
                2 => sim.freeze(victim, Duration::from_millis(1500)),
                _ => drop(sim.start()),
            }
        }
        sim.settle(Duration::from_secs(20));
    }
}

#[test]
fn maintenance_is_cheap() {
    let mut sim = Sim::settled(1, RingConfig::default(), 50);
    sim.run_for(Duration::from_secs(60));
    let (messages, bytes) = sim.traffic();
    let per_node = (bytes as f64 + 150.0 * messages as f64) / 3000.0;
    assert!(
        per_node <= 550.0,
        "{per_node} B/s a node, envelopes and 150 B a message included"
    );
}
