//! Origins are protected: limits on misses only, queues with bounds, rests, breakers, and a budget
//! that holds for the whole cluster.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::{StreamExt, future::join_all, stream::FuturesUnordered};
use koorde_tests::{
    cluster::{Cluster, eventually, fetch, get},
    origin::{Origin, response},
};
use libkoorde::{config::LimitsConfig, metrics::counted};
use tokio::{net::TcpListener, sync::Notify};

const FRESH: (&str, &str) = ("cache-control", "max-age=600");

/// An origin that takes `delay` for each answer and notes how many it had at once, and when each came.
struct Busy {
    origin: Origin,
    most: Arc<AtomicUsize>,
    came: Arc<std::sync::Mutex<Vec<Instant>>>,
}

impl Busy {
    async fn start(delay: Duration) -> Self {
        let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let came = Arc::<std::sync::Mutex<Vec<Instant>>>::default();
        let (seen, times) = (Arc::clone(&most), Arc::clone(&came));
        let origin = Origin::start(move |_| {
            let (now, most) = (Arc::clone(&now), Arc::clone(&most));
            times.lock().expect("no panic in here").push(instant());
            async move {
                let busy = now.fetch_add(1, Ordering::SeqCst) + 1;
                most.fetch_max(busy, Ordering::SeqCst);
                tokio::time::sleep(delay).await;
                now.fetch_sub(1, Ordering::SeqCst);
                response(200, &[FRESH], "body")
            }
        })
        .await;
        Self {
            origin,
            most: seen,
            came,
        }
    }

    fn most(&self) -> usize {
        self.most.load(Ordering::SeqCst)
    }

    /// The most requests that came within any one second.
    fn most_in_a_second(&self) -> usize {
        let came = self.came.lock().expect("no panic in here");
        let within = |from: &Instant| {
            let second = *from..*from + Duration::from_secs(1);
            came.iter().filter(|at| second.contains(*at)).count()
        };
        came.iter().map(within).max().unwrap_or_default()
    }
}

#[expect(clippy::disallowed_methods, reason = "a test measures")]
fn instant() -> Instant {
    Instant::now()
}

async fn with_limits(nodes: usize, change: impl Fn(&mut LimitsConfig)) -> Cluster {
    Cluster::with(nodes, |config| {
        config.origin.limits.queue_timeout = Duration::from_secs(30);
        change(&mut config.origin.limits);
    })
    .await
}

/// Misses for `n` URLs, spread over all nodes; every answer must be right.
async fn misses(cluster: &Cluster, origin: &Origin, n: usize) {
    let fetches = (0..n).map(|n| {
        let node = &cluster.nodes[n % cluster.nodes.len()];
        fetch(node, get(&origin.url(&format!("/{n}"))))
    });
    for answer in join_all(fetches).await {
        assert_eq!(answer.expect("an answer").body(), "body");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_origin_never_has_more_than_its_limit_at_once() {
    let busy = Busy::start(Duration::from_millis(10)).await;
    let cluster = with_limits(1, |limits| limits.max_concurrent = 3).await;
    misses(&cluster, &busy.origin, 60).await;
    assert_eq!(busy.most(), 3);
    misses(&cluster, &busy.origin, 60).await;
    busy.origin.asked(60).await;
    let asked: usize = (0..60).map(|n| busy.origin.count(&format!("/{n}"))).sum();
    assert_eq!(asked, 60, "what is stored asks nobody");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_queue_has_a_bound_and_who_waits_too_long_leaves_it() {
    let hold = Arc::new(Notify::new());
    let held = Arc::clone(&hold);
    let origin = Origin::start(move |_| {
        let held = Arc::clone(&held);
        async move {
            held.notified().await;
            response(200, &[FRESH], "body")
        }
    })
    .await;
    let cluster = with_limits(1, |limits| {
        limits.max_concurrent = 1;
        limits.max_queue = 1;
        limits.queue_timeout = Duration::from_millis(300);
    })
    .await;
    let (node, metrics) = (&cluster.nodes[0], &cluster.metrics[0]);
    let first = fetch(node, get(&origin.url("/first")));
    let others = async {
        origin.asked(1).await;
        let second = fetch(node, get(&origin.url("/second")));
        let third = async {
            eventually("one waits", || metrics.origin_waiting.get() == 1).await;
            let asked = instant();
            let error = fetch(node, get(&origin.url("/third"))).await;
            assert_eq!(
                error.expect_err("full"),
                "at the bound of origin.limits.max_queue"
            );
            assert!(asked.elapsed() < Duration::from_millis(200), "at once");
        };
        let (second, ()) = tokio::join!(second, third);
        let late = "at the bound of origin.limits.queue_timeout";
        assert_eq!(second.expect_err("too long"), late);
        hold.notify_one();
    };
    let (first, ()) = tokio::join!(first, others);
    assert_eq!(first.expect("an answer").body(), "body");
    assert_eq!(metrics.origin_waiting.get(), 0);
    // Whoever left has taken nothing along.
    hold.notify_one();
    let next = fetch(node, get(&origin.url("/next"))).await;
    assert_eq!(next.expect("an answer").body(), "body");
    assert_eq!(origin.count("/second") + origin.count("/third"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn misses_go_at_the_rate_of_their_origin() {
    let busy = Busy::start(Duration::ZERO).await;
    let other = Origin::fixed(Duration::ZERO, &[FRESH], "body").await;
    let authority = busy.origin.address().to_string();
    let cluster = Cluster::with(1, |config| {
        let limits = libkoorde::config::LimitsOverride {
            rate: Some(20),
            burst: Some(5),
            ..Default::default()
        };
        config.origin.per_host.insert(authority.clone(), limits);
    })
    .await;
    let began = instant();
    misses(&cluster, &busy.origin, 45).await;
    assert!(
        began.elapsed() >= Duration::from_millis(1_950),
        "(45 - 5) / 20 s"
    );
    assert!(busy.most_in_a_second() <= 26, "{}", busy.most_in_a_second());
    let began = instant();
    misses(&cluster, &other, 45).await;
    assert!(began.elapsed() < Duration::from_secs(1), "it has no rate");
}

#[tokio::test(flavor = "multi_thread")]
async fn five_thousand_requests_that_hang_on_one_origin_leave_the_others_alone() {
    let stalled = Origin::start(|_| std::future::pending()).await;
    let origin = Origin::fixed(Duration::ZERO, &[FRESH], "body").await;
    let cluster = Cluster::with(2, |config| config.fetch.max_fills = 1000).await;
    let mut hanging: FuturesUnordered<_> = (0..5_000)
        .map(|n| fetch(&cluster.nodes[n % 2], get(&stalled.url(&format!("/{n}")))))
        .collect();
    let refused = async {
        // Beyond its share nobody waits; the share hangs.
        for _ in 0..3_000 {
            let error = hanging
                .next()
                .await
                .expect("more of them")
                .expect_err("refused");
            assert!(error.starts_with("at the bound of "), "{error}");
        }
        std::future::pending::<()>().await;
    };
    let others = async {
        stalled.asked(200).await;
        for round in 0..5 {
            let began = instant();
            for node in &cluster.nodes {
                let urls = (0..40).map(|n| origin.url(&format!("/{round}/{n}")));
                for answer in join_all(urls.map(|url| fetch(node, get(&url)))).await {
                    assert_eq!(answer.expect("room is left").body(), "body");
                }
            }
            assert!(
                began.elapsed() < Duration::from_secs(5),
                "they wait for nobody"
            );
        }
    };
    tokio::select! {
        () = refused => unreachable!("it hangs"),
        () = others => (),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_origin_that_says_when_to_come_back_is_left_alone_until_then() {
    let healthy = Arc::new(AtomicUsize::new(1));
    let is_healthy = Arc::clone(&healthy);
    let origin = Origin::start(move |_| {
        let is_healthy = is_healthy.load(Ordering::SeqCst) == 1;
        async move {
            if is_healthy {
                let stale = ("cache-control", "max-age=0, stale-if-error=600");
                response(200, &[stale, ("etag", "\"1\"")], "body")
            } else {
                response(429, &[("retry-after", "2")], "too many")
            }
        }
    })
    .await;
    let cluster = Cluster::start(2).await;
    let url = origin.url("/known");
    let (owner, other) = cluster.owner_and_other(&url).await;
    fetch(&cluster.nodes[owner], get(&url))
        .await
        .expect("stored, to be validated");
    // Other paths that this node asks for.
    let mut paths = Vec::new();
    for n in 0..64 {
        let path = format!("/{n}");
        if cluster.owner_and_other(&origin.url(&path)).await.0 == owner {
            paths.push(path);
        }
    }
    let [new, path, ..] = &paths[..] else {
        panic!("two of 64 paths have the same owner")
    };
    healthy.store(0, Ordering::SeqCst);
    let answer = fetch(&cluster.nodes[owner], get(&origin.url(new))).await;
    let answer = answer.expect("the origin's own word");
    assert_eq!(answer.status().as_u16(), 429);
    healthy.store(1, Ordering::SeqCst);
    // The node that was told leaves it alone, whatever the path and whoever asks.
    for node in [owner, other] {
        let error = fetch(&cluster.nodes[node], get(&origin.url(path))).await;
        let error = error.expect_err("it rests");
        assert!(error.starts_with("origin is left alone for "), "{error}");
        assert!(error.ends_with(": retry-after"), "{error}");
    }
    assert_eq!(origin.count(path), 0);
    let stale = fetch(&cluster.nodes[owner], get(&url)).await;
    assert_eq!(stale.expect("served stale").body(), "body");
    assert_eq!(origin.count("/known"), 1, "without asking");
    let rested = async {
        while fetch(&cluster.nodes[owner], get(&origin.url(path)))
            .await
            .is_err()
        {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), rested)
        .await
        .expect("the rest ends");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_breaker_opens_and_one_probe_closes_it() {
    let socket = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = socket.local_addr().expect("it is bound");
    drop(socket);
    let cluster = with_limits(1, |limits| {
        limits.breaker_failures = 3;
        limits.breaker_open = Duration::from_millis(400);
    })
    .await;
    let (node, metrics) = (&cluster.nodes[0], &cluster.metrics[0]);
    let url = |n: usize| format!("http://{address}/{n}");
    for n in 0..3 {
        let error = fetch(node, get(&url(n)))
            .await
            .expect_err("nobody is there");
        assert!(error.starts_with("origin: "), "{error}");
    }
    let error = fetch(node, get(&url(3))).await.expect_err("open");
    assert_eq!(error, "origin is left alone for 1 s more: breaker-open");
    let errors = metrics.origin_errors.of(&["other", "connect"]).get();
    assert_eq!(errors, 3, "the fourth asked nobody");
    let _back = Origin::at(address, |_| async { response(200, &[FRESH], "body") }).await;
    let closed = async {
        while fetch(node, get(&url(4))).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), closed)
        .await
        .expect("a probe finds it back");
    let changes = |kind| counted(&metrics.origin_breaker, kind);
    assert_eq!(
        (changes("opened"), changes("probed"), changes("closed")),
        (1, 1, 1)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_budget_of_requests_at_once_holds_for_the_whole_cluster() {
    let busy = Busy::start(Duration::from_millis(20)).await;
    let cluster = with_limits(5, |limits| limits.cluster_max_concurrent = 4).await;
    misses(&cluster, &busy.origin, 100).await;
    assert!(busy.most() <= 4, "{} at once", busy.most());
    assert!(busy.most() >= 3, "and the budget is used: {}", busy.most());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_budget_of_requests_a_second_holds_for_the_whole_cluster() {
    let busy = Busy::start(Duration::ZERO).await;
    let cluster = with_limits(5, |limits| {
        limits.cluster_rate = 40;
        limits.burst = 4;
    })
    .await;
    let began = instant();
    misses(&cluster, &busy.origin, 84).await;
    assert!(
        began.elapsed() >= Duration::from_millis(1_950),
        "(84 - 4) / 40 s"
    );
    // What is granted in one second may be used a moment into the next.
    assert!(busy.most_in_a_second() <= 54, "{}", busy.most_in_a_second());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_budget_survives_the_death_of_its_owner() {
    // Several, so that the one that dies owns some of their budgets.
    let starting = (0..6).map(|_| Busy::start(Duration::from_millis(20)));
    let origins = join_all(starting).await;
    let cluster = with_limits(3, |limits| limits.cluster_max_concurrent = 6).await;
    for busy in &origins {
        misses(&cluster, &busy.origin, 30).await;
        assert!(busy.most() <= 6, "{} at once", busy.most());
    }
    cluster.nodes[0].stop(Duration::from_secs(1)).await;
    let fetches = origins.iter().flat_map(|busy| {
        (0..40).map(|n| {
            let url = busy.origin.url(&format!("/after/{n}"));
            fetch(&cluster.nodes[1 + n % 2], get(&url))
        })
    });
    for answer in join_all(fetches).await {
        assert_eq!(answer.expect("an answer").body(), "body");
    }
    for busy in &origins {
        let most = busy.most();
        assert!(most <= 12, "at most twice, for a moment: {most}");
    }
}
