//! Counts responses that are older than the receipt of a purge which took them.
//!
//! Run: `cargo run --release -p koorde-tests --bin purges` (`-- SECONDS RATE`, by default 10 s of
//! 1,000 requests a second in each of two parts). You should see: two lines, one for a ring whose
//! members can all be reached and one whose tenth member is cut off half of the time, each with
//! `0 old`.
//!
//! Ten nodes with sockets of their own; an origin whose every answer carries the number of the
//! version it was made of. Versions grow all the time; each purge takes one tag. Whoever asks a member
//! after a receipt that names it as acknowledged must see at least the version that was current when
//! the purge was issued. A member that is cut off is asked nothing until it is back in the ring (its
//! clients are cut off, too); from that moment it has to know every purge before.

use std::{
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use http_body_util::{BodyExt, Full};
use koorde_tests::{
    cluster::{Cluster, eventually, fetch, get},
    origin::{Origin, response},
    rules::Rng,
};
use libkoorde::{Kind, Node, PurgeRequest, Scope, metrics::counted};
use tokio::{task::JoinSet, time};

const NODES: usize = 10;
const TAGS: usize = 8;
const URLS: usize = 200;

/// What all parts of a run share.
struct Run {
    origin: Origin,
    cluster: Cluster,
    /// Of what the origin's answers are made.
    version: Arc<AtomicU64>,
    /// The version that answers with a tag have to be of, at least, by receipts: of each node.
    least: Vec<Vec<AtomicU64>>,
    /// The same, whoever has acknowledged it.
    issued: Vec<AtomicU64>,
    /// Whether the last node is away.
    away: AtomicBool,
    over: AtomicBool,
    counts: Counts,
}

#[derive(Default)]
struct Counts {
    answers: AtomicU64,
    old: AtomicU64,
    errors: AtomicU64,
    purges: AtomicU64,
    complete: AtomicU64,
    cuts: AtomicU64,
    slowest_micros: AtomicU64,
}

#[tokio::main]
async fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let mut number = |default| args.next().and_then(|a| a.parse().ok()).unwrap_or(default);
    let (seconds, rate) = (number(10), number(1000));
    let mut wrong = 0;
    for cuts in [false, true] {
        let run = Arc::new(Run::start().await);
        let began = now();
        let mut tasks = JoinSet::new();
        tasks.spawn(ask(Arc::clone(&run), rate));
        tasks.spawn(purge(Arc::clone(&run)));
        if cuts {
            tasks.spawn(cut(Arc::clone(&run)));
        }
        time::sleep(Duration::from_secs(seconds)).await;
        run.over.store(true, Ordering::SeqCst);
        while let Some(ended) = tasks.join_next().await {
            ended.expect("no part of the run panics");
        }
        wrong += run.report(cuts, began.elapsed());
        for node in &run.cluster.nodes {
            node.stop(Duration::from_secs(1)).await;
        }
    }
    if wrong == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

#[expect(clippy::disallowed_methods, reason = "a measurement takes real time")]
fn now() -> Instant {
    Instant::now()
}

fn zeros() -> Vec<AtomicU64> {
    (0..TAGS).map(|_| AtomicU64::new(0)).collect()
}

impl Run {
    async fn start() -> Self {
        let version = Arc::new(AtomicU64::new(1));
        let made_of = Arc::clone(&version);
        let origin = Origin::start(move |request| {
            let version = made_of.load(Ordering::SeqCst);
            let path = request.uri().path().to_owned();
            async move {
                // Now and then it is slow, so that purges meet fills under way.
                let number: usize = path[1..].parse().unwrap_or(0);
                let slow = if number.is_multiple_of(7) { 30 } else { 1 };
                time::sleep(Duration::from_millis(slow)).await;
                let mut answer = response(200, &[("cache-control", "max-age=600")], "");
                let tag = format!("tag-{}", number % TAGS);
                let tag = tag.parse().expect("a value");
                answer.headers_mut().insert("cache-tag", tag);
                let body = Full::from(version.to_string());
                *answer.body_mut() = body.map_err(|never| match never {}).boxed();
                answer
            }
        })
        .await;
        let cluster = Cluster::with(NODES, |config| {
            config.purge.timeout = Duration::from_millis(500);
        })
        .await;
        Self {
            origin,
            cluster,
            version,
            least: (0..NODES).map(|_| zeros()).collect(),
            issued: zeros(),
            away: AtomicBool::new(false),
            over: AtomicBool::new(false),
            counts: Counts::default(),
        }
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::SeqCst)
    }

    /// Asks one node for one URL, and judges the answer by what receipts said before.
    async fn one(&self, at: usize, number: usize) {
        let node = &self.cluster.nodes[at];
        let least = self.least[at][number % TAGS].load(Ordering::SeqCst);
        let counts = &self.counts;
        let url = self.origin.url(&format!("/{number}"));
        match fetch(node, get(&url)).await {
            Ok(answer) => {
                counts.answers.fetch_add(1, Ordering::Relaxed);
                let text = std::str::from_utf8(answer.body()).expect("digits");
                let version: u64 = text.parse().expect("a version");
                if version < least {
                    counts.old.fetch_add(1, Ordering::Relaxed);
                    let status = &answer.headers()["cache-status"];
                    println!("old: {version} < {least} from {}: {status:?}", node.name());
                }
            }
            Err(_) => {
                counts.errors.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    fn report(&self, cuts: bool, took: Duration) -> u64 {
        let read = |count: &AtomicU64| count.load(Ordering::SeqCst);
        let counts = &self.counts;
        let [answers, old, errors] = [&counts.answers, &counts.old, &counts.errors].map(read);
        let changes = |kind| -> u64 {
            let metrics = self.cluster.metrics.iter();
            metrics.map(|m| counted(&m.ring_changes, kind)).sum()
        };
        println!(
            "{}: {answers} answers ({:.0}/s), {old} old, {errors} errors; {} purges, {} of them acknowledged by all, slowest {:.1} ms; {} cuts; {} asked of the origin; {} times up, {} down",
            if cuts {
                "one member cut off and back"
            } else {
                "all members in reach"
            },
            answers as f64 / took.as_secs_f64(),
            read(&counts.purges),
            read(&counts.complete),
            read(&counts.slowest_micros) as f64 / 1000.0,
            read(&counts.cuts),
            (0..URLS)
                .map(|n| self.origin.count(&format!("/{n}")))
                .sum::<usize>(),
            changes("up"),
            changes("down"),
        );
        old + errors
    }
}

/// Asks at a steady rate, whatever the answers take.
async fn ask(run: Arc<Run>, rate: u64) {
    let mut rng = Rng::new(1);
    let mut ticks = time::interval(Duration::from_millis(5));
    let mut asking = JoinSet::new();
    while !run.is_over() {
        ticks.tick().await;
        for _ in 0..(rate / 200).max(1) {
            let away = usize::from(run.away.load(Ordering::SeqCst));
            let (run, number) = (Arc::clone(&run), rng.below(URLS));
            let node = rng.below(NODES - away);
            asking.spawn(async move { run.one(node, number).await });
        }
        while asking.try_join_next().is_some() {}
    }
    while asking.join_next().await.is_some() {}
}

/// Purges one tag after the other, through one node after the other.
async fn purge(run: Arc<Run>) {
    let mut rng = Rng::new(2);
    while !run.is_over() {
        let away = usize::from(run.away.load(Ordering::SeqCst));
        let (tag, node) = (rng.below(TAGS), rng.below(NODES - away));
        let version = run.version.fetch_add(1, Ordering::SeqCst) + 1;
        let request = PurgeRequest {
            scope: Scope::tag(&format!("tag-{tag}"), None).expect("a tag"),
            kind: if rng.below(2) == 0 {
                Kind::Soft
            } else {
                Kind::Hard
            },
            tenant: None,
        };
        let began = now();
        let receipt = run.cluster.nodes[node].purge(&request).await;
        let micros = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
        run.issued[tag].fetch_max(version, Ordering::SeqCst);
        for (at, node) in run.cluster.nodes.iter().enumerate() {
            if !receipt.unreachable.iter().any(|name| name == node.name()) {
                run.least[at][tag].fetch_max(version, Ordering::SeqCst);
            }
        }
        let counts = &run.counts;
        counts.purges.fetch_add(1, Ordering::Relaxed);
        let is_complete = u64::from(receipt.is_complete());
        counts.complete.fetch_add(is_complete, Ordering::Relaxed);
        counts.slowest_micros.fetch_max(micros, Ordering::Relaxed);
        time::sleep(Duration::from_millis(20)).await;
    }
}

/// Cuts the last node off, long enough for the others to notice, and takes it back.
async fn cut(run: Arc<Run>) {
    let last = &run.cluster.nodes[NODES - 1];
    while !run.is_over() {
        run.away.store(true, Ordering::SeqCst);
        last.cut_off(true);
        run.counts.cuts.fetch_add(1, Ordering::Relaxed);
        eventually("it is out of the ring", || {
            let sees = |node: &Node| node.ring().members.len() == NODES - 1;
            run.cluster.nodes[..NODES - 1].iter().all(sees) && last.ring().members.len() == 1
        })
        .await;
        time::sleep(Duration::from_millis(500)).await;
        last.cut_off(false);
        eventually("it is back in the ring", || {
            let nodes = &run.cluster.nodes;
            nodes.iter().all(|node| node.ring().members.len() == NODES)
        })
        .await;
        for (least, issued) in run.least[NODES - 1].iter().zip(&run.issued) {
            least.fetch_max(issued.load(Ordering::SeqCst), Ordering::SeqCst);
        }
        run.away.store(false, Ordering::SeqCst);
        time::sleep(Duration::from_secs(1)).await;
    }
}
