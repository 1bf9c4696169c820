//! What the owners of pods are told, as Events of Kubernetes: one at a time, and the same thing not twice in
//! a while, as a thousand pods may have one owner.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant, UNIX_EPOCH},
};

use humantime_serde::re::humantime::format_rfc3339_seconds;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::{Event, api::Api, clock, metrics::InjectorMetrics};

/// Events that wait to be sent; one more is dropped and counted.
pub(super) const MAX_WAITING: usize = 256;
/// How long the same is not told again.
const QUIET: Duration = Duration::from_secs(600);
/// What was told lately: so many things at most.
const MAX_TOLD: usize = 1024;

/// Sends events until there are no more senders.
pub(super) async fn run(
    api: Option<Api>,
    mut events: mpsc::Receiver<Event>,
    metrics: Arc<InjectorMetrics>,
) {
    let mut told = Told::default();
    while let Some(event) = events.recv().await {
        let Some(api) = &api else {
            continue;
        };
        if !told.is_news(&event, clock::now()) {
            metrics.event("same");
            continue;
        }
        let object = object(&event, clock::unix());
        match api.create_event(&event.namespace, &object).await {
            Ok(()) => metrics.event("sent"),
            Err(error) => {
                metrics.event("failed");
                tracing::debug!(%error, "An event could not be made.");
            }
        }
    }
}

/// What was told lately, oldest first.
#[derive(Default)]
struct Told {
    lately: VecDeque<(Instant, String, &'static str)>,
}

impl Told {
    fn is_news(&mut self, event: &Event, now: Instant) -> bool {
        while let Some((at, ..)) = self.lately.front()
            && (now.duration_since(*at) > QUIET || self.lately.len() >= MAX_TOLD)
        {
            self.lately.pop_front();
        }
        let uid = &event.owner[3];
        let known =
            |(_, owner, reason): &(Instant, String, &str)| owner == uid && *reason == event.reason;
        if self.lately.iter().any(known) {
            return false;
        }
        self.lately.push_back((now, uid.clone(), event.reason));
        true
    }
}

fn object(event: &Event, now: i64) -> Value {
    let [api_version, kind, name, uid] = &event.owner;
    let time = UNIX_EPOCH + Duration::from_secs(now.max(0).unsigned_abs());
    let time = format_rfc3339_seconds(time).to_string();
    json!({
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"generateName": "koorde-injector-", "namespace": event.namespace},
        "involvedObject": {
            "apiVersion": api_version, "kind": kind, "name": name, "uid": uid, "namespace": event.namespace,
        },
        "type": if event.is_warning { "Warning" } else { "Normal" },
        "reason": event.reason,
        "message": event.message,
        "source": {"component": "koorde-injector"},
        "reportingComponent": "koorde-injector",
        "firstTimestamp": time,
        "lastTimestamp": time,
        "count": 1,
    })
}
