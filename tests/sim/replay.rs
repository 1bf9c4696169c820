use std::time::Duration;

use koorde_tests::sim::Sim;
use libkoorde::ring::RingConfig;

/// A run with a bit of everything.
fn run(seed: u64) -> u64 {
    let mut sim = Sim::new(
        seed,
        RingConfig {
            neighbors: 6,
            ..RingConfig::default()
        },
    );
    for _ in 0..20 {
        sim.start();
        sim.run_for(Duration::from_millis(100));
    }
    sim.run_with_lookups(Duration::from_secs(5), 50.0);
    sim.crash(3);
    sim.leave(5);
    sim.freeze(7, Duration::from_secs(2));
    sim.run_with_lookups(Duration::from_secs(10), 50.0);
    sim.fingerprint()
}

#[test]
fn the_same_seed_is_the_same_run() {
    assert_eq!(run(11), run(11));
    assert_ne!(run(11), run(12));
}
