//! Traces through processes, as a collector receives them.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::future::join_all;
use http::{Request, Response};
use http_body_util::{BodyExt, Empty};
use koorde_tests::{
    cluster::{Cluster, config},
    origin::{Body, Origin, response, stream},
    process::{Process, client},
};
use libkoorde::{Config, Node};
use opentelemetry_proto::tonic::{
    common::v1::any_value::Value,
    trace::v1::{Span, span::SpanKind},
};
use tokio::sync::watch;

use super::{
    FRESH,
    collector::{Collector, PROTOCOLS, attributes},
};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";

/// A request of the client whose trace has this number.
async fn traced(url: &str, trace: &str, flags: &str) -> Response<Bytes> {
    let request = Request::get(url)
        .header("traceparent", format!("00-{trace}-{PARENT}-{flags}"))
        .body(Empty::new())
        .expect("well-formed");
    let (head, body) = client()
        .request(request)
        .await
        .expect("an answer")
        .into_parts();
    let body = body.collect().await.expect("whole").to_bytes();
    Response::from_parts(head, body)
}

/// A ring that exports to this collector.
pub(crate) async fn ring(n: usize, collector: &Collector, protocol: &str) -> Vec<Process> {
    let flags = collector.flags(protocol);
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    Process::ring(n, &flags).await
}

/// Ends them all: the last spans are sent on the way out.
pub(crate) async fn end(nodes: &mut [Process]) {
    for node in nodes {
        node.signal("-TERM").await;
        assert!(node.wait().await, "exit 0");
    }
}

/// A path whose owner is the first node: one that has joined later would ask the first, from which it
/// took the key over, before it asks the origin.
pub(crate) async fn path_of_the_first(nodes: &[Process], origin: &Origin) -> String {
    for n in 0..64 {
        let path = format!("/traced/{n}");
        let url = origin.url(&path);
        let explained = nodes[0]
            .admin_json(&format!("/debug/explain?url={url}"))
            .await;
        if explained["owners"][0] == "koorde-0" {
            return path;
        }
    }
    panic!("each of two nodes has about a half");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_trace_spans_client_asked_node_owner_and_origin_by_either_protocol() {
    for protocol in PROTOCOLS {
        let collector = Collector::start().await;
        let origin = Origin::fixed(Duration::ZERO, FRESH, "body").await;
        let mut nodes = ring(2, &collector, protocol).await;
        let path = path_of_the_first(&nodes, &origin).await;
        let url = origin.url(&path);
        traced(&nodes[1].url(&url), TRACE, "01").await;
        end(&mut nodes).await;

        let received = collector.received().clone();
        let spans: Vec<_> = received
            .spans
            .iter()
            .filter(|(_, span)| hex(&span.trace_id) == TRACE)
            .collect();
        let (owner, asked) = ("koorde-0", "koorde-1");
        let (server, client) = (SpanKind::Server, SpanKind::Client);
        let expected = [
            ("GET", owner, client),
            ("koorde.fill", owner, SpanKind::Internal),
            ("koorde.peer.serve", owner, server),
            ("koorde.peer.get", asked, client),
            ("koorde.fill", asked, SpanKind::Internal),
            ("GET /cache", asked, server),
        ];
        // From the origin's span up to the client's.
        let mut next = spans.iter().find(|(_, span)| span.name == "GET");
        let at_origin = next.expect("a request to the origin").1.clone();
        let mut last = Vec::new();
        for (name, node, kind) in expected {
            let (of, span) = next.unwrap_or_else(|| panic!("no parent {name} in {spans:#?}"));
            assert_eq!((span.name.as_str(), of.as_str()), (name, node));
            assert_eq!(span.kind, kind as i32, "{name}");
            assert!(span.links.is_empty(), "nobody waited for another");
            has_numbers(span);
            last = span.parent_span_id.clone();
            next = spans.iter().find(|(_, span)| span.span_id == last);
        }
        assert_eq!(hex(&last), PARENT, "the client's own span");
        assert_eq!(spans.len(), expected.len(), "and no other: {spans:#?}");

        let sent = origin.requests(&path)[0]["traceparent"].clone();
        let of_the_span = format!("00-{TRACE}-{}-01", hex(&at_origin.span_id));
        assert_eq!(sent, of_the_span, "what the origin does is done below it");
        let attributes = attributes(&at_origin.attributes);
        let (address, port) = (origin.address().ip(), origin.address().port());
        for (key, value) in [
            ("http.request.method", "GET"),
            ("http.response.status_code", "200"),
            ("server.address", &address.to_string()),
            ("server.port", &port.to_string()),
            ("url.full", &url),
        ] {
            assert!(
                attributes.contains(&(key.to_owned(), value.to_owned())),
                "{key}: {attributes:?}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_a_fill_links_to_it() {
    const REQUESTS: usize = 12;
    let collector = Collector::start().await;
    let (release, released) = watch::channel(false);
    let released = Arc::new(released);
    let origin = Origin::start(move |_| {
        let mut released = (*released).clone();
        async move {
            released.wait_for(|is| *is).await.expect("the test runs");
            response(200, FRESH, "body")
        }
    })
    .await;
    let mut nodes = ring(2, &collector, "grpc").await;
    let url = origin.url(&path_of_the_first(&nodes, &origin).await);
    let requests = (1..=REQUESTS).map(|n| {
        let url = nodes[n % 2].url(&url);
        async move { traced(&url, &format!("{n:032x}"), "01").await }
    });
    let all_there = async {
        let mut waiting = 0;
        while waiting < REQUESTS as u64 {
            waiting = 0;
            for node in &nodes {
                waiting += node.series("koorde_requests_inflight").await;
            }
        }
        release.send_replace(true);
    };
    let (answers, ()) = tokio::join!(join_all(requests), all_there);
    assert!(answers.iter().all(|answer| answer.body() == "body"));
    assert_eq!(origin.total(), 1);
    end(&mut nodes).await;

    let received = collector.received().clone();
    let all = |name: &str| -> Vec<(String, Span)> {
        let named = received.spans.iter().filter(|(_, span)| span.name == name);
        named.cloned().collect()
    };
    let (fills, asked) = (all("koorde.fill"), all("GET /cache"));
    assert_eq!((fills.len(), asked.len()), (2, REQUESTS), "one fill a node");
    // The owner is asked by its own clients and once by the other node, for all who wait there.
    let waiters = [asked, all("koorde.peer.serve")].concat();
    assert_eq!(waiters.len(), REQUESTS + 1);
    let mut leaders = 0;
    for (node, waiter) in &waiters {
        let (_, fill) = fills.iter().find(|(of, _)| of == node).expect("its fill");
        if fill.parent_span_id == waiter.span_id {
            leaders += 1;
            assert!(waiter.links.is_empty(), "{waiter:?}");
            continue;
        }
        let links: Vec<_> = waiter
            .links
            .iter()
            .map(|link| (&link.trace_id, &link.span_id))
            .collect();
        assert_eq!(links, [(&fill.trace_id, &fill.span_id)], "{waiter:?}");
    }
    assert_eq!(leaders, 2, "the others wait");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_look_up_in_a_ring_too_large_to_be_known_whole_has_a_span() {
    // Of 24 members one knows itself and eight each way.
    const NEIGHBORS: usize = 8;
    let origin = Origin::fixed(Duration::ZERO, FRESH, "body").await;
    let collector = Collector::start().await;
    let small = |config: &mut Config| config.ring.neighbors = NEIGHBORS;
    let mut others = Cluster::with(2 * NEIGHBORS + 1, small).await;
    for n in others.nodes.len()..23 {
        let mut config = config(&format!("node-{n}"));
        small(&mut config);
        others.add(config).await;
    }
    let seeds: Vec<_> = others.nodes.iter().map(Node::peer_address).collect();
    let neighbors = NEIGHBORS.to_string();
    let mut args = collector.flags("grpc");
    args.extend(["--ring.neighbors", &neighbors].map(str::to_owned));
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let mut node = Process::start("koorde-0", &seeds, &args).await;
    node.knows(2 * NEIGHBORS + 1).await;
    for n in 0..40 {
        let url = node.url(&origin.url(&format!("/far/{n}")));
        assert_eq!(traced(&url, TRACE, "01").await.status(), 200);
    }
    end(std::slice::from_mut(&mut node)).await;

    let received = collector.received();
    let spans: Vec<&Span> = received.spans.iter().map(|(_, span)| span).collect();
    let look_ups = spans.iter().filter(|span| span.name == "koorde.lookup");
    let (mut count, mut most) = (0, 0);
    for look_up in look_ups {
        count += 1;
        assert_eq!(hex(&look_up.trace_id), TRACE);
        let parent = spans
            .iter()
            .find(|span| span.span_id == look_up.parent_span_id);
        assert_eq!(parent.expect("who asks").name, "GET /cache");
        has_numbers(look_up);
        let attributes = attributes(&look_up.attributes);
        let hops = attributes
            .iter()
            .find(|(key, _)| key == "koorde.lookup.hops");
        // One that took too long has none.
        if let Some((_, hops)) = hops {
            let hops: u32 = hops.parse().expect("a number");
            assert!(hops <= 5, "{hops}");
            most = most.max(hops);
        }
    }
    assert!(count > 0, "the owners of seven in 24 keys are out of sight");
    assert!(most > 0, "others were asked");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trace_that_the_client_does_not_keep_costs_no_span_and_no_export() {
    let origin = Origin::fixed(Duration::ZERO, FRESH, "body").await;
    for (flags, is_kept) in [("00", false), ("01", true)] {
        let collector = Collector::start().await;
        let mut args = collector.flags("grpc");
        // What is begun here would be kept, or not: the client's word counts.
        let ratio = if is_kept { "0" } else { "1" };
        args.extend(["--telemetry.sample_ratio", ratio].map(str::to_owned));
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let mut nodes = Process::ring(2, &args).await;
        let path = path_of_the_first(&nodes, &origin).await;
        traced(&nodes[1].url(&origin.url(&path)), TRACE, flags).await;
        end(&mut nodes).await;

        let sent = origin.requests(&path).pop().expect("it was asked")["traceparent"].clone();
        let clients_own = format!("00-{TRACE}-{PARENT}-{flags}");
        assert_eq!(sent == clients_own, !is_kept, "{sent:?}");
        let received = collector.received();
        assert_eq!(received.trace_exports > 0, is_kept);
        assert_eq!(received.spans.len(), if is_kept { 6 } else { 0 });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn spans_that_a_busy_collector_sends_back_come_again_with_the_fields_of_the_settings() {
    let origin = Origin::fixed(Duration::ZERO, FRESH, "body").await;
    for protocol in PROTOCOLS {
        let collector = Collector::start().await;
        collector.is_busy(2);
        let mut args = collector.flags(protocol);
        // The value is `a%2Cb`: decoded once, and not twice.
        args.extend(["--telemetry.otlp_headers", "api-key=a%252Cb"].map(str::to_owned));
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let mut nodes = Process::ring(1, &args).await;
        let url = nodes[0].url(&origin.url(&format!("/{protocol}")));
        traced(&url, TRACE, "01").await;
        end(&mut nodes).await;

        let received = collector.received().clone();
        assert_eq!((received.busy, received.trace_exports), (0, 1));
        let spans = received.spans.iter();
        let of_trace = spans.filter(|(_, span)| hex(&span.trace_id) == TRACE);
        assert_eq!(of_trace.count(), 3, "{:#?}", received.spans);
        for fields in &received.fields {
            assert_eq!(fields["api-key"], "a%2Cb", "{fields:?}");
            let agent = fields["user-agent"].to_str().expect("text");
            assert!(agent.starts_with("koorde/"), "{agent}");
            for of_the_environment in ["environment", "content-encoding", "grpc-encoding"] {
                assert!(!fields.contains_key(of_the_environment), "{fields:?}");
            }
        }
        let lines = nodes[0].logged().await;
        let is_told = |line: &serde_json::Value| line["msg"] == "The collector cannot be told.";
        assert!(!lines.iter().any(is_told), "{lines:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_line_names_its_trace_and_no_query() {
    let collector = Collector::start().await;
    let mut args = collector.flags("http/protobuf");
    let level = "info,libkoorde=debug,koorde_sidecar=debug";
    args.extend(["--log.level", level].map(str::to_owned));
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let mut nodes = Process::ring(1, &args).await;
    // Port 9 is discard; nobody listens.
    let url = nodes[0].url("http://127.0.0.1:9/gone?secret=hunter2");
    assert_eq!(traced(&url, TRACE, "01").await.status(), 502);
    end(&mut nodes).await;

    let lines = nodes[0].logged().await;
    let of_trace: Vec<_> = lines
        .iter()
        .filter(|line| line["trace_id"] == TRACE)
        .collect();
    assert!(!of_trace.is_empty(), "{lines:#?}");
    let received = collector.received();
    for line in of_trace {
        let is_of_it = |span: &Span| line["span_id"] == hex(&span.span_id);
        assert!(
            received.spans.iter().any(|(_, span)| is_of_it(span)),
            "{line}"
        );
    }
    assert!(
        lines
            .iter()
            .all(|line| !line.to_string().contains("hunter2")),
        "{lines:#?}"
    );
    let spans = format!("{:?}", received.spans);
    assert!(
        spans.contains("/gone") && !spans.contains("hunter2"),
        "{spans}"
    );
    let failed = received.spans.iter().find(|(_, span)| span.name == "GET");
    let attributes = attributes(&failed.expect("a request to the origin").1.attributes);
    assert!(
        attributes.contains(&("error.type".to_owned(), "broken".to_owned())),
        "{attributes:?}"
    );
}

/// A part of 256 KiB, as `Range` asks for it.
fn part(range: &str) -> Response<Body> {
    let (first, last) = range
        .strip_prefix("bytes=")
        .and_then(|range| range.split_once('-'))
        .expect("a part is asked for");
    let number = |text: &str| text.parse::<usize>().expect("a number");
    let length = number(last) + 1 - number(first);
    let mut part = response(206, &[FRESH[0], ("etag", "\"1\"")], "");
    let content_range = format!("bytes {first}-{last}/262144");
    let content_range = content_range.parse().expect("a value");
    part.headers_mut().insert("content-range", content_range);
    *part.body_mut() = stream(1, length, false);
    part
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_in_slices_has_the_spans_of_all_of_them() {
    let collector = Collector::start().await;
    let origin =
        Origin::start(
            |request| async move { part(request.headers()["range"].to_str().expect("text")) },
        )
        .await;
    let mut args = collector.flags("grpc");
    let routes = r#"[{prefix = "/", slice = "64KiB"}]"#;
    args.extend(["--routes", routes].map(str::to_owned));
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let mut nodes = Process::ring(1, &args).await;
    let answer = traced(&nodes[0].url(&origin.url("/sliced")), TRACE, "01").await;
    assert_eq!(answer.body().len(), 256 << 10);
    end(&mut nodes).await;

    let received = collector.received();
    for (name, expected) in [("GET /cache", 1), ("koorde.fill", 4), ("GET", 4)] {
        let named = received.spans.iter().filter(|(_, span)| span.name == name);
        assert_eq!(named.count(), expected, "{name}");
    }
    assert!(
        received
            .spans
            .iter()
            .all(|(_, span)| hex(&span.trace_id) == TRACE)
    );
}

/// What the conventions have as a number is none in words.
fn has_numbers(span: &Span) {
    let numbers = [
        "http.response.status_code",
        "server.port",
        "koorde.lookup.hops",
    ];
    for attribute in &span.attributes {
        let value = attribute.value.as_ref().and_then(|any| any.value.as_ref());
        let is_number = matches!(value, Some(Value::IntValue(_)));
        let is_to_be = numbers.contains(&attribute.key.as_str());
        assert!(is_number || !is_to_be, "{attribute:?}");
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
