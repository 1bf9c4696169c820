//! A body of 10 GiB in slices of 1 MiB, through a node that owns few of them: read whole, then seeks.
//! What memory it takes, and whether every byte is the right one. Real processes on loopback;
//! `cargo run --release -p koorde-tests --bin slices [GiB]`.

use std::io::Write;

use bytes::{BufMut, Bytes, BytesMut};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty, StreamBody};
use hyper::{
    body::{Frame, Incoming},
    header,
};
use koorde_tests::{
    origin::{self, Origin, response},
    process::{Process, client, now},
};

const NODES: usize = 3;
/// What each node may store: far less than the body.
const CAPACITY: &str = "128MiB";
const CHUNK: u64 = 64 << 10;
const SEEKS: u64 = 500;
/// 2^64 by the golden ratio: its multiples are spread evenly.
const STRIDE: u64 = 0x9E37_79B9_7F4A_7C15;

#[tokio::main]
async fn main() {
    let gib: u64 = std::env::args()
        .nth(1)
        .map_or(10, |gib| gib.parse().expect("a number of GiB"));
    let length = gib << 30;
    let origin = Origin::start(move |request| async move { part(&request, length) }).await;
    let routes = r#"[{prefix = "/", slice = "1MiB"}]"#;
    let flags = ["--routes", routes, "--store.capacity", CAPACITY];
    let nodes = Process::ring(NODES, &flags).await;
    let url = nodes[0].url(&origin.url("/large"));
    let mut most = vec![0; NODES];
    let before = highest(&nodes, &mut most);

    let began = now();
    let whole = send(&url, None).await;
    assert_eq!(whole.status(), StatusCode::OK);
    let mut body = whole.into_body();
    let (mut at, mut frames) = (0, 0u64);
    while let Some(frame) = body.frame().await {
        let data = frame.expect("a whole body").into_data().unwrap_or_default();
        check(&data, at);
        at += data.len() as u64;
        frames += 1;
        if frames.is_multiple_of(2000) {
            highest(&nodes, &mut most);
        }
    }
    assert_eq!(at, length, "the body's length");
    let rate = at as f64 / f64::from(1 << 20) / began.elapsed().as_secs_f64();
    say(&format!(
        "{gib} GiB read at {rate:.0} MiB/s, each frame's bytes right; {} origin requests",
        origin.count("/large")
    ));
    say(&format!(
        "RSS of each node, MiB: {before} before, {} at most, of which up to 128 are stored responses",
        highest(&nodes, &mut most)
    ));

    let asked = origin.count("/large");
    let began = now();
    for n in 0..SEEKS {
        let place = u128::from(n.wrapping_mul(STRIDE)) * u128::from(length - 100);
        let from = (place >> 64) as u64;
        let answer = send(&url, Some(format!("bytes={from}-{}", from + 99))).await;
        assert_eq!(answer.status(), StatusCode::PARTIAL_CONTENT);
        let body = answer.into_body().collect().await.expect("a whole body");
        let body = body.to_bytes();
        assert_eq!(body.len(), 100);
        check(&body, from);
    }
    say(&format!(
        "{SEEKS} seeks, {:.1} ms each, every byte right; {} origin requests; RSS at most {} MiB",
        began.elapsed().as_secs_f64() * 1000.0 / SEEKS as f64,
        origin.count("/large") - asked,
        highest(&nodes, &mut most)
    ));
}

fn say(line: &str) {
    // A closed pipe is no reason to panic.
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// The highest resident memory so far of each node, in MiB.
fn highest(nodes: &[Process], most: &mut [u64]) -> String {
    for (most, node) in most.iter_mut().zip(nodes) {
        *most = node.rss().max(*most);
    }
    let each: Vec<String> = most.iter().map(|kib| (kib / 1024).to_string()).collect();
    each.join(", ")
}

async fn send(url: &str, range: Option<String>) -> Response<Incoming> {
    let mut request = Request::get(url);
    if let Some(range) = range {
        request = request.header(header::RANGE, range);
    }
    let request = request.body(Empty::new()).expect("a request");
    client().request(request).await.expect("an answer")
}

/// What the origin has at this place of the body: the place itself, eight bytes each.
fn byte(at: u64) -> u8 {
    (at & !7).to_le_bytes()[(at & 7) as usize]
}

fn check(data: &[u8], at: u64) {
    // All of a small piece; of a large one its ends, or the check would be all that is measured.
    let length = data.len();
    let ends = (0..length.min(64)).chain(length.saturating_sub(64)..length);
    for index in ends {
        let place = at + index as u64;
        assert_eq!(data[index], byte(place), "the byte at {place}");
    }
}

fn part(request: &Request<Incoming>, length: u64) -> Response<origin::Body> {
    let range = request.headers().get(header::RANGE);
    let range = range.and_then(|range| range.to_str().ok()?.strip_prefix("bytes="));
    let (from, to) = match range.and_then(|range| range.split_once('-')) {
        Some((from, to)) => {
            let from: u64 = from.parse().expect("a first byte");
            let to = to.parse().map_or(length - 1, |to: u64| to.min(length - 1));
            (from, to)
        }
        None => (0, length - 1),
    };
    let mut answer = response(
        if range.is_some() { 206 } else { 200 },
        &[("cache-control", "max-age=600"), ("etag", "\"one\"")],
        "",
    );
    let fields = answer.headers_mut();
    fields.insert(header::CONTENT_LENGTH, (to + 1 - from).into());
    if range.is_some() {
        let range = format!("bytes {from}-{to}/{length}");
        fields.insert(header::CONTENT_RANGE, range.parse().expect("digits"));
    }
    let starts = (from..=to).step_by(CHUNK as usize);
    let frames = starts.map(move |at| Ok(Frame::data(piece(at, (at + CHUNK - 1).min(to)))));
    *answer.body_mut() = BodyExt::boxed(StreamBody::new(futures_util::stream::iter(frames)));
    answer
}

/// The bytes from one place to another, both included.
fn piece(from: u64, to: u64) -> Bytes {
    let aligned = from & !7;
    let mut bytes = BytesMut::with_capacity((to - aligned) as usize + 16);
    for place in (aligned..=to).step_by(8) {
        bytes.put_u64_le(place);
    }
    bytes
        .freeze()
        .slice((from - aligned) as usize..(to + 1 - aligned) as usize)
}
