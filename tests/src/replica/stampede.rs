//! All replicas want one cold key at once; the one that fetches it may be killed.

use std::{path::Path, time::Duration};

use super::{
    Replica,
    app::{BODY, NAME},
};
use crate::{origin::Origin, process::Process};

const REPLICAS: usize = 3;

/// What came of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stampede {
    /// Requests that reached the origin.
    pub origin_requests: usize,
    /// Calls answered as the origin would have.
    pub answered: u64,
    /// Calls that were not, of replicas that lived.
    pub failed: u64,
    /// In ms.
    pub slowest: u64,
    /// Replicas that were killed.
    pub killed: usize,
}

/// Three replicas of `program`, in look-aside, each with its own sidecar of one ring, make so many
/// calls each for one cold key at once. `kills`: the replica whose request the origin has is killed
/// while the origin is at work.
///
/// # Panics
/// If the processes do not run.
pub async fn stampede(program: &Path, calls: u64, delay: Duration, kills: bool) -> Stampede {
    let origin = Origin::fixed(delay, &[("cache-control", "max-age=60")], BODY).await;
    let sidecars = Process::ring(REPLICAS, &[]).await;
    let start = |(n, sidecar)| Replica::start(program, &format!("{n}"), "look-aside", sidecar);
    let mut replicas: Vec<_> = sidecars.iter().enumerate().map(start).collect();
    // Each has begun to run, and has its connections, before it matters.
    for replica in &mut replicas {
        replica
            .tell(&format!("burst 1 {}", origin.url("/warm")))
            .await;
        replica.said().await.expect("it runs");
    }
    for replica in &mut replicas {
        replica
            .tell(&format!("burst {calls} {}", origin.url("/cold")))
            .await;
    }
    let mut result = Stampede::default();
    if kills {
        origin.asked(origin.count("/warm") + 1).await;
        let first = origin.requests("/cold");
        let name = first.first().and_then(|fields| fields.get(NAME));
        let name = name.and_then(|name| name.to_str().ok()?.parse::<usize>().ok());
        replicas[name.expect("a replica has asked")].kill().await;
    }
    for replica in &mut replicas {
        let Some(said) = replica.said().await else {
            result.killed += 1;
            continue;
        };
        let count = |name: &str| said[name].as_u64().expect("a number");
        result.answered += count("answered");
        result.failed += count("failed");
        result.slowest = result.slowest.max(count("slowest_ms"));
    }
    result.origin_requests = origin.count("/cold");
    result
}
