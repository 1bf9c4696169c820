use std::time::Duration;

use koorde_tests::sim::Sim;
use koorde_tests::sim::experiments::partition;
use libkoorde::ring::RingConfig;

use crate::seeds;

#[test]
fn both_sides_of_a_partition_serve_and_a_healed_one_is_one_ring_within_five_seconds() {
    for seed in seeds(4) {
        for (n, cut) in [(5, 10), (20, 6), (50, 30)] {
            let (during, after) = partition(
                seed,
                RingConfig::default(),
                n,
                Duration::from_secs(cut),
                50.0,
            );
            assert_eq!(during.failed, 0, "SEED={seed} n={n}: during");
            assert_eq!(after.tally.failed, 0, "SEED={seed} n={n}: after");
            assert!(
                after.took <= Duration::from_secs(5),
                "SEED={seed} n={n}: {:?}",
                after.took
            );
        }
    }
}

/// What the alarm of a split ring looks at.
#[test]
fn the_arcs_of_each_ring_are_one_circle_together() {
    let circles = |sim: &Sim| -> f64 {
        let arcs = sim.living().into_iter();
        let arcs = arcs.map(|node| sim.view(node).expect("lives").arc() as f64);
        arcs.sum::<f64>() / 2_f64.powi(64)
    };
    for n in [1, 2, 3, 10, 50] {
        let mut sim = Sim::settled(7, RingConfig::default(), n);
        assert!((circles(&sim) - 1.0).abs() < 1e-6, "{n}: {}", circles(&sim));
        if n < 2 {
            continue;
        }
        sim.put_on_side(0, 1);
        sim.run_for(Duration::from_secs(20));
        assert!((circles(&sim) - 2.0).abs() < 1e-6, "{n}: {}", circles(&sim));
        sim.heal();
        sim.settle(Duration::from_secs(10));
        assert!((circles(&sim) - 1.0).abs() < 1e-6, "{n}: {}", circles(&sim));
    }
}

#[test]
fn a_partition_heals_although_discovery_tells_nothing() {
    for seed in seeds(5) {
        let mut sim = Sim::settled(seed, RingConfig::default(), 10);
        for node in 0..10 {
            sim.seed_with(node, &[]);
            sim.put_on_side(node, u32::from(node % 2 == 0));
        }
        sim.run_for(Duration::from_secs(20));
        sim.heal();
        sim.settle(Duration::from_secs(10));
    }
}

#[test]
fn two_rings_that_never_met_merge_through_one_seed() {
    for seed in seeds(5) {
        let mut sim = Sim::new(seed, RingConfig::default());
        for node in 0..16 {
            sim.start();
            sim.put_on_side(node, u32::from(node >= 6));
            let same: Vec<usize> = (0..node)
                .filter(|other| (*other >= 6) == (node >= 6))
                .collect();
            sim.seed_with(node, &same);
        }
        sim.run_for(Duration::from_secs(20));
        assert_eq!(
            sim.view(0).expect("lives").members().len(),
            6,
            "SEED={seed}"
        );
        sim.heal();
        sim.seed_with(0, &[12]);
        sim.settle(Duration::from_secs(15));
    }
}
