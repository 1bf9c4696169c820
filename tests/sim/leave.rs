use std::time::Duration;

use koorde_tests::process::now;
use koorde_tests::sim::Sim;
use koorde_tests::sim::experiments::rollout;
use libkoorde::id::Id;
use libkoorde::ring::{
    Change, Command, DownReason, Event, Input, Member, Message, Output, Phase, Ring, RingConfig,
    Role,
};

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

fn member(id: u64, port: u16, incarnation: u64) -> Member {
    Member {
        id: Id(id),
        name: format!("koorde-{id}").into(),
        addr: ([10, 0, 0, 1], port).into(),
        incarnation,
        weight: 100,
        role: Role::Member,
    }
}

#[test]
fn a_ring_that_was_left_wakes_nobody_ever_again() {
    let start = now();
    let left = |inputs: Vec<(Duration, Input)>| {
        let mut ring = Ring::new(RingConfig::default(), member(1, 1, 1), 1, start);
        let mut has_left = false;
        for (at, input) in inputs {
            assert!(ring.deadline().is_some(), "something is due until then");
            ring.handle(start + at, input);
            while let Some(output) = ring.poll() {
                has_left |= matches!(output, Output::Event(Event::Left));
            }
        }
        assert!(has_left && ring.view().state() == Phase::Left);
        assert_eq!(ring.deadline(), None);
    };
    // Another goes by its name; the message tells of one more, whom it would ask at once.
    let news = vec![
        Change::Alive(member(1, 2, 2)),
        Change::Alive(member(2, 3, 1)),
    ];
    let message = Message::Changes(news);
    let from = ([10, 0, 0, 1], 3).into();
    left(vec![(Duration::ZERO, Input::Message { from, message })]);
    // It leaves, and has forwarded long enough.
    let leaves = Input::Command(Command::Leave);
    let minute = Duration::from_secs(60);
    left(vec![(Duration::ZERO, leaves), (minute, Input::Timeout)]);
}
