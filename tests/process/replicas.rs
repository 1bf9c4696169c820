//! Replicas of a service behind the layer, shorter than `src/bin/replicas.rs` measures it.

use std::{path::Path, time::Duration};

use koorde_tests::replica::{
    outage::{Times, outage},
    stampede::{Stampede, stampede},
};

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

#[tokio::test(flavor = "multi_thread")]
async fn a_sidecar_that_dies_under_load_and_comes_back_fails_no_call() {
    for mode in ["delegate", "look-aside"] {
        let times = Times {
            rate: 100,
            keys: 20,
            before: Duration::from_secs(1),
            dead: Duration::from_secs(2),
            after: Duration::from_secs(4),
        };
        let came = outage(Path::new(PROGRAM), mode, times).await;
        assert_eq!(came.failed, 0, "{mode}: {came:?}");
        let [before, dead, _] = came.phases;
        // But for calls that the kill met.
        let (calls, open) = (before.layered.calls, before.layered.open);
        assert!(open * 4 < calls, "{mode}: {came:?}");
        assert!(dead.layered.open > 0, "{mode}: {came:?}");
        assert!(came.found_again.is_some(), "{mode}: {came:?}");
    }
}
