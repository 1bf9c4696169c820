//! A node, a peer or an origin in trouble.

use std::{net::SocketAddr, time::Duration};

use koorde_tests::{
    cluster::{Cluster, config, eventually, fetch, get, get_with},
    origin::{Origin, response, stream},
};
use libkoorde::{FetchError, Kind, PurgeRequest, Scope, metrics::counted};
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    task::JoinSet,
};

const FRESH: &[(&str, &str)] = &[("cache-control", "max-age=60")];

#[tokio::test(flavor = "multi_thread")]
async fn when_the_owner_dies_mid_fill_the_waiters_get_their_answer_elsewhere() {
    let origin = Origin::fixed(Duration::from_millis(300), FRESH, "body").await;
    let cluster = Cluster::start(4).await;
    let url = origin.url("/dies");
    let (owner, _) = cluster.owner_and_other(&url).await;
    let mut requests = JoinSet::new();
    for n in (0..40).filter(|n| n % 4 != owner) {
        let (node, url) = (cluster.nodes[n % 4].clone(), url.clone());
        requests.spawn(async move { fetch(&node, get(&url)).await });
    }
    origin.asked(1).await;
    cluster.nodes[owner].stop(Duration::ZERO).await;
    while let Some(answer) = requests.join_next().await {
        assert_eq!(answer.expect("no panic").expect("an answer").body(), "body");
    }
    assert!(origin.count("/dies") <= 2, "{}", origin.count("/dies"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_owner_asks_the_previous_one_first() {
    let origin = Origin::fixed(Duration::ZERO, FRESH, "body").await;
    let mut cluster = Cluster::start(2).await;
    let urls: Vec<String> = (0..60).map(|n| origin.url(&format!("/{n}"))).collect();
    for url in &urls {
        fetch(&cluster.nodes[0], get(url)).await.expect("an answer");
    }
    let joiner = cluster.add(config("node-2")).await;
    cluster.meet(3).await;
    for url in &urls {
        assert_eq!(
            fetch(&joiner, get(url)).await.expect("an answer").body(),
            "body"
        );
    }
    let asked: usize = (0..60).map(|n| origin.count(&format!("/{n}"))).sum();
    assert_eq!(asked, 60, "the joiner made no origin request of its own");
    assert!(
        joiner.stats().stored_bytes > 0,
        "and keeps what it owns now"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_whose_peers_are_all_gone_fetch_for_themselves() {
    let origin = Origin::fixed(Duration::ZERO, FRESH, "body").await;
    let cluster = Cluster::start(3).await;
    for gone in &cluster.nodes[1..] {
        gone.stop(Duration::ZERO).await;
    }
    for n in 0..10 {
        let url = origin.url(&format!("/alone/{n}"));
        assert_eq!(
            fetch(&cluster.nodes[0], get(&url))
                .await
                .expect("an answer")
                .body(),
            "body"
        );
    }
    let stood_in = counted(&cluster.metrics[0].fallbacks, "owner-unreachable");
    assert!((1..=10).contains(&stood_in), "{stood_in} of ten");
    eventually("the dead are out of the ring", || {
        cluster.nodes[0].ring().members.len() == 1
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_off_body_is_an_error_and_is_not_stored() {
    let origin = Origin::start(|_| async {
        let mut answer = response(
            200,
            &[("cache-control", "max-age=60"), ("content-length", "4096")],
            "",
        );
        *answer.body_mut() = stream(2, 1024, true);
        answer
    })
    .await;
    let cluster = Cluster::start(3).await;
    let url = origin.url("/cut");
    for (n, node) in cluster.nodes.iter().enumerate() {
        let error = fetch(node, get(&url))
            .await
            .expect_err("it is not complete");
        assert!(
            error.starts_with("the body was cut off"),
            "node {n}: {error}"
        );
    }
    assert_eq!(origin.count("/cut"), 3, "nothing was stored");
}

#[tokio::test(flavor = "multi_thread")]
async fn stale_if_error_answers_for_an_origin_that_fails() {
    let first = std::sync::atomic::AtomicBool::new(true);
    let origin = Origin::start(move |_| {
        let first = first.swap(false, std::sync::atomic::Ordering::SeqCst);
        async move {
            let control = ("cache-control", "max-age=1, stale-if-error=60");
            if first {
                response(200, &[control, ("age", "5")], "body")
            } else {
                response(503, &[], "down")
            }
        }
    })
    .await;
    let cluster = Cluster::start(3).await;
    let url = origin.url("/error");
    for node in &cluster.nodes {
        assert_eq!(
            fetch(node, get(&url)).await.expect("an answer").body(),
            "body"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn private_addresses_are_refused_through_any_node() {
    let origin = Origin::fixed(Duration::ZERO, FRESH, "body").await;
    let cluster = Cluster::with(3, |config| config.egress.allow.clear()).await;
    for node in &cluster.nodes {
        let error = fetch(node, get(&origin.url("/private")))
            .await
            .expect_err("loopback is refused");
        assert_eq!(error, "127.0.0.1 is refused: loopback");
    }
    assert_eq!(origin.count("/private"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leaving_node_hands_its_keys_to_others_without_a_failed_answer() {
    let origin = Origin::fixed(Duration::from_millis(5), FRESH, "body").await;
    let cluster = Cluster::start(3).await;
    let leaver = cluster.nodes[2].clone();
    let requests = async {
        for n in 0..200 {
            let url = origin.url(&format!("/leave/{n}"));
            assert_eq!(
                fetch(&cluster.nodes[n % 2], get(&url))
                    .await
                    .expect("an answer")
                    .body(),
                "body"
            );
        }
    };
    tokio::join!(requests, leaver.leave(Duration::from_secs(5)));
    eventually("it is out of the ring", || {
        cluster.nodes[0].ring().members.len() == 2
    })
    .await;
    assert!(!leaver.is_ready());
}

#[tokio::test(flavor = "multi_thread")]
async fn waiters_on_a_dead_origin_share_one_stale_answer() {
    let first = std::sync::atomic::AtomicBool::new(true);
    let origin = Origin::start(move |_| {
        let first = first.swap(false, std::sync::atomic::Ordering::SeqCst);
        async move {
            if first {
                return response(200, &[("cache-control", "max-age=1")], "body");
            }
            std::future::pending().await
        }
    })
    .await;
    let cluster = Cluster::with(3, |config| {
        config.origin.response_timeout = Duration::from_millis(100);
    })
    .await;
    let url = origin.url("/dead");
    fetch(&cluster.nodes[0], get(&url))
        .await
        .expect("an answer");
    // Its second of freshness has to pass; nothing else will happen.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let gets = (0..30).map(|n| fetch(&cluster.nodes[n % 3], get(&url)));
    for answer in futures_util::future::join_all(gets).await {
        assert_eq!(answer.expect("stale").body(), "body");
    }
    assert_eq!(origin.count("/dead"), 2, "the dead one was asked once");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_must_not_be_served_stale_is_told_from_what_was_never_stored() {
    let origin = Origin::start(|request| {
        let control = match request.uri().path() {
            "/must" => "max-age=1, must-revalidate",
            "/proxy" => "max-age=1, proxy-revalidate",
            _ => "max-age=1",
        };
        async move {
            response(
                200,
                &[("cache-control", control), ("etag", "\"1\"")],
                "body",
            )
        }
    })
    .await;
    let cluster = Cluster::start(3).await;
    for path in ["/must", "/proxy", "/may"] {
        fetch(&cluster.nodes[0], get(&origin.url(path)))
            .await
            .expect("an answer");
    }
    let urls = ["/must", "/proxy", "/may", "/never"].map(|path| origin.url(path));
    drop(origin);
    tokio::time::sleep(Duration::from_millis(2100)).await;
    for node in &cluster.nodes {
        for url in &urls[..2] {
            let error = node
                .fetch(get(url))
                .await
                .expect_err("nothing may be served");
            assert!(matches!(error, FetchError::NotValidated(_)), "{error:?}");
        }
        assert_eq!(
            fetch(node, get(&urls[2])).await.expect("stale").body(),
            "body"
        );
        let error = node
            .fetch(get(&urls[3]))
            .await
            .expect_err("nothing is stored");
        assert!(matches!(error, FetchError::Origin(_)), "{error:?}");
    }
}

/// An address that takes no more connections: its queue is full, and nobody accepts.
async fn full() -> (SocketAddr, TcpListener, Vec<TcpStream>) {
    let socket = TcpSocket::new_v4().expect("a socket");
    let any = ([127, 0, 0, 1], 0).into();
    socket.bind(any).expect("a free port");
    let listener = socket.listen(1).expect("it listens");
    let address = listener.local_addr().expect("it is bound");
    let (mut queue, patience) = (Vec::new(), Duration::from_millis(200));
    while let Ok(one) = tokio::time::timeout(patience, TcpStream::connect(address)).await {
        queue.push(one.expect("there is room"));
    }
    (address, listener, queue)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tunnel_that_does_not_come_about_is_counted_as_a_request_too() {
    let cluster = Cluster::with(1, |config| {
        config.origin.connect_timeout = Duration::from_millis(50);
    })
    .await;
    let (node, metrics) = (&cluster.nodes[0], &cluster.metrics[0]);
    let errors = |kind| metrics.origin_errors.of(&["other", kind]).get();
    let closed = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let to = closed.local_addr().expect("it is bound").to_string();
    drop(closed);
    let error = node.connect(&to.parse().expect("an authority")).await;
    assert!(matches!(error, Err(FetchError::Origin(_))), "{error:?}");
    assert_eq!((metrics.origin_requests.get(), errors("connect")), (1, 1));

    let (address, _listener, _queue) = full().await;
    let to = address.to_string().parse().expect("an authority");
    let error = node.connect(&to).await.expect_err("no room");
    assert_eq!(error, FetchError::OriginTimeout(50));
    assert_eq!((metrics.origin_requests.get(), errors("timeout")), (2, 1));
    assert_eq!(counted(&metrics.deadline_exceeded, "connect"), 1);

    let refused = "192.168.0.1:80".parse().expect("an authority");
    let error = node.connect(&refused).await;
    assert!(matches!(error, Err(FetchError::Denied { .. })), "{error:?}");
    assert_eq!((metrics.origin_requests.get(), errors("denied")), (3, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_client_asks_of_staleness_decides_for_nobody_who_waits_with_it() {
    let plain: &[_] = &[];
    let (fresh, patient) = (
        [("cache-control", "max-age=5")],
        [("cache-control", "stale-if-error=600")],
    );
    // Who leads, who waits; whether the origin fails or says so; what each gets.
    for (leads, waits, says, led, waited) in [
        (&fresh[..], plain, false, None, Some(200)),
        (plain, &fresh[..], false, Some(200), None),
        (&patient[..], plain, true, Some(200), Some(503)),
    ] {
        let first = std::sync::atomic::AtomicBool::new(true);
        let origin = Origin::start(move |_| {
            let first = first.swap(false, std::sync::atomic::Ordering::SeqCst);
            async move {
                if first {
                    return response(200, FRESH, "body");
                }
                tokio::time::sleep(Duration::from_secs(if says { 1 } else { 60 })).await;
                response(503, &[], "trouble")
            }
        })
        .await;
        let cluster = Cluster::with(1, |config| {
            config.origin.response_timeout = Duration::from_secs(1);
            if says {
                config.origin.response_timeout = Duration::from_secs(30);
            }
        })
        .await;
        let (node, url) = (&cluster.nodes[0], origin.url("/together"));
        fetch(node, get(&url)).await.expect("an answer");
        node.purge(&PurgeRequest {
            scope: Scope::All,
            kind: Kind::Soft,
            tenant: None,
        })
        .await;
        let leading = fetch(node, get_with(&url, leads));
        let waiting = async {
            origin.asked(2).await;
            let answer = fetch(node, get_with(&url, waits)).await;
            (answer, origin.count("/together"))
        };
        let (leading, (waiting, asked)) = tokio::join!(leading, waiting);
        let status = |answer: &Result<http::Response<_>, String>| {
            answer.as_ref().ok().map(|answer| answer.status().as_u16())
        };
        let got = (status(&leading), status(&waiting));
        assert_eq!(got, (led, waited), "{leads:?}, {waits:?}");
        // Who may not have what the other got asks for itself; who may asks nobody.
        let alone = led == Some(200);
        assert_eq!(asked, 2 + usize::from(alone), "{leads:?}, {waits:?}");
    }
}
