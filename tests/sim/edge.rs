use std::time::Duration;

use koorde_tests::sim::Sim;
use libkoorde::ring::{RingConfig, Role};

use crate::seeds;

#[test]
fn an_edge_knows_everybody_and_nobody_knows_it() {
    for seed in seeds(5) {
        let mut sim = Sim::settled(seed, RingConfig::default(), 10);
        let edge = sim.start_as(Role::Edge, 100);
        sim.run_for(Duration::from_secs(5));
        let view = sim.view(edge).expect("lives");
        assert_eq!(view.members().len(), 10, "SEED={seed}");
        let id = view.me().id;
        for node in 0..10 {
            assert!(
                sim.view(node).expect("lives").member(id).is_none(),
                "SEED={seed}"
            );
        }
        for _ in 0..50 {
            let key = sim.random_key();
            sim.find(edge, key);
        }
        sim.run_for(Duration::from_secs(2));
        assert_eq!(sim.outcomes.len(), 50);
        for outcome in &sim.outcomes {
            let answer = outcome.found.as_ref().expect("found");
            assert!(
                !outcome.wrong && answer.hops == 1 && answer.owner != id,
                "SEED={seed}"
            );
        }
    }
}

#[test]
fn an_edge_learns_of_joins_and_deaths() {
    for seed in seeds(5) {
        let mut sim = Sim::settled(seed, RingConfig::default(), 10);
        let edge = sim.start_as(Role::Edge, 100);
        sim.run_for(Duration::from_secs(5));
        sim.crash(3);
        sim.start();
        sim.run_for(Duration::from_secs(12));
        let mut known: Vec<_> = sim
            .view(edge)
            .expect("lives")
            .members()
            .iter()
            .map(|m| m.id)
            .collect();
        let mut living: Vec<_> = sim
            .living()
            .iter()
            .filter(|&&node| node != edge)
            .map(|&node| sim.member(node).id)
            .collect();
        known.sort_unstable();
        living.sort_unstable();
        assert_eq!(known, living, "SEED={seed}");
    }
}

#[test]
fn an_edge_without_members_finds_nothing_and_says_so() {
    let mut sim = Sim::new(1, RingConfig::default());
    let edge = sim.start_as(Role::Edge, 100);
    let key = sim.random_key();
    sim.find(edge, key);
    sim.run_for(Duration::from_secs(3));
    assert!(sim.outcomes[0].found.is_none());
}

#[test]
fn a_heavier_member_owns_more_and_all_agree_on_what() {
    let mut sim = Sim::new(5, RingConfig::default());
    for weight in [50, 100, 200] {
        sim.start_as(Role::Member, weight);
    }
    sim.settle(Duration::from_secs(5));
    let views: Vec<_> = (0..3).map(|node| sim.view(node).expect("lives")).collect();
    let mut counts = [0; 3];
    for _ in 0..7000 {
        let key = sim.random_key();
        let owner = views[0].owner(key).expect("members live").id;
        assert!(
            views
                .iter()
                .all(|view| view.owner(key).expect("members live").id == owner)
        );
        assert_eq!(views[0].owners(key, 3)[0].id, owner);
        counts[(0..3)
            .find(|&node| sim.member(node).id == owner)
            .expect("one of the three")] += 1;
    }
    for (count, expected) in counts.into_iter().zip([1000.0, 2000.0, 4000.0]) {
        assert!(
            (f64::from(count) - expected).abs() < 0.12 * expected,
            "{counts:?}"
        );
    }
    let shares: f64 = (0..3).map(|node| views[0].share(sim.member(node).id)).sum();
    assert!((shares - 1.0).abs() < 1e-9);
}
