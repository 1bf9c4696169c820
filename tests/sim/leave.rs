use std::time::Duration;

use koorde_tests::sim::Sim;
use koorde_tests::sim::experiments::rollout;
use libkoorde::ring::{DownReason, Event, RingConfig};

use crate::seeds;

#[test]
fn a_graceful_leave_is_known_to_all_within_a_moment() {
    for seed in seeds(5) {
        let mut sim = Sim::settled(seed, RingConfig::default(), 20);
        sim.rules.loss = 0.0;
        sim.leave(7);
        sim.run_for(Duration::from_millis(60));
        assert_eq!(sim.check(), Ok(()), "SEED={seed}");
        sim.run_for(Duration::from_secs(3));
        assert!(sim.view(7).is_none(), "SEED={seed}: it has left");
        let dead = |event: &Event| {
            matches!(
                event,
                Event::Down {
                    reason: DownReason::Dead,
                    ..
                }
            )
        };
        assert!(
            !sim.events.iter().any(|(_, _, event)| dead(event)),
            "SEED={seed}"
        );
    }
}

#[test]
fn a_rollout_of_all_pods_fails_no_look_up() {
    for seed in seeds(3) {
        let rolled = rollout(seed, RingConfig::default(), 12, 100.0);
        assert_eq!(rolled.tally.failed, 0, "SEED={seed}");
        assert!(
            rolled.tally.max_hops <= 2,
            "SEED={seed}: a leaving node forwards once"
        );
    }
}

#[test]
fn from_one_to_two_and_back_no_request_is_lost() {
    for seed in seeds(10) {
        let mut sim = Sim::new(seed, RingConfig::default());
        sim.start();
        sim.run_with_lookups(Duration::from_secs(1), 50.0);
        let second = sim.start();
        sim.run_with_lookups(Duration::from_secs(5), 50.0);
        sim.leave(second);
        sim.run_with_lookups(Duration::from_secs(5), 50.0);
        sim.run_for(Duration::from_secs(3));
        let failed = sim
            .outcomes
            .iter()
            .filter(|outcome| outcome.found.is_none())
            .count();
        // A look-up may be in flight to the node that stops asking: its own do not count.
        assert_eq!(failed, 0, "SEED={seed}");
        sim.settle(Duration::from_secs(5));
    }
}
