//! A whole conversation of strangers with one node's ring: whatever they say, and in whatever order,
//! the ring's invariants hold after each message, and what it sends is bounded and can be read.
//!
//! Each step: a byte for what happens, a byte for the time that passes, two for a length, and so many
//! bytes of an envelope.

use crate::input::epoch;
use koorde_proto::ring::v1::Envelope;
use libkoorde::id::Id;
use libkoorde::node::fuzzing;
use libkoorde::ring::protocol::{Input, Member, Output, Phase, Role};
use libkoorde::ring::{Ring, RingConfig, invariants};
use prost::Message as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

/// Steps of one conversation, at most.
const MAX_STEPS: usize = 64;
/// Messages that one input may cause: one for each member that can be known, and a few.
const MAX_OUTPUTS: usize = 4096;

pub fn run(mut bytes: &[u8]) {
    let config = RingConfig {
        neighbors: 4,
        ..RingConfig::default()
    };
    let me = Member {
        id: Id(1 << 63),
        name: "me".into(),
        addr: address(1),
        incarnation: 1,
        weight: 100,
        role: Role::Member,
    };
    let mut now = epoch();
    let mut ring = Ring::new(config, me, 7, now);
    for _ in 0..MAX_STEPS {
        let Some(([what, time, low, high], rest)) = bytes.split_first_chunk::<4>() else {
            break;
        };
        let length = usize::from(u16::from_le_bytes([*low, *high])).min(rest.len());
        let (message, rest) = rest.split_at(length);
        bytes = rest;
        now += Duration::from_millis(u64::from(*time) * 40);
        let input = match what % 8 {
            0 => Input::Timeout,
            1 => Input::Unreachable { to: address(*time) },
            _ => {
                let Ok(envelope) = Envelope::decode(message) else {
                    continue;
                };
                let from = fuzzing::sender(envelope.clone()).unwrap_or(address(*what));
                let Ok(message) = fuzzing::message(envelope) else {
                    continue;
                };
                Input::Message { from, message }
            }
        };
        ring.handle(now, input);
        drain(&mut ring);
        if let Err(broken) = invariants::check(&ring) {
            panic!("{broken}");
        }
        let view = ring.view();
        if view.state() == Phase::Left {
            // A newer process runs under our name.
            break;
        }
        assert!(view.members().contains(view.me()), "we are in our own view");
    }
}

fn drain(ring: &mut Ring) {
    let mut outputs = 0;
    while let Some(output) = ring.poll() {
        outputs += 1;
        assert!(outputs <= MAX_OUTPUTS, "one input caused {outputs} outputs");
        if let Output::Send { message, .. } = output {
            let envelope = fuzzing::envelope(&message);
            let heard = Envelope::decode(&envelope.encode_to_vec()[..]).expect("our own words");
            let read = fuzzing::message(heard).expect("we refuse nothing that we say");
            assert_eq!(fuzzing::envelope(&read), envelope);
        }
    }
}

fn address(last: u8) -> SocketAddr {
    (Ipv4Addr::new(10, 0, 0, last.max(1)), 4000).into()
}
