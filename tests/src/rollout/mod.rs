//! A StatefulSet's life under load, with real processes: pods are replaced one by one, or several are
//! taken away at once, as the StatefulSet controller, the kubelet and kube-proxy do it.
//! `pods` are the processes, [`load`] is what clients of their Service see, [`replace`] and [`scale_in`]
//! are what is tried.

pub mod load;
mod pods;

use std::time::Duration;

use crate::origin::{Origin, response};
use load::{Load, Window};
use pods::Pods;

/// What the origin sends.
pub(crate) const BODY: &str = "a body of some length, so that there is something to hand over";

/// How large it all is.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    /// Pods in the beginning.
    pub pods: usize,
    /// Requests a second.
    pub rate: u64,
    /// Stored responses.
    pub keys: usize,
    /// Load before the first change, and after the last.
    pub around: Duration,
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Came {
    /// Requests under load.
    pub requests: usize,
    /// What went wrong, each.
    pub failures: Vec<String>,
    /// Percent of the requests that asked no origin, before anything changed.
    pub hits_before: f64,
    /// The same in the worst second.
    pub hits_worst: f64,
    /// Origin requests while the load ran.
    pub origin_requests: usize,
    /// Of the stored responses, those that the origin was asked for again in the end.
    pub lost: usize,
    /// From the first SIGTERM to the end of the last change.
    pub lasted: Duration,
}

/// A rolling update: each pod, the last first, is told to end, and the next one follows when its
/// successor is ready.
///
/// # Panics
/// If the processes do not run.
pub async fn replace(scale: Scale) -> Came {
    run(scale, async |pods| pods.replace_all().await).await
}

/// `by` pods are told to end, all at once.
///
/// # Panics
/// If the processes do not run.
pub async fn scale_in(scale: Scale, by: usize) -> Came {
    run(scale, async |pods| pods.take_away(by).await).await
}

async fn run(scale: Scale, change: impl AsyncFnOnce(&mut Pods)) -> Came {
    let origin =
        Origin::start(|_| async { response(200, &[("cache-control", "max-age=3600")], BODY) })
            .await;
    let urls: Vec<String> = (0..scale.keys)
        .map(|n| origin.url(&format!("/{n}")))
        .collect();
    let mut pods = Pods::start(scale.pods).await;
    load::each_once(&pods.service, &urls).await;
    let stored = origin.total();
    let load = Load::start(&pods.service, &urls, scale.rate, &origin);
    tokio::time::sleep(scale.around).await;
    let before = load.so_far();
    let began = crate::process::now();
    change(&mut pods).await;
    let lasted = began.elapsed();
    tokio::time::sleep(scale.around).await;
    let (windows, failures) = load.end().await;
    let under_load = origin.total();
    load::each_once(&pods.service, &urls).await;
    let hits = |windows: &[Window]| windows.iter().map(Window::hits).fold(100.0, f64::min);
    let all = |windows: &[Window]| {
        let sum = |of: fn(&Window) -> usize| windows.iter().map(of).sum();
        Window {
            requests: sum(|window| window.requests),
            origin_requests: sum(|window| window.origin_requests),
        }
    };
    let whole = all(&windows);
    Came {
        requests: whole.requests,
        failures,
        hits_before: all(&windows[..before.min(windows.len())]).hits(),
        hits_worst: hits(&windows),
        origin_requests: under_load - stored,
        lost: origin.total() - under_load,
        lasted,
    }
}
