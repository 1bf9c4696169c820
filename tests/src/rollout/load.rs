//! Clients of the Service: requests at a steady rate, each to an address of those they know.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::{StreamExt, stream};
use tokio::{
    sync::oneshot,
    task::JoinSet,
    time::{MissedTickBehavior, interval},
};

use super::{
    BODY,
    pods::{Service, list},
};
use crate::{
    origin::Origin,
    process::{Client, client, fetch},
};

const TICK: Duration = Duration::from_millis(10);
const WINDOW: Duration = Duration::from_secs(1);
/// Requests at once where no rate is kept.
const AT_ONCE: usize = 32;

/// A second of load.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    /// Requests that clients sent.
    pub requests: usize,
    /// Those that reached the origin.
    pub origin_requests: usize,
}

impl Window {
    /// Percent of the requests that asked no origin.
    #[must_use]
    pub fn hits(&self) -> f64 {
        100.0 - 100.0 * self.origin_requests as f64 / self.requests.max(1) as f64
    }
}

/// A load that runs until it is told to end.
pub(crate) struct Load {
    windows: Arc<Mutex<Vec<Window>>>,
    stop: oneshot::Sender<()>,
    running: JoinSet<Vec<String>>,
}

impl Load {
    pub(crate) fn start(service: &Service, urls: &[String], rate: u64, origin: &Origin) -> Self {
        let windows = Arc::new(Mutex::new(Vec::new()));
        let (stop, stopped) = oneshot::channel();
        let clients = Clients {
            service: Arc::clone(service),
            client: client(),
            urls: urls.into(),
        };
        let told = origin.watch_total();
        let mut running = JoinSet::new();
        running.spawn(run(clients, rate, told, Arc::clone(&windows), stopped));
        Self {
            windows,
            stop,
            running,
        }
    }

    /// Seconds that are over.
    pub(crate) fn so_far(&self) -> usize {
        held(&self.windows).len()
    }

    /// Waits for the requests under way; all seconds, and what went wrong.
    pub(crate) async fn end(mut self) -> (Vec<Window>, Vec<String>) {
        let _it_runs = self.stop.send(());
        let ended = self.running.join_next().await.expect("it was started");
        let failures = ended.expect("no panic");
        let windows = held(&self.windows).clone();
        (windows, failures)
    }
}

fn held(windows: &Mutex<Vec<Window>>) -> std::sync::MutexGuard<'_, Vec<Window>> {
    windows.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Clone)]
struct Clients {
    service: Service,
    client: Client,
    urls: Arc<[String]>,
}

impl Clients {
    /// The `n`th request; why it failed.
    async fn ask(&self, n: usize) -> Result<(), String> {
        let at = {
            let addresses = list(&self.service);
            addresses[n % addresses.len()]
        };
        // Neighbours in time are for other keys at other nodes.
        let target = &self.urls[n.wrapping_mul(7919) % self.urls.len()];
        let answer = fetch(&self.client, &format!("http://{at}/{target}")).await?;
        if answer.status() == 200 && answer.body() == BODY {
            Ok(())
        } else {
            Err(format!("{}: {answer:?}", answer.status()))
        }
    }
}

async fn run(
    clients: Clients,
    rate: u64,
    origin: impl Fn() -> usize,
    windows: Arc<Mutex<Vec<Window>>>,
    mut stopped: oneshot::Receiver<()>,
) -> Vec<String> {
    let (mut asking, mut failures) = (JoinSet::new(), Vec::new());
    let (mut ticks, mut seconds) = (interval(TICK), interval(WINDOW));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    seconds.tick().await;
    let (mut sent, mut told) = (0, (0, origin()));
    let each = usize::try_from(rate).expect("a rate") * 10 / 1000;
    loop {
        tokio::select! {
            _ = &mut stopped => break,
            _ = ticks.tick() => for _ in 0..each {
                let clients = clients.clone();
                asking.spawn(async move { clients.ask(sent).await });
                sent += 1;
            },
            _ = seconds.tick() => {
                let (requests, origin_requests) = (sent - told.0, origin() - told.1);
                held(&windows).push(Window { requests, origin_requests });
                told = (sent, told.1 + origin_requests);
            }
            Some(asked) = asking.join_next() => failures.extend(asked.expect("no panic").err()),
        }
    }
    while let Some(asked) = asking.join_next().await {
        failures.extend(asked.expect("no panic").err());
    }
    failures
}

/// Each URL, through one address or the other.
pub(crate) async fn each_once(service: &Service, urls: &[String]) {
    let (client, addresses) = (client(), list(service).clone());
    let asked = urls.iter().enumerate().map(|(n, url)| {
        let (client, at) = (client.clone(), addresses[n % addresses.len()]);
        async move { fetch(&client, &format!("http://{at}/{url}")).await }
    });
    let mut asked = stream::iter(asked).buffer_unordered(AT_ONCE);
    while let Some(answer) = asked.next().await {
        let answer = answer.expect("an answer");
        assert_eq!(answer.body(), BODY, "{answer:?}");
    }
}
