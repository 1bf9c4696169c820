//! The one task that sends metrics: looks at the counters, sends, and at the end once more.

use std::{
    hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use libkoorde::metrics::Source;
use opentelemetry_proto::{
    tonic::{
        collector::metrics::v1::ExportMetricsServiceRequest,
        common::v1::InstrumentationScope,
        metrics::v1::{ResourceMetrics, ScopeMetrics},
        resource::v1::Resource,
    },
    transform::common::tonic::ResourceAttributesWithSchema,
};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep_until, timeout},
};
use tracing::warn;

use super::{Collector, message, sender};

/// What is told, and where from.
pub struct Told {
    /// Where the counters are.
    pub sources: Vec<Source>,
    /// Sets gauges that are looked up only when somebody asks.
    pub refresh: Arc<dyn Fn() + Send + Sync>,
    /// The node's name, which spreads the nodes over an interval.
    pub node: String,
}

/// The running task. Dropping it stops it where it is; [`Reader::finish`] does not.
#[derive(Debug)]
pub struct Reader {
    task: JoinSet<()>,
    end: watch::Sender<bool>,
}

impl Reader {
    pub(super) fn start(collector: &Collector, told: Told) -> Self {
        let (end, ends) = watch::channel(false);
        let task = Task {
            resource: (&collector.resource).into(),
            collector: collector.clone(),
            told,
            start: now(),
        };
        let mut tasks = JoinSet::new();
        tasks.spawn(task.run(ends));
        Self { task: tasks, end }
    }

    /// Sends the last figures, within `bound`.
    pub async fn finish(mut self, bound: Duration) {
        self.end.send_replace(true);
        if timeout(bound, self.task.join_next()).await.is_err() {
            warn!("The last metrics were not sent to the collector in time.");
        }
    }
}

struct Task {
    collector: Collector,
    resource: ResourceAttributesWithSchema,
    told: Told,
    /// When all counters were 0.
    start: u64,
}

impl Task {
    async fn run(self, mut ends: watch::Receiver<bool>) {
        let every = self.collector.settings.metrics_interval;
        // Nodes that start together do not send together.
        let mut next = Instant::now() + every.mul_f64(0.5 + self.chance() / 2.0);
        loop {
            tokio::select! {
                () = sleep_until(next) => (),
                _ = ends.changed() => break,
            }
            tokio::select! {
                () = self.send() => (),
                // What was sent now would have less in it than what is sent last.
                _ = ends.changed() => break,
            }
            next = (next + every).max(Instant::now());
        }
        self.send().await;
    }

    async fn send(&self) {
        (self.told.refresh)();
        let Collector { way, settings, .. } = &self.collector;
        let result = sender::send(way, self.message(), settings.export_timeout).await;
        self.collector.exports.ended("otlp_metrics", &result);
    }

    fn message(&self) -> ExportMetricsServiceRequest {
        let scope = InstrumentationScope {
            name: "koorde".to_owned(),
            ..InstrumentationScope::default()
        };
        // A clock may be put back; what ends before it began is refused.
        let metrics = message::metrics(&self.told.sources, self.start, now().max(self.start + 1));
        ExportMetricsServiceRequest {
            resource_metrics: vec![ResourceMetrics {
                resource: Some(Resource {
                    attributes: self.resource.attributes.0.clone(),
                    ..Resource::default()
                }),
                scope_metrics: vec![ScopeMetrics {
                    scope: Some(scope),
                    metrics,
                    ..ScopeMetrics::default()
                }],
                schema_url: self.resource.schema_url.clone().unwrap_or_default(),
            }],
        }
    }

    /// 0 to 1, by the node's name.
    fn chance(&self) -> f64 {
        let hasher = BuildHasherDefault::<DefaultHasher>::default();
        (hasher.hash_one(&self.told.node) >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// The time of day in nanoseconds since 1970.
#[expect(
    clippy::disallowed_methods,
    reason = "an edge of the process: what is told has a time of day"
)]
fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    u64::try_from(since.unwrap_or_default().as_nanos()).unwrap_or(u64::MAX)
}
