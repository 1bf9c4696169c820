//! The one task that tells CloudWatch: looks, puts into the outbox, sends, and at the end once more.

use std::{
    hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use libkoorde::metrics::Counters;
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep_until, timeout_at},
};
use tracing::{info, warn};

use super::{
    interval::{Interval, Ledger},
    outbox::{Form, Outbox, Sent},
    sink::Sink,
};
use crate::settings::{CloudWatchSettings, Exporter};

/// Between two lines in the log about the same trouble.
const QUIET: Duration = Duration::from_secs(300);

/// What the publisher tells, and where from.
pub struct Told {
    /// What has been told already, and where the counters are.
    pub ledger: Ledger,
    /// Sets gauges that are looked up only when somebody asks.
    pub refresh: Arc<dyn Fn() + Send + Sync>,
    /// Counts exports by outcome.
    pub exports: Counters,
    /// The node's name: dimension `Pod`, and what spreads the nodes over an interval.
    pub node: String,
}

/// The running publisher. Dropping it stops it where it is; [`Publisher::finish`] does not.
pub struct Publisher {
    task: JoinSet<()>,
    end: watch::Sender<Option<Instant>>,
}

impl Publisher {
    /// Starts it, if an exporter is set. Never waits: credentials, names and connections are looked
    /// for by the task.
    #[must_use]
    pub fn start(settings: &CloudWatchSettings, told: Told) -> Option<Self> {
        if settings.exporter == Exporter::None {
            return None;
        }
        let (end, ends) = watch::channel(None);
        let mut task = JoinSet::new();
        task.spawn(Task::new(settings.clone(), told).run(ends));
        Some(Self { task, end })
    }

    /// Looks once more and sends what is left, within `bound`; what has not been sent by then is lost.
    pub async fn finish(mut self, bound: Duration) {
        // The task counts what it has not brought to an end, which takes a moment.
        let end = Instant::now() + bound.mul_f64(0.95);
        self.end.send_replace(Some(end));
        let last = end + bound.mul_f64(0.05);
        if timeout_at(last, self.task.join_next()).await.is_err() {
            warn!("The last metrics were not sent in time.");
        }
    }
}

struct Task {
    start: Instant,
    /// When it last looked.
    looked: Instant,
    settings: CloudWatchSettings,
    told: Told,
    outbox: Outbox,
    sink: Sink,
    said: Option<Instant>,
    /// Whether the log ends in trouble.
    complained: bool,
    tries: u64,
}

impl Task {
    fn new(settings: CloudWatchSettings, told: Told) -> Self {
        let cluster = ("Cluster", settings.cluster.clone());
        let mut sets = vec![vec![cluster.clone()]];
        if settings.pod_dimension {
            sets.push(vec![cluster, ("Pod", told.node.clone())]);
        }
        let form = Form {
            is_emf: settings.exporter != Exporter::Api,
            namespace: settings.namespace.clone(),
            sets: sets.clone(),
            is_fine: settings.is_fine(),
        };
        Self {
            start: Instant::now(),
            looked: Instant::now(),
            sink: Sink::new(&settings, sets),
            outbox: Outbox::new(form),
            settings,
            told,
            said: None,
            complained: false,
            tries: 0,
        }
    }

    async fn run(mut self, mut ends: watch::Receiver<Option<Instant>>) {
        let flush = match self.settings.exporter {
            Exporter::Api => self.settings.flush.max(self.settings.interval),
            _ => self.settings.interval,
        };
        let start = Instant::now();
        let mut look = start + self.settings.interval;
        // Nodes that start together do not call together.
        let mut send = start + flush.mul_f64(0.5 + self.chance() / 2.0);
        loop {
            let end = tokio::select! {
                () = sleep_until(look.min(send)) => None,
                _ = ends.changed() => Some(ends.borrow().unwrap_or_else(Instant::now)),
            };
            let now = Instant::now();
            if let Some(end) = end {
                self.look();
                return self.send_all(end).await;
            }
            if now >= look {
                self.look();
                look = later(look, self.settings.interval, now);
            }
            if now >= send {
                // A look just before: what is sent is never older than an interval.
                send = match self.send(&mut ends).await {
                    Some(pause) => Instant::now() + pause,
                    None => later(send, flush, Instant::now()),
                };
            }
        }
    }

    fn look(&mut self) {
        (self.told.refresh)();
        let now = Instant::now();
        let data = self.told.ledger.take(now - self.looked);
        self.looked = now;
        let at = millis(self.start.elapsed());
        self.outbox.put(Interval { at, data });
    }

    /// Sends what waits until it is all sent, one fails, or the end has come; how long to wait if one
    /// has failed.
    async fn send(&mut self, ends: &mut watch::Receiver<Option<Instant>>) -> Option<Duration> {
        while self.waits() && ends.borrow().is_none() {
            if let Some(pause) = self.send_one(None).await {
                return Some(pause);
            }
        }
        None
    }

    /// The last of it: tries until all is sent or `end` has come.
    async fn send_all(&mut self, end: Instant) {
        while self.waits() && Instant::now() < end {
            if let Some(pause) = self.send_one(Some(end)).await {
                // There is little time: a tenth of the pause.
                sleep_until((Instant::now() + pause / 10).min(end)).await;
            }
        }
    }

    fn waits(&mut self) -> bool {
        self.outbox.first(began(self.start.elapsed())).is_some()
    }

    async fn send_one(&mut self, end: Option<Instant>) -> Option<Duration> {
        let parcel = self.outbox.first(began(self.start.elapsed()))?;
        let sending = self.sink.send(parcel);
        let sent = match end {
            None => sending.await,
            // A call may take longer than there is time: what has become of it is not known.
            Some(end) => timeout_at(end, sending).await.unwrap_or_else(|_elapsed| {
                Sent::Unknown("no answer before the process's end".to_owned())
            }),
        };
        self.note(&sent);
        self.outbox.sent(&sent);
        let chance = self.chance();
        self.outbox.pause(chance)
    }

    fn note(&mut self, sent: &Sent) {
        let (outcome, error) = match sent {
            Sent::Ok => ("ok", None),
            Sent::Later(error) | Sent::Refused(error) => ("error", Some(error)),
            Sent::Unknown(error) => ("unknown", Some(error)),
        };
        self.told.exports.of(&["cloudwatch", outcome]).inc();
        let now = Instant::now();
        match error {
            None if std::mem::take(&mut self.complained) => info!("CloudWatch is told again."),
            None => (),
            Some(error) if self.said.is_none_or(|said| now - said >= QUIET) => {
                (self.said, self.complained) = (Some(now), true);
                warn!(%error, exporter = self.settings.exporter.as_str(), "CloudWatch cannot be told.");
            }
            Some(_) => (),
        }
    }

    /// 0 to 1, by the node's name and how often it was asked.
    fn chance(&mut self) -> f64 {
        self.tries += 1;
        let hasher = BuildHasherDefault::<DefaultHasher>::default();
        let hash = hasher.hash_one((&self.told.node, self.tries));
        (hash >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// The next of a series of moments that is still to come.
fn later(moment: Instant, every: Duration, now: Instant) -> Instant {
    let next = moment + every;
    if next > now { next } else { now + every }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// When this process started, in milliseconds since 1970, as the clock says it now: CloudWatch wants the
/// time of day, and refuses what is dated two hours ahead or two weeks back.
#[expect(
    clippy::disallowed_methods,
    reason = "an edge of the process: what is told has a time of day"
)]
fn began(ago: Duration) -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    millis(since.unwrap_or_default().saturating_sub(ago))
}
