//! A rolling update of five nodes and a scale-in from eight to five, under 1,000 requests a second, as
//! a StatefulSet's pods would see them. Real processes on loopback; prints a line each.
//!
//! `cargo run --release -p koorde-tests --bin rollouts [-- RATE]`

use std::{io::Write, time::Duration};

use koorde_tests::rollout::{Came, Scale, replace, scale_in};

#[tokio::main]
async fn main() {
    let rate = std::env::args()
        .nth(1)
        .map_or(Ok(1000), |rate| rate.parse());
    let rate = rate.expect("requests a second");
    let scale = |pods| Scale {
        pods,
        rate,
        keys: 5000,
        around: Duration::from_secs(5),
    };
    say(
        "5 nodes, one after the other replaced",
        &replace(scale(5)).await,
    );
    say(
        "8 nodes, 3 taken away at once",
        &scale_in(scale(8), 3).await,
    );
}

fn say(what: &str, came: &Came) {
    let Came {
        requests,
        failures,
        hits_before,
        hits_worst,
        origin_requests,
        lost,
        lasted,
    } = came;
    // A closed pipe is no reason to panic.
    let _ = writeln!(
        std::io::stdout(),
        "{what}, in {lasted:.1?}: {requests} requests, {} failed; hits {hits_before:.1} % before, \
         {hits_worst:.1} % in the worst second; {origin_requests} origin requests; {lost} stored \
         responses lost",
        failures.len()
    );
    for failure in failures.iter().take(3) {
        let _ = writeln!(std::io::stdout(), "  {failure:.300}");
    }
}
