//! Ring messages there and back, and bytes that no peer of ours would send.

use proptest::prelude::*;
use prost::Message as _;

use super::*;

fn someone(n: u64) -> Member {
    Member {
        id: Id(n.wrapping_mul(0x9e37_79b9_7f4a_7c15)),
        name: format!("koorde-{n}").into(),
        addr: SocketAddr::from(([10, 0, 0, 1], 4000)),
        incarnation: n,
        weight: 100,
        role: if n.is_multiple_of(2) {
            Role::Member
        } else {
            Role::Edge
        },
    }
}

fn look_up(purpose: Purpose, imaginary: Option<Imaginary>, path: Option<Vec<Id>>) -> Message {
    Message::Lookup(Box::new(Lookup {
        id: LookupId(7),
        asker: someone(1).addr,
        purpose,
        key: KeyId(u128::MAX / 3),
        imaginary,
        direct: true,
        redirects: 1,
        ttl: 16,
        hops: 2,
        hop: 3,
        remaining: Duration::from_millis(1500),
        avoid: vec![Id(1), Id(2)],
        path,
    }))
}

fn every_message() -> Vec<Message> {
    let digest = Digest {
        after: Id(1),
        through: Id(u64::MAX),
        sum: 3,
    };
    let gone = |reason| Gone {
        member: someone(4),
        reason,
    };
    let changes = vec![
        Change::Alive(someone(2)),
        Change::Gone(gone(DownReason::Dead)),
        Change::Gone(gone(DownReason::Left)),
    ];
    let found = Found {
        id: LookupId(7),
        owners: vec![someone(1), someone(2)],
        home: someone(3),
        predecessor: someone(4),
        hops: 2,
        path: vec![Id(5)],
    };
    let sync = Sync {
        members: vec![someone(1), someone(2)],
        gone: vec![gone(DownReason::Left)],
        complete: true,
        answer: false,
    };
    vec![
        look_up(Purpose::Find, None, None),
        look_up(
            Purpose::Join {
                me: someone(1),
                digest,
            },
            None,
            Some(vec![]),
        ),
        look_up(
            Purpose::Pointers { through: Id(9) },
            Some(Imaginary {
                digits: 64,
                node: Id(8),
            }),
            Some(vec![Id(1)]),
        ),
        Message::Ack { hop: 1 },
        Message::Found(Box::new(found)),
        Message::Stabilize {
            me: someone(1),
            digest,
        },
        Message::Stabilized {
            agree: false,
            between: vec![someone(3)],
            changes: changes.clone(),
        },
        Message::Changes(changes),
        Message::Sync(Box::new(sync)),
        Message::Ping { nonce: 1 },
        Message::Pong { nonce: u64::MAX },
        Message::PingFor {
            target: someone(1).addr,
            nonce: 2,
        },
        Message::Suspect {
            id: Id(3),
            incarnation: 4,
        },
        Message::Dead { incarnation: 5 },
        Message::List {
            nonce: 6,
            forward: true,
            count: 16,
        },
        Message::Listed {
            nonce: 6,
            members: vec![someone(1)],
        },
    ]
}

#[test]
fn every_message_arrives_as_it_was_sent() {
    for sent in every_message() {
        let bytes = envelope(&sent).encode_to_vec();
        let arrived = proto::Envelope::decode(&*bytes).expect("what was encoded");
        assert_eq!(message(arrived), Ok(sent));
    }
}

#[test]
fn what_is_out_of_bounds_is_refused() {
    let listed = |n| Message::Listed {
        nonce: 1,
        members: vec![someone(1); n],
    };
    assert!(message(envelope(&listed(Message::MAX_LISTED))).is_ok());
    assert!(message(envelope(&listed(Message::MAX_LISTED + 1))).is_err());
    let digits = Some(Imaginary {
        digits: 65,
        node: Id(1),
    });
    assert!(message(envelope(&look_up(Purpose::Find, digits, None))).is_err());
    for nowhere in ["0.0.0.0:1", "1.2.3.4:0", "example.com:1", ""] {
        let from = Some(proto::Endpoint {
            address: nowhere.to_owned(),
        });
        let hello = proto::Envelope {
            from,
            ..proto::Envelope::default()
        };
        assert!(sender(hello).is_err(), "{nowhere:?}");
    }
}

proptest! {
    /// Bytes from outside, whole or bent, never make it panic.
    #[test]
    fn no_bytes_make_it_panic(
        which in 0usize..16,
        bends in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 0..8),
        noise in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        let mut bytes = envelope(&every_message()[which]).encode_to_vec();
        for (at, value) in bends {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        for bytes in [bytes, noise] {
            if let Ok(envelope) = proto::Envelope::decode(&*bytes) {
                let _either = message(envelope.clone());
                let _either = sender(envelope);
            }
        }
    }
}
