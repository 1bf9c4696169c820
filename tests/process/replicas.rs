//! Replicas of a service behind the layer, shorter than `src/bin/replicas.rs` measures it.

use std::{path::Path, time::Duration};

use koorde_tests::replica::stampede::{Stampede, stampede};

const PROGRAM: &str = env!("CARGO_BIN_EXE_replicas");
const DELAY: Duration = Duration::from_millis(500);

#[tokio::test(flavor = "multi_thread")]
async fn three_replicas_that_want_one_cold_key_ask_upstream_once() {
    let came = stampede(Path::new(PROGRAM), 100, DELAY, false).await;
    let expected = Stampede {
        origin_requests: 1,
        answered: 300,
        slowest: came.slowest,
        ..Stampede::default()
    };
    assert_eq!(came, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_replica_that_fetches_is_killed_another_does_and_nobody_fails() {
    let came = stampede(Path::new(PROGRAM), 100, DELAY, true).await;
    let expected = Stampede {
        origin_requests: 2,
        answered: 200,
        slowest: came.slowest,
        killed: 1,
        ..Stampede::default()
    };
    assert_eq!(came, expected);
}
