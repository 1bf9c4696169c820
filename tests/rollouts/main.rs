//! Pods come and go under load, shorter than `src/bin/rollouts.rs` measures it. How many requests find
//! something stored meanwhile depends on the machine, and is measured there; what has to hold on any
//! is here, and in `cluster/handoff.rs`. A program of its own, so that no other test runs beside it.

use std::time::Duration;

use koorde_tests::rollout::{Scale, replace, scale_in};

const SMALL: Scale = Scale {
    pods: 3,
    rate: 100,
    keys: 300,
    around: Duration::from_secs(2),
};

#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_update_and_then_a_scale_in_fail_no_request() {
    let came = replace(SMALL).await;
    assert!(came.failures.is_empty(), "{came:?}");
    let came = scale_in(Scale { pods: 4, ..SMALL }, 2).await;
    assert!(came.failures.is_empty(), "{came:?}");
}
