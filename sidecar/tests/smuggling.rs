//! Requests that two servers could read in two ways, over raw sockets.
//!
//! Each case is followed on its connection by a whole request for `/smuggled`. Either the case is
//! refused (400, or the connection just closed) and nothing behind it is taken for a request; or it
//! is one well-formed request whose end is where RFC 9112 says, and then exactly what is behind that
//! end is the next one. In all cases the origin sees what was answered and nothing else.
#![allow(clippy::disallowed_methods, reason = "tests start tasks of their own")]

mod support;

use koorde_sidecar::app::App;
use support::{
    echo::{Echo, exchange},
    settings, start,
};

/// What must become of a case.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Expected {
    /// 400 (431 for a length beyond all bounds) or nothing, closed, and the origin hears of nothing.
    Refused,
    /// One answer, closed: what follows is not looked at. The origin sees the one.
    OneThenClosed,
    /// The case and the request behind it are two requests.
    Two,
    /// The request behind it is its body.
    Swallowed,
    /// The body turns out to be broken: an error or nothing, closed; the origin sees no whole request.
    BrokenBody,
}
use Expected::{BrokenBody, OneThenClosed, Refused, Swallowed, Two};

struct Bench {
    app: App,
    origin: Echo,
    cases: usize,
}

impl Bench {
    async fn start() -> Self {
        Self {
            origin: Echo::start().await,
            app: start(settings()).await,
            cases: 0,
        }
    }

    /// `URL` in a case is a path of the origin, in absolute form; `NEXT` the request behind it.
    async fn expect(&mut self, name: &str, case: &str, expected: Expected) {
        self.cases += 1;
        let path = format!("/case/{}", self.cases);
        let smuggled = format!("/smuggled/{}", self.cases);
        let next = format!(
            "GET {} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n",
            self.origin.url(&smuggled)
        );
        let length = next.len().to_string();
        let bytes = case.replace("URL", &self.origin.url(&path));
        let bytes = bytes.replace("LENGTH", &length);
        let bytes = match bytes.split_once("NEXT") {
            Some((before, after)) => format!("{before}{next}{after}"),
            None => format!("{bytes}{next}"),
        };
        let before = self.origin.asked().len();
        let (text, closed) = exchange(self.app.addresses().http, bytes.as_bytes(), 3_000).await;
        let about = format!("{name}:\n{bytes:.600}\n=>\n{text}");
        assert!(closed, "not closed: {about}");
        let answers: Vec<_> = text
            .match_indices("HTTP/1.")
            .map(|(at, _)| &text[at + 9..at + 12])
            .collect();
        let asked: Vec<String> = self.origin.asked().split_off(before);
        let asked: Vec<_> = asked
            .iter()
            .filter_map(|asked| asked.split(' ').nth(1))
            .collect();
        let (path, smuggled) = (path.as_str(), smuggled.as_str());
        match expected {
            Refused => {
                let refused = answers.iter().all(|answer| answer.starts_with('4'));
                assert!(answers.len() <= 1 && refused, "{about}");
                assert!(asked.is_empty(), "{asked:?}: {about}");
            }
            OneThenClosed | Swallowed => {
                assert_eq!((answers, asked), (vec!["200"], vec![path]), "{about}");
            }
            Two => {
                let both = (vec!["200"; 2], vec![path, smuggled]);
                assert_eq!((answers, asked), both, "{about}");
            }
            BrokenBody => {
                let error = matches!(answers[..], [] | ["400" | "502"]);
                assert!(error && asked.is_empty(), "{asked:?}: {about}");
            }
        }
    }

    async fn end(self) {
        // After all of that it is as well as before.
        let (text, _) = exchange(
            self.app.addresses().http,
            b"GET /livez HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n",
            3_000,
        )
        .await;
        assert!(text.ends_with("alive\n"), "{text}");
        self.app.shutdown().await;
    }
}

#[tokio::test]
async fn a_body_with_two_ends_is_refused_or_the_last_of_its_connection() {
    let mut bench = Bench::start().await;
    // RFC 9112 §6.3: Transfer-Encoding overrides, and the connection is closed after the answer.
    let both = "0\r\n\r\nNEXT";
    for (name, fields, expected) in [
        (
            "CL.TE",
            "content-length: LENGTH\r\ntransfer-encoding: chunked",
            OneThenClosed,
        ),
        (
            "TE.CL",
            "transfer-encoding: chunked\r\ncontent-length: LENGTH",
            OneThenClosed,
        ),
        (
            "CL.TE, bad CL",
            "content-length: x\r\ntransfer-encoding: chunked",
            Refused,
        ),
        (
            "CL.TE.CL",
            "content-length: 5\r\ntransfer-encoding: chunked\r\ncontent-length: 9",
            OneThenClosed,
        ),
        (
            "TE twice",
            "transfer-encoding: chunked\r\ntransfer-encoding: chunked",
            Refused,
        ),
        (
            "TE twice, one unknown",
            "transfer-encoding: chunked\r\ntransfer-encoding: x",
            Refused,
        ),
        (
            "TE identity last",
            "transfer-encoding: chunked, identity",
            Refused,
        ),
        (
            "TE identity first",
            "transfer-encoding: identity, chunked",
            Refused,
        ),
        ("TE gzip first", "transfer-encoding: gzip, chunked", Refused),
        ("TE looks alike", "transfer-encoding: xchunked", Refused),
        (
            "TE with vertical tab",
            "transfer-encoding: \u{b}chunked",
            Refused,
        ),
        ("TE quoted", "transfer-encoding: \"chunked\"", Refused),
        (
            "TE and CL, looks alike",
            "content-length: LENGTH\r\ntransfer-encoding: chunked;q=1",
            Refused,
        ),
        ("TE empty", "transfer-encoding:", Refused),
        (
            "two CL",
            "content-length: 5\r\ncontent-length: LENGTH",
            Refused,
        ),
        ("CL list", "content-length: 5, 5", Refused),
        ("CL negative", "content-length: -1", Refused),
        ("CL plus", "content-length: +5", Refused),
        ("CL hexadecimal", "content-length: 0x5", Refused),
        ("CL empty", "content-length:", Refused),
        ("CL with a blank", "content-length: 1 0", Refused),
        (
            "CL beyond 64 bits",
            "content-length: 18446744073709551616",
            Refused,
        ),
        (
            "CL beyond any body",
            "content-length: 18446744073709551615",
            Refused,
        ),
    ] {
        let case = format!("POST URL HTTP/1.1\r\nhost: a\r\n{fields}\r\n\r\n{both}");
        bench.expect(name, &case, expected).await;
    }
    bench.end().await;
}

#[tokio::test]
async fn a_head_that_breaks_the_grammar_is_refused() {
    let mut bench = Bench::start().await;
    for (name, fields) in [
        ("obs-fold", "x: a\r\n b"),
        (
            "obs-fold of a framing field",
            "transfer-encoding:\r\n chunked",
        ),
        ("obs-fold at the start", " x: a"),
        ("blank before the colon", "content-length : 5"),
        ("tab before the colon", "transfer-encoding\t: chunked"),
        ("no colon", "content-length 5"),
        ("no name", ": x"),
        ("blank in a name", "x y: 1"),
        ("NUL in a value", "x: a\0b"),
        ("bare CR in a value", "x: a\rcontent-length: 5"),
        ("bare CR before a line's end", "x: a\r\r\ncontent-length: 5"),
        ("two Hosts", "host: b"),
        ("non-ASCII name", "contént-length: 5"),
    ] {
        let case = format!("POST URL HTTP/1.1\r\nhost: a\r\n{fields}\r\n\r\n");
        bench.expect(name, &case, Refused).await;
    }
    for (name, line) in [
        ("no Host", "GET URL HTTP/1.1\r\n\r\n"),
        (
            "blank in the target",
            "GET URL x HTTP/1.1\r\nhost: a\r\n\r\n",
        ),
        ("two blanks", "GET  URL HTTP/1.1\r\nhost: a\r\n\r\n"),
        ("HTTP/0.9", "GET URL\r\n\r\n"),
        ("HTTP/1.2", "GET URL HTTP/1.2\r\nhost: a\r\n\r\n"),
        ("HTTP/11", "GET URL HTTP/11\r\nhost: a\r\n\r\n"),
        ("lower-case version", "GET URL http/1.1\r\nhost: a\r\n\r\n"),
        (
            "a method that is no token",
            "G(T URL HTTP/1.1\r\nhost: a\r\n\r\n",
        ),
    ] {
        bench.expect(name, line, Refused).await;
    }
    bench.end().await;
}

#[tokio::test]
async fn http10_has_no_transfer_encoding() {
    let mut bench = Bench::start().await;
    for (name, fields) in [
        ("chunked", "transfer-encoding: chunked"),
        (
            "chunked and CL",
            "content-length: LENGTH\r\ntransfer-encoding: chunked",
        ),
        (
            "chunked, kept alive",
            "connection: keep-alive\r\ntransfer-encoding: chunked",
        ),
    ] {
        let case = format!("POST URL HTTP/1.0\r\nhost: a\r\n{fields}\r\n\r\n0\r\n\r\nNEXT");
        bench.expect(name, &case, Refused).await;
    }
    let plain = "POST URL HTTP/1.0\r\nhost: a\r\ncontent-length: 5\r\n\r\nhello";
    bench
        .expect("closed by default", plain, OneThenClosed)
        .await;
    bench.end().await;
}

#[tokio::test]
async fn what_the_grammar_allows_ends_where_it_says() {
    let mut bench = Bench::start().await;
    let chunked = |body: &str| {
        format!("POST URL HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n{body}")
    };
    for (name, case, expected) in [
        (
            "a chunk extension",
            chunked("5;a=b\r\nhello\r\n0\r\n\r\n"),
            Two,
        ),
        (
            "a quoted chunk extension",
            chunked("5;a=\"b;c\"\r\nhello\r\n0;x\r\n\r\n"),
            Two,
        ),
        ("leading zeros", chunked("0005\r\nhello\r\n0\r\n\r\n"), Two),
        (
            "trailers",
            chunked("5\r\nhello\r\n0\r\ncontent-length: 50\r\nhost: b\r\n\r\n"),
            Two,
        ),
        (
            "any case",
            "POST URL HTTP/1.1\r\nhost: a\r\nTransfer-ENCODING: Chunked\r\n\r\n0\r\n\r\n".into(),
            Two,
        ),
        (
            "twice the same length",
            "POST URL HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ncontent-length: 5\r\n\r\nhello"
                .into(),
            Two,
        ),
        (
            "an empty line first",
            "\r\nGET URL HTTP/1.1\r\nhost: a\r\n\r\n".into(),
            Two,
        ),
        // RFC 9112 §2.2: "a recipient MAY recognize a single LF as a line terminator". hyper does, and
        // what is sent on has no trace of it.
        ("bare LF", "GET URL HTTP/1.1\nhost: a\n\n".into(), Two),
        (
            "a length that covers the next request",
            "POST URL HTTP/1.1\r\nhost: a\r\ncontent-length: LENGTH\r\nconnection: close\r\n\r\n"
                .into(),
            Swallowed,
        ),
        (
            "a GET with content",
            "GET URL HTTP/1.1\r\nhost: a\r\ncontent-length: LENGTH\r\nconnection: close\r\n\r\n"
                .into(),
            Swallowed,
        ),
    ] {
        bench.expect(name, &case, expected).await;
    }
    bench.end().await;
}

#[tokio::test]
async fn a_broken_chunk_ends_everything() {
    let mut bench = Bench::start().await;
    for (name, body) in [
        ("no number", "x\r\nhello\r\n0\r\n\r\n"),
        ("negative", "-5\r\nhello\r\n0\r\n\r\n"),
        ("0x", "0x5\r\nhello\r\n0\r\n\r\n"),
        ("beyond 64 bits", "ffffffffffffffff5\r\nhello\r\n0\r\n\r\n"),
        ("longer than it says", "5\r\nhello!\r\n0\r\n\r\n"),
        ("no CRLF behind the data", "5\r\nhello0\r\n\r\n"),
        ("LF behind the data", "5\r\nhello\n0\r\n\r\n"),
        ("bare LF behind the size", "5\nhello\r\n0\r\n\r\n"),
        ("bare LF in an extension", "5;a\nhello\r\n0\r\n\r\n"),
        ("bare CR behind the size", "5\rhello\r\n0\r\n\r\n"),
        ("a trailer without a colon", "0\r\nnonsense\r\n\r\n"),
    ] {
        let case =
            format!("POST URL HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n{body}");
        bench.expect(name, &case, BrokenBody).await;
    }
    bench.end().await;
}

#[tokio::test]
async fn nobody_changes_the_protocol() {
    let mut bench = Bench::start().await;
    for (name, fields) in [
        (
            "websocket",
            "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13",
        ),
        (
            "h2c",
            "connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__",
        ),
        ("TLS", "connection: upgrade\r\nupgrade: TLS/1.3"),
    ] {
        let case = format!("GET URL HTTP/1.1\r\nhost: a\r\n{fields}\r\n\r\n");
        bench.expect(name, &case, Two).await;
    }
    for seen in bench.origin.seen() {
        for name in ["upgrade", "connection", "http2-settings"] {
            assert!(!seen.fields.contains_key(name), "{name}: {seen:?}");
        }
    }
    bench.end().await;
}

#[tokio::test]
async fn a_hit_does_not_take_the_body_of_its_request_for_the_next_one() {
    let mut bench = Bench::start().await;
    let url = bench.origin.url("/stored");
    let get = format!("GET {url} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
    let address = bench.app.addresses().http;
    for expected in ["MISS-ORIGIN", "HIT-LOCAL"] {
        let (text, _) = exchange(address, get.as_bytes(), 3_000).await;
        assert!(text.contains(expected), "{text}");
    }
    let inner = format!(
        "GET {} HTTP/1.1\r\nhost: a\r\n\r\n",
        bench.origin.url("/inner")
    );
    let fat = format!(
        "GET {url} HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{inner}",
        inner.len()
    );
    let (text, closed) = exchange(address, fat.as_bytes(), 3_000).await;
    assert!(closed && text.matches("HTTP/1.1 ").count() == 1, "{text}");
    let asked = bench.origin.asked();
    assert!(
        !asked.iter().any(|asked| asked.ends_with("/inner")),
        "{asked:?}"
    );
    bench.cases = 0;
    bench.end().await;
}
