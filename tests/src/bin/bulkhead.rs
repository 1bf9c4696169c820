//! Measures what 5,000 requests that hang on one origin do to another's misses. Run it with
//! `cargo run --release -p koorde-tests --bin bulkhead`.

use std::{
    io::Write,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use koorde_tests::{
    cluster::{Cluster, eventually, fetch, get},
    origin::{Origin, response},
};
use tokio::{sync::watch, task::JoinSet};

const HANGING: usize = 5_000;
const NODES: usize = 3;
/// Requests under way at once to one origin, each node.
const SLOTS: usize = 1024;
const FOREVER: Duration = Duration::from_secs(600);
/// Misses measured each time, at most so many of them under way at once.
const MISSES: usize = 600;
const AT_ONCE: usize = 8;
const ROUNDS: usize = 5;

#[tokio::main]
async fn main() {
    let (release, released) = watch::channel(false);
    let stalled = Origin::start(move |_| {
        let mut released = released.clone();
        async move {
            let _ended = released.wait_for(|released| *released).await;
            response(503, &[], "")
        }
    })
    .await;
    let origin = Origin::fixed(
        Duration::from_millis(5),
        &[("cache-control", "max-age=600")],
        "body",
    )
    .await;
    let cluster = Cluster::with(NODES, |config| {
        // So that all of them hang, and none is refused or given up.
        config.fetch.max_fills = 4 * HANGING;
        config.fetch.timeout = FOREVER;
        config.origin.response_timeout = FOREVER;
        // The stalled one accepts so many connections in one moment slowly.
        config.origin.connect_timeout = Duration::from_secs(60);
        config.origin.limits.breaker_failures = 0;
        config.origin.limits.max_concurrent = SLOTS;
        config.origin.limits.max_queue = HANGING;
        config.origin.limits.queue_timeout = FOREVER;
    })
    .await;
    let cluster = Arc::new(cluster);
    // What is warmed up once must not count.
    p99(&cluster, &origin, "warm").await;
    let mut quiet = Vec::new();
    for round in 0..ROUNDS {
        quiet.push(p99(&cluster, &origin, &format!("quiet{round}")).await);
    }
    let mut hanging = JoinSet::new();
    for n in 0..HANGING {
        let (cluster, url) = (Arc::clone(&cluster), stalled.url(&format!("/{n}")));
        hanging.spawn(async move { fetch(&cluster.nodes[n % NODES], get(&url)).await });
    }
    stalled.asked(NODES * SLOTS).await;
    eventually("others wait", || {
        let waiting = cluster.metrics.iter().map(|m| m.origin_waiting.get());
        // Not all of them: on a busy machine some come to the origin by two ways.
        waiting.sum::<i64>() >= 1_000
    })
    .await;
    let mut beside = Vec::new();
    for round in 0..ROUNDS {
        beside.push(p99(&cluster, &origin, &format!("beside{round}")).await);
    }
    while hanging.try_join_next().is_some() {}
    let still = hanging.len();
    let (quiet, beside) = (median(quiet), median(beside));
    say(&format!(
        "p99 of {MISSES} misses, median of {ROUNDS} rounds: alone {quiet:.2} ms, beside {still} \
         requests that hang on another origin {beside:.2} ms, {:+.1} %",
        (beside / quiet - 1.0) * 100.0
    ));
    release.send_replace(true);
}

/// The 99th percentile in milliseconds of misses spread over all nodes.
async fn p99(cluster: &Cluster, origin: &Origin, round: &str) -> f64 {
    let lines = (0..AT_ONCE).map(async |line| {
        let mut taken = Vec::new();
        for n in 0..MISSES / AT_ONCE {
            let url = origin.url(&format!("/{round}/{line}/{n}"));
            let began = now();
            let answer = fetch(&cluster.nodes[n % NODES], get(&url)).await;
            taken.push(began.elapsed().as_secs_f64() * 1000.0);
            assert_eq!(answer.expect("an answer").body(), "body");
        }
        taken
    });
    let mut taken = join_all(lines).await.concat();
    taken.sort_by(f64::total_cmp);
    let p99 = taken[taken.len() * 99 / 100];
    say(&format!(
        "{round}: median {:.2} ms, p99 {p99:.2} ms",
        taken[taken.len() / 2]
    ));
    p99
}

fn median(mut of: Vec<f64>) -> f64 {
    of.sort_by(f64::total_cmp);
    of[of.len() / 2]
}

#[expect(clippy::disallowed_methods, reason = "it measures")]
fn now() -> Instant {
    Instant::now()
}

fn say(line: &str) {
    // A closed pipe is no reason to panic.
    let _ = writeln!(std::io::stdout(), "{line}");
}
