//! Real processes: what only shows with signals, memory and sockets of their own.

mod collector;
mod otlp_metrics;
mod replicas;
mod traces;
mod traces_of_apps;

use std::time::Duration;

use bytes::Bytes;
use futures_util::{
    StreamExt,
    future::join_all,
    stream::{iter, once},
};
use http::Request;
use http_body_util::{BodyExt, Empty, StreamBody};
use hyper::body::Frame;
use koorde_tests::{
    origin::{Origin, response, stream},
    process::{Process, client, fetch, get, now},
};
use tokio::{io::AsyncWriteExt, net::TcpStream, sync::watch};

const FRESH: &[(&str, &str)] = &[("cache-control", "max-age=60")];

/// Which of these nodes, by its place, owns a URL.
async fn owner_of(nodes: &[Process], url: &str) -> usize {
    let path = format!("/debug/explain?url={url}");
    let explained = nodes[0].admin_json(&path).await;
    let owner = explained["owners"][0].as_str().expect("an owner");
    let number = owner.trim_start_matches("koorde-").parse();
    number.expect("a number")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_owner_costs_one_more_origin_request_and_no_answer() {
    let origin = Origin::fixed(Duration::from_millis(500), FRESH, "body").await;
    let mut nodes = Process::ring(4, &[]).await;
    let url = origin.url("/killed");
    let owner = owner_of(&nodes, &url).await;
    let owner = nodes.remove(owner);
    let client = client();
    let urls: Vec<String> = (0..90).map(|n| nodes[n % 3].url(&url)).collect();
    let answers = join_all(urls.iter().map(|url| fetch(&client, url)));
    let kill = async {
        origin.asked(1).await;
        owner.signal("-9").await;
    };
    let (answers, ()) = tokio::join!(answers, kill);
    for answer in answers {
        let answer = answer.expect("an answer");
        assert_eq!(
            (answer.status().as_u16(), &answer.body()[..]),
            (200, &b"body"[..])
        );
    }
    assert!(origin.count("/killed") <= 2, "{}", origin.count("/killed"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_larger_than_a_tenth_of_the_store_goes_through_two_nodes_in_bounded_memory() {
    const CHUNK: usize = 64 << 10;
    const LENGTH: u64 = 192 << 20;
    let origin = Origin::start(|_| async {
        let mut answer = response(200, FRESH, "");
        answer.headers_mut().insert("content-length", LENGTH.into());
        *answer.body_mut() = stream(LENGTH / CHUNK as u64, CHUNK, false);
        answer
    })
    .await;
    let nodes = Process::ring(2, &[]).await;
    let url = origin.url("/large");
    let other = 1 - owner_of(&nodes, &url).await;
    let before: Vec<u64> = nodes.iter().map(Process::rss).collect();
    let mut body = get(&client(), &nodes[other].url(&url))
        .await
        .expect("a head")
        .into_body();
    let mut read = 0;
    while let Some(frame) = body.frame().await {
        read += frame
            .expect("not cut")
            .into_data()
            .map_or(0, |data| data.len() as u64);
    }
    assert_eq!(read, LENGTH);
    for (node, before) in nodes.iter().zip(before) {
        let grown = node.rss().saturating_sub(before);
        assert!(grown < 64 << 10, "grew by {grown} KiB");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_finishes_what_is_under_way_and_leaves_the_ring() {
    let origin = Origin::fixed(Duration::from_millis(500), FRESH, "body").await;
    let mut nodes = Process::ring(3, &[]).await;
    let mut leaver = nodes.remove(1);
    let client = client();
    let url = leaver.url(&origin.url("/leave"));
    let term = async {
        origin.asked(1).await;
        leaver.signal("-TERM").await;
    };
    let (answer, ()) = tokio::join!(fetch(&client, &url), term);
    assert_eq!(answer.expect("it was under way").body(), "body");
    assert!(leaver.wait().await, "exit 0");
    for node in &nodes {
        node.knows(2).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_finishes_what_the_client_of_a_peer_reads() {
    let (release, released) = watch::channel(false);
    let origin = Origin::start(move |_| {
        let mut released = released.clone();
        let rest = async move {
            let _ended = released.wait_for(|released| *released).await;
            Ok(Frame::data(Bytes::from("rest")))
        };
        let first = Ok(Frame::data(Bytes::from("first, ")));
        let pieces = iter([first]).chain(once(rest));
        async move {
            let mut answer = response(200, FRESH, "");
            *answer.body_mut() = BodyExt::boxed(StreamBody::new(pieces));
            answer
        }
    })
    .await;
    let mut nodes = Process::ring(2, &[]).await;
    let url = origin.url("/read");
    let owner = owner_of(&nodes, &url).await;
    let mut owner = nodes.remove(owner);
    let answer = get(&client(), &nodes[0].url(&url)).await;
    let mut body = answer.expect("a head").into_body();
    let first = body.frame().await.expect("a piece").expect("not cut");
    assert_eq!(first.into_data().expect("data"), "first, ");
    owner.signal("-TERM").await;
    let started = now();
    // It takes no clients of its own any more: only the peer's is left.
    while TcpStream::connect(owner.http).await.is_ok() {
        assert!(
            started.elapsed() < Duration::from_secs(20),
            "it never stops"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    release.send_replace(true);
    let rest = body.collect().await.expect("not cut").to_bytes();
    assert_eq!(rest, "rest");
    assert!(owner.wait().await, "exit 0");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_owner_delays_an_answer_but_does_not_lose_it() {
    let origin = Origin::fixed(Duration::ZERO, FRESH, "body").await;
    let nodes = Process::ring(3, &[]).await;
    let url = origin.url("/frozen");
    let owner = owner_of(&nodes, &url).await;
    nodes[owner].signal("-STOP").await;
    let answer = fetch(&client(), &nodes[(owner + 1) % 3].url(&url)).await;
    assert_eq!(answer.expect("an answer").body(), "body");
    nodes[owner].signal("-CONT").await;
    for node in &nodes {
        node.knows(3).await;
    }
}

/// A path of the origin that a member owns which the node does not know.
async fn out_of_sight(node: &Process, origin: &Origin) -> String {
    let ring = node.admin_json("/debug/ring").await;
    let members = ring["members"].as_array().expect("members");
    let known: Vec<_> = members.iter().map(|member| &member["name"]).collect();
    for n in 0..1000 {
        let path = format!("/far/{n}");
        let explain = format!("/debug/explain?url={}", origin.url(&path));
        let explained = node.admin_json(&explain).await;
        let owners = explained["owners"].as_array().expect("owners");
        if owners.iter().all(|owner| !known.contains(&owner)) {
            return path;
        }
    }
    panic!("every owner is known");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_finds_no_owner_among_silent_peers_fetches_for_itself_and_says_so() {
    // Of 20 members one knows itself and eight each way.
    let flags = ["--ring.neighbors", "8"];
    let mut nodes: Vec<Process> = Vec::new();
    for n in 0..20 {
        let seeds: Vec<_> = nodes.iter().take(2).map(|node| node.peer).collect();
        nodes.push(Process::start(&format!("koorde-{n}"), &seeds, &flags).await);
    }
    for node in &nodes {
        node.knows(17).await;
    }
    let origin = Origin::fixed(Duration::ZERO, FRESH, "body").await;
    let url = origin.url(&out_of_sight(&nodes[0], &origin).await);
    // One look-up finds few of them dead before it gives up; many would find them all, and then the
    // ring is one of one.
    join_all(nodes[1..].iter().map(|silent| silent.signal("-STOP"))).await;
    let answer = fetch(&client(), &nodes[0].url(&url)).await;
    let answer = answer.expect("an answer");
    assert_eq!(answer.body(), "body");
    let status = answer.headers()["cache-status"].to_str().expect("text");
    assert!(status.ends_with("/owner-not-found"), "{status}");
    let counted = "koorde_ring_fallbacks_total{reason=\"owner-not-found\"}";
    assert_eq!(nodes[0].series(counted).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_line_that_every_request_would_write_is_written_so_often_and_no_more() {
    let origin = Origin::fixed(Duration::ZERO, FRESH, "body").await;
    let mut node = Process::start("koorde-0", &[], &["--log.max_lines", "3"]).await;
    let first = node.url(&origin.url("/first"));
    fetch(&client(), &first).await.expect("an answer");
    let passed = &origin.requests("/first")[0]["cdn-loop"];
    let url = node.url(&origin.url("/loop"));
    for _ in 0..8 {
        let looped = Request::get(&url)
            .header("cdn-loop", passed)
            .body(Empty::<Bytes>::new())
            .expect("well-formed");
        let answer = client().request(looped).await.expect("an answer");
        assert_eq!(answer.status(), 508);
    }
    node.signal("-TERM").await;
    assert!(node.wait().await, "exit 0");
    let lines = node.logged().await;
    let failed = lines
        .iter()
        .filter(|line| line["msg"] == "Request failed." && line["status"] == 508);
    assert_eq!(failed.count(), 3, "{lines:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_is_audited_although_its_client_leaves_before_the_receipt() {
    let mut nodes = Process::ring(2, &[]).await;
    // So that the receipt has to wait.
    nodes[1].signal("-STOP").await;
    let mut stream = TcpStream::connect(nodes[0].admin)
        .await
        .expect("it listens");
    let purge = b"POST /purge?tag=left HTTP/1.1\r\nhost: localhost\r\n\r\n";
    stream.write_all(purge).await.expect("it reads");
    let issued = "koorde_cache_purges_total{kind=\"issued\"}";
    let started = now();
    while nodes[0].series(issued).await == 0 {
        assert!(started.elapsed() < Duration::from_secs(10), "never issued");
    }
    drop(stream);
    nodes[0].signal("-TERM").await;
    assert!(nodes[0].wait().await, "exit 0");
    let lines = nodes[0].logged().await;
    let audited = lines.iter().filter(|line| line["audit"] == "purge");
    let scopes: Vec<_> = audited.map(|line| &line["scope"]).collect();
    assert_eq!(scopes, ["tag left"], "{lines:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn names_among_the_seeds_are_resolved_and_a_missing_one_ends_nothing() {
    let first = Process::start("koorde-0", &[], &[]).await;
    let seeds = format!("nobody.invalid:4000,localhost:{}", first.peer.port());
    let second = Process::start("koorde-1", &[], &["--ring.seeds", &seeds]).await;
    for node in [&first, &second] {
        node.knows(2).await;
    }
    first.signal("-9").await;
    second.knows(1).await;
    let ready = fetch(&client(), &format!("http://{}/readyz", second.http)).await;
    assert_eq!(
        ready.expect("an answer").status(),
        200,
        "alone is a ring too"
    );
}
