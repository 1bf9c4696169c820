//! The whole cluster, asked through one node.
#![allow(
    clippy::disallowed_methods,
    reason = "tests read clocks and start processes"
)]

mod support;

use std::{
    process::{Output, Stdio},
    time::{Duration, Instant},
};

use http::StatusCode;
use koorde_sidecar::app::App;
use serde_json::Value;
use support::{Client, Origin, SOON, cache, settings, start};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::Command,
};

/// Nodes that all know each other.
async fn ring(count: usize) -> Vec<App> {
    let mut apps: Vec<App> = Vec::new();
    for name in ["node-a", "node-b", "node-c"].into_iter().take(count) {
        let mut settings = settings();
        settings.node.name = name.to_owned();
        settings.ring.stabilize = Duration::from_millis(200);
        let seeds = apps.first().map(|first| first.addresses().peer.to_string());
        settings.ring.seeds = seeds.into_iter().collect();
        apps.push(start(settings).await);
    }
    until("all know all", async || {
        let knows = |app: &App| app.node().ring().members.len() == count;
        apps.iter().all(knows).then_some(())
    })
    .await;
    apps
}

async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let look = async {
        loop {
            if let Some(seen) = look().await {
                return seen;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(SOON, look).await.expect(what)
}

async fn whole(client: &Client, app: &App) -> Value {
    let admin = app.addresses().admin;
    let url = format!("http://{admin}/metrics/json?scope=cluster");
    let answer = client.get(&url).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    answer.json()
}

async fn stop(apps: Vec<App>) {
    for app in apps {
        app.shutdown().await;
    }
}

#[tokio::test]
async fn the_clusters_numbers_are_the_sums_of_its_members() {
    let (origin, client) = (Origin::start().await, Client::default());
    let apps = ring(3).await;
    for (times, app) in (1..).zip(&apps) {
        for _ in 0..times {
            client.get(&cache(app, &origin.url("/hot?secret=1"))).await;
        }
        client.get(&cache(app, &origin.url("/cold"))).await;
    }
    let tree = whole(&client, &apps[1]).await;
    assert_eq!(
        (&tree["scope"], &tree["node"]["name"]),
        (&"cluster".into(), &"node-b".into())
    );
    assert_eq!(
        (&tree["members"]["asked"], &tree["members"]["answered"]),
        (&3.into(), &3.into())
    );
    let mut sums = [0, 0, 0, 0];
    for app in &apps {
        let url = format!("http://{}/metrics/json", app.addresses().admin);
        let node = client.get(&url).await.json();
        let numbers = [
            "/cache/hits",
            "/cache/misses",
            "/cache/entry_count",
            "/origin/requests",
        ];
        for (sum, number) in sums.iter_mut().zip(numbers) {
            *sum += node.pointer(number).and_then(Value::as_u64).expect(number);
        }
    }
    let cache = &tree["cache"];
    let told = [
        &cache["hits"],
        &cache["misses"],
        &cache["entry_count"],
        &tree["origin"]["requests"],
    ];
    assert_eq!(told, sums.map(Value::from).each_ref());
    assert_eq!((sums[0], sums[1]), (7, 2), "two URLs, nine requests");
    let p99 = tree["latency"]["p99_seconds"]
        .as_f64()
        .expect("there were requests");
    assert!(p99 > 0.0 && p99 < 20.0, "{p99}");
    // Asked for on three nodes, counted together, its query not told.
    let hot = &tree["hotspots"]["urls"][0];
    assert_eq!(hot["count"], 6, "{}", tree["hotspots"]);
    let url = hot["url"].as_str().expect("a text");
    assert!(
        url.starts_with(&origin.url("/hot?#")) && !url.contains("secret"),
        "{url}"
    );
    stop(apps).await;
}

#[tokio::test]
async fn a_member_that_does_not_answer_is_named_in_time_and_the_others_are_summed() {
    let (origin, client) = (Origin::start().await, Client::default());
    let apps = ring(3).await;
    for app in &apps {
        client.get(&cache(app, &origin.url("/page"))).await;
    }
    apps[2].node().cut_off(true);
    let asked = Instant::now();
    let tree = whole(&client, &apps[0]).await;
    assert!(
        asked.elapsed() < Duration::from_secs(2),
        "{:?}",
        asked.elapsed()
    );
    assert_eq!(tree["members"]["answered"], 2);
    let each = tree["members"]["each"].as_array().expect("a list");
    let missing = each.iter().find(|row| row["name"] == "node-c");
    let state = missing.map(|row| row["state"].as_str().unwrap_or_default());
    assert!(matches!(state, Some("suspected" | "dead")), "{each:?}");
    let seen = tree["cache"]["hits"]
        .as_u64()
        .zip(tree["cache"]["misses"].as_u64());
    assert_eq!(
        seen.map(|(hits, misses)| hits + misses),
        Some(2),
        "of two nodes"
    );
    let dead = until("it is declared dead", async || {
        let tree = whole(&client, &apps[0]).await;
        (tree["members"]["asked"] == 2).then_some(tree)
    })
    .await;
    assert_eq!(dead["members"]["silent"], serde_json::json!([]));
    let each = dead["members"]["each"].as_array().expect("a list");
    assert!(
        each.iter()
            .any(|row| row["name"] == "node-c" && row["state"] == "dead")
    );
    stop(apps).await;
}

#[tokio::test]
async fn clients_of_the_cache_may_not_ask_for_the_cluster() {
    let (apps, client) = (ring(1).await, Client::default());
    let http = format!("http://{}/metrics/json", apps[0].addresses().http);
    let refused = client.get(&format!("{http}?scope=cluster")).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN, "{refused:?}");
    assert_eq!(
        client.get(&format!("{http}?scope=node")).await.json()["scope"],
        "node"
    );
    let admin = format!("http://{}/metrics/json", apps[0].addresses().admin);
    let unknown = client.get(&format!("{admin}?scope=world")).await;
    assert_eq!(unknown.status, StatusCode::BAD_REQUEST);
    assert!(
        unknown.body.contains("must be node or cluster"),
        "{unknown:?}"
    );
    stop(apps).await;
}

fn koorde(app: &App, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_koorde"));
    let admin = format!("http://{}", app.addresses().admin);
    command.args(words).args(["--admin", &admin]);
    command.stdin(Stdio::null()).kill_on_drop(true);
    command
}

async fn output(mut command: Command) -> Output {
    let output = tokio::time::timeout(SOON, command.output()).await;
    output.expect("it ends").expect("it runs")
}

#[tokio::test]
async fn the_command_line_shows_the_whole_cluster_and_its_changes() {
    let apps = ring(3).await;
    let stats = output(koorde(&apps[0], &["stats", "--cluster"])).await;
    let text = String::from_utf8_lossy(&stats.stdout);
    assert!(
        text.contains("3 of 3 members answered, asked by node-a"),
        "{text}"
    );
    // Without a terminal: one frame, no colours, and the end.
    let top = output(koorde(&apps[0], &["top"])).await;
    let text = String::from_utf8_lossy(&top.stdout);
    assert!(top.status.success() && !text.contains('\u{1b}'), "{top:?}");
    for part in [
        "3 of 3 members answered",
        "node-a",
        "node-c",
        "● live",
        "hit ratio",
    ] {
        assert!(text.contains(part), "{part:?} in\n{text}");
    }
    let mut watch = koorde(&apps[0], &["ring", "--watch"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("it runs");
    let lines = watch.stdout.take().expect("it is a pipe");
    let mut lines = BufReader::new(lines).lines();
    let mut next = async || {
        let line = tokio::time::timeout(SOON, lines.next_line()).await;
        line.expect("a line in time")
            .expect("text")
            .expect("no end")
    };
    for _ in 0..3 {
        let line = next().await;
        assert!(line.ends_with(") live"), "{line}");
    }
    apps[1].node().cut_off(true);
    let mut seen = String::new();
    while !seen.contains("-> dead") {
        let line = next().await;
        assert!(line.contains("node-b ("), "{line}");
        seen.push_str(&line);
    }
    watch.kill().await.expect("it runs until then");
    stop(apps).await;
}

/// More than anybody can know with this many neighbours each way.
const MANY: usize = 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_a_ring_that_nobody_knows_whole_every_member_is_asked() {
    let client = Client::default();
    let mut apps: Vec<App> = Vec::new();
    for index in 0..MANY {
        let mut settings = settings();
        settings.node.name = format!("node-{index}");
        // They share two threads: what is slow must not look dead.
        settings.ring.stabilize = Duration::from_secs(2);
        settings.ring.neighbors = 8;
        let seeds = apps.first().map(|first| first.addresses().peer.to_string());
        settings.ring.seeds = seeds.into_iter().collect();
        apps.push(start(settings).await);
    }
    until("nobody knows all", async || {
        let ring = apps[0].node().ring();
        (!ring.complete && ring.members.len() < MANY).then_some(())
    })
    .await;
    let tree = until("all answer", async || {
        let tree = whole(&client, &apps[0]).await;
        (tree["members"]["answered"] == MANY).then_some(tree)
    })
    .await;
    assert_eq!(tree["members"]["asked"], MANY, "{tree}");
    let each = tree["members"]["each"].as_array().expect("a list");
    let names: std::collections::BTreeSet<_> =
        each.iter().map(|row| row["name"].as_str()).collect();
    assert_eq!(names.len(), MANY);
    futures_util::future::join_all(apps.into_iter().map(App::shutdown)).await;
}
