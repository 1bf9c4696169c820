use std::time::Duration;

use koorde_tests::sim::Sim;
use koorde_tests::sim::experiments::crash_many;
use libkoorde::ring::{DownReason, Event, RingConfig};

use crate::seeds;

#[test]
fn thirty_per_cent_crash_at_once_and_every_list_is_right_within_four_seconds() {
    for seed in seeds(5) {
        for share in [0.1, 0.3, 0.5] {
            let repair = crash_many(seed, RingConfig::default(), 50, share, 200.0);
            assert!(
                repair.took <= Duration::from_secs(4),
                "SEED={seed} {share}: {:?}",
                repair.took
            );
            assert_eq!(repair.tally.failed, 0, "SEED={seed} {share}");
        }
    }
}

#[test]
fn a_refused_connection_is_quicker_than_silence() {
    for seed in seeds(5) {
        let mut sim = Sim::settled(seed, RingConfig::default(), 20);
        sim.rules.refuse = true;
        sim.crash(4);
        let took = sim.settle(Duration::from_secs(10));
        assert!(took < Duration::from_millis(1700), "SEED={seed}: {took:?}");
    }
}

#[test]
fn all_but_one_crash_and_the_last_one_serves() {
    for seed in seeds(5) {
        let mut sim = Sim::settled(seed, RingConfig::default(), 10);
        for node in 1..10 {
            sim.crash(node);
        }
        sim.run_with_lookups(Duration::from_secs(8), 50.0);
        sim.run_for(Duration::from_secs(3));
        let failed = sim
            .outcomes
            .iter()
            .filter(|outcome| outcome.found.is_none())
            .count();
        assert_eq!(failed, 0, "SEED={seed}");
        sim.settle(Duration::from_secs(5));
        assert_eq!(sim.view(0).expect("lives").members().len(), 1);
    }
}

#[test]
fn who_only_hears_of_a_death_has_not_found_it() {
    for seed in seeds(5) {
        let mut sim = Sim::settled(seed, RingConfig::default(), 50);
        sim.crash(7);
        sim.settle(Duration::from_secs(10));
        let count = |is: fn(&Event) -> bool| sim.events.iter().filter(|(_, _, e)| is(e)).count();
        let heard = count(|event| {
            matches!(
                event,
                Event::Down {
                    reason: DownReason::Dead,
                    ..
                }
            )
        });
        let found = count(|event| matches!(event, Event::Confirmed));
        assert_eq!(heard, 49, "SEED={seed}");
        assert!((1..10).contains(&found), "SEED={seed}: {found} found it");
    }
}
