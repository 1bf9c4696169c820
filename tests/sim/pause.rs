use std::time::Duration;

use koorde_tests::sim::experiments::freeze;
use libkoorde::ring::RingConfig;

use crate::seeds;

#[test]
fn half_a_second_of_silence_is_no_death() {
    for seed in seeds(10) {
        let frozen = freeze(seed, RingConfig::default(), 20, Duration::from_millis(500));
        assert_eq!(frozen.deaths, 0, "SEED={seed}");
        assert!(!frozen.refuted, "SEED={seed}: of what?");
    }
}

#[test]
fn a_slow_node_refutes_its_death() {
    for seed in seeds(5) {
        let frozen = freeze(seed, RingConfig::default(), 20, Duration::from_secs(4));
        let repair = frozen.repair;
        assert!(
            frozen.deaths > 0,
            "SEED={seed}: four seconds are taken for death"
        );
        assert!(
            repair.took <= Duration::from_secs(10),
            "SEED={seed}: {:?}",
            repair.took
        );
        assert!(frozen.refuted, "SEED={seed}: it was not told");
        assert_eq!(repair.tally.failed, 0, "SEED={seed}");
    }
}
