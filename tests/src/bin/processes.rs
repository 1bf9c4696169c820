//! Measures real processes on loopback and prints a line each. Run it with
//! `cargo run --release -p koorde-tests --bin processes`.

use std::{io::Write, time::Duration};

use futures_util::future::join_all;
use http_body_util::BodyExt;
use koorde_tests::{
    origin::{Origin, response, stream},
    process::{Process, client, fetch, get, now},
};

const FRESH: &[(&str, &str)] = &[("cache-control", "max-age=600")];
const DELAY: Duration = Duration::from_millis(500);
const REQUESTS: usize = 1000;

#[tokio::main]
async fn main() {
    idle().await;
    for _ in 0..3 {
        stampede().await;
    }
    for _ in 0..3 {
        stampede_while_one_joins_and_one_dies().await;
    }
    large_body().await;
    cut_body().await;
}

fn say(line: &str) {
    // A closed pipe is no reason to panic.
    let _ = writeln!(std::io::stdout(), "{line}");
}

async fn idle() {
    let node = Process::start("koorde-0", &[], &[]).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    say(&format!("idle: RSS {:.1} MiB", node.rss() as f64 / 1024.0));
}

/// Sends `REQUESTS` at once, spread over these nodes; every latency in milliseconds, in order of
/// sending, and how many answers were not right.
async fn storm(nodes: &[Process], target: &str) -> (Vec<f64>, usize) {
    let client = client();
    let requests = (0..REQUESTS).map(|n| {
        let (client, url) = (client.clone(), nodes[n % nodes.len()].url(target));
        async move {
            let sent = now();
            let answer = fetch(&client, &url).await;
            let right = answer.is_ok_and(|a| a.status() == 200 && a.body() == "body");
            (sent.elapsed().as_secs_f64() * 1000.0, right)
        }
    });
    let answers = join_all(requests).await;
    let wrong = answers.iter().filter(|(_, right)| !right).count();
    (answers.into_iter().map(|(ms, _)| ms).collect(), wrong)
}

fn report(what: &str, latencies: &[f64], wrong: usize, origin: usize) {
    let mut sorted = latencies.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (first, median, max) = (
        latencies[0],
        sorted[sorted.len() / 2],
        sorted[sorted.len() - 1],
    );
    say(&format!(
        "{what}: {origin} origin requests, {wrong} of {REQUESTS} answers wrong; first {first:.0} ms, median {median:.0} ms, max {max:.0} ms"
    ));
}

async fn stampede() {
    let origin = Origin::fixed(DELAY, FRESH, "body").await;
    let nodes = Process::ring(10, &[]).await;
    let (latencies, wrong) = storm(&nodes, &origin.url("/cold")).await;
    report(
        "10 nodes, cold key",
        &latencies,
        wrong,
        origin.count("/cold"),
    );
}

/// The owner is the one that dies, which is the worst choice; nobody asks it directly.
async fn stampede_while_one_joins_and_one_dies() {
    let origin = Origin::fixed(DELAY, FRESH, "body").await;
    let mut nodes = Process::ring(10, &[]).await;
    let target = origin.url("/cold");
    let explained = nodes[0]
        .admin_json(&format!("/debug/explain?url={target}"))
        .await;
    let owner = explained["owners"][0].as_str().unwrap_or_default();
    let owner: usize = owner
        .trim_start_matches("koorde-")
        .parse()
        .expect("a node's number");
    let owner = nodes.remove(owner);
    let seeds: Vec<_> = nodes.iter().map(|node| node.peer).collect();
    let turmoil = async {
        origin.asked(1).await;
        owner.signal("-9").await;
        Process::start("koorde-10", &seeds, &[]).await
    };
    let ((latencies, wrong), _joiner) = tokio::join!(storm(&nodes, &target), turmoil);
    report(
        "the same, owner killed, one joins",
        &latencies,
        wrong,
        origin.count("/cold"),
    );
}

async fn large_body() {
    const CHUNK: usize = 64 << 10;
    const LENGTH: u64 = 4 << 30;
    let origin = Origin::start(|_| async {
        let mut answer = response(200, FRESH, "");
        answer.headers_mut().insert("content-length", LENGTH.into());
        *answer.body_mut() = stream(LENGTH / CHUNK as u64, CHUNK, false);
        answer
    })
    .await;
    let nodes = Process::ring(2, &[]).await;
    let target = origin.url("/large");
    let explained = nodes[0]
        .admin_json(&format!("/debug/explain?url={target}"))
        .await;
    let other = usize::from(explained["owners"][0] == "koorde-0");
    let before: Vec<u64> = nodes.iter().map(Process::rss).collect();
    let mut most = before.clone();
    let sent = now();
    let mut body = get(&client(), &nodes[other].url(&target))
        .await
        .expect("a head")
        .into_body();
    let (mut read, mut frames) = (0u64, 0u64);
    while let Some(Ok(frame)) = body.frame().await {
        read += frame.into_data().map_or(0, |data| data.len() as u64);
        frames += 1;
        if frames.is_multiple_of(1000) {
            for (most, node) in most.iter_mut().zip(&nodes) {
                *most = node.rss().max(*most);
            }
        }
    }
    let grown: Vec<String> = most
        .iter()
        .zip(&before)
        .map(|(most, before)| format!("{:.1}", (most - before) as f64 / 1024.0))
        .collect();
    let rate = read as f64 / sent.elapsed().as_secs_f64() / f64::from(1 << 20);
    say(&format!(
        "{} of {} bytes through a non-owner at {rate:.0} MiB/s: RSS grew by {} MiB (highest seen)",
        read,
        LENGTH,
        grown.join(" and ")
    ));
}

async fn cut_body() {
    let origin = Origin::start(|_| async {
        let mut answer = response(200, FRESH, "");
        answer.headers_mut().insert("content-length", 65_536.into());
        *answer.body_mut() = stream(2, 1024, true);
        answer
    })
    .await;
    let nodes = Process::ring(2, &[]).await;
    let target = origin.url("/cut");
    let mut seen = Vec::new();
    for node in &nodes {
        let answer = fetch(&client(), &node.url(&target)).await;
        seen.push(if answer.is_err() { "error" } else { "complete" });
    }
    let stored = nodes[0]
        .admin_json(&format!("/debug/explain?url={target}"))
        .await["variants"]
        .clone();
    say(&format!(
        "cut-off body: the clients saw {}; stored: {stored}; {} origin requests for 2",
        seen.join(" and "),
        origin.count("/cut")
    ));
}
