//! The requests of a run: what is asked when, and how long it took.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use http::Request;
use http_body_util::{BodyExt as _, Empty};
use tokio::{sync::mpsc, task::JoinSet};

use super::{
    tally::{Sample, Trouble, XCache},
    zipf::{SplitMix64, Zipf},
};
use crate::cli::{
    Endpoint, Failure,
    client::{Client, ClientError, root_cause},
    clock,
};

/// Samples that wait to be counted.
const QUEUE: usize = 1024;

/// How much later than asked the timer may wake us without that being the node's fault.
const TIMER_SLACK: Duration = Duration::from_millis(2);

/// What to ask.
#[derive(Debug)]
pub(crate) struct Workload {
    pub(crate) client: Client,
    pub(crate) nodes: Vec<Endpoint>,
    /// `{}` stands for the rank.
    pub(crate) template: String,
    pub(crate) zipf: Zipf,
    pub(crate) seed: u64,
    pub(crate) requests: u64,
    /// Requests a second; none: the next begins when one ends.
    pub(crate) rate: Option<f64>,
    pub(crate) concurrency: usize,
    /// For one request, end to end.
    pub(crate) timeout: Duration,
}

/// A run that is over.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) duration: Duration,
    /// Ended by Ctrl-C.
    pub(crate) interrupted: bool,
    /// What the first failed request died of.
    pub(crate) first_error: Option<String>,
}

/// What the workers share.
struct Shared {
    workload: Workload,
    next: AtomicU64,
    start: Instant,
    first_error: OnceLock<String>,
}

impl Workload {
    /// Asks everything, `concurrency` requests at once at most, and shows each sample to `seen`.
    pub(crate) async fn run(
        self,
        mut seen: impl FnMut(&Sample) -> Result<(), Failure>,
    ) -> Result<Ran, Failure> {
        let concurrency = self.concurrency;
        let shared = Arc::new(Shared {
            workload: self,
            next: AtomicU64::new(0),
            start: clock::now(),
            first_error: OnceLock::new(),
        });
        let (send, mut receive) = mpsc::channel(QUEUE);
        // Dropped at the end of this function, which ends those that an interrupt leaves behind.
        let mut workers = JoinSet::new();
        for _ in 0..concurrency {
            workers.spawn(worker(shared.clone(), send.clone()));
        }
        drop(send);
        let mut interrupt = std::pin::pin!(tokio::signal::ctrl_c());
        let (mut batch, mut interrupted) = (Vec::with_capacity(QUEUE), false);
        while !interrupted {
            tokio::select! {
                received = receive.recv_many(&mut batch, QUEUE) => if received == 0 { break },
                _ = &mut interrupt => interrupted = true,
            }
            for sample in batch.drain(..) {
                seen(&sample)?;
            }
        }
        let duration = shared.start.elapsed();
        Ok(Ran {
            duration,
            interrupted,
            first_error: shared.first_error.get().cloned(),
        })
    }
}

/// Takes one request after the other until there are none.
async fn worker(shared: Arc<Shared>, samples: mpsc::Sender<Sample>) {
    loop {
        let index = shared.next.fetch_add(1, Ordering::Relaxed);
        if index >= shared.workload.requests {
            return;
        }
        let start = shared.begin(index).await;
        if samples.send(shared.ask(index, start).await).await.is_err() {
            return;
        }
    }
}

impl Shared {
    /// Waits until request `index` is due; the instant from which its latency counts.
    async fn begin(&self, index: u64) -> Instant {
        let Some(rate) = self.workload.rate else {
            return clock::now();
        };
        let due = self.start + Duration::from_secs_f64(index as f64 / rate);
        let free = clock::now();
        tokio::time::sleep_until(due.into()).await;
        counts_from(due, free, clock::now())
    }

    /// Request `index`, from its URL to the end of its body.
    async fn ask(&self, index: u64, start: Instant) -> Sample {
        let workload = &self.workload;
        let rank = workload
            .zipf
            .sample(&mut SplitMix64::of_request(workload.seed, index));
        let node = (index % workload.nodes.len() as u64) as usize;
        let mut bytes = 0;
        let exchange =
            tokio::time::timeout(workload.timeout, self.exchange(node, rank, &mut bytes)).await;
        let result = exchange.unwrap_or(Err(ClientError::Timeout(workload.timeout)));
        let latency = start.elapsed();
        let result = result.map_err(|error| {
            let _ = self
                .first_error
                .set(format!("{}: {error}", workload.nodes[node]));
            match error {
                ClientError::Connect(_) => Trouble::Connect,
                ClientError::Timeout(_) => Trouble::Timeout,
                ClientError::Broken(_) => Trouble::Broken,
            }
        });
        let start = start.saturating_duration_since(self.start);
        Sample {
            index,
            node,
            rank,
            start,
            latency,
            bytes,
            result,
        }
    }

    async fn exchange(
        &self,
        node: usize,
        rank: u64,
        bytes: &mut u64,
    ) -> Result<(u16, XCache), ClientError> {
        let url = self.workload.template.replace("{}", &rank.to_string());
        let uri = self.workload.nodes[node].about("/cache", &url);
        let mut request = Request::new(Empty::new());
        *request.uri_mut() = uri.map_err(|failure| ClientError::Broken(failure.to_string()))?;
        let response = self.workload.client.send(request).await?;
        let status = response.status().as_u16();
        let x_cache = response
            .headers()
            .get("x-cache")
            .map_or(XCache::Other, |v| XCache::parse(v.as_bytes()));
        let mut body = response.into_body();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| ClientError::Broken(root_cause(&error)))?;
            *bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
        }
        Ok((status, x_cache))
    }
}

/// From when the latency of a request counts that was `due`, for which a worker was `free`, and
/// that began when the worker `woke`.
///
/// From when it was due: a request that had to wait because all others were stuck did wait, and
/// leaving that out is coordinated omission. But a timer only keeps to milliseconds, which would be
/// most of a hit's latency; what it oversleeps while a worker was free counts for nobody.
fn counts_from(due: Instant, free: Instant, woke: Instant) -> Instant {
    let overslept = woke.saturating_duration_since(due);
    if free <= due && overslept <= TIMER_SLACK {
        woke
    } else {
        due
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, sync::Mutex};

    use http::Response;
    use http_body_util::Full;

    use super::*;
    use crate::cli::loopback::{Loopback, body};

    fn workload(node: &Loopback) -> Workload {
        Workload {
            client: Client::new(Duration::from_secs(10), 4).expect("client"),
            nodes: vec![node.address().to_string().parse().expect("valid")],
            template: "http://origin.example/item/{}".to_owned(),
            zipf: Zipf::new(20, 0.9),
            seed: 3,
            requests: 200,
            rate: None,
            concurrency: 4,
            timeout: Duration::from_secs(10),
        }
    }

    /// A node that answers a URL with a miss, and with a remote hit once it has seen it.
    async fn node() -> Loopback {
        let seen = Arc::new(Mutex::new(BTreeSet::new()));
        let handler = move |request: Request<hyper::body::Incoming>| {
            let query = request.uri().query().expect("url=").to_owned();
            let new = seen.lock().expect("no holder panics").insert(query);
            let mut response = Response::new(body(Full::from("12345")));
            let value = if new { "MISS-ORIGIN" } else { "HIT-REMOTE" };
            response
                .headers_mut()
                .insert("x-cache", http::HeaderValue::from_static(value));
            std::future::ready(response)
        };
        Loopback::start(0, handler).await.expect("loopback")
    }

    #[tokio::test]
    async fn every_request_is_asked_once_and_classified() {
        let node = node().await;
        let (mut indices, mut ranks, mut misses) = (BTreeSet::new(), BTreeSet::new(), 0);
        let ran = workload(&node).run(|sample| {
            assert!(indices.insert(sample.index), "{} twice", sample.index);
            ranks.insert(sample.rank);
            misses += usize::from(sample.result == Ok((200, XCache::Miss)));
            assert_eq!(sample.bytes, 5);
            Ok(())
        });
        let ran = ran.await.expect("it ran");
        assert_eq!((indices.len(), misses), (200, ranks.len()));
        assert!(!ran.interrupted && ran.first_error.is_none());
    }

    #[tokio::test]
    async fn an_open_loop_begins_each_request_when_it_is_due() {
        let node = node().await;
        let open = Workload {
            rate: Some(2000.0),
            requests: 20,
            ..workload(&node)
        };
        let ran = open.run(|sample| {
            let due = Duration::from_secs_f64(sample.index as f64 / 2000.0);
            assert!(
                sample.start >= due,
                "{} began before it was due",
                sample.index
            );
            Ok(())
        });
        let duration = ran.await.expect("it ran").duration;
        assert!(
            duration >= Duration::from_secs_f64(19.0 / 2000.0),
            "{duration:?}"
        );
    }

    #[tokio::test]
    async fn a_body_that_is_cut_off_is_an_error_with_its_cause() {
        let node = Loopback::start(0, |_| {
            let cut = futures_util::stream::iter([Err(std::io::Error::other("gone"))]);
            std::future::ready(Response::new(http_body_util::StreamBody::new(cut).boxed()))
        });
        let node = node.await.expect("loopback");
        let mut broken = 0;
        let ran = Workload {
            requests: 3,
            ..workload(&node)
        }
        .run(|sample| {
            broken += u32::from(sample.result == Err(Trouble::Broken));
            Ok(())
        });
        let ran = ran.await.expect("it ran");
        assert_eq!(broken, 3);
        assert!(ran.first_error.is_some());
    }

    #[test]
    fn waiting_for_a_stuck_node_counts_and_a_lazy_timer_does_not() {
        let due = clock::now();
        let at = |ms| due + Duration::from_millis(ms);
        assert_eq!(counts_from(due, due, at(1)), at(1), "the timer overslept");
        assert_eq!(
            counts_from(due, at(300), at(300)),
            due,
            "all workers were stuck"
        );
        assert_eq!(
            counts_from(due, at(1), at(1)),
            due,
            "a worker was stuck for a moment"
        );
        assert_eq!(
            counts_from(due, due, at(50)),
            due,
            "this process was stalled: better too long"
        );
    }
}
