//! Small readers of the sidecar: Accept, Cache-Status as the command line shows it, and interim
//! responses as they are written to a client.
//!
//! Sections: fields; the fields of interim responses, each after a line with its status.

use crate::input::{Input, fields, text, values};
use http::{HeaderMap, StatusCode};
use koorde_sidecar::cli::fuzzing::cache_status;
use koorde_sidecar::http::Accept;
use koorde_sidecar::http::fuzzing::interim;
use libkoorde::policy::{Forward, Member};

/// Bytes and number of interim responses to one request, at most.
const MAX_BYTES: usize = 16 << 10;
const MAX_COUNT: usize = 16;

pub fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let head = input.fields();
    accept(&head);
    for value in values(&head, "cache-status") {
        for (cache, parameters, words) in cache_status(text(value)) {
            assert!(!cache.is_empty() && words.contains(": "));
            assert!(parameters.iter().all(|(name, _)| !name.is_empty()));
        }
    }
    let said: Vec<_> = ["x-name", "x-key", "x-detail"]
        .map(|name| values(&head, name).concat())
        .iter()
        .map(|value| String::from_utf8_lossy(value).into_owned())
        .collect();
    our_member_is_read_as_it_was_said(&said[0], &said[1], &said[2]);
    let mut all = Vec::new();
    loop {
        let section = input.section();
        if section.is_empty() || all.len() > 2 * MAX_COUNT {
            break;
        }
        let mut one = Input::new(section);
        let [status] = one.numbers();
        let status = u16::try_from(status).ok();
        let status = status.and_then(|status| StatusCode::from_u16(status).ok());
        all.push((
            status.unwrap_or(StatusCode::EARLY_HINTS),
            fields(one.rest()),
        ));
    }
    interims(&all);
}

fn accept(head: &HeaderMap) {
    let accept = Accept::of(head);
    for (kind, subtype) in [("text", "html"), ("application", "json"), ("a", "b")] {
        let wants = accept.wants(kind, subtype);
        assert!((0.0..=1.0).contains(&wants), "{wants}");
        if let Some(named) = accept.named(kind, subtype) {
            assert_eq!(named, wants, "what is named counts before */*");
        }
    }
}

fn our_member_is_read_as_it_was_said(name: &str, key: &str, detail: &str) {
    let mut member = Member::forwarded(name, Forward::UriMiss);
    (member.key, member.detail) = (Some(key.to_owned()), Some(detail.to_owned()));
    member.ttl = Some(-3);
    let value = member.value();
    let read = cache_status(text(value.as_bytes()));
    // What a structured string cannot hold becomes a question mark.
    let shown = |said: &str| -> String {
        let one = |c: char| if (' '..='~').contains(&c) { c } else { '?' };
        said.chars().map(one).collect()
    };
    if name.is_empty() {
        return;
    }
    assert_eq!(read.len(), 1, "{value:?}");
    let (cache, parameters, _) = &read[0];
    assert_eq!(*cache, shown(name), "{value:?}");
    let expected = [
        ("fwd", "uri-miss".to_owned()),
        ("ttl", "-3".to_owned()),
        ("key", shown(key)),
        ("detail", shown(detail)),
    ];
    let expected = expected.map(|(name, value)| (name.to_owned(), value));
    assert_eq!(*parameters, expected, "{value:?}");
}

/// A client must find as many heads as are written, and nothing between them.
fn interims(all: &[(StatusCode, HeaderMap)]) {
    let written = interim(all);
    assert!(written.len() <= MAX_BYTES);
    let mut rest = &written[..];
    let mut heads = 0;
    while !rest.is_empty() {
        let end = rest.windows(4).position(|window| window == b"\r\n\r\n");
        let (head, tail) = rest.split_at(end.expect("each head ends") + 4);
        let mut lines = head[..head.len() - 4].split(|&byte| byte == b'\n');
        let first = lines.next().expect("a status line");
        assert!(first.starts_with(b"HTTP/1.1 1") && !first.starts_with(b"HTTP/1.1 101"));
        for line in lines {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            assert!(!line.contains(&b'\r') && !line.contains(&0));
            let colon = line.iter().position(|&byte| byte == b':').expect("a field");
            let name = line[..colon].to_ascii_lowercase();
            for not in ["connection", "content-length", "transfer-encoding"] {
                assert_ne!(name, not.as_bytes());
            }
        }
        heads += 1;
        rest = tail;
    }
    assert!(heads <= MAX_COUNT.min(all.len()));
}
