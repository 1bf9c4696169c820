use std::time::Duration;

use koorde_tests::sim::Sim;
use koorde_tests::sim::experiments::cold_start;
use libkoorde::ring::{Event, Phase, RingConfig};

use crate::seeds;

#[test]
fn a_node_alone_is_a_ring_and_serves_at_once() {
    let mut sim = Sim::new(1, RingConfig::default());
    let node = sim.start();
    let key = sim.random_key();
    sim.find(node, key);
    assert_eq!(sim.outcomes.len(), 1, "answered within the same step");
    let view = sim.view(node).expect("lives");
    assert!(view.owns(key) && view.is_complete());
    assert_eq!(view.state(), Phase::Alone);
    assert!((view.share(view.me().id) - 1.0).abs() < 1e-9);
}

#[test]
fn two_nodes_find_each_other_and_agree() {
    for seed in seeds(20) {
        let mut sim = Sim::new(seed, RingConfig::default());
        let (a, b) = (sim.start(), sim.start());
        sim.settle(Duration::from_secs(5));
        sim.run_for(Duration::from_secs(5));
        for node in [a, b] {
            assert_eq!(
                sim.view(node).expect("lives").state(),
                Phase::Active,
                "SEED={seed}"
            );
        }
        let joined = |event: &Event| matches!(event, Event::Joined { members: 2 });
        assert!(
            sim.events.iter().any(|(_, _, event)| joined(event)),
            "SEED={seed}"
        );
    }
}

#[test]
fn fifty_pods_started_together_are_one_ring_within_five_seconds() {
    for seed in seeds(5) {
        let took = cold_start(seed, RingConfig::default(), 50).took;
        assert!(took <= Duration::from_secs(5), "SEED={seed}: {took:?}");
    }
}

#[test]
fn a_pod_that_restarts_comes_back_to_its_place() {
    for seed in seeds(10) {
        let mut sim = Sim::settled(seed, RingConfig::default(), 5);
        let id = sim.member(0).id;
        sim.crash(0);
        sim.run_for(Duration::from_millis(250 * seed));
        sim.restart(0);
        sim.settle(Duration::from_secs(10));
        let view = sim.view(1).expect("lives");
        let back = view.member(id).expect("known again");
        assert!(
            back.incarnation > 1,
            "SEED={seed}: with a higher incarnation"
        );
    }
}

#[test]
fn a_joiner_knows_when_it_joined_and_the_others_do_not_think_they_did() {
    let mut sim = Sim::settled(3, RingConfig::default(), 10);
    let before: Vec<_> = (0..10)
        .map(|node| sim.view(node).expect("lives").joined_at())
        .collect();
    let new = sim.start();
    sim.settle(Duration::from_secs(5));
    assert!(sim.view(new).expect("lives").joined_at().is_some());
    for (node, before) in before.into_iter().enumerate() {
        assert_eq!(sim.view(node).expect("lives").joined_at(), before);
    }
}

#[test]
fn a_ring_that_outgrows_its_view_still_converges() {
    for seed in seeds(3) {
        let config = RingConfig {
            neighbors: 8,
            ..RingConfig::default()
        };
        let mut sim = Sim::settled(seed, config, 60);
        let view = sim.view(0).expect("lives");
        assert!(!view.is_complete());
        assert_eq!(view.members().len(), 17, "eight each way and itself");
        assert!(!view.pointers().is_empty());
        // And shrinks back to one that it knows.
        for node in 12..60 {
            sim.leave(node);
            sim.run_for(Duration::from_millis(300));
        }
        sim.settle(Duration::from_secs(60));
        assert!(sim.view(0).expect("lives").is_complete(), "SEED={seed}");
    }
}
