//! The sidecar of a replica under load is killed, and started again at the same addresses.

use std::{path::Path, time::Duration};

use super::{Replica, app::BODY};
use crate::{
    origin::Origin,
    process::{Process, now},
};

/// How long what lasts, and how much is asked.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// Calls a second.
    pub rate: u64,
    /// URLs.
    pub keys: u64,
    /// Until the sidecar is killed.
    pub before: Duration,
    /// Until it is started again.
    pub dead: Duration,
    /// Until the end.
    pub after: Duration,
}

impl Default for Times {
    /// 1,000 calls a second over 100 keys, dead from the 10th to the 40th of 50 seconds.
    fn default() -> Self {
        Self {
            rate: 1000,
            keys: 100,
            before: Duration::from_secs(10),
            dead: Duration::from_secs(30),
            after: Duration::from_secs(10),
        }
    }
}

/// A call through the layer or past it.
#[derive(Clone, Copy, Debug)]
struct Sample {
    sent: u64,
    took: u64,
    letter: char,
}

/// How long calls took, in µs.
#[derive(Clone, Copy, Debug, Default)]
pub struct Waits {
    /// Calls.
    pub calls: usize,
    /// Of them, those that failed open.
    pub open: usize,
    /// Half of them were at most so long.
    pub p50: u64,
    /// 99 of 100 of them were.
    pub p99: u64,
}

/// One phase: through the layer, and straight to the origin.
#[derive(Clone, Copy, Debug)]
pub struct Phase {
    /// Its name.
    pub name: &'static str,
    /// Through the layer.
    pub layered: Waits,
    /// Past it, at the same time.
    pub floor: Waits,
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Outage {
    /// Calls through the layer.
    pub calls: usize,
    /// Of them, those that were not answered as the origin would have.
    pub failed: usize,
    /// Calls past the layer that failed: the machine's fault, not koorde's.
    pub floor_failed: usize,
    /// Before, while it is dead, and after.
    pub phases: [Phase; 3],
    /// From the new start to the first response that was stored, in ms; none: there was none.
    pub found_again: Option<u64>,
}

/// One replica of `program` in this mode, one ring of three sidecars; the replica's own is killed.
///
/// # Panics
/// If the processes do not run.
pub async fn outage(program: &Path, mode: &str, times: Times) -> Outage {
    let fields = &[("cache-control", "max-age=600")];
    let origin = Origin::fixed(Duration::ZERO, fields, BODY).await;
    let addresses = addresses();
    let mut sidecars = vec![sidecar(0, &[], Some(&addresses)).await];
    for n in 1..3 {
        sidecars.push(sidecar(n, &sidecars, None).await);
    }
    for sidecar in &sidecars {
        sidecar.knows(3).await;
    }
    let mut replica = Replica::start(program, "0", mode, &sidecars[0]);
    let lasts = times.before + times.dead + times.after;
    let (rate, keys, url) = (times.rate, times.keys, origin.url("/"));
    let load = format!("load {rate} {} {keys} {url}", lasts.as_millis());
    replica.tell(&load).await;
    let told = now();
    tokio::time::sleep(times.before).await;
    sidecars[0].signal("-9").await;
    let killed = told.elapsed();
    sidecars[0].wait().await;
    tokio::time::sleep(times.dead).await;
    let started = told.elapsed();
    let again = sidecar(0, &sidecars[1..], Some(&addresses)).await;
    let said = replica.said().await.expect("it lives");
    drop(again);
    let samples = samples(&said);
    let (killed, started) = (micros(killed), micros(started));
    let all = |letters: &str| {
        samples
            .iter()
            .filter(|s| letters.contains(s.letter))
            .count()
    };
    let hit = |s: &&Sample| s.letter == 'h' && s.sent >= started;
    let found = samples.iter().filter(hit).map(|s| s.sent + s.took).min();
    Outage {
        calls: all("hmox"),
        failed: all("x"),
        floor_failed: all("y"),
        phases: [
            // Without the first calls, which open connections and fill the keys.
            phase("before", &samples, killed / 5, killed),
            phase("dead", &samples, killed, started),
            phase("after", &samples, started, u64::MAX),
        ],
        found_again: found.map(|at| (at - started) / 1000),
    }
}

/// A sidecar that knows these; at any addresses, or these.
async fn sidecar(n: usize, known: &[Process], addresses: Option<&[String; 3]>) -> Process {
    let seeds: Vec<_> = known.iter().map(|sidecar| sidecar.peer).collect();
    let names = ["--http.listen", "--admin.listen", "--ring.listen"];
    let pairs = names.into_iter().zip(addresses.into_iter().flatten());
    let flags: Vec<_> = pairs.flat_map(|(name, address)| [name, address]).collect();
    Process::start(&format!("koorde-{n}"), &seeds, &flags).await
}

/// Free addresses that are still free in a minute: below those that the system gives to connections.
fn addresses() -> [String; 3] {
    let first = 10_000 + u16::try_from(std::process::id() % 10_000).unwrap_or_default();
    let mut free = (first..32_000)
        .map(|port| format!("127.0.0.1:{port}"))
        .filter(|address| std::net::TcpListener::bind(address).is_ok());
    std::array::from_fn(|_| free.next().expect("three free ports"))
}

fn samples(said: &serde_json::Value) -> Vec<Sample> {
    let sample = |value: &serde_json::Value| Sample {
        sent: value[0].as_u64().expect("a number"),
        took: value[1].as_u64().expect("a number"),
        letter: value[2]
            .as_str()
            .and_then(|s| s.chars().next())
            .expect("a letter"),
    };
    said.as_array()
        .expect("a list")
        .iter()
        .map(sample)
        .collect()
}

fn phase(name: &'static str, samples: &[Sample], from: u64, to: u64) -> Phase {
    let within = || {
        samples
            .iter()
            .filter(move |s| s.sent >= from && s.sent < to)
    };
    Phase {
        name,
        layered: waits(within().filter(|s| matches!(s.letter, 'h' | 'm' | 'o'))),
        floor: waits(within().filter(|s| s.letter == 'f')),
    }
}

fn waits<'a>(samples: impl Iterator<Item = &'a Sample>) -> Waits {
    let samples: Vec<_> = samples.collect();
    let mut took: Vec<_> = samples.iter().map(|sample| sample.took).collect();
    took.sort_unstable();
    let at = |percent: usize| {
        let last = took.len().saturating_sub(1);
        took.get(last * percent / 100).copied().unwrap_or_default()
    };
    Waits {
        calls: took.len(),
        open: samples.iter().filter(|sample| sample.letter == 'o').count(),
        p50: at(50),
        p99: at(99),
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
