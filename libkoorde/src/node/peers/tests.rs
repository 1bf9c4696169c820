//! The table of streams of ring messages, over sockets of this machine.

use tokio::net::TcpListener;

use super::*;
use crate::metrics::counted;

/// With what is told as unreachable.
fn peers() -> (Peers, mpsc::Receiver<SocketAddr>) {
    let (unreachable, told) = mpsc::channel(2 * MAX_PEERS);
    let metrics = Metrics::new(&mut Default::default());
    let hello = wire::hello("cluster", ([127, 0, 0, 1], 1).into());
    let peers = Peers::new(unreachable, hello, Tasks::default(), metrics);
    (peers, told)
}

fn hello() -> Envelope {
    wire::hello("cluster", ([127, 0, 0, 1], 1).into())
}

/// Nobody listens there.
fn nobody(n: usize) -> SocketAddr {
    let [_, _, high, low] = u32::try_from(n).expect("few").to_be_bytes();
    ([127, 9, high, low], 1).into()
}

fn known(peers: &Peers) -> usize {
    peers.ring.lock().unwrap().len()
}

#[tokio::test]
async fn streams_that_have_ended_leave_room_for_a_new_member() {
    let (peers, mut told) = peers();
    for n in 0..MAX_PEERS {
        peers.deliver(nobody(n), hello());
    }
    for _ in 0..MAX_PEERS {
        told.recv().await.expect("nobody listens there");
    }
    let member = TcpListener::bind("127.0.0.1:0").await.unwrap();
    peers.deliver(member.local_addr().unwrap(), hello());
    assert_eq!(known(&peers), 1, "those that have ended are forgotten");
    let connects = time::timeout(Duration::from_secs(10), member.accept());
    connects.await.expect("in time").unwrap();
    assert_eq!(counted(&peers.metrics.ring_messages, "dropped"), 0);
}

#[tokio::test]
async fn one_stream_gives_way_to_a_new_member_where_all_are_in_use() {
    let (peers, _told) = peers();
    // Nothing waits here, so no stream can end meanwhile.
    for n in 0..=MAX_PEERS {
        peers.deliver(nobody(n), hello());
    }
    assert_eq!(known(&peers), MAX_PEERS);
    let table = peers.ring.lock().unwrap();
    assert!(table.contains_key(&nobody(MAX_PEERS)));
    assert!(!table.contains_key(&nobody(0)));
    assert_eq!(counted(&peers.metrics.ring_messages, "dropped"), 0);
}
