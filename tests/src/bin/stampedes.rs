//! What happens when many ask for one thing that can't be shared, and when the first of many goes
//! away. Real processes on loopback; `cargo run --release -p koorde-tests --bin stampedes`.

use std::{io::Write, time::Duration};

use futures_util::future::join_all;
use koorde_tests::{
    origin::Origin,
    process::{Client, Process, client, fetch, get, now},
};

const DELAY: Duration = Duration::from_millis(100);
const CLIENTS: usize = 50;
const ROUNDS: usize = 20;

#[tokio::main]
async fn main() {
    for nodes in [1, 5] {
        uncacheable(nodes).await;
        leader_leaves(nodes).await;
    }
}

fn say(line: &str) {
    // A closed pipe is no reason to panic.
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// 50 clients at once ask for a response that is `private`, a cold key each round; what one of
/// them waits, in multiples of the origin's time.
async fn uncacheable(nodes: usize) {
    let origin = Origin::fixed(DELAY, &[("cache-control", "private")], "body").await;
    let nodes = Process::ring(nodes, &[]).await;
    let client = client();
    let (mut cold, mut known, mut floor) = (Vec::new(), Vec::new(), Vec::new());
    let mut asked = 0;
    for round in 0..ROUNDS {
        let path = format!("/{round}");
        let through = |n: usize| nodes[n % nodes.len()].url(&origin.url(&path));
        let cold_waits = stampede(&client, through).await;
        let cold_asked = origin.count(&path);
        let known_waits = stampede(&client, through).await;
        let floor_waits = stampede(&client, |_| origin.url(&path)).await;
        // The first round pays for connections.
        if round > 0 {
            cold.extend(cold_waits);
            known.extend(known_waits);
            floor.extend(floor_waits);
            asked += cold_asked;
        }
    }
    let nodes = nodes.len();
    let clients = cold.len();
    say(&format!(
        "uncacheable, {nodes} nodes, {CLIENTS} clients, in multiples of the origin's time:"
    ));
    say(&format!("  straight to the origin   {}", quantiles(floor)));
    say(&format!("  known to be uncacheable  {}", quantiles(known)));
    say(&format!(
        "  a cold key               {}; {asked} origin requests for {clients} clients",
        quantiles(cold)
    ));
}

/// What each of the clients waits that ask at once, in multiples of the origin's time.
async fn stampede(client: &Client, url: impl Fn(usize) -> String) -> Vec<f64> {
    let requests = (0..CLIENTS).map(|n| {
        let (client, url) = (client.clone(), url(n));
        async move {
            let sent = now();
            let answer = fetch(&client, &url).await.expect("an answer");
            assert_eq!(answer.body(), "body");
            sent.elapsed().as_secs_f64() / DELAY.as_secs_f64()
        }
    });
    join_all(requests).await
}

fn quantiles(mut waits: Vec<f64>) -> String {
    waits.sort_by(f64::total_cmp);
    let at = |percent: usize| waits[(waits.len() - 1) * percent / 100];
    let (p50, p99, max) = (at(50), at(99), at(100));
    format!("p50 {p50:.2}, p99 {p99:.2}, max {max:.2}")
}

/// The client that came first goes away while the origin is at work; 20 others wait.
async fn leader_leaves(nodes: usize) {
    let origin = Origin::fixed(
        Duration::from_secs(1),
        &[("cache-control", "max-age=60")],
        "body",
    )
    .await;
    let nodes = Process::ring(nodes, &[]).await;
    let url = origin.url("/left");
    let leader = {
        let (client, url) = (client(), nodes[0].url(&url));
        let mut leader = tokio::task::JoinSet::new();
        leader.spawn(async move { get(&client, &url).await.map(|_| ()) });
        leader
    };
    origin.asked(1).await;
    let client = client();
    let waiters = (0..20).map(|n| {
        let (client, url) = (client.clone(), nodes[n % nodes.len()].url(&url));
        async move { (fetch(&client, &url).await, now()) }
    });
    let sent = now();
    let waiting = join_all(waiters);
    let leave = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        drop(leader);
    };
    let (answers, ()) = tokio::join!(waiting, leave);
    let right = answers
        .iter()
        .filter(|(answer, _)| answer.as_ref().is_ok_and(|a| a.body() == "body"));
    let slowest = answers
        .iter()
        .map(|(_, at)| at.duration_since(sent).as_millis())
        .max();
    say(&format!(
        "leader leaves, {} nodes: {} origin requests; {} of 20 waiters right, the slowest after {} ms of 1000",
        nodes.len(),
        origin.count("/left"),
        right.count(),
        slowest.unwrap_or_default(),
    ));
}
