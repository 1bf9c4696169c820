//! Pods of a StatefulSet and the Service before them.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::future::join_all;
use http::StatusCode;
use tokio::task::JoinSet;

use crate::process::{Process, client, get, now};

/// From a change of a pod until every client knows of it: EndpointSlices and kube-proxy take as long.
const LAG: Duration = Duration::from_millis(500);
/// What `shutdown.delay` is for: longer than the lag.
const DELAY: &str = "1500ms";
/// Between a kubelet's looks at readiness.
const PERIOD: Duration = Duration::from_millis(100);
/// terminationGracePeriodSeconds: then it is killed, which nothing here may need.
const GRACE: Duration = Duration::from_secs(30);

/// The ready addresses, as clients know them.
pub(crate) type Service = Arc<Mutex<Vec<SocketAddr>>>;

/// The processes, by ordinal.
pub(crate) struct Pods {
    pods: Vec<Process>,
    pub(crate) service: Service,
    /// Addresses that clients do not know yet.
    told: JoinSet<()>,
}

impl Pods {
    /// Starts all at once (`podManagementPolicy: Parallel`) and waits until all are ready.
    pub(crate) async fn start(n: usize) -> Self {
        let mut pods = vec![pod(0, &[]).await];
        let seeds = [pods[0].peer];
        pods.extend(join_all((1..n).map(|ordinal| pod(ordinal, &seeds))).await);
        for pod in &pods {
            pod.knows(n).await;
            ready(pod).await;
        }
        let service = Arc::new(Mutex::new(pods.iter().map(|pod| pod.http).collect()));
        Self {
            pods,
            service,
            told: JoinSet::new(),
        }
    }

    /// Each pod ends and comes back under its name at another address, the last first.
    pub(crate) async fn replace_all(&mut self) {
        for ordinal in (0..self.pods.len()).rev() {
            let old = self.pods.remove(ordinal);
            let (at, service) = (old.http, Arc::clone(&self.service));
            tokio::join!(end(old), async {
                tokio::time::sleep(LAG).await;
                list(&service).retain(|address| *address != at);
            });
            let seeds: Vec<_> = self.pods.iter().map(|pod| pod.peer).collect();
            let new = pod(ordinal, &seeds).await;
            ready(&new).await;
            // The controller goes on at once; clients learn of the new address later.
            let (at, service) = (new.http, Arc::clone(&self.service));
            self.told.spawn(async move {
                tokio::time::sleep(LAG).await;
                list(&service).push(at);
            });
            self.pods.insert(ordinal, new);
        }
    }

    /// The last `n` end at once.
    pub(crate) async fn take_away(&mut self, n: usize) {
        let leaving = self.pods.split_off(self.pods.len() - n);
        let gone: Vec<_> = leaving.iter().map(|pod| pod.http).collect();
        tokio::join!(join_all(leaving.into_iter().map(end)), async {
            tokio::time::sleep(LAG).await;
            list(&self.service).retain(|address| !gone.contains(address));
        });
        for pod in &self.pods {
            pod.knows(self.pods.len()).await;
        }
    }
}

pub(crate) fn list(service: &Service) -> std::sync::MutexGuard<'_, Vec<SocketAddr>> {
    service.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn pod(ordinal: usize, seeds: &[SocketAddr]) -> Process {
    let flags = ["--shutdown.delay", DELAY];
    Process::start(&format!("koorde-{ordinal}"), seeds, &flags).await
}

/// Waits until a pod's readiness probe succeeds.
async fn ready(pod: &Process) {
    let (client, url) = (client(), format!("http://{}/readyz", pod.admin));
    let begun = now();
    while !get(&client, &url)
        .await
        .is_ok_and(|answer| answer.status() == StatusCode::OK)
    {
        assert!(begun.elapsed() < GRACE, "it never gets ready");
        tokio::time::sleep(PERIOD).await;
    }
}

/// SIGTERM, and the end inside the grace period.
async fn end(mut pod: Process) {
    pod.signal("-TERM").await;
    let ended = tokio::time::timeout(GRACE, pod.wait()).await;
    assert_eq!(ended, Ok(true), "it ends by itself and well");
}
